"""The project's own format: CSV or Parquet that can state everything a workload holds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from marl_sched.errors import UserError, do_you_mean, quoted
from marl_sched.quantities import LONGEST_S, MOST
from marl_sched.workload import cells
from marl_sched.workload.arrays import UNLIMITED
from marl_sched.workload.formats.common import plain_trace
from marl_sched.workload.formats.raw import RawTrace
from marl_sched.workload.parents import Parents
from marl_sched.workload.table import Table

REQUIRED = ("arrival_s", "duration_s", "num_gpus")

OPTIONAL = (
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
    "gpu_milli",
    "gpu_types",
    "cancel_s",
    "depends_on",
    "max_retries",
    "failure_rate_per_h",
    "checkpoint_interval_s",
    "loader_cpus_per_gpu",
)
"""Further columns. An empty cell leaves the matter open, as an absent column."""

WHOLE_MILLI = 1000

MOST_RATE = 1e6
"""Failures per hour, CPUs per GPU."""

_SHOWN = 10
"""Jobs of a cycle that a message names."""


def read(table: Table) -> RawTrace:
    """Jobs of a table in the own format."""
    known = (*REQUIRED, *OPTIONAL)
    unknown = [name for name in table.columns if name not in known]
    if unknown:
        raise UserError(
            f"trace {table.path}: row 1: unknown column {quoted(unknown[0])}; known: "
            f"{', '.join(known)}; rename or remove it{do_you_mean(unknown[0], known)}"
        )
    _refuse_two_clocks(table)
    duration = "duration_s", table.positive("duration_s", "s")
    raw = plain_trace(table, ("arrival_s", table.times("arrival_s")), duration, "num_gpus")
    changes: dict[str, Any] = {"demand": _demand(table, raw)}
    for name in ("model", "tenant"):
        if name in table.columns:
            changes[name] = table.texts(name)
    if "gpu_types" in table.columns:
        changes["gpu_types"] = table.words("gpu_types")
    if "elastic" in table.columns:
        changes["elastic"] = table.truth("elastic")
    for name in ("min_gpus", "max_gpus"):
        if name in table.columns:
            changes[name] = table.counts(name, empty=0)
    if "priority" in table.columns:
        changes["priority"] = table.numbers("priority", empty=0.0, least=-MOST, most=MOST)
    for name in ("deadline_s", "cancel_s"):
        if name in table.columns:
            changes[name] = table.times(name, empty=np.inf)
    changes |= _failures(table)
    if "depends_on" in table.columns:
        changes["parents"] = _parents(table, raw.job_id)
    raw = replace(raw, **changes)
    _check(table, raw)
    return raw


def _refuse_two_clocks(table: Table) -> None:
    """Refuse a table some of whose times count from 1970 and others from anywhere.

    Raises:
        UserError: naming both columns.
    """
    kinds = {
        name: cells.kind_of(table.array(name)) == "point in time"
        for name in ("arrival_s", "deadline_s", "cancel_s")
        if name in table.columns and table.array(name).null_count < len(table)
    }
    for name, dated in kinds.items():
        if dated != kinds.get("arrival_s", dated):
            raise UserError(
                f"trace {table.path}: column {name!r} and column 'arrival_s' are on different "
                "clocks, as only one of them holds dates; write both in one way"
            )


def _check(table: Table, raw: RawTrace) -> None:
    """Note columns that contradict each other."""
    table.refuse(raw.min_gpus > raw.num_gpus, "min_gpus", "more than num_gpus")
    too_few = (raw.max_gpus > 0) & (raw.max_gpus < raw.num_gpus)
    table.refuse(too_few, "max_gpus", "less than num_gpus")
    table.refuse(raw.cancel_s < raw.arrival_s, "cancel_s", "before arrival_s")
    share = raw.demand[:, 0] < 1
    table.refuse(
        share & (raw.num_gpus != 1), "gpu_milli", "a share of one GPU, but num_gpus is not 1"
    )
    grows = (raw.elastic == 1) | (raw.max_gpus > 1)
    table.refuse(share & grows, "gpu_milli", "a share of one GPU, but the job is elastic")


def _demand(table: Table, raw: RawTrace) -> np.ndarray:
    """(R, 4) float64, per GPU."""
    given = ("gpu_milli", "cpus_per_gpu", "memory_gb_per_gpu", "network_gbps_per_gpu")
    if not any(name in table.columns for name in given):
        return raw.demand
    result = raw.demand.copy()
    for r, name in enumerate(given):
        if name not in table.columns:
            continue
        if name == "gpu_milli":
            share = table.counts(name, empty=WHOLE_MILLI, least=1, most=WHOLE_MILLI)
            result[:, r] = share / WHOLE_MILLI
        else:
            result[:, r] = table.not_negative(name, empty=0.0)
    return result


def _failures(table: Table) -> dict[str, np.ndarray]:
    """Retries, failures, checkpoints and data loading, as far as the columns are there."""
    found = {}
    if "max_retries" in table.columns:
        found["max_retries"] = table.counts("max_retries", empty=UNLIMITED, least=0)
    for name in ("failure_rate_per_h", "loader_cpus_per_gpu"):
        if name in table.columns:
            found[name] = table.not_negative(name, 0.0, MOST_RATE)
    name = "checkpoint_interval_s"
    if name in table.columns:
        found[name] = table.not_negative(name, np.nan, LONGEST_S, "s")
    return found


def _parents(table: Table, job_id: np.ndarray) -> Parents:
    """Dependencies by position; unknown jobs, the job itself and cycles are refused."""
    place = {name: index for index, name in reversed(list(enumerate(job_id.tolist())))}
    edges: list[tuple[int, int]] = []
    for child, names in enumerate(table.lists("depends_on")):
        for name in names:
            parent = place.get(name)
            if parent is None:
                text = f"{quoted(name)} is not the job_id of any job in the file"
                table.problems.append((child, "depends_on", "an unknown job", text))
            elif parent == child:
                text = f"{quoted(name)} is the job itself"
                table.problems.append((child, "depends_on", "the job itself", text))
            else:
                edges.append((child, parent))
    pairs = np.array(edges, dtype=np.int64).reshape(-1, 2)
    parents = Parents.from_edges(pairs[:, 0], pairs[:, 1], len(table))
    stuck = parents.in_cycles().tolist()
    if stuck:
        loop = [quoted(str(job_id[job]))[1:-1] for job in parents.cycle_from(stuck[0])]
        if len(loop) > _SHOWN:
            loop = [*loop[: _SHOWN - 1], "..", loop[-1]]
        text = f"a cycle of jobs that wait for each other: {' -> '.join(loop)}"
        table.problems += [(job, "depends_on", "a cycle", text) for job in stuck]
        # Those rows cannot be used; the others' dependencies stay.
        free = np.setdiff1d(np.arange(len(table)), stuck)
        mine = np.isin(parents.child, free) & np.isin(parents.indices, free)
        parents = Parents.from_edges(parents.child[mine], parents.indices[mine], len(table))
    return parents
