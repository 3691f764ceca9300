"""One training run, from configuration to the best policy on validation episodes."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marl_sched.artefact import readable
from marl_sched.checkpoints import read_progress
from marl_sched.config import Config
from marl_sched.errors import UserError
from marl_sched.evaluation.learned import Score
from marl_sched.evaluation.simulate import refuse_repack
from marl_sched.files import naming_full_disk
from marl_sched.training.clock import Budget, Clock
from marl_sched.training.diverged import Diverged, check_row
from marl_sched.training.learner_placement import check_learners, num_cpus, tell_shortage
from marl_sched.training.records import Row, RunFolder, git_commit, now, versions
from marl_sched.training.runner import DEFAULT_ENV_CLASS
from marl_sched.training.session import losing_ray_is_told, ray_session
from marl_sched.training.storage import Storage
from marl_sched.training.trainer import Candidate, Trainer, as_score

if TYPE_CHECKING:
    from marl_sched.training.rllib import Validate

Progress = Callable[[Row], None]

_WARM = ("iteration", "validation_percent")


@dataclass(frozen=True)
class TrainResult:
    """Where a run ended."""

    out: Path
    iteration: int
    decisions: int
    elapsed_s: float
    """Trained for, see `Clock`."""
    best_iteration: int
    """0 when no trained network beat the base schedule on validation."""
    best_validation: float
    warm_start_validation: float | None = None
    """Of the best scorer of the warm start; None without one."""
    setup_s: float = 0.0
    """Spent in this process on what is not counted: starting workers, compiling, playing what is
    there without training."""


def train(
    config: Config,
    out: Path,
    *,
    address: str | None = None,
    storage: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    validate: Validate | None = None,
    env_class: str = DEFAULT_ENV_CLASS,
    command: str = "",
) -> TrainResult:
    """Train until the configured minutes or iterations are over.

    The minutes are of learning, of the validations in between and of the last one, and of
    checkpoints: iterations make themselves small enough to keep within them. Starting Ray and the
    workers, compiling, and validating what is there without training are not counted. A run of
    which not even one iteration was finished has the base schedule in best/, and says so by
    `TrainResult.iteration`.

    Leaves in `out`: config.yaml, run.json, metrics.csv, checkpoints/iter_N (the last two) and
    best/, the policy that was best on validation, and network/, the best network of PPO or DQN,
    also where a simpler scheduler is kept. The base schedule is validated first, as
    iteration 0, and after it each single algorithm of `meta`: what is in best/ is never worse on
    validation than those. A network of PPO or DQN takes the place of another scheduler where it
    is better by more than the standard error of the difference.

    With `training.warm_start`, evolution strategies come first; see `training.warm_start`.

    Args:
        config: the whole experiment.
        out: folder of the run.
        address: of a Ray cluster to join; None starts a local one.
        storage: where `out` is kept too, see `Storage`; brought up to date at each checkpoint.
        resume: go on from the last checkpoint in `out`, or in `storage` where that is newer;
            without one, start afresh. Of DQN the replay buffer is not saved: it is refilled
            before learning goes on.
        overwrite: replace a run that `out` holds.
        progress: called with each row of metrics.csv, plus `best_validation_percent`,
            `best_iteration` and `seconds_left` (None without a time limit).
        validate: scores PPO's and DQN's policies; None takes
            `marl_sched.evaluation.learned.validate`.
        env_class: `package.module:Class` of their batched environment.
        command: that asked for it, for run.json.

    Raises:
        UserError: when `out` holds another run, or no cluster answers at `address`.
        Diverged: when what is learned is no finite number; what was best until then is kept.
    """
    clock = Clock()
    config = _looking_ahead(config)
    check(config, env_class)
    folder = RunFolder(out, None if storage is None else Storage(storage))
    with folder.alone(), naming_full_disk(out), _session(config, address), losing_ray_is_told():
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
        if config.training.algo != "es":
            tell_shortage(config)
        budget = Budget(config.training.minutes, clock)
        trainer = _trainer(config, env_class, validate, folder, clock, budget)
        run = _Run(config, folder, trainer, clock, budget, progress)
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


def check(config: Config, env_class: str = DEFAULT_ENV_CLASS) -> None:
    """End here on a bad trace, cluster or base, with nothing written.

    Raises:
        UserError: naming it.
    """
    refuse_repack(f"trained by {config.training.algo}", config.sim)
    if config.training.warm_start > 0 and config.env.train_weights:
        raise UserError(
            "settings training.warm_start and env.train_weights: PPO and DQN act on one scorer, "
            "not on one for each weighting; leave out one of the two, or take --algo es"
        )
    if config.training.has_scorer:
        from marl_sched.training import es, sequences

        sequences.check(config)
        es.free_weights(config.training.es.without)
    if config.training.algo != "es":
        from marl_sched.training.common import spaces_of
        from marl_sched.training.other_clusters import check_clusters

        check_learners(config)
        spaces_of(config, env_class)
        check_clusters(config)


def check_places(config: Config, out: Path, storage: str | None, resume: bool) -> None:
    """End here where the run could not be kept, with nothing written.

    Raises:
        UserError: when `out` or `storage` holds another run, or cannot be written.
    """
    folder = RunFolder(out, None if storage is None else Storage(storage))
    folder.check(_looking_ahead(config), resume, overwrite=False)


def limit_reached(config: Config, saved: Mapping[str, Any]) -> str | None:
    """The limit of a run that is over, in words such as `8 minutes`; None while it is not.

    Args:
        saved: `progress.json` of its newest checkpoint. A run ends a little before its minutes,
            when they have no room for another iteration: `minutes_over` is of which they were.
    """
    limits = config.training
    if limits.iterations is not None and saved["iteration"] >= limits.iterations:
        return f"{limits.iterations} iterations"
    if limits.minutes is not None:
        over = max(saved["elapsed_s"] / 60.0, saved.get("minutes_over") or 0.0)
        if over >= limits.minutes:
            return f"{limits.minutes:g} minutes"
    return None


def _session(config: Config, address: str | None) -> AbstractContextManager[None]:
    """Ray, except where one process does all."""
    training = config.training
    if training.algo == "es" and training.num_env_runners == 0:
        return nullcontext()
    return ray_session(address, num_cpus(config))


def _trainer(
    config: Config,
    env_class: str,
    validate: Validate | None,
    folder: RunFolder,
    clock: Clock,
    budget: Budget,
) -> Trainer:
    if config.training.algo == "es":
        from marl_sched.training.es import EvolutionStrategies

        return EvolutionStrategies(config)
    if config.training.warm_start > 0:
        from marl_sched.training.warm_start import WarmStarted

        return WarmStarted(config, env_class, folder.base, clock, budget)
    from marl_sched.training.rllib import RLlibTrainer

    return RLlibTrainer(config, env_class, validate)


class _Run:
    """The state of a run between two iterations."""

    def __init__(
        self,
        config: Config,
        folder: RunFolder,
        trainer: Trainer,
        clock: Clock,
        budget: Budget,
        progress: Progress | None,
    ) -> None:
        self._config = config
        self._folder = folder
        self._trainer = trainer
        self._progress = progress
        self._iteration = 0
        self._decisions = 0
        self._best_iteration = 0
        self._best: Score | None = None
        self._best_network = math.inf
        self._clock = clock
        self._budget = budget
        self._minutes_over: float | None = None
        self._saved: tuple[int, float | None] = 0, None
        """Iteration of the last checkpoint, and its `minutes_over`."""
        self._unscored: Row | None = None
        """The last iteration's row, where that was not validated."""
        self._singles_known = False

    @property
    def _best_validation(self) -> float:
        return float("inf") if self._best is None else self._best.percent

    def start(self, checkpoint: Path | None) -> None:
        """Go on from `checkpoint`, or validate the base schedule as iteration 0."""
        if checkpoint is None:
            self._folder.metrics.unlink(missing_ok=True)
            shutil.rmtree(self._folder.network, ignore_errors=True)
            row: Row = {"iteration": 0, "decisions": 0}
            self._keep(row, self._trainer.candidate(0, True))
            if self._budget.is_dear():
                # It may have waited for workers, or loaded what is compiled: again, to know.
                with self._budget.validating():
                    self._trainer.candidate(0, True).score()
            self._validate_singles()
            row["elapsed_s"] = self._clock.elapsed_s()
            self._folder.append(row)
            self._report(row)
            return
        # Without a best/ the checkpoint is of a run under other rewards.
        base = None if self._folder.best.is_dir() else self._trainer.candidate(0, True)
        with readable(checkpoint, "run's checkpoint"):
            self._trainer.restore_from_path(str(checkpoint.resolve()))
            saved = read_progress(checkpoint)
            self._iteration, self._decisions = saved["iteration"], saved["decisions"]
            self._clock.earlier_s = saved["elapsed_s"]
            self._minutes_over = saved.get("minutes_over")
            self._saved = self._iteration, self._minutes_over
        if base is None:
            # best/ may be newer than the checkpoint: what it holds is what counts.
            with self._budget.validating():
                self._best_iteration, best = self._trainer.best_in(self._folder.best)
            self._best = as_score(best)
        else:
            self._keep_better(base, self._trainer.candidate(self._iteration, False))
        if self._folder.network.is_dir():
            self._best_network = _recorded_score(self._folder.network)
        self._folder.drop_rows_after(self._iteration)

    def _keep_better(self, base: Candidate, inherited: Candidate) -> None:
        """Keep the base schedule, or what was learned under other rewards where that is better by
        this run's own."""
        kept, self._best = base, as_score(base.score())
        score = as_score(inherited.score())
        if score.percent < self._best.percent:
            kept, self._best, self._best_iteration = inherited, score, self._iteration
        kept.save(self._folder.best, self._best.percent)

    def loop(self) -> None:
        try:
            self._clock.start()
            while not self._ready_to_end():
                if self._learn():
                    break
            if self._unscored is not None:
                self._score_late(self._unscored)
            if self._iteration > 0 and self._saved != (self._iteration, self._minutes_over):
                self._checkpoint()
        except Diverged as error:
            raise self._explained(error) from None

    def _ready_to_end(self) -> bool:
        if self._over():
            return True
        self._trainer.prepare()
        return self._over()

    def _learn(self) -> bool:
        """One iteration and what is due after it; whether it was the last."""
        every = self._config.training
        row = self._iterate()
        check_row(row, self._iteration)
        if row.get("warm_start") == 0:
            with self._clock.paused():
                self._validate_singles()
        due = self._iteration % every.validation_every == 0 or self._trainer.is_due()
        # Asked once: the clock runs on.
        saves = self._iteration % every.checkpoint_every == 0
        last = self._over(self._budget.validation_s * due + self._budget.checkpoint_s * saves)
        if last or due:
            self._keep(row, self._trainer.candidate(self._iteration, False))
        self._unscored = None if last or due else row
        row["elapsed_s"] = self._clock.elapsed_s()
        self._folder.append(row)
        if last or saves:
            with self._budget.saving():
                self._checkpoint()
        self._report(row)
        return last

    def _score_late(self, row: Row) -> None:
        """Validate the last iteration: a checkpoint took what the next one needed."""
        self._folder.drop_rows_after(self._iteration - 1)
        self._keep(row, self._trainer.candidate(self._iteration, False))
        row["elapsed_s"] = self._clock.elapsed_s()
        self._folder.append(row)
        self._report(row)

    def _explained(self, error: Diverged) -> Diverged:
        """With what to do about it, which is left in run.json too."""
        reason = " ".join(str(error).split())
        if "in iteration" not in reason:
            reason += f" in iteration {self._iteration + 1}"
        self._folder.write_run(diverged=reason, best_iteration=self._best_iteration)
        algo = self._trainer.algorithm()
        rate = getattr(self._config.training, algo).lr
        return Diverged(
            f"{reason}; what was best until then is kept in {self._folder.best} (iteration "
            f"{self._best_iteration}). Give a smaller training.{algo}.lr, which is {rate:g}, and "
            "another --out"
        )

    def _iterate(self) -> Row:
        begun_s = time.monotonic()
        row = self._trainer.iterate(self._budget.left_s())
        self._iteration += 1
        before, self._decisions = self._decisions, int(row["decisions"])
        seconds = max(1e-9, time.monotonic() - begun_s)
        return row | {
            "iteration": self._iteration,
            "decisions_per_s": (self._decisions - before) / seconds,
        }

    def _over(self, first_s: float = 0.0) -> bool:
        """Whether the run's end has come, if something that takes `first_s` is done before it."""
        if limit_reached(self._config, self._progress_so_far()) is not None:
            return True
        left_s = self._budget.left_s()
        over = left_s is not None and left_s - first_s <= self._trainer.shortest_s()
        if over:
            self._minutes_over = self._config.training.minutes
        return over

    def _keep(self, row: Row, candidate: Candidate) -> None:
        """Score what has been learned so far, and keep it where it is the best yet."""
        with self._budget.validating():
            score = as_score(candidate.score())
        row["validation_percent"] = score.percent
        if candidate.cautious and self._iteration > 0 and score.percent < self._best_network:
            self._best_network = score.percent
            candidate.save(self._folder.network, score.percent)
        best = self._best
        if best is None:
            better = True
        elif candidate.cautious:
            better = score.clearly_beats(best)
        else:
            better = score.percent < best.percent
        if better:
            self._save(candidate, score)

    def _save(self, candidate: Candidate, score: Score) -> None:
        self._best_iteration, self._best = self._iteration, score
        candidate.save(self._folder.best, score.percent)

    def _validate_singles(self) -> None:
        """Keep the best single algorithm instead of the base, where it is clearly better.

        Once a process; after a warm start what is acted on is its scorer.
        """
        singles = {} if self._singles_known else self._trainer.singles()
        if not singles:
            return
        self._singles_known = True
        assert self._best is not None
        scores = {name: as_score(one.score()) for name, one in singles.items()}
        best = min(scores, key=lambda name: scores[name].percent)
        wins = scores[best].clearly_beats(self._best)
        if wins:
            self._save(singles[best], scores[best])
        self._folder.write_run(
            singles_validation={name: score.percent for name, score in scores.items()},
            best_single=best if wins else None,
        )

    def _checkpoint(self) -> None:
        self._folder.save_checkpoint(self._trainer, self._progress_so_far())
        self._saved = self._iteration, self._minutes_over

    def _progress_so_far(self) -> dict[str, Any]:
        """What `progress.json` of a checkpoint says."""
        return {
            "iteration": self._iteration,
            "decisions": self._decisions,
            "elapsed_s": self._clock.elapsed_s(),
            "minutes_over": self._minutes_over,
            "best_iteration": self._best_iteration,
            "best_validation": self._best_validation,
        }

    def _report(self, row: Row) -> None:
        if self._progress is None:
            return
        minutes, spent_s = self._config.training.minutes, self._clock.elapsed_s()
        self._progress(
            row
            | {
                "best_validation_percent": self._best_validation,
                "best_iteration": self._best_iteration,
                "seconds_left": max(0.0, 60 * minutes - spent_s) if minutes else None,
            }
        )

    def finish(self) -> TrainResult:
        warm = self._folder.warm_start()
        result = TrainResult(
            self._folder.out,
            self._iteration,
            self._decisions,
            self._clock.elapsed_s(),
            self._best_iteration,
            self._best_validation,
            None if warm is None else warm[1],
            self._clock.uncounted_s(),
        )
        self._folder.write_run(
            finished=now(),
            iteration=result.iteration,
            decisions=result.decisions,
            elapsed_s=round(result.elapsed_s, 3),
            setup_s=round(result.setup_s, 3),
            best_iteration=result.best_iteration,
            best_validation=result.best_validation,
            **({} if warm is None else {"warm_start": dict(zip(_WARM, warm, strict=True))}),
        )
        if self._folder.storage is not None:
            self._folder.storage.finish(self._folder.out)
        return result

    def stop(self) -> None:
        self._trainer.stop()


def _recorded_score(folder: Path) -> float:
    """Score on validation with which a policy was saved."""
    from marl_sched.models.policy import load_policy

    score = load_policy(folder).manifest.validation
    return math.inf if score is None else score
