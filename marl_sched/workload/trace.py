"""From settings to a workload, and from a workload to a file."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from marl_sched.config import WorkloadConfig
from marl_sched.errors import UserError
from marl_sched.files import replacing
from marl_sched.types import Cluster
from marl_sched.workload.assignment import assign
from marl_sched.workload.formats import RawTrace, read_trace
from marl_sched.workload.jobs import Workload, fits, misfit
from marl_sched.workload.synthetic import synthetic_trace

__all__ = ["Workload", "load_workload", "write_trace"]


def load_workload(config: WorkloadConfig, cluster: Cluster, seed: int) -> Workload:
    """The workload that `config` describes: a trace or the synthetic generator.

    Reads, drops what cannot be used where allowed, assigns models and elasticity by the rule of
    `assignment`, and rescales arrivals to the offered load where one is given.

    Raises:
        UserError: for a trace that cannot be read, its first bad row, or a job that fits no pool
            of one GPU type of `cluster`.
    """
    load = config.load
    if config.trace is None:
        pool = max(cluster.gpus_of_type(kind) for kind in cluster.gpu_types)
        raw = synthetic_trace(config.synthetic, cluster.num_gpus, seed, max_gpus=pool)
    else:
        raw = read_trace(Path(config.trace), config.format, config.skip_bad_rows)
        raw = _fitting(raw, cluster, config.skip_bad_rows)
    workload = assign(raw, cluster, seed, config.elastic_fraction, config.elastic_max_factor)
    if load is not None and (config.trace is not None or len(workload) > 1):
        workload = workload.with_load(load, cluster.num_gpus)
    return workload


def _fitting(raw: RawTrace, cluster: Cluster, skip_bad_rows: bool) -> RawTrace:
    held = fits(raw.num_gpus, raw.demand, cluster)
    if held.all():
        return raw
    if not skip_bad_rows:
        bad = np.flatnonzero(~held)
        i = int(bad[np.argmin(raw.row[bad])])
        reason = misfit(int(raw.num_gpus[i]), raw.demand[i], cluster)
        raise UserError(f"trace {raw.where}: row {raw.row[i]}: job {raw.job_id[i]!r} {reason}")
    if not held.any():
        raise UserError(
            f"trace {raw.where}: none of its {len(raw)} usable jobs fits cluster {cluster}; give a "
            "larger --cluster"
        )
    return raw.skip(held, "does not fit the cluster").sorted()


def write_trace(workload: Workload, path: Path, columns: tuple[str, ...] | None = None) -> None:
    """Write the project's own format, Parquet by the suffix `.parquet`, else CSV.

    The file appears whole or not at all. Reading it back gives the same jobs. `columns` keeps only
    those named; what is left out is assigned when the file is read.
    """
    table = _columns(workload)
    if columns is not None:
        table = {name: table[name] for name in columns}
    with replacing(path) as temporary:
        if path.suffix.lower() == ".parquet":
            import pandas as pd

            pd.DataFrame(table).to_parquet(temporary, index=False)
        else:
            _write_csv(table, temporary)


def _columns(workload: Workload) -> dict[str, list[Any]]:
    models, tenants = np.array(workload.models, object), np.array(workload.tenants, object)
    deadline_s = [value if np.isfinite(value) else None for value in workload.deadline_s.tolist()]
    return {
        "job_id": workload.job_id.tolist(),
        "arrival_s": workload.arrival_s.tolist(),
        "duration_s": workload.duration_s.tolist(),
        "num_gpus": workload.num_gpus.tolist(),
        "model": models[workload.model].tolist(),
        "elastic": workload.elastic.tolist(),
        "min_gpus": workload.min_gpus.tolist(),
        "max_gpus": workload.max_gpus.tolist(),
        "cpus_per_gpu": workload.demand[:, 1].tolist(),
        "memory_gb_per_gpu": workload.demand[:, 2].tolist(),
        "network_gbps_per_gpu": workload.demand[:, 3].tolist(),
        "priority": workload.priority.tolist(),
        "tenant": tenants[workload.tenant].tolist(),
        "deadline_s": deadline_s,
    }


def _write_csv(table: dict[str, list[Any]], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
