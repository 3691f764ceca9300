"""What a training run asks of RLlib's algorithms: PPO and DQN."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from marl_sched.config import Config
from marl_sched.envs.episodes import Episode
from marl_sched.envs.learned_agents import Declarations, Demand
from marl_sched.errors import UserError
from marl_sched.evaluation.learned import Score
from marl_sched.models.policy import LearnedPolicy, Manifest, load_policy, save_policy
from marl_sched.models.state_file import load_state, save_state
from marl_sched.training.common import num_sampling_envs, use_configured_rate
from marl_sched.training.diverged import check_arrays
from marl_sched.training.records import Row, versions
from marl_sched.training.rollout import AGENT, SCHEDULER
from marl_sched.training.runner import AGENT_SUMS, DEFAULT_ENV_CLASS, EPISODE_SUMS
from marl_sched.training.trainer import Candidate

Validate = Callable[..., Score | float]
"""(act, config) -> mean JCT of a policy against the base schedule on validation episodes, in
percent; lower wins. With learned agents `demand`, how they declare, is given as third."""


_RECORDS = (Declarations, Demand, Episode)
"""Data classes in the state of environments."""


def build_algorithm(config: Config, env_class: str = DEFAULT_ENV_CLASS) -> Any:
    """The RLlib `Algorithm` of a configuration; Ray must be running."""
    if config.training.algo == "ppo":
        from marl_sched.training.ppo import ppo_config

        return ppo_config(config, env_class).build_algo()
    from marl_sched.training.dqn import dqn_config

    return dqn_config(config, env_class).build_algo()


PATIENCE_S = 300.0
"""For env runners to come back after all were lost; on busy machines a start takes a minute."""


class RLlibTrainer:
    """A PPO or DQN algorithm; Ray must be running.

    Args:
        validate: scores a policy; None takes `marl_sched.evaluation.learned.validate`.
        base_folder: name, in artefacts, of the folder of the scorer that `env.base` is; empty
            where the base has a name of its own.
    """

    def __init__(
        self, config: Config, env_class: str, validate: Validate | None, base_folder: str = ""
    ) -> None:
        # As many threads as the runners use: results depend on it in the last bits.
        torch.set_num_threads(1)
        self._config = config
        self._validate = validate or default_validate()
        self._base_folder = base_folder
        self._algorithm = build_algorithm(config, env_class)
        self._seconds_per_decision = 0.0

    def iterate(self, seconds: float | None = None) -> Row:
        begun_s = time.monotonic()
        result = self._sample_something(seconds)
        sampled = self._algorithm.decisions_sampled
        self._seconds_per_decision = (time.monotonic() - begun_s) / sampled
        check_arrays(self._weights(), "weights of the network")
        return row_of(result, self._config)

    def _sample_something(self, seconds: float | None) -> Mapping[str, Any]:
        """The result of an iteration; again, where every env runner was lost in it.

        Raises:
            UserError: when none comes back.
        """
        begun_s = time.monotonic()
        result = self._algorithm.train_within(seconds)
        while self._algorithm.decisions_sampled == 0:
            if time.monotonic() - begun_s >= PATIENCE_S:
                raise UserError(
                    f"all {self._config.training.num_env_runners} env runners were lost, and none "
                    f"has come back in {PATIENCE_S:g} s: see that the machines of the Ray cluster "
                    "are up and have memory left, and go on with --resume auto"
                )
            time.sleep(self._algorithm.config.delay_between_env_runner_restarts_s)
            result = self._algorithm.train_within(seconds)
        return result

    def _weights(self) -> Iterable[np.ndarray]:
        for weights in self._algorithm.learner_group.get_weights().values():
            yield from weights.values()

    def shortest_s(self) -> float:
        """As long as the decisions of a single minibatch take, or one replayed fragment."""
        training = self._config.training
        least = training.ppo.minibatch_size
        if training.algo == "dqn":
            from marl_sched.training.dqn import FRAGMENT_STEPS

            least = FRAGMENT_STEPS * num_sampling_envs(self._config)
        return least * self._seconds_per_decision

    def algorithm(self) -> str:
        return self._config.training.algo

    def prepare(self) -> None:
        """Nothing is to be done."""

    def is_due(self) -> bool:
        return False

    def candidate(self, iteration: int, is_base: bool) -> RLlibCandidate:
        return self._candidate(iteration, is_base=is_base)

    def singles(self) -> dict[str, Candidate]:
        """Each of `env.algorithms`, where algorithms may be chosen at all."""
        if self._config.env.actions == "edit":
            return {}
        names = enumerate(self._config.env.algorithms, start=1)
        return {name: self._candidate(0, plays=action) for action, name in names}

    def _candidate(
        self, iteration: int, is_base: bool = False, plays: int | None = None
    ) -> RLlibCandidate:
        config = self._config
        weights = self._algorithm.learner_group.get_weights()
        sizes = self._sizes()
        manifest = Manifest(
            algo=config.training.algo,
            sizes=sizes[SCHEDULER],
            agent_sizes=sizes.get(AGENT),
            actions=config.env.actions,
            algorithms=list(config.env.algorithms),
            base=config.env.base,
            is_base=is_base,
            iteration=iteration,
            validation=None,
            config=config.model_dump(mode="json"),
            versions=versions(),
            plays=plays,
            base_folder=self._base_folder,
        )
        policy = LearnedPolicy.of_module(manifest, weights[SCHEDULER], weights.get(AGENT))
        return RLlibCandidate(policy, config, self._validate)

    def _sizes(self) -> dict[str, dict[str, int]]:
        """Of each network, by its module's id."""
        specs = self._algorithm.config.rl_module_spec.rl_module_specs
        return {module_id: spec.model_config["sizes"] for module_id, spec in specs.items()}

    def best_in(self, folder: Path) -> tuple[int, Score | float]:
        policy = load_policy(folder)
        return policy.manifest.iteration, score_policy(policy, self._config, self._validate)

    def save_to_path(self, path: str) -> None:
        """With what an export of the networks needs besides: their algorithm and sizes."""
        state = {
            "algo": self._config.training.algo,
            "sizes": self._sizes(),
            "algorithm": self._algorithm.get_state(),
        }
        save_state(state, Path(path), _RECORDS)

    def restore_from_path(self, path: str) -> None:
        self._algorithm.set_state(load_state(Path(path), _RECORDS)["algorithm"])
        # An optimiser's state brings the step size that it was saved with.
        self._algorithm.learner_group.foreach_learner(use_configured_rate)

    def stop(self) -> None:
        self._algorithm.stop()


