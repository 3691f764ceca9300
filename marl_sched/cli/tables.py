"""What the commands show: rich tables and notices; notices go to standard error."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.status import Status
from rich.table import Table
from rich.text import Text

from marl_sched.errors import UserError
from marl_sched.evaluation.metrics import fallbacks
from marl_sched.evaluation.statistics import interval_notes, percent_text
from marl_sched.terms import COLUMN, TERMS

QUIET_S = 5.0
"""Without a terminal: after so many seconds without a word a command says what it does."""


class Notices(Console):
    """Standard error, and when something was last said there."""

    said_s = time.monotonic()

    def print(self, *objects: Any, **how: Any) -> None:
        super().print(*objects, **how)
        self.said_s = time.monotonic()


out = Console()
notices = Notices(stderr=True)

_LABELS = {
    "avg_jct_s": "mean JCT",
    "p50_jct_s": "median JCT",
    "p99_jct_s": "p99 JCT",
    "makespan_s": "makespan",
    "avg_queueing_delay_s": "mean queueing delay",
    "avg_first_wait_s": "mean first wait",
    "avg_slowdown": "mean slowdown",
    "avg_finish_time_fairness": "mean finish-time fairness",
    "unfair_fraction": "unfair jobs (rho > 1)",
    "gpu_allocated_fraction": "GPUs allocated",
    "num_preemptions": "preemptions",
    "num_restarts": "restarts",
    "num_jobs": "jobs",
    "num_finished": "finished",
    "num_failed": "failed",
    "num_cancelled": "cancelled",
    "num_retries": "retries",
    "overhead_gpu_s": "restart overhead",
    "lost_gpu_s": "lost work",
    "gpu_useful_fraction": "GPUs useful",
    "num_deadlines_missed": "deadlines missed",
    "deadline_missed_fraction": "jobs that miss their deadline",
    "energy_kwh": "energy of the GPUs",
    "fallback_fraction": "decisions left to the index",
}

COMPARED = {
    "avg_jct_s": "mean JCT",
    "p99_jct_s": "p99 JCT",
    "avg_slowdown": "slowdown",
    "num_restarts": "restarts",
}
"""Columns of a comparison, few enough for 80 characters."""


def figure(metric: str, value: float) -> str:
    """A metric as people read it: hours and minutes, percent, plain numbers."""
    if value != value:
        return "-"
    if metric.endswith("_gpu_s"):
        return f"{value / 3600:,.1f} GPU h"
    if metric.endswith("_s"):
        return duration(value)
    if metric.endswith("_kwh"):
        return f"{value:,.1f} kWh"
    if metric.endswith("_fraction"):
        return f"{100 * value:.1f} %"
    if metric.startswith("num_"):
        return f"{value:,.0f}"
    return f"{value:.2f}"


def duration(seconds: float) -> str:
    """Seconds as s, min, h or days."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    if seconds < 172_800:
        hours = seconds / 3600
        return f"{hours:.2f} h" if hours < 10 else f"{hours:.1f} h"
    return f"{seconds / 86_400:.1f} d"


