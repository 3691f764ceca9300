"""Ray Tune's part of a sweep: it starts trials on the cluster's machines, starts those again whose
worker died, and logs to TensorBoard.

What it should do is our own `plan`, and what was done lies in the trials' folders, so that nothing
depends on Tune's own snapshots.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.error import TuneError
from ray.tune.search import Searcher

from marl_sched.config import Config
from marl_sched.errors import UserError, WriteError
from marl_sched.training.learner_placement import num_cpus, trial_bundles
from marl_sched.tuning.outcome import Outcome, read_outcome
from marl_sched.tuning.plan import SCHEDULER, Plan, Proposal
from marl_sched.tuning.run import Run, Say, trial_config
from marl_sched.tuning.trial import RUN_SCORE, Job, run_job

RETRIES = 2
"""How often a trial is started again whose worker died."""


def run_trials(run: Run, feed: Feed, callbacks: list[Any]) -> None:
    """Run what `feed` has left.

    Raises:
        WriteError: when the machine is at fault, for example as the disk is full.
        UserError: when what the folder holds does not fit together.
    """
    try:
        _fit(run, feed, callbacks)
    except (OSError, TuneError, UserError) as error:
        cause = _behind(error)
        if cause is None:
            raise
        if isinstance(cause, UserError) and not isinstance(cause, WriteError):
            raise cause from None
        reason = str(cause).partition(";")[0] if isinstance(cause, WriteError) else str(cause)
        raise WriteError(
            f"{run.out}: {reason}; the same command goes on once that is mended"
        ) from None


def _behind(error: BaseException | None) -> OSError | UserError | None:
    """What could not be written or read, or does not fit, where that is behind `error`: Tune wraps
    what our parts of it raise."""
    while error is not None:
        if isinstance(error, OSError | UserError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _fit(run: Run, feed: Feed, callbacks: list[Any]) -> None:
    # Tune's newer output prints banners even when it is told to be silent.
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    # What fails is said in one line by the reporter, not as a traceback each time.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    # Ctrl-C ends the command, as elsewhere: Tune would save its state, which nobody reads.
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    folder = run.out / "tune"
    bundles = tune.PlacementGroupFactory(trial_bundles(run.config))
    mask = os.umask(0)
    os.umask(mask)

    def trial(space: dict[str, Any]) -> None:
        # A local Ray's processes write for the user alone; a sweep's results are as any others.
        os.umask(mask)
        _trainable(space)

    tune.Tuner(
        tune.with_resources(trial, bundles),
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


def cpus_of(config: Config) -> int:
    """CPUs of one trial, with its driver's."""
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


class Feed(Searcher):
    """Gives Tune the plan's next trial that has not ended, once those that it needs have."""

    def __init__(self, run: Run, plan: Plan, reporter: Reporter) -> None:
        super().__init__()
        self.plan = plan
        self._reporter = reporter
        self._run = run
        self._next = 0
        self._names: list[str] = []
        self._running: dict[str, Job] = {}
        self._waiting: Job | None = None

    def only_old(self) -> bool:
        """Whether every trial has ended already; passes over those that have.

        Raises:
            UserError: see `_check_fits`.
        """
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
            outcome = read_outcome(Path(job.folder))
            if outcome is not None:
                self._check_fits(job, outcome)
            self._names.append(job.name)
            self._next += 1
            if outcome is None:
                self._waiting = job
            else:
                self._reporter.say(job.name, _at_end(job, outcome))

    def _check_fits(self, job: Job, outcome: Outcome) -> None:
        """Raise a `UserError` where a trial that ended is not what is proposed now, as one that it
        depends on was run again and ended otherwise."""
        proposed = json.loads(json.dumps(job.values))
        if (outcome.values, outcome.seed) == (proposed, job.seed):
            return
        folder = self._run.trials
        later = sorted({path.name for path in folder.glob("[!.]*")} - set(self._names))
        raise UserError(
            f"{job.folder}: ended under other values than follow now from the trials before it; "
            f"delete it and what came after, and all of them are run again, or choose another "
            f"--out: in {folder} delete {', '.join(later)}"
        )

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
            config=trial_config(run.config, proposal, sweep.simplex).model_dump(mode="json"),
            folder=str(run.trials / proposal.name),
            parent=None if proposal.parent is None else str(run.trials / proposal.parent),
            rungs=() if sweep.halving is None else sweep.halving.rungs,
            cutoffs=proposal.cutoffs,
            budget=proposal.budget,
            scheduler=proposal.values[SCHEDULER] if is_search else None,
            candidates=sweep.trials if is_search else 0,
        )


class Reporter(tune.Callback):
    """Passes the figures of trials on, those of running ones as `new`."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self.errors: dict[str, str] = {}
        """Trial id -> what its worker could not do."""

    def __getstate__(self) -> dict[str, Any]:
        """Tune saves its callbacks; a display is not to be saved."""
        return {"say": say_nothing, "errors": {}}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self.say(_name_of(trial), result | {"new": True})

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        try:
            cause = getattr(trial.get_pickled_error(), "cause", None)
        except (OSError, EOFError):  # the disk was full for Tune's record of the error as well
            cause = None
        reason = "its worker died"
        if isinstance(cause, OSError | WriteError):
            reason = self.errors[trial.trial_id] = " ".join(str(cause).split())[:300]
        self.say(_name_of(trial), {"again": reason})


def say_nothing(name: str, figures: Mapping[str, Any]) -> None:
    """For those who do not listen."""