class RLlibCandidate:
    """A network as it acts, greedily."""

    cautious = True

    def __init__(self, policy: LearnedPolicy, config: Config, validate: Validate) -> None:
        self._policy = policy
        self._config = config
        self._validate = validate

    def score(self) -> Score | float:
        return score_policy(self._policy, self._config, self._validate)

    def save(self, folder: Path, score: float) -> None:
        save_policy(self._policy.with_validation(score), folder)


def score_policy(policy: LearnedPolicy, config: Config, validate: Validate) -> Score | float:
    """What `validate` says of a policy, on the base schedule that it stands on."""
    if policy.manifest.base_folder:
        env = config.env.model_copy(update={"base": policy.manifest.base})
        config = config.model_copy(update={"env": env})
    if policy.demand is None:
        return validate(policy.act, config)
    return validate(policy.act, config, policy.demand)


def default_validate() -> Validate:
    from marl_sched.evaluation.learned import validate

    return validate


_LEARNER_COLUMNS = {
    "policy_loss": "policy_loss",
    "value_loss": "vf_loss",
    "explained_variance": "vf_explained_var",
    "kl": "mean_kl_loss",
    "kl_coefficient": "curr_kl_coeff",
    "entropy": "entropy",
    "q_loss": "qf_loss",
    "q_mean": "qf_mean",
    "td_error": "td_error_mean",
    "gradient_norm": "gradients_default_optimizer_global_norm",
}


def row_of(result: Mapping[str, Any], config: Config) -> Row:
    """Our metrics out of RLlib's result of one iteration."""
    sampled = result["env_runners"]
    learned = result.get("learners", {}).get(SCHEDULER, {})
    timers = result.get("timers", {})
    sums = sampled.get(EPISODE_SUMS, {})
    decisions = int(sampled["num_env_steps_sampled_lifetime"])
    count = _count(sampled.get("num_episodes"))
    row: Row = {
        "decisions": decisions,
        "num_episodes": int(count),
        "episode_return_mean": _mean(sums.get("return"), count),
        "jct_vs_base_percent": _mean(sums.get("jct_vs_base_percent"), count),
        "sample_s": timers.get("env_runner_sampling_timer"),
        "update_s": timers.get("learner_update_timer"),
    }
    row |= {name: learned.get(key) for name, key in _LEARNER_COLUMNS.items()}
    if config.env.agents == "learned":
        row |= _agent_columns(sampled.get(AGENT_SUMS, {}), result.get("learners", {}).get(AGENT))
    if config.training.algo == "dqn":
        from marl_sched.models.dqn import epsilon_at

        settings = config.training.dqn
        row["epsilon"] = epsilon_at(decisions, settings.epsilon, settings.epsilon_decisions)
    return row


def _agent_columns(sums: Mapping[str, Any], learned: Mapping[str, Any] | None) -> Row:
    count = _count(sums.get("count"))
    learned = learned or {}
    trained = _count(learned.get("num_module_steps_trained")) > 0
    return {
        "agent_return_mean": _mean(sums.get("return"), count),
        "agent_demand_mean": _mean(sums.get("asked"), count),
        "agent_entropy": learned.get("entropy") if trained else None,
    }


def _count(value: Any) -> float:
    """What RLlib has counted: nothing, where it says NaN or nothing at all."""
    return 0.0 if value is None or math.isnan(value) else float(value)


def _mean(total: Any, count: float) -> float | None:
    return None if total is None or count == 0 else float(total) / count
