"""The event log of one run: a Parquet file, and the run's figures computed from it alone.

| column | type | meaning |
|---|---|---|
| t_s | float64 | time since the first arrival; rows are in order of time |
| kind | dictionary of text | one of `columns.LOG_KINDS` |
| job | int32 | index of the job by arrival; -1 for events of a node |
| job_id | dictionary of text | its name in the trace; null for events of a node |
| gpus | float64 | see below; a share of a GPU counts as a fraction |
| node | int32 | index of the node; -1 where the event is none's |
| extra | float64 | see below |

| kind | gpus | extra |
|---|---|---|
| arrive | asked | 0; the time is when the job may start: its arrival, or its last parent's end |
| start, grow, shrink, move | held from now | seconds without progress that begin now |
| place | held on `node`; one row a node, right after the row above | 0 |
| preempt | 0 | 0 by the scheduler, 1 by the end of a node |
| fail | 0 | 1 when the job has ended by it, 0 when it will try again |
| finish, cancel | 0 | 1 |
| node_down, node_up | of the node | node_down: 1 when its jobs had notice to checkpoint, else 0 |

Jobs that a node takes down with it have their `preempt` rows right after `node_down`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from marl_sched.config import SimConfig
from marl_sched.errors import UserError, in_words
from marl_sched.evaluation.metrics import JobResults
from marl_sched.files import check_readable, replacing
from marl_sched.perf.power import node_watts
from marl_sched.quantities import MOST, MOST_JOBS
from marl_sched.sim import columns as c
from marl_sched.types import Cluster
from marl_sched.workload.jobs import Workload

ROW_GROUP = 1 << 17

RUNS = (c.START, c.GROW, c.SHRINK, c.MOVE)
"""From these on a job holds `gpus`; from every other event of its own on it holds none."""

ENDS = {
    (c.FINISH, 1): c.FINISHED_JOB,
    (c.FAIL, 1): c.FAILED_JOB,
    (c.CANCEL, 1): c.CANCELLED_JOB,
}
"""(kind, extra) to how a job has ended by it."""


MOST_ROWS = 100_000_000
"""Of a log that is read: 4.8 GB."""

_COLUMNS = {
    "t_s": c.LOG_TIME_S,
    "kind": c.LOG_KIND,
    "job": c.LOG_JOB,
    "gpus": c.LOG_GPUS,
    "node": c.LOG_NODE,
    "extra": c.LOG_EXTRA,
}
"""Columns of the file that are read, and of the log."""


def write_events(path: Path, events: np.ndarray, job_id: np.ndarray) -> None:
    """Write the log of a run, whole or not at all; equal logs give equal bytes.

    Args:
        path: Parquet file.
        events: (E, 6) float64, columns `columns.LOG_*`.
        job_id: (J,) names of the workload's jobs.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    job = events[:, c.LOG_JOB].astype(np.int32)
    names = pa.array(job_id.tolist(), pa.string())
    code = pa.array(np.maximum(job, 0), mask=job < 0)
    kinds = pa.array(events[:, c.LOG_KIND].astype(np.int8))
    table = pa.table(
        {
            "t_s": pa.array(events[:, c.LOG_TIME_S]),
            "kind": pa.DictionaryArray.from_arrays(kinds, pa.array(c.LOG_KINDS)),
            "job": pa.array(job),
            "job_id": pa.DictionaryArray.from_arrays(code, names),
            "gpus": pa.array(events[:, c.LOG_GPUS]),
            "node": pa.array(events[:, c.LOG_NODE].astype(np.int32)),
            "extra": pa.array(events[:, c.LOG_EXTRA]),
        }
    )
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=ROW_GROUP)


