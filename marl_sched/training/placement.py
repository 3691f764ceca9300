"""Where on a cluster training runs: runners spread over the nodes, learners on GPUs or CPUs."""

from __future__ import annotations

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


def learner_gpus(config: Config) -> float:
    """GPUs to ask for each learner: those configured where there are any, else 0.

    Raises:
        UserError: when there are some, but too few.
    """
    each, learners = config.training.num_gpus_per_learner, config.training.num_learners
    if each == 0:
        return 0.0
    if learners == 0:
        # The driver itself learns, which Ray gives no GPU.
        return each if torch.cuda.is_available() else 0.0
    present = most_gpus()
    if present == 0:
        return 0.0
    if each * learners > present:
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
