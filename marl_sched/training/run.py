"""One training run, from configuration to the best policy on validation episodes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from marl_sched.config import Config
from marl_sched.models.policy import LearnedPolicy, Manifest, load_policy, save_policy
from marl_sched.training.common import spaces_of
from marl_sched.training.records import Row, RunFolder, git_commit, now, versions
from marl_sched.training.rollout import AGENT, SCHEDULER
from marl_sched.training.runner import AGENT_SUMS, DEFAULT_ENV_CLASS, EPISODE_SUMS
from marl_sched.training.session import ray_session

Act = Callable[[Mapping[str, np.ndarray]], np.ndarray]
Validate = Callable[..., float]
"""(act, config) -> mean JCT of a policy against the base schedule on validation episodes, in
percent; lower wins. With learned agents `demand`, how they declare, is given as third."""

Progress = Callable[[Row], None]


@dataclass(frozen=True)
class TrainResult:
    """Where a run ended."""

    out: Path
    iteration: int
    decisions: int
    elapsed_s: float
    best_iteration: int
    """0 when no trained network beat the base schedule on validation."""
    best_validation: float


def train(
    config: Config,
    out: Path,
    *,
    address: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    validate: Validate | None = None,
    env_class: str = DEFAULT_ENV_CLASS,
) -> TrainResult:
    """Train until the configured minutes or iterations are over.

    Leaves in `out`: config.yaml, run.json, metrics.csv, checkpoints/iter_N (the last two) and
    best/, the policy that was best on validation. The base schedule is validated first, as
    iteration 0: what is in best/ is never worse on validation than the base.

    Args:
        config: the whole experiment.
        out: folder of the run.
        address: of a Ray cluster to join; None starts a local one.
        resume: go on from the last checkpoint in `out`; without one, start afresh. Of DQN
            the replay buffer is not saved: it is refilled before learning goes on.
        overwrite: replace a run that `out` holds.
        progress: called with each row of metrics.csv, plus `best_validation_percent`,
            `best_iteration` and `seconds_left` (None without a time limit).
        validate: scores a policy; None takes `marl_sched.evaluation.learned.validate`.
        env_class: `package.module:Class` of the batched environment.

    Raises:
        UserError: when `out` holds another run, or no cluster answers at `address`.
    """
    config = _looking_ahead(config)
    spaces_of(config, env_class)  # a bad trace or cluster ends here, with nothing written
    folder = RunFolder(out)
    with ray_session(address, config.training.num_env_runners):
        checkpoint = folder.prepare(config, resume, overwrite)
        folder.write_run(
            seed=config.seed,
            algo=config.training.algo,
            versions=versions(),
            git_commit=git_commit(),
            finished=None,
            **({"resumed": now()} if checkpoint else {"started": now()}),
        )
        run = _Run(config, folder, env_class, progress, validate or _default_validate())
        try:
            run.start(checkpoint)
            run.loop()
            return run.finish()
        finally:
            run.stop()


def _looking_ahead(config: Config) -> Config:
    """With the credit that learns best, where none was chosen."""
    if config.env.credit is not None:
        return config
    env = config.env.model_copy(update={"credit": "lookahead"})
    return config.model_copy(update={"env": env})


def build_algorithm(config: Config, env_class: str = DEFAULT_ENV_CLASS) -> Any:
    """The RLlib `Algorithm` of a configuration; Ray must be running."""
    if config.training.algo == "ppo":
        from marl_sched.training.ppo import ppo_config

        return ppo_config(config, env_class).build_algo()
    from marl_sched.training.dqn import dqn_config

    return dqn_config(config, env_class).build_algo()


def _default_validate() -> Validate:
    from marl_sched.evaluation.learned import validate

    return validate


class _Run:
    """The state of a run between two iterations."""

    def __init__(
        self,
        config: Config,
        folder: RunFolder,
        env_class: str,
        progress: Progress | None,
        validate: Validate,
    ) -> None:
        self._config = config
        self._folder = folder
        self._progress = progress
        self._validate = validate
        # As many threads as the runners use: results depend on it in the last bits.
        torch.set_num_threads(1)
        self._algorithm = build_algorithm(config, env_class)
        self._iteration = 0
        self._decisions = 0
        self._best_iteration = 0
        self._best_validation = float("inf")
        self._earlier_s = 0.0  # spent before the checkpoint
        self._begun_s = time.monotonic()

    @property
    def _elapsed_s(self) -> float:
        return self._earlier_s + time.monotonic() - self._begun_s

    def start(self, checkpoint: Path | None) -> None:
        """Go on from `checkpoint`, or validate the base schedule as iteration 0."""
        if checkpoint is None:
            self._folder.metrics.unlink(missing_ok=True)
            policy = self._policy(is_base=True)
            score = self._score(policy)
            self._keep_if_best(policy, score)
            row: Row = {"iteration": 0, "decisions": 0, "validation_percent": score}
            row["elapsed_s"] = self._elapsed_s
            self._folder.append(row)
            self._report(row)
            return
        self._algorithm.restore_from_path(str(checkpoint.resolve()))
        saved = json.loads((checkpoint / "progress.json").read_text(encoding="utf-8"))
        self._iteration, self._decisions = saved["iteration"], saved["decisions"]
        self._earlier_s = saved["elapsed_s"]
        # best/ may be newer than the checkpoint: what it holds is what counts.
        best = load_policy(self._folder.best).manifest
        assert best.validation is not None
        self._best_iteration, self._best_validation = best.iteration, best.validation
        self._folder.drop_rows_after(self._iteration)

    def loop(self) -> None:
        every = self._config.training
        while not self._over():
            row = self._iterate()
            last = self._over()
            if last or self._iteration % every.validation_every == 0:
                policy = self._policy()
                score = self._score(policy)
                row["validation_percent"] = score
                self._keep_if_best(policy, score)
            row["elapsed_s"] = self._elapsed_s
            self._folder.append(row)
            if last or self._iteration % every.checkpoint_every == 0:
                self._checkpoint()
            self._report(row)

    def _iterate(self) -> Row:
        begun_s = time.monotonic()
        result = self._algorithm.train()
        self._iteration += 1
        row = row_of(result, self._config)
        before, self._decisions = self._decisions, int(row["decisions"])
        seconds = max(1e-9, time.monotonic() - begun_s)
        return row | {
            "iteration": self._iteration,
            "decisions_per_s": (self._decisions - before) / seconds,
        }

    def _over(self) -> bool:
        limits = self._config.training
        if limits.iterations is not None and self._iteration >= limits.iterations:
            return True
        return limits.minutes is not None and self._elapsed_s >= 60 * limits.minutes

    def _policy(self, is_base: bool = False) -> LearnedPolicy:
        config = self._config
        weights = self._algorithm.learner_group.get_weights()
        specs = self._algorithm.config.rl_module_spec.rl_module_specs
        sizes = {module_id: spec.model_config["sizes"] for module_id, spec in specs.items()}
        manifest = Manifest(
            algo=config.training.algo,
            sizes=sizes[SCHEDULER],
            agent_sizes=sizes.get(AGENT),
            actions=config.env.actions,
            algorithms=list(config.env.algorithms),
            base=config.env.base,
            is_base=is_base,
            iteration=self._iteration,
            validation=None,
            config=config.model_dump(mode="json"),
            versions=versions(),
        )
        return LearnedPolicy.of_module(manifest, weights[SCHEDULER], weights.get(AGENT))

    def _score(self, policy: LearnedPolicy) -> float:
        if policy.demand is None:
            return self._validate(policy.act, self._config)
        return self._validate(policy.act, self._config, policy.demand)

    def _keep_if_best(self, policy: LearnedPolicy, score: float) -> None:
        if not score < self._best_validation:
            return
        self._best_iteration, self._best_validation = self._iteration, float(score)
        save_policy(policy.with_validation(float(score)), self._folder.best)

    def _checkpoint(self) -> None:
        self._folder.save_checkpoint(
            self._algorithm,
            {
                "iteration": self._iteration,
                "decisions": self._decisions,
                "elapsed_s": self._elapsed_s,
                "best_iteration": self._best_iteration,
                "best_validation": self._best_validation,
            },
        )

    def _report(self, row: Row) -> None:
        if self._progress is None:
            return
        minutes = self._config.training.minutes
        self._progress(
            row
            | {
                "best_validation_percent": self._best_validation,
                "best_iteration": self._best_iteration,
                "seconds_left": max(0.0, 60 * minutes - self._elapsed_s) if minutes else None,
            }
        )

    def finish(self) -> TrainResult:
        result = TrainResult(
            self._folder.out,
            self._iteration,
            self._decisions,
            self._elapsed_s,
            self._best_iteration,
            self._best_validation,
        )
        self._folder.write_run(
            finished=now(),
            iteration=result.iteration,
            decisions=result.decisions,
            elapsed_s=round(result.elapsed_s, 3),
            best_iteration=result.best_iteration,
            best_validation=result.best_validation,
        )
        return result

    def stop(self) -> None:
        self._algorithm.stop()


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
    count = float(sampled.get("num_episodes", 0) or 0)
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
    count = float(sums.get("count") or 0)
    learned = learned or {}
    trained = (learned.get("num_module_steps_trained") or 0) > 0  # NaN: no rows this time
    return {
        "agent_return_mean": _mean(sums.get("return"), count),
        "agent_demand_mean": _mean(sums.get("asked"), count),
        "agent_entropy": learned.get("entropy") if trained else None,
    }


def _mean(total: Any, count: float) -> float | None:
    return None if total is None or count == 0 else float(total) / count
