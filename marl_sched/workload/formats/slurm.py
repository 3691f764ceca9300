"""Accounting records of the Slurm workload manager, as `sacct -P` prints them.

    sacct -P -a -S 2024-01-01 -E 2024-03-01 \\
        -o JobID,User,Account,Partition,Submit,Start,End,ElapsedRaw,ReqTRES,AllocTRES,State

Cells are separated by `|`. Source of the fields and states: the manual page sacct(1).

* A job step (its JobID has a dot, such as 7.batch) belongs to its job: left out and counted. Array
  tasks (7_3) and parts of heterogeneous jobs (7+1) are jobs.
* A job that was requeued is one job, also where `sacct -D` prints each attempt under its id: the
  last attempt counts, with its run time and state, and the job was submitted when the first one
  was. Earlier attempts are left out and counted. Attempts never overlap in time; records of one id
  that do are refused as repeated.
* Jobs that hold no GPU, that have not ended, or that never ran are left out and counted.
* Times with a zone (`SLURM_TIME_FORMAT=%Y-%m-%dT%H:%M:%S%z`) are brought to UTC, those without are
  taken as they stand, so that an hour is missing or there twice where a clock is put forward or
  back.
* The run time is ElapsedRaw, else Elapsed, else End - Start, whatever the state in which the job
  ended: its GPUs were held that long.
* GPUs are `gres/gpu=N` of AllocTRES (ReqTRES where that is empty), else the sum over
  `gres/gpu:TYPE=N`. The type is where the job ran, not where alone it can run: it is not read.
* CPUs and memory of the same cell are divided by the GPUs.
* The tenant is the account, else the user.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from marl_sched.errors import UserError
from marl_sched.quantities import MOST, MOST_COUNT, whole
from marl_sched.workload.formats.common import plain_trace, tenants
from marl_sched.workload.formats.raw import RawTrace
from marl_sched.workload.table import Table

REQUIRED = ("JobID", "Submit", "State")

ENDED = (
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
)
OPEN = ("PENDING", "REQUEUED", "RESIZING", "RUNNING", "SUSPENDED")

_GB = {"": 2.0**-10, "K": 2.0**-20, "M": 2.0**-10, "G": 1.0, "T": 2.0**10, "P": 2.0**20}
"""Slurm counts memory in MiB unless a letter says otherwise."""

ELAPSED = ("ElapsedRaw", "Elapsed")

_ELAPSED = re.compile(r"(?:([0-9]{1,9})-)?(?:([0-9]{1,9}):)?([0-9]{1,9}):([0-9]{1,9})(?:\.[0-9]+)?")
_MEMORY = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)([KMGTP]?)")

_SLACK_S = 1.0
"""Slurm's times are whole seconds."""


def read(table: Table) -> RawTrace:
    """Jobs of accounting records that have run on GPUs."""
    if not {"AllocTRES", "ReqTRES"} & set(table.columns):
        raise UserError(
            f"trace {table.path}: row 1: no column 'AllocTRES' or 'ReqTRES', which the slurm "
            "format needs for the GPUs; add it to sacct -o"
        )
    table.keep(~_contains(table.texts("JobID"), "."), "job step")
    table.keep(_gpus(table) != 0, "holds no GPU")
    _keep_last_attempts(table)
    table.keep(~np.isin(_states(table), OPEN), "job that has not ended")
    table.keep(_elapsed_s(table) != 0, "job that never ran")
    table.refuse(~np.isin(_states(table), ENDED), "State", "not a state of a Slurm job")
    duration_s = _elapsed_s(table)
    column = next(name for name in (*ELAPSED, "End") if name in table.columns)
    table.refuse(~(duration_s > 0), column, "not the time that a job has run")
    asked = _resources(table)
    gpus = np.maximum(asked[:, 0], 1.0)
    submit = "Submit", table.clock_s("Submit")
    raw = plain_trace(table, submit, (column, duration_s), gpus.astype(np.int64), job_id="JobID")
    demand = raw.demand.copy()
    demand[:, 1:3] = asked[:, 1:] / gpus[:, None]
    return tenants(replace(raw, demand=demand), table, "Account", "User")


