"""Gavel's files: job traces, throughput tables, per-epoch profiles, measured overheads.

| file | form |
|---|---|
| trace | a job a line, tab-separated: `COLUMNS`; ten columns without mode and duration, or eleven |
| throughputs | JSON {gpu type: {"('<job type>', <gpus>)": {"null": steps/s alone, ...}}} |
| profile | JSON, a record a job with `duration_every_epoch`, seconds, plain or as [count, value] |
| overheads | text with a list of seconds in brackets |

A job type is "<model> (batch size <n>)", or a model alone that has one batch size.
Sources: Narayanan et al., Gavel, OSDI 2020; Zheng et al., Shockwave, NSDI 2023; their artifacts.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from marl_sched.errors import UserError, quoted
from marl_sched.files import read_json, read_text
from marl_sched.quantities import LONGEST_S, MOST, MOST_COUNT, is_number, is_whole, whole

COLUMNS = (
    "job_type", "command", "working_directory", "num_steps_arg", "needs_data_dir", "total_steps",
    "scale_factor", "mode", "priority_weight", "SLO", "duration", "arrival_time",
)  # fmt: skip
MODES = ("static", "accordion", "gns")
"""How a job's batch size changes while it runs."""

MOST_EPOCHS = 1_000_000
"""Of a job."""

_LEFT_OUT = {12: (), 11: ("duration",), 10: ("mode", "duration")}
_JOB_TYPE = re.compile(r"^(\S+)(?: \(batch size ([1-9][0-9]*)\))?$")
_KEY = re.compile(r"^\('([^']*)', ([0-9]+)\)$")


@dataclass(frozen=True, eq=False)
class GavelTrace:
    """The J jobs of a trace in its order, which is that of their arrival."""

    model: tuple[str, ...]
    batch_size: np.ndarray
    """(J,) int64, samples a step to begin with; 0 where the job type names none."""
    total_steps: np.ndarray
    """(J,) int64 >= 1, at that batch size."""
    num_gpus: np.ndarray
    """(J,) int64 >= 1."""
    mode: tuple[str, ...]
    """Of `MODES`."""
    weight: np.ndarray
    """(J,) float64 > 0."""
    arrival_s: np.ndarray
    """(J,) float64 >= 0, non-decreasing."""

    def __len__(self) -> int:
        return len(self.model)


Throughputs = dict[str, dict[tuple[str, int, int], float]]
"""GPU type -> (model, batch size, GPUs) -> steps/s of a job that has the GPUs to itself; a model
without batch sizes has 0 there."""


def load_trace(path: Path) -> GavelTrace:
    """Read a job trace.

    Raises:
        UserError: naming the line and the column.
    """
    rows = [
        _row(path, number, line)
        for number, line in enumerate(read_text(path, "trace").splitlines(), start=1)
        if line.strip()
    ]
    if not rows:
        raise UserError(f"trace {path}: no jobs; it needs one job a line")
    for k in range(1, len(rows)):
        if rows[k]["arrival_time"] < rows[k - 1]["arrival_time"]:
            raise UserError(
                f"trace {path}, line {rows[k]['line']}, column arrival_time: "
                f"{rows[k]['arrival_time']:g} is earlier than the job before; sort the lines"
            )
    return GavelTrace(
        model=tuple(row["model"] for row in rows),
        batch_size=np.array([row["batch_size"] for row in rows], dtype=np.int64),
        total_steps=np.array([row["total_steps"] for row in rows], dtype=np.int64),
        num_gpus=np.array([row["scale_factor"] for row in rows], dtype=np.int64),
        mode=tuple(row["mode"] for row in rows),
        weight=np.array([row["priority_weight"] for row in rows]),
        arrival_s=np.array([row["arrival_time"] for row in rows]),
    )


def _row(path: Path, number: int, line: str) -> dict[str, Any]:
    cells = line.split("\t")
    where = f"trace {path}, line {number}"
    if len(cells) not in _LEFT_OUT:
        raise UserError(
            f"{where}: {len(cells)} tab-separated columns; a Gavel trace has 12, or 10 or 11 "
            "without mode and duration"
        )
    names = [name for name in COLUMNS if name not in _LEFT_OUT[len(cells)]]
    row: dict[str, Any] = {"line": number, "mode": "static", **dict(zip(names, cells, strict=True))}
    kind = _JOB_TYPE.match(row["job_type"])
    if kind is None:
        raise UserError(
            f"{where}, column job_type: {quoted(row['job_type'])} is not MODEL (batch size N)"
        )
    row["model"] = kind[1]
    row["batch_size"] = _whole(where, "job_type", kind[2]) if kind[2] else 0
    for name in ("total_steps", "scale_factor"):
        row[name] = _whole(where, name, row[name])
    row["priority_weight"] = _number(where, "priority_weight", row["priority_weight"], 1e-6)
    row["arrival_time"] = _number(where, "arrival_time", row["arrival_time"], 0.0)
    if row["mode"] not in MODES:
        raise UserError(
            f"{where}, column mode: {quoted(row['mode'])} is none of {', '.join(MODES)}"
        )
    return row


