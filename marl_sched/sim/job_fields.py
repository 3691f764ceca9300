"""The fields of a `World` that say what each job is: read by the kernels, never written."""

from __future__ import annotations

from typing import Any

import numpy as np

from marl_sched.config import SimConfig
from marl_sched.errors import UserError
from marl_sched.perf import interference
from marl_sched.perf.profiles import ProfileTable
from marl_sched.sim import columns as c
from marl_sched.sim.devices import MILLI
from marl_sched.sim.fragmentation import usual_mix
from marl_sched.types import Cluster
from marl_sched.workload.jobs import Workload


def speed_fields(profiles: ProfileTable) -> dict[str, Any]:
    """The fields that say what jobs gain by GPUs."""
    return dict(
        sizes=np.ascontiguousarray(profiles.sizes, dtype=np.int64),
        num_levels=np.ascontiguousarray(profiles.num_levels, dtype=np.int64),
        request_level=np.ascontiguousarray(profiles.request_level, dtype=np.int64),
        rates=np.ascontiguousarray(profiles.rates, dtype=np.float64),
        type_order=_type_order(profiles),
        nominal_rates=np.ascontiguousarray(profiles.nominal_rates, dtype=np.float64),
        phase_left=np.ascontiguousarray(profiles.phase_left, dtype=np.float64),
        restart=np.ascontiguousarray(profiles.restart_s, dtype=np.float64),
        best_efficiency=_best_efficiency(profiles),
    )


def _type_order(profiles: ProfileTable) -> np.ndarray:
    """(P, L, T) int64, GPU types by the speed of a gang on one node, equal ones as they come."""
    packed = np.moveaxis(profiles.rates[..., 0], 1, 2)
    return np.ascontiguousarray(np.argsort(-packed, axis=-1, kind="stable"), dtype=np.int64)


def _best_efficiency(profiles: ProfileTable) -> np.ndarray:
    """(P,) float64."""
    with np.errstate(divide="ignore", invalid="ignore"):
        efficiency = profiles.nominal_rates[:, 1:] / profiles.sizes[:, 1:]
    return np.asarray(np.nanmax(efficiency, axis=1), dtype=np.float64)


def job_fields(
    workload: Workload,
    profiles: ProfileTable,
    cluster: Cluster,
    sim: SimConfig,
    est_factor: np.ndarray,
) -> dict[str, Any]:
    """The fields that say what each job is, and on which others it waits."""
    job_f, job_k = _job_columns(workload, profiles, cluster, sim, est_factor)
    demand = np.ascontiguousarray(workload.demand, dtype=np.float64)
    mix_f, mix_k = _usual_jobs(workload, job_k, demand, sim.placement == "fgd")
    parents_at, parents, children_at, children = _dependencies(workload)
    return dict(
        job_f=job_f,
        job_k=job_k,
        job_demand=demand,
        mix_f=mix_f,
        mix_k=mix_k,
        parents_at=parents_at,
        parents=parents,
        children_at=children_at,
        children=children,
    )


def _job_columns(
    workload: Workload,
    profiles: ProfileTable,
    cluster: Cluster,
    sim: SimConfig,
    est_factor: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """job_f (., J) and job_k (., J)."""
    jobs = len(workload)
    job_f = np.empty((c.NUM_JOB_F, jobs))
    job_f[c.JOB_ARRIVAL_S] = workload.arrival_s
    job_f[c.JOB_DURATION_S] = workload.duration_s
    job_f[c.JOB_PRIORITY] = workload.priority
    job_f[c.JOB_DEADLINE_S] = workload.deadline_s - workload.arrival_s
    job_f[c.JOB_EST_FACTOR] = est_factor
    job_f[c.JOB_CANCEL_S] = workload.cancel_s - workload.arrival_s
    default_rate = 0.0 if sim.job_mtbf_h is None else 1.0 / sim.job_mtbf_h
    rate = workload.failure_rate_per_h
    job_f[c.JOB_FAILURE_RATE_PER_S] = np.where(rate > 0.0, rate, default_rate) / 3600.0
    given = workload.checkpoint_interval_s
    job_f[c.JOB_CHECKPOINT_S] = np.where(np.isnan(given), sim.checkpoint_interval_s, given)
    job_f[c.JOB_LOADER_CPUS] = workload.loader_cpus_per_gpu
    job_k = np.empty((c.NUM_JOB_K, jobs), dtype=np.int64)
    job_k[c.JOB_PROFILE] = profiles.job_profile
    job_k[c.JOB_TENANT] = workload.tenant
    bits = 1 << np.arange(len(cluster.gpu_types), dtype=np.int64)
    job_k[c.JOB_TYPES] = workload.allowed_types(cluster) @ bits
    job_k[c.JOB_MILLI] = np.rint(MILLI * workload.demand[:, 0])
    job_k[c.JOB_MAX_RETRIES] = workload.max_retries
    if sim.max_retries is not None:
        job_k[c.JOB_MAX_RETRIES] = np.minimum(workload.max_retries, sim.max_retries)
    return job_f, job_k


def _usual_jobs(
    workload: Workload, job_k: np.ndarray, demand: np.ndarray, wanted: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The jobs against which `fgd` judges fragments, as `World.mix_f` and `World.mix_k`."""
    if not wanted:
        return np.empty((2, 0)), np.empty((3, 0), dtype=np.int64)
    gpus = workload.num_gpus.astype(np.int64)
    mix = usual_mix(gpus * demand[:, 1], gpus, job_k[c.JOB_MILLI], job_k[c.JOB_TYPES])
    return (
        np.stack([mix.cpu, mix.weight]).astype(float),
        np.stack([mix.num_gpu, mix.gpu_milli, mix.type_mask]).astype(np.int64),
    )


def _dependencies(workload: Workload) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Parents and children of each job in compressed rows; empty arrays where nobody has any."""
    empty = np.empty(0, dtype=np.int64)
    parents_at, parents = workload.parents
    if not parents.size:
        return empty, empty, empty, empty
    jobs = len(workload)
    child = np.repeat(np.arange(jobs), np.diff(parents_at))
    order = np.argsort(parents, kind="stable")
    counts = np.bincount(parents, minlength=jobs)
    children_at = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return parents_at, parents, children_at, child[order].astype(np.int64)


def interference_of(workload: Workload, profiles: ProfileTable) -> np.ndarray:
    """(P, P) float64, relative speed of a profile's model beside another's on one GPU."""
    model = np.zeros(len(profiles.num_levels), dtype=np.int64)
    model[profiles.job_profile] = workload.model
    return np.ascontiguousarray(interference.table(workload.models)[np.ix_(model, model)])


def quotas_of(workload: Workload, sim: SimConfig) -> np.ndarray:
    """(tenants,) float64, most GPUs that each may hold; (0,) where nobody has a quota."""
    unknown = sorted(set(sim.tenant_quota) - set(workload.tenants))
    if unknown:
        known = ", ".join(repr(name) for name in workload.tenants[:8])
        raise UserError(
            f"setting sim.tenant_quota: {workload.name!r} has no tenant {unknown[0]!r}; it has "
            f"{known}"
        )
    if not sim.tenant_quota:
        return np.empty(0)
    return np.array([float(sim.tenant_quota.get(name, np.inf)) for name in workload.tenants])