def _keep_last_attempts(table: Table) -> None:
    """Leave out the attempts of a job before its last, which takes over the first one's Submit."""
    rows: dict[str, list[int]] = {}
    for index, name in enumerate(table.texts("JobID").tolist()):
        rows.setdefault(name, []).append(index)
    again = [indices for indices in rows.values() if len(indices) > 1]
    if not again:
        return
    submit_s, elapsed_s = table.moments_s("Submit"), np.nan_to_num(_elapsed_s(table))
    begin_s = submit_s
    if "Start" in table.columns:
        start_s = table.moments_s("Start")
        begin_s = np.where(np.isnan(start_s), submit_s, start_s)
    last, submitted = np.ones(len(table), bool), np.arange(len(table))
    for indices in again:
        attempts = sorted(indices, key=lambda i: (submit_s[i], begin_s[i], i))
        ends_s = begin_s[attempts] + elapsed_s[attempts]
        if (ends_s[:-1] <= begin_s[attempts[1:]] + _SLACK_S).all():
            last[attempts[:-1]] = False
            submitted[attempts[-1]] = attempts[0]
    table.arrays["Submit"] = table.arrays["Submit"].take(submitted)
    table.keep(last, "earlier attempt of a requeued job")


def _contains(cells: np.ndarray, part: str) -> np.ndarray:
    """(R,) bool."""
    return np.array([part in cell for cell in cells.tolist()], dtype=bool)


def _states(table: Table) -> np.ndarray:
    """(R,) str: the first word, as in `CANCELLED by 1000`."""
    words = [cell.partition(" ")[0] for cell in table.texts("State").tolist()]
    return np.array(words, dtype=str)


def _tres(table: Table) -> np.ndarray:
    """(R,) object: trackable resources held, else asked for."""
    cells = np.full(len(table), "", dtype=object)
    for name in ("AllocTRES", "ReqTRES"):
        if name in table.columns:
            cells = np.where(cells == "", table.texts(name), cells)
    return cells


def _elapsed_s(table: Table) -> np.ndarray:
    """(R,) float64, seconds that the job ran, 0 for one that never started; NaN for bad cells."""
    if "ElapsedRaw" in table.columns:
        return table.values("ElapsedRaw", "s")
    if "Elapsed" in table.columns:
        return np.array([_clock_time_s(cell) for cell in table.texts("Elapsed").tolist()], float)
    for name in ("Start", "End"):
        if name not in table.columns:
            raise UserError(
                f"trace {table.path}: row 1: no column 'ElapsedRaw', which the slurm format needs "
                "(Elapsed, or Start and End, will do); add it to sacct -o"
            )
    never = np.isin(table.texts("Start").astype(str), ("None", "Unknown", ""))
    return np.where(never, 0.0, table.moments_s("End") - table.moments_s("Start"))


def _clock_time_s(cell: str) -> float:
    """Seconds of [days-][hours:]minutes:seconds; NaN for anything else."""
    match = _ELAPSED.fullmatch(cell)
    if match is None:
        return np.nan
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return 86_400.0 * days + 3600.0 * hours + 60.0 * minutes + seconds


def _gpus(table: Table) -> np.ndarray:
    """(R,) float64, GPUs held, else asked for; NaN where the cell does not parse."""
    return _parsed(table)[:, 0]


def _resources(table: Table) -> np.ndarray:
    """(R, 3) float64: GPUs, CPUs, memory in GB of each job."""
    column = next(name for name in ("AllocTRES", "ReqTRES") if name in table.columns)
    found = _parsed(table)
    bad = ~(found[:, 0] >= 1) | np.isnan(found).any(axis=1)
    table.refuse(bad, column, "not resources like cpu=8,mem=64G,gres/gpu=2")
    return np.asarray(np.where(bad[:, None], 1.0, found))


def _parsed(table: Table) -> np.ndarray:
    """(R, 3) float64: GPUs, CPUs, memory in GB of each job; NaN where a count does not parse."""
    cells = _tres(table)
    kinds = {cell: _parse_tres(cell) for cell in set(cells.tolist())}
    return np.array([kinds[cell] for cell in cells.tolist()], dtype=float).reshape(-1, 3)


def _parse_tres(cell: str) -> tuple[float, float, float]:
    """GPUs, CPUs, memory in GB; NaN where a count does not parse."""
    counts: dict[str, str] = {}
    for part in cell.split(","):
        name, _, value = part.partition("=")
        counts[name.strip()] = value.strip()
    typed = [_whole(value) for name, value in counts.items() if name.startswith("gres/gpu:")]
    gpus = _whole(counts["gres/gpu"]) if "gres/gpu" in counts else float(sum(typed))
    memory = _MEMORY.fullmatch(counts.get("mem", "0"))
    memory_gb = np.nan if memory is None else float(memory[1]) * _GB[memory[2]]
    return gpus, _whole(counts.get("cpu", "0")), memory_gb if memory_gb <= MOST else np.nan


def _whole(text: str) -> float:
    count = whole(text)
    return np.nan if count is None or count > MOST_COUNT else float(count)
