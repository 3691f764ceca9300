"""Where on a cluster training runs: runners spread over the nodes, learners on GPUs or CPUs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
import torch
from ray.rllib.algorithms import algorithm as rllib_algorithm
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.utils.annotations import override

from marl_sched.config import Config
from marl_sched.errors import UserError


class SpreadGroup(EnvRunnerGroup):
    """RLlib's group of env runners, each on the node that has the fewest.

    Ray by itself fills a node to one half before it takes the next: runners of a small run
    would share one machine's memory bandwidth, and be lost together.
    """

    @override(EnvRunnerGroup)
    def _setup(self, **kwargs: Any) -> None:
        # In a placement group (a Tune trial) its bundles say where each runner goes.
        if ray.util.get_current_placement_group() is None:
            self._remote_args["scheduling_strategy"] = "SPREAD"
        super()._setup(**kwargs)


class SpreadRunners:
    """Mixin in front of an RLlib `Algorithm`, which makes its group of runners by itself."""

    def setup(self, config: Any) -> None:
        with _group_class(SpreadGroup):
            super().setup(config)  # type: ignore[misc]


@contextmanager
def _group_class(group: type[EnvRunnerGroup]) -> Iterator[None]:
    """RLlib has no setting for this class: its algorithm looks the name up when it is set up."""
    before = rllib_algorithm.EnvRunnerGroup
    rllib_algorithm.EnvRunnerGroup = group
    try:
        yield
    finally:
        rllib_algorithm.EnvRunnerGroup = before


def check_learners(config: Config) -> None:
    """Refuse a number of learners that the algorithm cannot share its batch among.

    Raises:
        UserError: saying why.
    """
    training = config.training
    learners = training.num_learners
    if learners < 2 or training.algo == "es":
        return
    if training.algo == "dqn":
        raise UserError("--num-learners: DQN learns in one place; choose 0 or 1")
    if config.env.agents == "learned":
        raise UserError("--num-learners: learned agents need one learner; choose 0 or 1")
    if training.num_envs_per_runner % learners:
        # Equal shares, also when a runner is lost: learners step together or not at all.
        raise UserError(
            f"--num-learners {learners}: must divide training.num_envs_per_runner, "
            f"{training.num_envs_per_runner}"
        )


def num_cpus(config: Config) -> int:
    """CPUs that a run takes of Ray at most: the driver takes none, and a learner on GPUs none."""
    training = config.training
    learners = 0 if training.algo == "es" else training.num_learners
    return training.num_env_runners + learners


def trial_bundles(config: Config) -> list[dict[str, float]]:
    """What a run takes within Ray Tune: the driver's, each runner's and each learner's share."""
    gpus, learners = learner_gpus(config, inside_trial=True), config.training.num_learners
    if config.training.algo == "es":
        gpus, learners = 0.0, 0
    driver = {"CPU": 1.0, "GPU": gpus if learners == 0 else 0.0}
    runners = [{"CPU": 1.0}] * config.training.num_env_runners
    return [driver, *runners, *[learner_resources(config, gpus)] * learners]


def learner_resources(config: Config, gpus: float) -> dict[str, float]:
    """What each learner process takes, with so many GPUs."""
    place = config.training.learner_resource
    taken = {"CPU": 0.0 if gpus or place is not None else 1.0, "GPU": gpus}
    return taken if place is None else taken | {place: 1.0}


def learner_gpus(config: Config, inside_trial: bool = False) -> float:
    """GPUs to ask for each learner: those configured where there are any, else 0.

    Args:
        inside_trial: a driver that learns has GPUs too, of the cluster, as Ray Tune places it.

    Raises:
        UserError: when there are some, but too few.
    """
    each, learners = config.training.num_gpus_per_learner, config.training.num_learners
    if each == 0:
        return 0.0
    if learners == 0 and not inside_trial:
        # The driver itself learns, which Ray gives no GPU.
        return each if torch.cuda.is_available() else 0.0
    present = most_gpus()
    if present == 0:
        return 0.0
    if each * max(1, learners) > present:
        raise UserError(
            f"--num-learners {learners} of {each:g} GPUs each: the cluster has {present:g}; "
            "lower one of them"
        )
    return each


def most_gpus() -> float:
    """GPUs of the Ray cluster, counting nodes that its autoscaler would start."""
    from ray._private.state import state

    now = float(ray.cluster_resources().get("GPU", 0.0))
    planned = state.get_max_resources_from_cluster_config() or {}
    return max(now, float(planned.get("GPU", 0.0)))


def tell_shortage(config: Config) -> None:
    """Say that the cluster has not all that the run asks for; more may be about to join."""
    wanted = {"CPU": float(config.training.num_env_runners)}
    gpus = learner_gpus(config)
    for name, each in learner_resources(config, gpus).items():
        wanted[name] = wanted.get(name, 0.0) + each * config.training.num_learners
    present = ray.cluster_resources()
    short = [
        f"{count:g} {name} ({present.get(name, 0.0):g} there)"
        for name, count in wanted.items()
        if count > present.get(name, 0.0)
    ]
    if short:
        logging.getLogger(__name__).warning(
            "the run waits until the Ray cluster has %s; ask for less, or add nodes",
            " and ".join(short),
        )
