"""What became of a trial, as its folder keeps it."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from marl_sched.files import write_text

State = Literal["done", "stopped", "failed"]
FILE = "outcome.json"


@dataclass(frozen=True)
class Outcome:
    """The end of a trial."""

    number: int
    name: str
    seed: int
    values: dict[str, Any]
    """Setting -> what the trial had."""
    state: State
    """`stopped`: at a rung of `page.Halving`; `failed`: `reason` says why."""
    reason: str = ""
    figures: dict[str, float] = field(default_factory=dict)
    """Columns of the results: `network_percent`, `valid_avg_jct_s`, .."""
    rungs: dict[str, float] = field(default_factory=dict)
    """Share of the budget -> best network on validation until then, percent of the base."""

    budget: int = 1
    """Trials' worth of training that its checkpoint has, its parents' included; 0 without one."""

    def cost(self, objective: str) -> float | None:
        """An objective, turned so that lower is better; None where it was not measured."""
        sign, name = (-1.0, objective[1:]) if objective.startswith("-") else (1.0, objective)
        value = self.figures.get(name)
        return None if value is None or self.state == "failed" else sign * value

    def write(self, folder: Path) -> None:
        """Keep it in the trial's folder, for `read_outcome`: the trial has ended."""
        write_text(folder / FILE, json.dumps(asdict(self), indent=2) + "\n")


def read_outcome(folder: Path) -> Outcome | None:
    """The outcome of the trial in `folder`; None when it has not ended, or its record is damaged:
    what it trained is there, and is judged again."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        return Outcome(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        logging.getLogger(__name__).warning("%s: damaged; the trial is judged again", path)
        return None
