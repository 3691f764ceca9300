"""Running a page, and going on after a stop: a second run proposes the same trials and passes over
those whose folders say that they have ended."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from marl_sched.config import flat
from marl_sched.errors import UserError
from marl_sched.files import write_text
from marl_sched.locks import alone
from marl_sched.training.session import ray_session
from marl_sched.tuning.feed import Feed, Reporter, cpus_of, run_trials, say_nothing
from marl_sched.tuning.loggers import logger_callbacks
from marl_sched.tuning.outcome import Outcome
from marl_sched.tuning.plan import plan_of
from marl_sched.tuning.run import Run, Say

RECORD = "sweep.json"


def run_sweep(run: Run, say: Say = say_nothing) -> list[Outcome]:
    """Run all trials of a sweep, or those that are left of it.

    Returns:
        Outcomes in the order of the plan; trials may have failed.

    Raises:
        UserError: when `out` holds something else, is in use or cannot be written, or no cluster
            answers.
    """
    run = replace(run, out=run.out.absolute())
    with _alone(run.out):
        record, lag = _check_same(run)
        reporter = Reporter(say)
        feed = Feed(run, plan_of(run.sweep, run.config.seed, lag), reporter)
        extra = logger_callbacks(run.loggers, run.out, run.sweep.title)
        if not feed.only_old():
            with ray_session(run.address, run.concurrent * cpus_of(run.config)):
                write_text(run.out / RECORD, record)
                run_trials(run, feed, [reporter, *extra])
        return feed.all_outcomes()


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keep others out of `out` for as long as this process lives."""
    if (out / "run.json").exists():
        raise UserError(f"{out}: holds a training run; choose another --out")
    new = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}; choose another --out") from None
    try:
        with alone(out, "another sweep"):
            yield
    finally:
        # Nothing was written, for example as no cluster answered.
        if new and not any(out.iterdir()):
            out.rmdir()


def _check_same(run: Run) -> tuple[str, int]:
    """The text of sweep.json and the sweep's lag, see `plan_of`; `out` must hold no other one."""
    path = run.out / RECORD
    kept = run.config.model_dump(mode="json")
    if run.sweep.search != "baselines":
        del kept["evaluation"]  # matters only after training
    title = {"title": run.sweep.title}
    now = json.loads(json.dumps({"sweep": run.sweep.as_record(), "settings": kept}))
    if not path.is_file():
        lag = 2 * run.concurrent
        return json.dumps(title | now | {"lag": lag}, indent=2) + "\n", lag
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        lag = int(before.pop("lag"))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path}: damaged ({type(error).__name__}), and it says which sweep this is: put it "
            "back from a copy, or choose another --out"
        ) from None
    kept_title = before.pop("title", run.sweep.title)
    old, new = flat(before, ": "), flat(now, ": ")
    for key in [*new, *old]:
        if old.get(key) != new.get(key):
            if kept_title != run.sweep.title:
                raise UserError(
                    f"{run.out}: holds the sweep {kept_title!r}, and this one is "
                    f"{run.sweep.title!r}; choose another --out"
                )
            raise UserError(
                f"{run.out}: holds another sweep: {key} was {old.get(key)!r} and now is "
                f"{new.get(key)!r}; a sweep goes on only with its own search space and settings: "
                "take these, or choose another --out"
            )
    return path.read_text(encoding="utf-8"), lag
