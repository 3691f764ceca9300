"""What `train` tells on the terminal: what is trained, how far it is, what was gained."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from marl_sched.cli import tables
from marl_sched.config import Config
from marl_sched.errors import UserError
from marl_sched.training.records import RunFolder
from marl_sched.training.run import TrainResult, limit_reached
from marl_sched.training.sequences import sources
from marl_sched.training.storage import Storage
from marl_sched.types import Cluster
from marl_sched.workload.jobs import Workload


def description(settings: Config, part: Workload) -> str:
    """What is trained, on what."""
    cluster = Cluster.parse(settings.cluster)
    load = part.offered_load(cluster.num_gpus)
    what: str = settings.env.actions
    if settings.training.has_scorer:
        clusters = set(settings.env.train_clusters)
        more = [(len(sources(settings)) - 1, "workloads"), (len(clusters), "cluster sizes")]
        named = [f"{count} other {kind}" for count, kind in more if count]
        scorer = " and ".join(("scorer", *named))
        what = scorer if settings.training.algo == "es" else f"{scorer}, then {what}"
    return (
        f"training {settings.training.algo.upper()} ({what}) on {part.name}: "
        f"{len(part):,} training jobs, cluster {cluster} ({cluster.num_gpus} GPUs), "
        f"offered load {load:.2f}"
    )


def going_on(settings: Config, out: Path, storage: str | None) -> str | None:
    """Whether `--resume auto` goes on with a run or finds a finished one; None without a run."""
    folder = RunFolder(out, None if storage is None else Storage(storage))
    found = folder.last_progress()
    if found is None:
        return None
    where, last = found
    limit = limit_reached(settings, last)
    if limit is None:
        return f"going on with the run in {where}: iteration {last['iteration']}"
    return (
        f"the run in {where} has finished its {limit}: nothing to train (for another run choose "
        + ("another --out)" if storage is None else "another --out and --storage)")
    )


def against_base(classic: dict[str, float], base: str) -> dict[str, float]:
    """Percent by which each scheduler's mean JCT is above the base's."""
    return {name: 100 * (jct / classic[base] - 1) for name, jct in classic.items()}


def _say_classic(settings: Config, classic: dict[str, float]) -> str:
    """The classic schedulers against the base, as a line for the progress view."""
    base = settings.env.base
    figures = ", ".join(
        f"{name} {percent:+.1f} %"
        for name, percent in against_base(classic, base).items()
        if name != base
    )
    return f"validation JCT: base {base} {tables.duration(classic[base])}; {figures}"


@contextmanager
def progress(settings: Config, classic: dict[str, float]) -> Iterator[Reporter]:
    """A progress view while training runs, and what takes its rows of metrics.

    Args:
        classic: mean JCT on validation by scheduler, s.
    """
    tables.notices.print(_say_classic(settings, classic), highlight=False)
    tables.notices.print(
        f"iteration, speed, and in % of the base: training JCT; {_objective(settings)} on "
        "validation, best so far",
        highlight=False,
    )
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        console=tables.notices,
    ) as bar:
        reporter = Reporter(settings, bar, bar.add_task("starting Ray", total=None, left=""))
        with tables.heartbeat(reporter.going_on):
            yield reporter


class Reporter:
    """Turns rows of metrics into the progress view."""

    def __init__(self, settings: Config, progress: Progress, task: TaskID) -> None:
        self._settings = settings
        self._progress = progress
        self._task = task
        self._row: dict[str, Any] | None = None
        self._reported_s = time.monotonic()

    def going_on(self) -> str:
        """What happens since the last row."""
        seconds = time.monotonic() - self._reported_s
        if self._row is None:
            return f"starting, and validating the base: {seconds:.0f} s so far"
        return f"towards iteration {self._row['iteration'] + 1}: {seconds:.0f} s so far"

    def __call__(self, row: dict[str, Any]) -> None:
        self._row, self._reported_s = row, time.monotonic()
        limits = self._settings.training
        left = row.get("seconds_left")
        done, total = row["iteration"], limits.iterations
        if left is not None and total is None:
            done, total = row["elapsed_s"], row["elapsed_s"] + left
        self._progress.update(
            self._task,
            description=f"iteration {row['iteration']}",
            completed=done,
            total=total,
            left="" if left is None else _left(left),
        )
        self._progress.console.print(self._line(row), highlight=False)

    def _line(self, row: dict[str, Any]) -> str:
        """At most 80 characters: JCTs are percent against the base, negative = shorter."""

        def signed(key: str, label: str, digits: int = 2) -> str:
            value = row.get(key)
            width = digits + 4
            shown = " " * width if value is None else f"{value:+{width}.{digits}f}"
            return f"{label} {shown}"

        rate = row.get("decisions_per_s")
        parts = [
            f"{row['iteration']:>4}",
            " " * 14 if rate is None else f"{rate:>6,.0f} decis./s",
            signed("jct_vs_base_percent", "train"),
            signed("validation_percent", "valid"),
            f"best {row['best_validation_percent']:+.2f} @{row['best_iteration']}",
        ]
        if row.get("agent_return_mean") is not None:
            parts.append(signed("agent_return_mean", "agents", 3))
        left = row.get("seconds_left")
        if left is not None:
            parts.append(_left(left))
        return "  ".join(parts)


def _left(seconds: float) -> str:
    return f"{seconds / 60:.1f} min left" if seconds >= 60 else f"{seconds:.0f} s left"


def say_what_it_took(settings: Config, result: TrainResult, before_s: float) -> None:
    """Print for how long it was trained, and what was not counted.

    Args:
        before_s: seconds until training was called.

    Raises:
        UserError: when not one iteration was finished.
    """
    minutes = settings.training.minutes
    if result.iteration == 0:
        raise UserError(
            f"nothing was trained: --minutes {minutes:g} are over before the first iteration, as "
            "its validation takes that long; give more, or a smaller "
            "training.validation_episodes"
        )
    plural = "" if result.iteration == 1 else "s"
    trained = f"{result.iteration} iteration{plural}, trained for {result.elapsed_s:.0f} s"
    if minutes is not None:
        trained += f" of {60 * minutes:g}"
    tables.notices.print(
        f"{trained}; not counted: loading, compiling and baselines {before_s:.0f} s, starting and "
        f"validating the base {result.setup_s:.0f} s",
        highlight=False,
    )


def _objective(settings: Config) -> str:
    """What was trained for."""
    terms = settings.env.train_weights
    if terms:
        return f"cost over all weights of {', '.join(terms)}"
    return settings.env.reward.words


def say_what_was_gained(settings: Config, result: TrainResult, classic: dict[str, float]) -> None:
    """Print what came out on validation, and of which stage; run.json keeps the baselines.

    The baselines' JCTs are of the same episodes; they are named here where what was trained for is
    JCT too.
    """
    base, algo = settings.env.base, settings.training.algo.upper()
    gained, warm = result.best_validation, result.warm_start_validation
    text = (
        f"kept, on validation: {gained:+.2f} % of {base}'s {_objective(settings)} (iteration "
        f"{result.best_iteration})"
    )
    if result.best_iteration == 0 and warm is None:
        text += "; nothing that was learned is better than what is there without"
    if warm is not None:
        later = gained - warm
        text += f"; of that the warm start {warm:+.2f}, " + (
            f"{algo} {later:+.2f}" if later < 0 else f"{algo} nothing: the scorer alone is kept"
        )
    against = against_base(classic, base)
    folder = RunFolder(result.out)
    folder.write_run(baselines_validation=against)
    if settings.training.algo != "es" and _for_jct_alone(settings):
        best = min(against, key=lambda name: against[name])
        text += f". Best baseline there: {best} {against[best]:+.2f}"
    record = folder.read_run()
    if "best_single" in record:
        single = record["best_single"] or "none"
        text += f". Single algorithm clearly better than the base: {single}"
    tables.notices.print(text, highlight=False)


def say_what_is_better(settings: Config, report: dict[str, Any]) -> None:
    """Print a line where what was there without training is shorter on the test part than what was
    trained; nothing where mean JCT is not all that it was trained for."""
    better = report["shorter_than_trained"]
    if not better or not _for_jct_alone(settings):
        return
    named = ", ".join(f"{name} {percent:+.1f} %" for name, percent in better.items())
    tables.notices.print(
        f"shorter than what was trained here, by mean JCT on these {report['episodes']} episodes: "
        f"{named}",
        highlight=False,
    )


def _for_jct_alone(settings: Config) -> bool:
    env = settings.env
    return env.reward.only_completion_time and not env.train_weights
