"""Running a page under Ray Tune: which trials are left, what they report, going on after a stop.

Ray Tune starts trials on the cluster's machines, starts those again whose worker died, and logs
to TensorBoard. What it should do is our own `plan`, and what was done lies in the trials' folders:
a second run proposes the same trials and passes over those that have ended, so that nothing
depends on Tune's own snapshots.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.search import Searcher

from marl_sched.config import Config, validate_config
from marl_sched.errors import UserError, WriteError
from marl_sched.files import write_text
from marl_sched.training.placement import num_cpus, trial_bundles
from marl_sched.training.session import ray_session
from marl_sched.tuning.loggers import logger_callbacks
from marl_sched.tuning.outcome import Outcome, read_outcome
from marl_sched.tuning.page import Sweep
from marl_sched.tuning.plan import SCHEDULER, Plan, Proposal, plan_of
from marl_sched.tuning.trial import RUN_SCORE, Job, run_job

RECORD = "sweep.json"
RETRIES = 2
"""How often a trial is started again whose worker died."""

Say = Callable[[str, Mapping[str, Any]], None]
"""(name of a trial, its newest figures; `new` where they are of this process's own work)."""


@dataclass(frozen=True)
class Run:
    """A sweep and where it goes."""

    sweep: Sweep
    config: Config
    """The experiment of every trial, but for what the trial itself sets."""
    out: Path
    concurrent: int = 2
    address: str | None = None
    """Of a Ray cluster to join, whose machines all see `out`; None starts a local one."""
    loggers: tuple[str, ...] = ()

    @property
    def trials(self) -> Path:
        return self.out / "trials"


def _say_nothing(name: str, figures: Mapping[str, Any]) -> None:
    pass


def run_sweep(run: Run, say: Say = _say_nothing) -> list[Outcome]:
    """Run all trials of a sweep, or those that are left of it.

    Returns:
        Outcomes in the order of the plan; trials may have failed.

    Raises:
        UserError: when `out` holds something else or is in use, or no cluster answers.
    """
    run = Run(**(vars(run) | {"out": run.out.absolute()}))
    with _alone(run.out):
        record, lag = _check_same(run)
        reporter = _Reporter(say)
        feed = _Feed(run, plan_of(run.sweep, run.config.seed, lag), reporter)
        extra = logger_callbacks(run.loggers, run.out, run.sweep.title)
        if not feed.only_old():
            with ray_session(run.address, run.concurrent * _cpus(run.config)):
                write_text(run.out / RECORD, record)
                _fit(run, feed, [reporter, *extra])
        return feed.all_outcomes()


def _fit(run: Run, feed: _Feed, callbacks: list[Any]) -> None:
    # Tune's newer output prints banners even when it is told to be silent.
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    # Ctrl-C ends the command, as elsewhere: Tune would save its state, which nobody reads.
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    folder = run.out / "tune"
    bundles = tune.PlacementGroupFactory(trial_bundles(run.config))
    tune.Tuner(
        tune.with_resources(_trainable, bundles),
        tune_config=tune.TuneConfig(
            search_alg=feed,
            num_samples=feed.plan.total,
            max_concurrent_trials=run.concurrent,
            reuse_actors=True,
            trial_dirname_creator=_name_of,
            trial_name_creator=_name_of,
        ),
        run_config=tune.RunConfig(
            name=f"start_{1 + len(list(folder.glob('start_*')))}",
            storage_path=str(folder),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            callbacks=callbacks,
        ),
    ).fit()


def _cpus(config: Config) -> int:
    """Of a trial, with its driver's."""
    return 1 + num_cpus(config)


def _trainable(space: dict[str, Any]) -> None:
    def report(row: Mapping[str, Any]) -> None:
        tune.report({key: value for key, value in row.items() if value is not None})

    job: Job = space["job"]
    tune.report(_at_end(job, run_job(job, report)))


def _at_end(job: Job, outcome: Outcome) -> dict[str, Any]:
    """The last that a trial reports: its figures, but for what rows of iterations have too."""
    figures = {name: value for name, value in outcome.figures.items() if name != RUN_SCORE}
    return {
        "progress": 1.0,
        "units": job.units,
        "state": outcome.state,
        "reason": outcome.reason,
        **figures,
    }


def _name_of(trial: Any) -> str:
    return str(trial.config["job"].name)


class _Feed(Searcher):
    """Gives Tune the plan's next trial that has not ended, once those that it needs have."""

    def __init__(self, run: Run, plan: Plan, reporter: _Reporter) -> None:
        super().__init__()
        self.plan = plan
        self._reporter = reporter
        self._run = run
        self._next = 0
        self._names: list[str] = []
        self._running: dict[str, Job] = {}
        self._waiting: Job | None = None

    def only_old(self) -> bool:
        """Whether every trial has ended already; passes over those that have."""
        self._advance()
        return self._waiting is None and self._next >= self.plan.total

    def all_outcomes(self) -> list[Outcome]:
        found = [self._outcome(number) for number in range(self.plan.total)]
        assert all(found), "Tune ends when every trial has"
        return [one for one in found if one is not None]

    def suggest(self, trial_id: str) -> Any:
        self._advance()
        job, self._waiting = self._waiting, None
        if job is None:
            return self.FINISHED if self._next >= self.plan.total else None
        self._running[trial_id] = job
        return {"job": job, **job.values}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        job = self._running.pop(trial_id)
        folder = Path(job.folder)
        if read_outcome(folder) is None:
            reason = f"its worker died {RETRIES + 1} times" if error else "it left no outcome"
            reason = self._reporter.errors.pop(trial_id, reason)
            outcome = Outcome(job.number, job.name, job.seed, job.values, "failed", reason)
            outcome.write(folder)
            self._reporter.say(job.name, _at_end(job, outcome))

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the trials' folders have it all."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing."""

    def _advance(self) -> None:
        """Propose trials until one is left to run, or has to wait for others."""
        while self._waiting is None and self._next < self.plan.total:
            ended = [self._outcome(number) for number in self.plan.needs(self._next)]
            known = [one for one in ended if one is not None]
            if len(known) < len(ended):
                return
            job = self._job(self._next, self.plan.propose(self._next, known))
            self._names.append(job.name)
            self._next += 1
            outcome = read_outcome(Path(job.folder))
            if outcome is None:
                self._waiting = job
            else:
                self._reporter.say(job.name, _at_end(job, outcome))

    def _outcome(self, number: int) -> Outcome | None:
        if number >= len(self._names):
            return None
        return read_outcome(self._run.trials / self._names[number])

    def _job(self, number: int, proposal: Proposal) -> Job:
        run, sweep = self._run, self._run.sweep
        is_search = sweep.search == "baselines"
        return Job(
            number=number,
            name=proposal.name,
            seed=proposal.seed,
            values=proposal.values,
            config=trial_config(run.config, proposal).model_dump(mode="json"),
            folder=str(run.trials / proposal.name),
            parent=None if proposal.parent is None else str(run.trials / proposal.parent),
            rungs=() if sweep.halving is None else sweep.halving.rungs,
            cutoffs=proposal.cutoffs,
            budget=proposal.budget,
            scheduler=proposal.values[SCHEDULER] if is_search else None,
            candidates=sweep.trials if is_search else 0,
        )


def trial_config(config: Config, proposal: Proposal, where: str = "sweep") -> Config:
    """The experiment of a trial: its values, its own seed of training, its budget.

    Raises:
        UserError: for a setting that is none, or a value that it cannot have; `where` begins it.
    """
    data = config.model_dump(mode="json")
    values = {key: value for key, value in proposal.values.items() if key != SCHEDULER}
    if any(key.startswith("env.reward.") for key in values):
        # Terms that the simplex does not name are 0, completion time's default of 1 included.
        data["env"]["reward"] = dict.fromkeys(data["env"]["reward"], 0.0)
    for key, value in values.items():
        into = data
        *sections, name = key.split(".")
        for section in sections:
            into = into.setdefault(section, {})
            if not isinstance(into, dict):
                raise UserError(f"{where}: unknown setting {key!r}: {section} has no parts")
        into[name] = value
    training = data["training"]
    if training["seed"] is None:
        training["seed"] = config.seed
    training["seed"] += proposal.seed
    for limit in ("minutes", "iterations"):
        if training[limit] is not None:
            training[limit] *= proposal.budget
    if proposal.parent is None:
        training["es"]["half_life"] *= proposal.budget
    return validate_config(data, f"{where}, trial {proposal.name}")


class _Reporter(tune.Callback):
    """Passes the figures of trials on, those of running ones as `new`."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self.errors: dict[str, str] = {}
        """Trial id -> what its worker could not do."""

    def __getstate__(self) -> dict[str, Any]:
        """Tune saves its callbacks; a display is not to be saved."""
        return {"say": _say_nothing, "errors": {}}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self.say(_name_of(trial), result | {"new": True})

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        error = trial.get_pickled_error()
        cause = getattr(error, "cause", None)
        if isinstance(cause, OSError | WriteError):
            self.errors[trial.trial_id] = " ".join(str(cause).split())[:300]


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keep others out of `out` for as long as this process lives."""
    if (out / "run.json").exists():
        raise UserError(f"{out}: holds a training run; choose another --out")
    new = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = open(out / ".lock", "w")
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}; choose another --out") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"{out}: another sweep is running there; wait for it") from None
        try:
            yield
        finally:
            # Nothing was written, for example as no cluster answered.
            if new and [path.name for path in out.iterdir()] == [".lock"]:
                (out / ".lock").unlink()
                out.rmdir()


def _check_same(run: Run) -> tuple[str, int]:
    """The text of sweep.json and the sweep's lag, see `plan_of`; `out` must hold no other one."""
    path = run.out / RECORD
    kept = run.config.model_dump(mode="json")
    if run.sweep.search != "baselines":
        del kept["evaluation"]  # matters only after training
    now = json.loads(json.dumps({"sweep": run.sweep.as_record(), "settings": kept}))
    if not path.is_file():
        lag = 2 * run.concurrent
        return json.dumps(now | {"lag": lag}, indent=2) + "\n", lag
    before = json.loads(path.read_text(encoding="utf-8"))
    lag = int(before.pop("lag"))
    old, new = _flat(before), _flat(now)
    for key in [*new, *old]:
        if old.get(key) != new.get(key):
            raise UserError(
                f"{run.out}: holds another sweep: {key} was {old.get(key)!r} and now is "
                f"{new.get(key)!r}; a sweep goes on only with its own search space and settings: "
                "take these, or choose another --out"
            )
    return path.read_text(encoding="utf-8"), lag


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        nested = isinstance(value, Mapping) and value
        flat |= _flat(value, f"{prefix}{key}: ") if nested else {f"{prefix}{key}": value}
    return flat
