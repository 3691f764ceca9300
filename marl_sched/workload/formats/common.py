"""What the readers of the formats share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from marl_sched.errors import quoted
from marl_sched.quantities import LONGEST_S, SHORTEST_S
from marl_sched.workload.arrays import numbered
from marl_sched.workload.formats.raw import RawTrace, plain
from marl_sched.workload.table import Table


def job_names(table: Table, column: str = "job_id") -> np.ndarray:
    """(R,) StringDType: the column's cells, and row-N where there are none."""
    if column not in table.columns:
        return numbered("row-", table.row)
    cells = table.names(column)
    blank = np.asarray(cells == "")
    if blank.any():
        cells[blank] = numbered("row-", table.row[blank])
    return cells


def plain_trace(
    table: Table,
    arrival: tuple[str, np.ndarray],
    duration: tuple[str, np.ndarray],
    gpus: str | np.ndarray,
    job_id: str = "job_id",
) -> RawTrace:
    """The trace of a table by its arrivals, run times and GPUs: a column, or numbers.

    Args:
        arrival, duration: the column that an error names, and (R,) float64 seconds.
    """
    (clock, arrival_s), (lasts, duration_s) = arrival, duration
    num_gpus = table.counts(gpus) if isinstance(gpus, str) else gpus
    where, names = str(table.path), job_names(table, job_id)
    raw = plain(table.path.stem, where, table.row, names, arrival_s, duration_s, num_gpus)
    table.refuse(duration_s > LONGEST_S, lasts, f"a run time beyond {LONGEST_S:.0e} s")
    short = (duration_s > 0) & (duration_s < SHORTEST_S)
    table.refuse(short, lasts, f"a run time below {SHORTEST_S:.0e} s")
    known = arrival_s[np.isfinite(arrival_s)]
    late = arrival_s - known.min(initial=np.inf) > LONGEST_S
    table.refuse(late, clock, f"more than {LONGEST_S:.0e} s after the first arrival")
    _refuse_repeats(table, raw.job_id, job_id)
    return raw


def tenants(raw: RawTrace, table: Table, *columns: str) -> RawTrace:
    """With the first of `columns` that is there and not empty as each job's tenant."""
    tenant = raw.tenant
    for column in reversed([name for name in columns if name in table.columns]):
        cells = table.texts(column)
        tenant = np.where(cells == "", tenant, cells)
    return replace(raw, tenant=tenant)


def known_models(cells: np.ndarray, known: dict[str, str]) -> np.ndarray:
    """(R,) object: the catalogue's names; "" for models that it lacks, which are then drawn."""
    result = np.empty(len(cells), dtype=object)
    result[:] = [known.get(cell, "") for cell in cells.tolist()]
    return result


def _refuse_repeats(table: Table, job_id: np.ndarray, column: str) -> None:
    if column not in table.columns:
        return
    hashes = np.fromiter(map(hash, job_id), dtype=np.int64, count=len(job_id))
    if len(np.unique(hashes)) == len(hashes):  # equal names have equal hashes
        return
    first: dict[str, int] = {}
    for index, name in enumerate(job_id.tolist()):
        if first.setdefault(name, index) != index:
            text = f"{quoted(name)} is repeated, first in row {table.row[first[name]]}"
            table.problems.append((index, column, "repeated", text))
