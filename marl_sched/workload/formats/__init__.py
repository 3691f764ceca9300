"""The trace formats that are read.

| format | recognised by the columns | notes |
|---|---|---|
| muri | job_id, num_gpu, submit_time, iterations, iteration_time, model_name | milliseconds |
| chronus | job_id, user, num_gpu, submit_time, duration, expect_time_list | minutes; deadlines |
| philly | timestamp, duration, num_gpus (cluster) | wall-clock times; `cluster` is the tenant |
| itp | job_id, submission_time, duration, num_gpu | seconds |
| slurm | JobID, Submit, State, and what `slurm` names | `sacct -P` |
| csv | arrival_s, duration_s, num_gpus | the project's own, CSV or Parquet; see `own.OPTIONAL` |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from marl_sched.errors import UserError, listed
from marl_sched.workload.foreign import header_problem
from marl_sched.workload.formats import own, public, slurm
from marl_sched.workload.formats.raw import RawTrace, plain
from marl_sched.workload.reading import read_table
from marl_sched.workload.table import Table

__all__ = ["FORMATS", "Format", "RawTrace", "plain", "read_trace", "recognise"]


@dataclass(frozen=True)
class Format:
    """One trace format."""

    columns: tuple[str, ...]
    """By which it is recognised, and which it needs."""
    read: Callable[[Table], RawTrace]


FORMATS = {
    "muri": Format(public.MURI, public.muri),
    "chronus": Format(public.CHRONUS, public.chronus),
    "philly": Format(public.PHILLY, public.philly),
    "itp": Format(public.ITP, public.itp),
    "slurm": Format(slurm.REQUIRED, slurm.read),
    "csv": Format(own.REQUIRED, own.read),
}
"""By name, in the order in which headers are tried."""


def read_trace(path: Path, form: str | None = None, skip_bad_rows: bool = False) -> RawTrace:
    """Read a trace; `form` None recognises the format by its header.

    Raises:
        UserError: for a file that cannot be read, an unknown header, or the first bad row.
    """
    table = read_table(path)
    form = form or recognise(table)
    missing = [name for name in FORMATS[form].columns if name not in table.columns]
    if missing:
        raise UserError(
            f"trace {path}: row 1: no column {missing[0]!r}, which the {form} format needs; it has "
            f"{listed(table.columns)}{_hint(table)}"
        )
    raw = FORMATS[form].read(table)
    keep, skipped = table.usable(skip_bad_rows)
    raw = raw.skip(keep, skipped)
    if not len(raw):
        reasons = "; ".join(f"{count} rows: {reason}" for reason, count in raw.skipped.items())
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
    for form, kind in FORMATS.items():
        if set(kind.columns) <= set(table.columns):
            return form
    has = f"trace {table.path}: row 1: unknown format, its columns are {listed(table.columns)}"
    hint = _hint(table)
    if hint:
        raise UserError(f"{has}{hint} (docs/inputs.md)")
    known = "; ".join(f"{form} has {', '.join(kind.columns)}" for form, kind in FORMATS.items())
    raise UserError(f"{has}; {known}; rename the columns to one of these (docs/inputs.md)")


def _hint(table: Table) -> str:
    """What the table is, and the mend, where that is known."""
    problem = header_problem(table.columns)
    return "" if problem is None else f"; {problem}"