def _whole(where: str, column: str, text: str) -> int:
    value = whole(text)
    if value is None or not 1 <= value <= MOST_COUNT:
        raise UserError(
            f"{where}, column {column}: {quoted(text)} must be a whole number >= 1 and at most "
            f"{MOST_COUNT:,}"
        )
    return value


def _number(where: str, column: str, text: str, least: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not is_number(value, least, LONGEST_S):
        legal = "> 0" if least > 0.0 else ">= 0"
        raise UserError(
            f"{where}, column {column}: {quoted(text.strip())} must be a number {legal} and at "
            f"most {LONGEST_S:.0e}"
        )
    return value


def load_throughputs(path: Path) -> Throughputs:
    """Read a throughput table, of which only jobs alone on their GPUs are kept.

    Raises:
        UserError: naming the GPU type and the key.
    """
    data = read_json(path, "throughputs")
    if not isinstance(data, dict) or not data:
        raise UserError(f"throughputs {path}: needs an object of GPU types")
    return {kind: _of_type(path, kind, entries) for kind, entries in data.items()}


def _of_type(path: Path, kind: str, entries: Any) -> dict[tuple[str, int, int], float]:
    where = f"throughputs {path}, GPU type {quoted(kind)}"
    if not isinstance(entries, dict):
        raise UserError(f"{where}: needs an object of job types")
    table = {}
    for key, entry in entries.items():
        match = _KEY.match(key)
        job = None if match is None else _JOB_TYPE.match(match[1])
        batch, gpus = whole(job[2] or "0") if job else None, whole(match[2]) if match else None
        if job is None or batch is None or gpus is None:
            raise UserError(f"{where}, key {quoted(key)}: write ('MODEL (batch size N)', GPUS)")
        rate = entry.get("null") if isinstance(entry, dict) else None
        if not is_number(rate, 0, MOST):
            raise UserError(
                f"{where}, key {quoted(key)}: 'null' must be steps/s >= 0, not {quoted(rate)}"
            )
        table[job[1], batch, gpus] = float(rate)
    return table


def load_profile(path: Path, num_jobs: int) -> np.ndarray:
    """(J,) float64, seconds that each job of a trace takes alone, by its per-epoch profile.

    Raises:
        UserError: naming the record and the key.
    """
    data = read_json(path, "profile")
    if not isinstance(data, list) or len(data) != num_jobs:
        found = f"{len(data)} records" if isinstance(data, list) else "no list"
        raise UserError(f"profile {path}: {found}; the trace has {num_jobs} jobs, one record each")
    return np.array([_duration_s(path, k, record) for k, record in enumerate(data)])


def _duration_s(path: Path, k: int, record: Any) -> float:
    where = f"profile {path}, record {k}, key 'duration_every_epoch'"
    epochs = record.get("duration_every_epoch") if isinstance(record, dict) else None
    if not isinstance(epochs, list) or not epochs:
        raise UserError(f"{where}: needs a list of seconds, or of [epochs, seconds]")
    total_s, total = 0.0, 0
    for item in epochs:
        pair = item if isinstance(item, list) else [1, item]
        counted = len(pair) == 2 and is_whole(pair[0], 1, MOST_EPOCHS)
        seconds = pair[1] if counted else None
        if not is_number(seconds, 0, LONGEST_S):
            raise UserError(f"{where}: {quoted(item)} is neither seconds nor [epochs, seconds]")
        total += pair[0]
        if total > MOST_EPOCHS:
            raise UserError(f"{where}: has more than {MOST_EPOCHS:,} epochs")
        # Epoch by epoch, as the artifact adds them up.
        for _ in range(pair[0]):
            total_s += seconds
    return total_s


def load_overheads(path: Path) -> np.ndarray:
    """(n,) float64, measured seconds, from the first list in brackets of a text.

    Raises:
        UserError: for a file without one.
    """
    match = re.search(r"\[([^\[\]]*)\]", read_text(path, "overheads"))
    cells = [] if match is None else [cell for cell in match[1].split(",") if cell.strip()]
    if not cells:
        raise UserError(f"overheads {path}: needs a list of seconds in brackets, as in [2.0, 4.0]")
    return np.array(
        [_number(f"overheads {path}", f"entry {k}", cell, 0.0) for k, cell in enumerate(cells)]
    )