def read_events(path: Path) -> np.ndarray:
    """(E, 6) float64, the log that `write_events` wrote.

    Raises:
        UserError: for a file that is absent or no event log.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_readable(path, "event log")
    try:
        with pq.ParquetFile(path) as file:
            if file.metadata.num_rows > MOST_ROWS:
                raise ValueError(f"has more than {MOST_ROWS:,} rows")
        table = pq.read_table(path, partitioning=None, columns=list(_COLUMNS))
        table.validate(full=True)
        events = _events_of(table)
    except (OSError, LookupError, ValueError, TypeError, pa.ArrowException, MemoryError) as error:
        raise UserError(
            f"event log {path}: not one ({in_words(error)}); write it with "
            "marl-sched simulate --events"
        ) from None
    return events


def _events_of(table: Any) -> np.ndarray:
    """(E, 6) float64 of a table.

    Raises:
        ValueError, LookupError, pa.ArrowException: for one that no simulation can have written.
    """
    import pyarrow as pa

    events = np.empty((table.num_rows, c.NUM_LOG))
    for name, place in _COLUMNS.items():
        column = table.column(name)
        if name == "kind":
            kinds = {kind: number for number, kind in enumerate(c.LOG_KINDS)}
            events[:, place] = [kinds[kind] for kind in column.cast(pa.string()).to_pylist()]
            continue
        if not (pa.types.is_integer(column.type) or pa.types.is_float64(column.type)):
            raise ValueError(f"column {name!r} is of type {column.type}")
        if column.null_count:
            raise ValueError(f"column {name!r} has empty cells")
        events[:, place] = column.to_numpy()
    time_s, numbers = events[:, c.LOG_TIME_S], events[:, [c.LOG_GPUS, c.LOG_EXTRA]]
    if not (np.isfinite(events).all() and (np.diff(time_s) >= 0).all() and (time_s >= 0).all()):
        raise ValueError("rows are not in order of time from 0 on, or hold no finite numbers")
    for name in ("job", "node"):
        values = events[:, _COLUMNS[name]]
        if not ((values >= -1) & (values == np.floor(values)) & (values < MOST_JOBS)).all():
            raise ValueError(f"column {name!r} is to hold -1 or positions")
    if not ((numbers >= 0) & (numbers <= MOST)).all():
        raise ValueError("columns 'gpus' and 'extra' are to hold numbers from 0 on")
    return events


def replay_metrics(
    events: np.ndarray,
    workload: Workload,
    cluster: Cluster,
    checkpoint_interval_s: float = SimConfig().checkpoint_interval_s,
) -> dict[str, float]:
    """The figures of `JobResults.summary`, from the log alone; see `replay`."""
    return replay(events, workload, cluster, checkpoint_interval_s).summary()


def replay(
    events: np.ndarray,
    workload: Workload,
    cluster: Cluster,
    checkpoint_interval_s: float = SimConfig().checkpoint_interval_s,
) -> JobResults:
    """What became of each job, from the log and the jobs' own data.

    Repeated overheads (`sim.overhead_each_epoch`) are not in the log.

    Args:
        events: (E, 6) float64, of a whole run.
        workload: the J jobs of the run.
        checkpoint_interval_s: of jobs that name none, `sim.checkpoint_interval_s`.

    Raises:
        UserError: for a log of another workload or cluster.
    """
    jobs, num_gpus = len(workload), cluster.num_gpus
    last = int(events[:, c.LOG_JOB].max(initial=-1))
    if not len(events) or last >= jobs:
        raise UserError(
            f"the event log has {'no rows' if last < 0 else f'a job {last}'}, and workload "
            f"{workload.name!r} has {jobs} jobs; give the trace and the log of one run"
        )
    last = int(events[:, c.LOG_NODE].max())
    if last >= len(cluster.nodes):
        raise UserError(
            f"the event log has a node {last}, and the cluster has {len(cluster.nodes)} nodes; "
            "give the cluster and the log of one run"
        )
    mine = _own_rows(events)
    job = events[mine, c.LOG_JOB].astype(np.int64)
    kind = events[mine, c.LOG_KIND].astype(np.int64)
    time_s = events[mine, c.LOG_TIME_S]
    runs = np.isin(kind, RUNS)
    gpus = np.where(runs, events[mine, c.LOG_GPUS], 0.0)
    follows = np.zeros(len(mine), bool)
    follows[1:] = job[1:] == job[:-1]
    last_s = np.where(np.append(follows[1:], False), np.append(time_s[1:], 0.0), time_s)
    spell_s = last_s - time_s  # until the job's next event
    paused_s = np.minimum(spell_s, events[mine, c.LOG_EXTRA])

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(job, weights=values, minlength=jobs)

    first_start_s = np.full(jobs, np.inf)
    np.minimum.at(first_start_s, job[kind == c.START], time_s[kind == c.START])
    status, finish_s = _ends(events, jobs)
    arrival_s = workload.arrival_s - workload.arrival_s[0]
    attained = total(gpus * spell_s)
    up_gpu_s = _up_gpu_s(events, num_gpus)
    return JobResults(
        workload=workload,
        num_gpus=num_gpus,
        arrival_s=arrival_s,
        first_start_s=np.where(np.isinf(first_start_s), np.nan, first_start_s),
        finish_s=finish_s,
        held_s=total(runs * spell_s),
        attained_gpu_s=attained,
        num_preemptions=total((kind == c.PREEMPT) & (events[mine, c.LOG_EXTRA] == 0)),
        num_restarts=np.maximum(total(runs) - 1, 0),
        finish_time_fairness=_fairness(events, workload, finish_s - arrival_s, num_gpus),
        status=status,
        overhead_gpu_s=total(np.where(runs, gpus * paused_s, 0.0)),
        lost_gpu_s=total(_lost_gpu_s(events, mine, workload, checkpoint_interval_s)),
        num_retries=total(kind == c.FAIL),
        up_gpu_s=up_gpu_s,
        idle_gpu_s=up_gpu_s - float(attained.sum()),
        energy_kwh=_energy_kwh(events, mine, gpus * spell_s, cluster),
        events=events,
    )


def _own_rows(events: np.ndarray) -> np.ndarray:
    """Rows of the log that change what a job does: by job, each job's in order of time."""
    kind = events[:, c.LOG_KIND]
    rows = np.flatnonzero((events[:, c.LOG_JOB] >= 0) & (kind != c.PLACE))
    return rows[np.argsort(events[rows, c.LOG_JOB], kind="stable")]


