"""What a sweep shows on the terminal: its progress, its table at the end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from marl_sched.cli import tables
from marl_sched.tuning.plan import plan_of
from marl_sched.tuning.results import Results, figures_of, objective_figure
from marl_sched.tuning.run import Run

QUIET_S = 60.0
"""After so long a validation is shown also when it is not the trial's best."""

PRINTED = 5
"""Columns of figures on the terminal, few enough for 80 characters; summary.md has all."""


class Display:
    """Progress of a sweep: a line for each validation that is a trial's best so far and for each
    trial that ends; on a terminal a bar with the best so far and time left, elsewhere both at the
    end of the lines of trials that end."""

    def __init__(self, run: Run) -> None:
        plan = plan_of(run.sweep, run.config.seed, 2 * run.concurrent)
        self._total, self._units = plan.total, plan.units
        self._objective = run.sweep.common_objective
        self._shares: dict[str, float] = {}
        self._first: dict[str, float] = {}
        self._bests: dict[str, float] = {}
        self._ended = 0
        self._best: tuple[float, str] | None = None
        self._begun_s = self._shown_s = time.monotonic()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=tables.notices,
            disable=not tables.notices.is_terminal,
        )
        self._task = self._progress.add_task("starting Ray", total=self._units, left="")

    def __enter__(self) -> Display:
        self._progress.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._progress.__exit__(*error)

    def __call__(self, name: str, figures: Mapping[str, Any]) -> None:
        if figures.get("again"):
            self._say(f"{name:<18} starts again: {figures['again']}")
            return
        units = figures.get("units", 1)
        self._shares[name] = units * float(figures.get("progress") or 0.0)
        # What was done before this process began takes it no time.
        self._first.setdefault(name, 0.0 if figures.get("new") else self._shares[name])
        ends = bool(figures.get("state"))
        self._ended += ends
        self._note_best(name, figures)
        self._progress.update(
            self._task,
            description=f"{self._ended} of {self._total} trials ended",
            completed=min(float(self._units), sum(self._shares.values())),
            left=self._outlook(),
        )
        if ends:
            self._say(self._line_at_end(name, figures))
        else:
            self._show_validation(name, figures)

    def _note_best(self, name: str, figures: Mapping[str, Any]) -> None:
        """Remember the best trial, where trials can be compared by one figure."""
        if self._objective is None or figures.get("state") == "failed":
            return
        value = figures.get(self._objective.removeprefix("-"))
        if value is None and self._objective == "network_percent" and figures.get("iteration"):
            value = figures.get("validation_percent")
        if value is None:
            return
        cost = -value if self._objective.startswith("-") else value
        self._best = min(self._best or (cost, name), (cost, name))

    def _outlook(self) -> str:
        """Time left and the best so far."""
        parts = []
        mine = sum(share - self._first[name] for name, share in self._shares.items())
        left = self._units - sum(self._shares.values())
        if mine > 0 and left > 0.001:
            seconds = (time.monotonic() - self._begun_s) / mine * left
            parts.append(f"about {seconds / 60:.1f} min left")
        if self._best is not None and self._objective is not None:
            cost, name = self._best
            value = -cost if self._objective.startswith("-") else cost
            shown = objective_figure(self._objective, value, tables.figure)
            parts.append(f"best {shown} ({name})")
        return "; ".join(parts)

    def _show_validation(self, name: str, figures: Mapping[str, Any]) -> None:
        percent = figures.get("validation_percent")
        if percent is None:
            return
        better = percent < self._bests.get(name, float("inf")) or figures["iteration"] == 0
        if figures["iteration"] > 0:
            self._bests[name] = min(percent, self._bests.get(name, percent))
        if not better and time.monotonic() < self._shown_s + QUIET_S:
            return
        self._say(
            f"{name:<18} iteration {figures['iteration']:>3}  "
            f"{percent:+6.2f} % of the base's cost on validation"
        )

    def _line_at_end(self, name: str, figures: Mapping[str, Any]) -> str:
        reason = f": {figures['reason']}" if figures.get("reason") else ""
        line = f"{name:<18} {figures['state']}{reason}"
        if tables.notices.is_terminal:
            return line
        outlook = self._outlook()
        return f"{line}  [{self._ended} of {self._total} ended{outlook and '; ' + outlook}]"

    def _say(self, line: str) -> None:
        self._shown_s = time.monotonic()
        # Lines are for files too: never cut into pieces.
        self._progress.console.print(line, highlight=False, markup=False, soft_wrap=True)


def print_results(results: Results) -> None:
    """The table with its first figures, and what is said about it."""
    caption = "* non-dominated" if any(row.get("non_dominated") for row in results.rows) else None
    table = Table(title=results.title, caption=caption, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("scheduler", min_width=13, max_width=28, overflow="ellipsis", no_wrap=True)
    shown = dict(list(results.shown.items())[:PRINTED])
    for heading in shown.values():
        table.add_column(heading, justify="right", no_wrap=True)
    for row in results.rows:
        name = row["name"] + (" *" if row.get("non_dominated") else "")
        if row["state"] != "done":
            name += f" ({row['state']})"
        style = None if row["kind"] == "classic" else "bold"
        table.add_row(name, *figures_of(row, shown, tables.figure), style=style)
    tables.out.print(table)
    for note in results.notes:
        tables.notices.print(note, highlight=False, soft_wrap=True)
