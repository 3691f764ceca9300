"""From settings to a workload, and from a workload to a file."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from marl_sched.config import WorkloadConfig
from marl_sched.errors import UserError, listed, quoted
from marl_sched.files import replacing
from marl_sched.types import Cluster
from marl_sched.workload.arrays import UNLIMITED
from marl_sched.workload.assignment import (
    allowed_by_cluster,
    assign,
    codes,
    draw_elastic,
    lowest_gpus,
)
from marl_sched.workload.formats import RawTrace, read_trace
from marl_sched.workload.formats.own import WHOLE_MILLI
from marl_sched.workload.jobs import (
    Workload,
    fits,
    misfit,
    over_quota,
    quota_problem,
    smallest_gpus,
)
from marl_sched.workload.synthetic import synthetic_trace

__all__ = ["Workload", "load_workload", "write_trace"]

BLOCK = 65_536
"""Jobs that are turned into text at a time."""


def load_workload(
    config: WorkloadConfig,
    cluster: Cluster,
    seed: int,
    quotas: Mapping[str, float] | None = None,
) -> Workload:
    """The workload that `config` describes: a trace or the synthetic generator.

    Reads, drops what cannot be used where allowed, assigns models and elasticity by the rule of
    `assignment`, and rescales arrivals to the offered load where one is given.

    Args:
        quotas: GPUs that a tenant may hold at most, `sim.tenant_quota`.

    Raises:
        UserError: for a trace that cannot be read, its first bad row, or a job that fits no pool
            of one GPU type of `cluster`, or not its tenant's quota.
    """
    return load_draws(config, cluster, (seed,), quotas)[0]


def load_draws(
    config: WorkloadConfig,
    cluster: Cluster,
    seeds: tuple[int, ...],
    quotas: Mapping[str, float] | None = None,
) -> list[Workload]:
    """The workload of each seed, a trace being read once; arguments and errors as there."""
    given = None if config.trace is None else _read(config, cluster)
    return [_draw(config, cluster, seed, given, quotas or {}) for seed in seeds]


def _read(config: WorkloadConfig, cluster: Cluster) -> RawTrace:
    """What can be used of the configured trace."""
    assert config.trace is not None
    raw = read_trace(Path(config.trace), config.format, config.skip_bad_rows)
    raw = _of_tenants(raw, config.tenants)
    return _fitting(raw, cluster, config.skip_bad_rows)


def _draw(
    config: WorkloadConfig,
    cluster: Cluster,
    seed: int,
    given: RawTrace | None,
    quotas: Mapping[str, float],
) -> Workload:
    """A trace that was given, or the built-in workload, with what `seed` decides."""
    load, raw = config.load, given
    if raw is None:
        pool = max(cluster.gpus_of_type(kind) for kind in cluster.gpu_types)
        raw = synthetic_trace(config.synthetic, cluster.num_gpus, seed, max_gpus=pool)
    if quotas:
        raw = _within_quotas(raw, config, seed, quotas)
    workload = assign(raw, cluster, seed, config.elastic_fraction, config.elastic_max_factor)
    if config.burstiness != 1.0:
        workload = workload.with_burstiness(config.burstiness)
    if load is not None and (given is not None or len(workload) > 1):
        workload = workload.with_load(load, cluster.num_gpus)
    return workload


def _of_tenants(raw: RawTrace, tenants: tuple[str, ...]) -> RawTrace:
    """Only the jobs of `tenants`; all where none is named."""
    if not tenants:
        return raw
    known = set(raw.tenant.tolist())
    for name in tenants:
        if name not in known:
            raise UserError(
                f"trace {raw.where}: no job of tenant {quoted(name)}; it has: "
                f"{listed(sorted(known))}"
            )
    return raw.take(np.isin(raw.tenant.astype(str), tenants))


def _fitting(raw: RawTrace, cluster: Cluster, skip_bad_rows: bool) -> RawTrace:
    """Without the jobs that name an unknown GPU type or fit no pool, where they may be skipped."""
    allowed = allowed_by_cluster(raw, cluster)
    known = np.asarray(allowed.any(axis=1))
    if not known.all():
        if not skip_bad_rows:
            _refuse_type(raw, ~known, cluster)
        raw, allowed = raw.skip(known, "gpu_types: not on the cluster"), allowed[known]
        _refuse_none_left(raw, cluster)
    held = fits(raw.num_gpus, raw.demand, cluster, allowed)
    if held.all():
        return raw.sorted()
    if not skip_bad_rows:
        bad = np.flatnonzero(~held)
        i = int(bad[np.argmin(raw.row[bad])])
        most = raw.demand[bad].max(axis=0)
        raise _refused(
            raw, i, misfit(int(raw.num_gpus[i]), raw.demand[i], cluster, allowed[i], most)
        )
    left = raw.skip(held, "does not fit the cluster")
    if not len(left):
        raise UserError(
            f"trace {raw.where}: none of its {len(raw)} usable jobs fits cluster {cluster}; give a "
            "larger --cluster"
        )
    return left.sorted()


def _within_quotas(
    raw: RawTrace, config: WorkloadConfig, seed: int, quotas: Mapping[str, float]
) -> RawTrace:
    """Without the jobs whose smallest size is above their tenant's quota, if they may be skipped.

    Who is elastic is drawn by position, so that it is settled here where jobs go.
    """
    elastic = draw_elastic(raw, seed, config.elastic_fraction)
    smallest = smallest_gpus(raw.num_gpus, lowest_gpus(raw, elastic), raw.demand[:, 0])
    bad = over_quota(smallest, *codes(raw.tenant), quotas)
    if not bad.any():
        return raw
    which = np.flatnonzero(bad)
    i = int(which[np.argmin(raw.row[which])])
    problem = quota_problem(float(smallest[i]), str(raw.tenant[i]), quotas)
    if not config.skip_bad_rows:
        raise _refused(raw, i, problem)
    settled = replace(raw, elastic=elastic.astype(np.int64))
    left = settled.skip(~bad, "above its tenant's quota")
    if not len(left):
        raise UserError(f"trace {raw.where}: no job is left; the first {problem}")
    return left.sorted()


def _refused(raw: RawTrace, i: int, problem: str) -> UserError:
    """The error of the i-th job, by its row and id."""
    return UserError(
        f"trace {raw.where}: row {raw.row[i]}: job {quoted(str(raw.job_id[i]))} {problem}, or pass "
        "--skip-bad-rows to drop such jobs and count them"
    )


def _refuse_type(raw: RawTrace, unknown: np.ndarray, cluster: Cluster) -> NoReturn:
    bad = np.flatnonzero(unknown)
    i = int(bad[np.argmin(raw.row[bad])])
    there = [name.lower() for name in cluster.gpu_types]
    first = next(name for name in raw.gpu_types[i].split() if name.lower() not in there)
    raise UserError(
        f"trace {raw.where}: row {raw.row[i]}, column 'gpu_types': {quoted(first)} is not a GPU "
        f"type of cluster {cluster}, which has {listed(cluster.gpu_types)}; correct it, give a "
        "--cluster with that type, or pass --skip-bad-rows to drop such rows and count them"
    )


def _refuse_none_left(raw: RawTrace, cluster: Cluster) -> None:
    if not len(raw):
        raise UserError(
            f"trace {raw.where}: every job names a GPU type that cluster {cluster} lacks; give a "
            "--cluster with these types"
        )


def write_trace(workload: Workload, path: Path, columns: tuple[str, ...] | None = None) -> None:
    """Write the project's own format, Parquet by the suffix `.parquet`, else CSV.

    The file appears whole or not at all. Reading it back gives the same jobs. `columns` keeps only
    those named; what is left out is assigned when the file is read. Columns that no job uses are
    left out, except those of every trace.
    """
    names = tuple(_columns(workload, 0, 0)) if columns is None else columns
    blocks = (
        {name: cells for name, cells in _columns(workload, lo, lo + BLOCK).items() if name in names}
        for lo in range(0, max(len(workload), 1), BLOCK)
    )
    with replacing(path) as temporary:
        if path.suffix.lower() == ".parquet":
            _write_parquet(blocks, temporary)
        else:
            _write_csv(blocks, temporary)


def _columns(workload: Workload, lo: int, hi: int) -> dict[str, list[Any]]:
    """Cells of jobs lo..hi-1 by column; None is an empty cell."""
    part = workload.slice(lo, hi)
    models, tenants = np.array(part.models, object), np.array(part.tenants, object)
    table = {
        "job_id": part.job_id.tolist(),
        "arrival_s": part.arrival_s.tolist(),
        "duration_s": part.duration_s.tolist(),
        "num_gpus": part.num_gpus.tolist(),
        "model": models[part.model].tolist(),
        "elastic": part.elastic.tolist(),
        "min_gpus": part.min_gpus.tolist(),
        "max_gpus": part.max_gpus.tolist(),
        "cpus_per_gpu": part.demand[:, 1].tolist(),
        "memory_gb_per_gpu": part.demand[:, 2].tolist(),
        "network_gbps_per_gpu": part.demand[:, 3].tolist(),
        "priority": part.priority.tolist(),
        "tenant": tenants[part.tenant].tolist(),
        "deadline_s": _finite(part.deadline_s),
    }
    return table | _rare_columns(workload, part, lo)


def _rare_columns(workload: Workload, part: Workload, lo: int) -> dict[str, list[Any]]:
    """Cells of the columns that some job of the whole workload uses, of the jobs of `part`."""
    table: dict[str, list[Any]] = {}
    if (workload.demand[:, 0] != 1).any():
        table["gpu_milli"] = np.round(part.demand[:, 0] * WHOLE_MILLI).astype(int).tolist()
    if (workload.gpu_type_mask != -1).any():
        bits = 1 << np.arange(len(workload.gpu_types))
        types = np.array(workload.gpu_types, object)
        table["gpu_types"] = [
            None if mask == -1 else " ".join(types[(mask & bits) != 0])
            for mask in part.gpu_type_mask.tolist()
        ]
    if np.isfinite(workload.cancel_s).any():
        table["cancel_s"] = _finite(part.cancel_s)
    if len(workload.parents.indices):
        table["depends_on"] = [
            workload.job_id[workload.parents.of(job)].tolist() or None
            for job in range(lo, lo + len(part))
        ]
    if (workload.max_retries != UNLIMITED).any():
        cells = part.max_retries.tolist()
        table["max_retries"] = [None if cell == UNLIMITED else cell for cell in cells]
    if np.isfinite(workload.checkpoint_interval_s).any():
        table["checkpoint_interval_s"] = _finite(part.checkpoint_interval_s)
    for name in ("failure_rate_per_h", "loader_cpus_per_gpu"):
        if (getattr(workload, name) != 0).any():
            table[name] = getattr(part, name).tolist()
    return table


def _finite(values: np.ndarray) -> list[float | None]:
    return [value if isfinite(value) else None for value in values.tolist()]


def _write_csv(blocks: Iterable[dict[str, list[Any]]], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for number, table in enumerate(blocks):
            if number == 0:
                writer.writerow(table)
            if "depends_on" in table:
                table["depends_on"] = [_joined(names) for names in table["depends_on"]]
            writer.writerows(zip(*table.values(), strict=True))


def _joined(names: list[str] | None) -> str | None:
    """The names of a cell, separated by blanks.

    Raises:
        UserError: for a name that would come back as two.
    """
    for name in names or ():
        if len(name.split()) != 1:
            raise UserError(
                f"the name of job {quoted(name)}, which others wait for, has a blank; give the "
                "output the suffix .parquet"
            )
    return " ".join(names) if names else None


_WHOLE = ("num_gpus", "min_gpus", "max_gpus", "gpu_milli", "max_retries")
_TEXT = ("job_id", "model", "tenant", "gpu_types")


def _write_parquet(blocks: Iterable[dict[str, list[Any]]], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = dict.fromkeys(_WHOLE, pa.int64()) | dict.fromkeys(_TEXT, pa.string())
    kinds["elastic"], kinds["depends_on"] = pa.bool_(), pa.list_(pa.string())
    writer = None
    for table in blocks:
        if writer is None:
            schema = pa.schema([(name, kinds.get(name, pa.float64())) for name in table])
            writer = pq.ParquetWriter(path, schema)
        writer.write_table(pa.table(table, schema=schema))
    if writer is not None:
        writer.close()