def _ends(events: np.ndarray, jobs: int) -> tuple[np.ndarray, np.ndarray]:
    """How (NaN: not) and when each job ended, (J,) float64 both."""
    status, finish_s = np.full(jobs, np.nan), np.full(jobs, np.nan)
    for (kind, extra), end in ENDS.items():
        rows = events[(events[:, c.LOG_KIND] == kind) & (events[:, c.LOG_EXTRA] == extra)]
        which = rows[:, c.LOG_JOB].astype(np.int64)
        status[which], finish_s[which] = end, rows[:, c.LOG_TIME_S]
    return status, finish_s


def _fairness(
    events: np.ndarray, workload: Workload, jct_s: np.ndarray, num_gpus: int
) -> np.ndarray:
    """(J,) float64, rho: completion time over run time on a 1/n share; NaN for jobs not taken up.

    1/n is the mean over the job's time of the cluster's GPUs over the GPUs that active jobs asked
    for, at most 1.
    """
    jobs = len(workload)
    arrived = events[:, c.LOG_KIND] == c.ARRIVE
    ended = np.zeros(len(events), bool)
    for kind, extra in ENDS:
        ended |= (events[:, c.LOG_KIND] == kind) & (events[:, c.LOG_EXTRA] == extra)
    asked = np.zeros(jobs)
    taken_up = np.full(jobs, np.nan)
    who = events[:, c.LOG_JOB].astype(np.int64)
    asked[who[arrived]] = events[arrived, c.LOG_GPUS]
    change = np.zeros(len(events))
    change[arrived] = asked[who[arrived]]
    change[ended] = -asked[who[ended]]  # 0 for jobs that never arrived
    dt = np.diff(events[:, c.LOG_TIME_S], append=events[-1:, c.LOG_TIME_S])
    pressure_s = np.cumsum(np.cumsum(change) * dt) / num_gpus
    before = np.concatenate([[0.0], pressure_s[:-1]])  # up to the row's own time
    taken_up[who[arrived]] = before[arrived]
    at_end = np.full(jobs, np.nan)
    at_end[who[ended]] = before[ended]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(jct_s > 0, np.maximum((at_end - taken_up) / jct_s, 1.0), 1.0)
        return np.asarray(np.where(np.isnan(taken_up), np.nan, jct_s / workload.duration_s / mean))