def print_summary(title: str, summary: dict[str, float]) -> None:
    """One run's metrics."""
    table = Table(title=title, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for metric, value in summary.items():
        table.add_row(_LABELS.get(metric, metric), figure(metric, value))
    out.print(table)


def compared(weights: Mapping[str, float]) -> dict[str, str]:
    """Columns that show what was trained for: its weightiest term takes the place of p99."""
    weighty = max((w, term) for term, w in weights.items() if w > 0)[1]
    term = TERMS[COLUMN[weighty]]
    # What restarts cost goes with their number, which is shown.
    if term.metric in COMPARED or term.name == "preemption":
        return COMPARED
    return {term.metric if m == "p99_jct_s" else m: term.heading if m == "p99_jct_s" else h
            for m, h in COMPARED.items()}  # fmt: skip


def print_comparison(
    title: str,
    report: dict[str, Any],
    mark: str | None = None,
    columns: Mapping[str, str] = COMPARED,
) -> None:
    """Schedulers against the best classic one; `mark` is drawn bold."""
    table = Table(title=title, caption=_caption(report), box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("scheduler", min_width=13, overflow="ellipsis", no_wrap=True)
    for heading in columns.values():
        table.add_column(heading, justify="right", no_wrap=True)
    if report["best_classic"] is not None:
        table.add_column("vs best classic, %", justify="right", no_wrap=True)
    rows = sorted(report["schedulers"].items(), key=lambda item: item[1]["avg_jct_s"]["mean"])
    for name, metrics in rows:
        cells = [figure(metric, metrics[metric]["mean"]) for metric in columns]
        if report["best_classic"] is not None:
            v = report["vs_best_classic"][name]["avg_jct_percent"]
            same = name == report["best_classic"]
            cells.append("" if same else _percent(v))
        table.add_row(_shortened(name), *cells, style="bold" if name == mark else None)
    out.print(table)


def print_overview(title: str, over: dict[str, dict[str, float]]) -> None:
    """Schedulers over all cells of a suite, see `suite_run.overview`."""
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("scheduler", min_width=13, no_wrap=True)
    table.add_column("geometric mean, %", justify="right")
    table.add_column("worst cell, %", justify="right")
    for name, row in over.items():
        cells = (f"{row['mean_percent']:+.1f}", f"{row['worst_percent']:+.1f}")
        table.add_row(_shortened(name, 30), *cells)
    out.print(table)


def _percent(interval: dict[str, Any]) -> str:
    widest = max(abs(end) for end in interval.values() if end is not None)
    return percent_text(interval, digits=0 if widest >= 100 else 1)


def _shortened(name: str, width: int = 18) -> str:
    """The end of a long path, so that the figures keep their room."""
    return name if len(name) <= width else "…" + name[1 - width :]


def _caption(report: dict[str, Any]) -> str:
    text = "; ".join(interval_notes(report))
    bound = report.get("vs_lower_bound", {"avg_jct_ratio": {}})
    if bound["avg_jct_ratio"]:
        least = min(ratio["mean"] for ratio in bound["avg_jct_ratio"].values())
        text += f"; lowest mean JCT: {least:.2f} x the bound of any schedule"
        text += f" ({bound['episodes']} episodes)"
    for name, share in fallbacks(report).items():
        text += f"; {_shortened(name)} left {100.0 * share:.1f} % of its decisions to the index, "
        text += "in states unlike those of its training"
    others = {n: kind for n, kind in report.get("agents", {}).items() if kind != "honest"}
    if others:
        kinds = ", ".join(sorted(set(others.values())))
        text += f"; agents are {kinds} under {', '.join(others)} and honest under the rest"
    return text


def print_schedulers() -> None:
    """The registry of classic schedulers, and the trained one that ships."""
    from marl_sched.schedulers import REGISTRY, get_scheduler
    from marl_sched.schedulers.learned.scorer_file import PRETRAINED

    for scheduler in (*REGISTRY.values(), get_scheduler(PRETRAINED)):
        words = [scheduler.kind]
        words += ["preemptive"] if scheduler.preemptive else ["not preemptive"]
        words += ["elastic"] if scheduler.elastic else []
        params = " ".join(f"{key}={value:g}" for key, value in scheduler.params.items())
        head = f"{scheduler.name}  [{', '.join(words)}]  {params}"
        out.print(Text(head.rstrip(), "bold"))
        for line in (scheduler.summary, f"Source: {scheduler.source}" if scheduler.source else ""):
            if line:
                out.print(Padding(Text(line), (0, 0, 0, 4), expand=False))


def report_skipped(skipped: dict[str, int]) -> None:
    """Say on standard error which rows of a trace were not used."""
    for reason, count in skipped.items():
        notices.print(f"skipped {count:,} rows: {reason}", highlight=False)


def compile_kernels(functions: Sequence[Any]) -> None:
    """Compile what is not yet compiled on this machine, and say so."""
    from marl_sched.compiled.warm import missing, warm

    parts = missing(functions)
    if not parts:
        return
    if not notices.is_terminal:
        # A line for each, or a log would seem to hang.
        warm(parts, lambda done, total: notices.print(_compiling(done, total), highlight=False))
        return
    with notices.status("compiling kernels, once on this machine") as shown:
        warm(parts, lambda done, total: shown.update(_compiling(done, total)))


def _compiling(done: int, total: int) -> str:
    return f"compiling kernels: {done} of {total}, once on this machine"


@contextmanager
def status(text: str) -> Iterator[Status]:
    """A spinner on standard error; what solvers print meanwhile goes there too.

    Without a terminal it is a line now and then, see `heartbeat`.
    """
    begun_s = time.monotonic()

    def doing() -> str:
        return f"{shown.status}: {time.monotonic() - begun_s:.0f} s so far"

    with notices.status(text) as shown, heartbeat(doing), _libraries_print_to_stderr():
        yield shown


_doing: list[Callable[[], str]] = []
"""What goes on, as nested `heartbeat`s tell it; the last is told."""


@contextmanager
def heartbeat(tell: Callable[[], str]) -> Iterator[None]:
    """Say what goes on where nobody watches a terminal, or a log would seem to hang.

    Args:
        tell: what goes on; asked whenever nothing has been said for `QUIET_S`.
    """
    _doing.append(tell)
    ended = threading.Event()
    if len(_doing) == 1 and not notices.is_terminal:
        threading.Thread(target=_beat, args=(ended,), daemon=True).start()
    try:
        yield
    finally:
        _doing.remove(tell)
        ended.set()


def _beat(ended: threading.Event) -> None:
    while not ended.wait(max(0.05, notices.said_s + QUIET_S - time.monotonic())):
        going_on = _doing[-1:]
        if going_on and time.monotonic() - notices.said_s >= QUIET_S:
            notices.print(going_on[0](), highlight=False, markup=False)


@contextmanager
def _libraries_print_to_stderr() -> Iterator[None]:
    """Compiled libraries write to descriptor 1 past `sys.stdout`: that is for our results."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def fail_empty(name: str) -> NoReturn:
    raise UserError(f"{name}: no usable job; check the trace")
