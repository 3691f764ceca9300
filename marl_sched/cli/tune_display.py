"""Progress of a sweep on the terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from marl_sched.cli import tables
from marl_sched.tuning.plan import plan_of
from marl_sched.tuning.sweep import Run


class Display:
    """Progress of a sweep: a line for each validation, a bar with the best so far and time left."""

    def __init__(self, run: Run) -> None:
        plan = plan_of(run.sweep, run.config.seed, 2 * run.concurrent)
        self._total, self._units = plan.total, plan.units
        self._shares: dict[str, float] = {}
        self._first: dict[str, float] = {}
        self._ended: set[str] = set()
        self._best: tuple[float, str] | None = None
        self._begun_s = time.monotonic()
        self._old = sum(1 for _ in (run.out / "trials").glob("*/outcome.json"))
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=tables.notices,
        )
        self._task = self._progress.add_task("starting Ray", total=self._units, left="")

    def __enter__(self) -> Display:
        self._progress.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._progress.__exit__(*error)

    def __call__(self, name: str, figures: Mapping[str, Any]) -> None:
        units = figures.get("units", 1)
        share = units * float(figures.get("progress") or 0.0)
        self._shares[name] = share
        self._first.setdefault(name, 0.0 if share == units else share)
        if figures.get("state"):
            self._ended.add(name)
        validated = figures.get("validation_percent")
        if validated is not None and figures.get("iteration", 0) > 0:
            self._best = min(self._best or (validated, name), (validated, name))
        done = min(float(self._units), self._old + sum(self._shares.values()))
        self._progress.update(
            self._task,
            description=f"{self._old + len(self._ended)} of {self._total} trials ended",
            completed=done,
            left=self._left(done),
        )
        if validated is not None or figures.get("state"):
            self._progress.console.print(self._line(name, figures), highlight=False)

    def _left(self, done: float) -> str:
        best = "" if self._best is None else f"best {self._best[0]:+.2f} % ({self._best[1]})"
        mine = sum(share - self._first[name] for name, share in self._shares.items())
        if mine <= 0:
            return best
        seconds = (time.monotonic() - self._begun_s) / mine * (self._units - done)
        return f"about {seconds / 60:.1f} min left; {best}"

    def _line(self, name: str, figures: Mapping[str, Any]) -> str:
        if figures.get("state"):
            reason = f": {figures['reason']}" if figures.get("reason") else ""
            return f"{name:<18} {figures['state']}{reason}"
        return (
            f"{name:<18} iteration {figures['iteration']:>3}  "
            f"{figures['validation_percent']:+6.2f} % of the base's cost on validation"
        )
