"""The trace formats that are read: Philly, ITP, and the project's own.

| format | recognised by the columns | notes |
|---|---|---|
| philly | timestamp, duration, num_gpus (cluster) | wall-clock times; `cluster` is the tenant |
| itp | job_id, submission_time, duration, num_gpu | seconds |
| csv | arrival_s, duration_s, num_gpus | the project's own, CSV or Parquet; see `OWN_OPTIONAL` |

Sources: Jeon et al., Analysis of Large-Scale Multi-Tenant GPU Clusters (Philly), USENIX ATC 2019;
Gu et al., ElasticFlow (ITP), ASPLOS 2023.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from marl_sched.errors import UserError
from marl_sched.workload.table import Table, read_table

REQUIRED = {
    "philly": ("timestamp", "duration", "num_gpus"),
    "itp": ("job_id", "submission_time", "duration", "num_gpu"),
    "csv": ("arrival_s", "duration_s", "num_gpus"),
}
"""Columns by which a format is recognised, and which it needs."""

OWN_OPTIONAL = (
    "job_id",
    "model",
    "elastic",
    "min_gpus",
    "max_gpus",
    "cpus_per_gpu",
    "memory_gb_per_gpu",
    "network_gbps_per_gpu",
    "priority",
    "tenant",
    "deadline_s",
)
"""Further columns of the own format. An empty cell leaves the matter open, as an absent column."""

_CLOCK = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d+)?)?")

_TRUE, _FALSE = ("true", "1", "1.0", "yes"), ("false", "0", "0.0", "no")


@dataclass(frozen=True, eq=False)
class RawTrace:
    """What a trace says, over its J usable rows; what it leaves open is marked so."""

    name: str
    where: str
    """The file, for messages."""
    row: np.ndarray
    """(J,) int64, row in the file."""
    job_id: np.ndarray
    """(J,) object, str."""
    arrival_s: np.ndarray
    """(J,) float64, on any clock, in any order."""
    duration_s: np.ndarray
    """(J,) float64 > 0."""
    num_gpus: np.ndarray
    """(J,) int64 >= 1."""
    model: np.ndarray
    """(J,) object, str; "" open."""
    elastic: np.ndarray
    """(J,) int64, 1 elastic, 0 rigid, -1 open."""
    min_gpus: np.ndarray
    """(J,) int64; 0 open."""
    max_gpus: np.ndarray
    """(J,) int64; 0 open."""
    demand: np.ndarray
    """(J, 4) float64, per GPU."""
    priority: np.ndarray
    """(J,) float64."""
    tenant: np.ndarray
    """(J,) object, str."""
    deadline_s: np.ndarray
    """(J,) float64, clock of `arrival_s`; +inf without one."""
    skipped: dict[str, int]
    """Rows left out: reason -> count."""

    def __len__(self) -> int:
        return len(self.row)

    def take(self, pick: np.ndarray) -> RawTrace:
        """The jobs that `pick`, a mask or an index array, selects."""
        arrays = {
            f.name: getattr(self, f.name)[pick]
            for f in fields(self)
            if isinstance(getattr(self, f.name), np.ndarray)
        }
        return replace(self, **arrays)

    def skip(self, keep: np.ndarray, reason: str) -> RawTrace:
        """The jobs where `keep` is True; the others are counted under `reason`."""
        gone = int((~keep).sum())
        counts = {**self.skipped, **({reason: gone} if gone else {})}
        return replace(self.take(keep), skipped=counts)

    def sorted(self) -> RawTrace:
        """In order of arrival, ties in the order of the file, the first at 0 s."""
        ordered = self.take(np.argsort(self.arrival_s, kind="stable"))
        first_s = ordered.arrival_s[0] if len(self) else 0.0
        return replace(
            ordered,
            arrival_s=ordered.arrival_s - first_s,
            deadline_s=ordered.deadline_s - first_s,
        )


def plain(
    name: str,
    where: str,
    row: np.ndarray,
    job_id: np.ndarray,
    arrival_s: np.ndarray,
    duration_s: np.ndarray,
    num_gpus: np.ndarray,
) -> RawTrace:
    """A trace that states nothing but arrivals, run times and GPUs."""
    count = len(row)
    demand = np.zeros((count, 4))
    demand[:, 0] = 1.0
    empty = np.full(count, "", dtype=object)
    zeros = np.zeros(count, dtype=np.int64)
    return RawTrace(
        name,
        where,
        row,
        job_id,
        arrival_s,
        duration_s,
        num_gpus,
        model=empty,
        elastic=zeros - 1,
        min_gpus=zeros,
        max_gpus=zeros,
        demand=demand,
        priority=np.zeros(count),
        tenant=empty,
        deadline_s=np.full(count, np.inf),
        skipped={},
    )


def read_trace(path: Path, form: str | None = None, skip_bad_rows: bool = False) -> RawTrace:
    """Read a trace; `form` None recognises the format by its header.

    Raises:
        UserError: for a file that cannot be read, an unknown header, or the first bad row.
    """
    table = read_table(path)
    form = form or recognise(table)
    missing = [name for name in REQUIRED[form] if name not in table.columns]
    if missing:
        raise UserError(
            f"trace {path}: row 1: no column {missing[0]!r}, which the {form} format needs; it has "
            f"{', '.join(table.columns)}"
        )
    raw = {"philly": _philly, "itp": _itp, "csv": _own}[form](table)
    _refuse_repeats(table, raw.job_id)
    keep, skipped = table.usable(skip_bad_rows)
    raw = replace(raw.take(keep), skipped=skipped)
    if not len(raw):
        reasons = "; ".join(f"{count} rows: {reason}" for reason, count in skipped.items())
        raise UserError(
            f"trace {path}: has no usable job{f' ({reasons})' if reasons else ''}; give a file "
            "with at least one"
        )
    return raw.sorted()


def recognise(table: Table) -> str:
    """The format whose required columns the header has.

    Raises:
        UserError: where it has no format's.
    """
    for form, columns in REQUIRED.items():
        if set(columns) <= set(table.columns):
            return form
    known = "; ".join(f"{form} has {', '.join(columns)}" for form, columns in REQUIRED.items())
    raise UserError(
        f"trace {table.path}: row 1: unknown format, its columns are "
        f"{', '.join(list(table.columns)[:12])}; {known}; rename the columns to one of these"
    )


def _refuse_repeats(table: Table, job_id: np.ndarray) -> None:
    if "job_id" not in table.columns:
        return
    first: dict[str, int] = {}
    for index, name in enumerate(job_id.tolist()):
        if first.setdefault(name, index) != index:
            text = f"{name!r} is repeated, first in row {table.row[first[name]]}"
            table.problems.append((index, "job_id", "repeated", text))


def _row_names(table: Table) -> np.ndarray:
    names = np.empty(len(table), dtype=object)
    names[:] = [f"row-{row}" for row in table.row.tolist()]
    return names


def _plain(table: Table, arrival_s: np.ndarray, duration: str, gpus: str) -> RawTrace:
    has_id = "job_id" in table.columns
    job_id = table.texts("job_id") if has_id else _row_names(table)
    if has_id:
        blank = job_id == ""
        job_id[blank] = _row_names(table)[blank]
    return plain(
        table.path.stem,
        str(table.path),
        table.row,
        job_id,
        arrival_s,
        table.positive(duration),
        table.counts(gpus),
    )


def _philly(table: Table) -> RawTrace:
    raw = _plain(table, _clock_s(table, "timestamp"), "duration", "num_gpus")
    if "cluster" in table.columns:
        raw = replace(raw, tenant=table.texts("cluster"))
    return raw


def _clock_s(table: Table, column: str) -> np.ndarray:
    """(R,) float64, seconds since 1970 of wall-clock times such as 2017-10-09 06:13:03."""
    cells = [cell.strip() for cell in table.columns[column]]
    bad = np.array([_CLOCK.fullmatch(cell) is None for cell in cells], dtype=bool)
    values = np.full(len(cells), np.nan)
    good = np.flatnonzero(~bad)
    try:
        values[good] = _epoch_s([cells[index] for index in good])
    except ValueError:  # a 13th month
        for index in good:
            try:
                values[index] = _epoch_s([cells[index]])[0]
            except ValueError:
                bad[index] = True
    table.refuse(bad, column, "not a date and time like 2017-10-09 06:13:03")
    return values


def _epoch_s(cells: list[str]) -> np.ndarray:
    return np.asarray(np.array(cells, dtype="datetime64[ms]").astype(np.int64) / 1e3)


def _itp(table: Table) -> RawTrace:
    return _plain(table, table.numbers("submission_time"), "duration", "num_gpu")


def _own(table: Table) -> RawTrace:
    known = (*REQUIRED["csv"], *OWN_OPTIONAL)
    unknown = [name for name in table.columns if name not in known]
    if unknown:
        raise UserError(
            f"trace {table.path}: row 1: unknown column {unknown[0]!r}; known: {', '.join(known)}; "
            "rename or remove it"
        )
    raw = _plain(table, table.numbers("arrival_s"), "duration_s", "num_gpus")
    given = set(table.columns)
    changes: dict[str, np.ndarray] = {"demand": _demand(table, raw.demand)}
    for name in ("model", "tenant"):
        if name in given:
            changes[name] = table.texts(name)
    if "elastic" in given:
        changes["elastic"] = _truth(table, "elastic")
    for name in ("min_gpus", "max_gpus"):
        if name in given:
            changes[name] = table.counts(name, empty=0)
    if "priority" in given:
        changes["priority"] = table.numbers("priority", empty=0.0)
    if "deadline_s" in given:
        changes["deadline_s"] = table.numbers("deadline_s", empty=np.inf)
    raw = replace(raw, **changes)  # type: ignore[arg-type]
    if "min_gpus" in given:
        table.refuse(raw.min_gpus > raw.num_gpus, "min_gpus", "more than num_gpus")
    if "max_gpus" in given:
        too_few = (raw.max_gpus > 0) & (raw.max_gpus < raw.num_gpus)
        table.refuse(too_few, "max_gpus", "less than num_gpus")
    return raw


def _demand(table: Table, demand: np.ndarray) -> np.ndarray:
    result = demand.copy()
    for r, name in enumerate(("cpus_per_gpu", "memory_gb_per_gpu", "network_gbps_per_gpu"), 1):
        if name in table.columns:
            result[:, r] = table.numbers(name, empty=0.0)
            table.refuse(result[:, r] < 0, name, "negative")
    return result


def _truth(table: Table, column: str) -> np.ndarray:
    """(R,) int64, 1 true, 0 false, -1 empty."""
    cells = [cell.strip().lower() for cell in table.columns[column]]
    known = {**dict.fromkeys(_TRUE, 1), **dict.fromkeys(_FALSE, 0), "": -1}
    values = np.array([known.get(cell, -2) for cell in cells], dtype=np.int64)
    table.refuse(values == -2, column, "neither true nor false")
    return values
