"""One training run, from configuration to the best policy on validation episodes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from marl_sched.config import Config
from marl_sched.training.records import Row, RunFolder, git_commit, now, versions
from marl_sched.training.runner import DEFAULT_ENV_CLASS
from marl_sched.training.session import ray_session

if TYPE_CHECKING:
    from marl_sched.training.rllib import Validate

Progress = Callable[[Row], None]


class Candidate(Protocol):
    """A scheduler that may turn out to be the best of a run."""

    def score(self) -> float:
        """Mean JCT against the base schedule on validation, percent; lower wins."""

    def save(self, folder: Path, score: float) -> None:
        """Write it, with its score on record; a reader sees all old or all new files."""


class Trainer(Protocol):
    """What learns: an RLlib algorithm, or evolution strategies."""

    def iterate(self) -> Row:
        """Learn for one iteration; its columns of metrics.csv, `decisions` so far among them."""

    def candidate(self, iteration: int, is_base: bool) -> Candidate:
        """What has been learned so far; `is_base`: the base schedule instead."""

    def best_in(self, folder: Path) -> tuple[int, float]:
        """Iteration and validation score of what a candidate has saved."""

    def save_to_path(self, path: str) -> None:
        """Write all that the run goes on from into the folder `path`."""

    def restore_from_path(self, path: str) -> None:
        """Go on from there."""

    def stop(self) -> None:
        """Let go of processes."""


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
    command: str = "",
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
        validate: scores PPO's and DQN's policies; None takes
            `marl_sched.evaluation.learned.validate`.
        env_class: `package.module:Class` of their batched environment.
        command: that asked for it, for run.json.

    Raises:
        UserError: when `out` holds another run, or no cluster answers at `address`.
    """
    config = _looking_ahead(config)
    _check(config, env_class)
    folder = RunFolder(out)
    with _session(config, address):
        checkpoint = folder.prepare(config, resume, overwrite)
        folder.write_run(
            seed=config.seed,
            command=command,
            algo=config.training.algo,
            versions=versions(),
            git_commit=git_commit(),
            finished=None,
            **({"resumed": now()} if checkpoint else {"started": now()}),
        )
        run = _Run(config, folder, _trainer(config, env_class, validate), progress)
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


def _check(config: Config, env_class: str) -> None:
    """End here on a bad trace, cluster or base, with nothing written."""
    if config.training.algo == "es":
        from marl_sched.training.sequences import check

        check(config)
    else:
        from marl_sched.training.common import spaces_of

        spaces_of(config, env_class)


def _session(config: Config, address: str | None) -> AbstractContextManager[None]:
    """Ray, except where one process does all."""
    training = config.training
    if training.algo == "es" and training.num_env_runners == 0:
        return nullcontext()
    return ray_session(address, training.num_env_runners)


def _trainer(config: Config, env_class: str, validate: Validate | None) -> Trainer:
    if config.training.algo == "es":
        from marl_sched.training.es import EvolutionStrategies

        return EvolutionStrategies(config)
    from marl_sched.training.rllib import RLlibTrainer

    return RLlibTrainer(config, env_class, validate)


class _Run:
    """The state of a run between two iterations."""

    def __init__(
        self, config: Config, folder: RunFolder, trainer: Trainer, progress: Progress | None
    ) -> None:
        self._config = config
        self._folder = folder
        self._trainer = trainer
        self._progress = progress
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
            row: Row = {"iteration": 0, "decisions": 0}
            self._validate(row, is_base=True)
            row["elapsed_s"] = self._elapsed_s
            self._folder.append(row)
            self._report(row)
            return
        self._trainer.restore_from_path(str(checkpoint.resolve()))
        saved = json.loads((checkpoint / "progress.json").read_text(encoding="utf-8"))
        self._iteration, self._decisions = saved["iteration"], saved["decisions"]
        self._earlier_s = saved["elapsed_s"]
        # best/ may be newer than the checkpoint: what it holds is what counts.
        self._best_iteration, self._best_validation = self._trainer.best_in(self._folder.best)
        self._folder.drop_rows_after(self._iteration)

    def loop(self) -> None:
        every = self._config.training
        while not self._over():
            row = self._iterate()
            last = self._over()
            if last or self._iteration % every.validation_every == 0:
                self._validate(row)
            row["elapsed_s"] = self._elapsed_s
            self._folder.append(row)
            if last or self._iteration % every.checkpoint_every == 0:
                self._checkpoint()
            self._report(row)

    def _iterate(self) -> Row:
        begun_s = time.monotonic()
        row = self._trainer.iterate()
        self._iteration += 1
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

    def _validate(self, row: Row, *, is_base: bool = False) -> None:
        """Score what has been learned so far, and keep it where it is the best yet."""
        candidate = self._trainer.candidate(self._iteration, is_base)
        score = float(candidate.score())
        row["validation_percent"] = score
        if score < self._best_validation:
            self._best_iteration, self._best_validation = self._iteration, score
            candidate.save(self._folder.best, score)

    def _checkpoint(self) -> None:
        self._folder.save_checkpoint(
            self._trainer,
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
        self._trainer.stop()
