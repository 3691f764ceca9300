"""One section of the page of reproductions, and what all of them are written with."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Section:
    """One experiment's part of the page."""

    title: str
    rules: str
    """Two sentences."""
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    commands: Sequence[str]
    missing: str
    """What is not reproduced."""
    cpu_s: list[tuple[str, float]] = field(default_factory=list)
    peer_cpu_s: dict[str, float] = field(default_factory=dict)
    """CPU seconds of the published simulator by the label of our run, where somebody measured."""


@dataclass
class Timer:
    """Runs experiments, says so, and keeps the CPU seconds of each."""

    say: Callable[[str], None]
    cpu_s: list[tuple[str, float]] = field(default_factory=list)

    def __call__(self, label: str, run: Callable[[], dict[Any, Any]]) -> dict[Any, Any]:
        self.say(f"running {label}")
        begun = time.process_time()
        result = run()
        self.cpu_s.append((label, time.process_time() - begun))
        return result


def percent(ours: float, theirs: float) -> str:
    """Relative difference; below a millionth it is rounding, and not worth its digits."""
    value = 100.0 * (ours / theirs - 1.0)
    if value == 0.0:
        return "0"
    if abs(value) < 1e-4:
        return "< 0.0001 %"
    return f"{value:+.2f} %" if abs(value) >= 0.005 else f"{value:+.4f} %"


def seconds(value: float) -> str:
    """Seconds with enough digits to tell runs apart."""
    return f"{value:,.1f}"


def read_json(path: Path) -> Any:
    """What a file holds; None without it."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