def _lost_gpu_s(
    events: np.ndarray, mine: np.ndarray, workload: Workload, default_s: float
) -> np.ndarray:
    """GPU-seconds of work undone at each row of `mine`, float64.

    A job that stops abruptly loses what it has worked since its last checkpoint; checkpoints come
    every so many seconds of work after each (re)start.
    """
    stops = _abrupt(events, mine)
    lost = np.zeros(len(mine))
    at = np.flatnonzero(stops[mine])
    before = events[mine[at - 1]]  # the (re)start of the run that stops here
    job = before[:, c.LOG_JOB].astype(np.int64)
    own_s = workload.checkpoint_interval_s[job]
    interval_s = np.where(np.isnan(own_s), default_s, own_s)
    resumed_s = before[:, c.LOG_TIME_S] + before[:, c.LOG_EXTRA]
    worked_s = np.maximum(events[mine[at], c.LOG_TIME_S] - resumed_s, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        undone_s = worked_s - np.floor(worked_s / interval_s) * interval_s
    lost[at] = np.where(interval_s > 0, undone_s * before[:, c.LOG_GPUS], 0.0)
    return lost


def _abrupt(events: np.ndarray, mine: np.ndarray) -> np.ndarray:
    """(E,) bool, rows by which a running job stops unawares, by its own failure or a node's."""
    kind, job = events[:, c.LOG_KIND], events[:, c.LOG_JOB]
    stops = kind == c.FAIL
    before = np.zeros(len(events), dtype=np.int64)
    before[mine[1:]] = mine[:-1]
    for down in np.flatnonzero((kind == c.NODE_DOWN) & (events[:, c.LOG_EXTRA] == 0)).tolist():
        row = down + 1
        while row < len(events) and kind[row] == c.PREEMPT:
            # A scheduler's preemption may follow at once: of a job that was elsewhere.
            place = before[row] + 1
            while place < row and kind[place] == c.PLACE and job[place] == job[row]:
                stops[row] |= events[place, c.LOG_NODE] == events[down, c.LOG_NODE]
                place += 1
            row += 1
    return np.asarray(stops)


def _energy_kwh(
    events: np.ndarray, mine: np.ndarray, held_gpu_s: np.ndarray, cluster: Cluster
) -> float:
    """Energy of all GPUs that are up: idle ones, and what held ones draw beyond that.

    Args:
        mine: rows of the log that change what a job does.
        held_gpu_s: GPU-seconds held from each of these on.
    """
    watts = node_watts(cluster)
    extra = watts[:, 1] - watts[:, 0]
    held = np.flatnonzero(held_gpu_s > 0.0)
    # A gang lives on one GPU type: that of the node in the first row after its start.
    place = np.minimum(mine[held] + 1, len(events) - 1)
    node = np.maximum(events[place, c.LOG_NODE], 0).astype(np.int64)
    joules = float(np.dot(held_gpu_s[held], extra[node]))
    for kind in np.unique(watts[:, 0]):
        of_kind = watts[:, 0] == kind
        gpus = float(cluster.capacity[of_kind, 0].sum())
        joules += float(kind) * _up_gpu_s(events, gpus, of_kind)
    return joules / 3.6e6


def _up_gpu_s(events: np.ndarray, num_gpus: float, counts: np.ndarray | None = None) -> float:
    """GPU-seconds of the nodes that were up, from the first arrival to the last event.

    Args:
        num_gpus: of these nodes.
        counts: (N,) bool, which nodes; None: all.
    """
    kind, time_s = events[:, c.LOG_KIND], events[:, c.LOG_TIME_S]
    change = np.zeros(len(events))
    down: set[int] = set()
    for row in np.flatnonzero((kind == c.NODE_DOWN) | (kind == c.NODE_UP)).tolist():
        node, gpus = int(events[row, c.LOG_NODE]), events[row, c.LOG_GPUS]
        if counts is not None and not counts[node]:
            continue
        if kind[row] == c.NODE_DOWN:
            down.add(node)
            change[row] = -gpus
        elif node in down:  # not a node whose notice is taken back
            down.discard(node)
            change[row] = gpus
    up = num_gpus + np.cumsum(change)
    return float(num_gpus * time_s[0] + np.dot(up[:-1], np.diff(time_s)))
