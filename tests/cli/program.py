"""Calling the program in this process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import ray  # noqa: F401

from marl_sched.cli import main

# Ray's log handler keeps the standard error of its first import: not that of a single test.


@dataclass(frozen=True)
class Outcome:
    """What a user sees of one call."""

    code: int
    out: str
    err: str


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> Outcome:
    """Run `marl-sched ARGUMENTS`."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as done:
        main([str(argument) for argument in arguments])
    seen = capsys.readouterr()
    return Outcome(int(done.value.code or 0), seen.out, seen.err)


def write_trace(path: Path, jobs: int = 60) -> Path:
    """A trace of our own format that any cluster with 4 GPUs can run."""
    rng = np.random.default_rng(0)
    arrival_s = np.cumsum(rng.exponential(60.0, jobs)) - 1e-3
    rows = [
        f"{t:.3f},{rng.lognormal(6, 1):.1f},{rng.choice([1, 1, 2, 4])}" for t in arrival_s.tolist()
    ]
    path.write_text("\n".join(["arrival_s,duration_s,num_gpus", *rows]) + "\n")
    return path


def files_in(folder: Path) -> dict[str, bytes | None]:
    """Every path below `folder`, with its content."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }
