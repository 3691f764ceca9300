"""The simulator's state: B environments over one workload and one cluster, as arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from marl_sched.config import SimConfig
from marl_sched.perf.profiles import ProfileTable
from marl_sched.sim import columns as c
from marl_sched.types import Cluster
from marl_sched.workload.trace import Workload


class World(NamedTuple):
    """Arrays behind B environments; rows are named in `marl_sched.sim.columns`.

    The first part is shared and never written by the kernels, the second is one slice per
    environment. A NamedTuple, so that compiled kernels read it by field.
    """

    capacity: np.ndarray  # (N, 4) float64
    total: np.ndarray  # (4,) float64, capacity of the whole cluster
    node_type: np.ndarray  # (N,) int64 in [0, T)
    sizes: np.ndarray  # (P, L) int64, GPUs
    num_levels: np.ndarray  # (P,) int64
    request_level: np.ndarray  # (P,) int64
    rates: np.ndarray  # (P, T, L, 2) float64, on one node / across nodes
    nominal_rates: np.ndarray  # (P, L) float64, what schedulers are told
    profile_f: np.ndarray  # (., P) float64
    job_f: np.ndarray  # (., J) float64
    job_k: np.ndarray  # (., J) int64
    job_demand: np.ndarray  # (J, 4) float64, per GPU
    round_s: float
    charge_first_start: bool

    env_f: np.ndarray  # (B, .) float64
    env_k: np.ndarray  # (B, .) int64
    free: np.ndarray  # (B, N, 4) float64
    slot_f: np.ndarray  # (B, ., S) float64
    slot_k: np.ndarray  # (B, ., S) int64
    slot_demand: np.ndarray  # (B, S, 4) float64, per GPU
    pool: np.ndarray  # (B, 3, 2R) int64
    cost: np.ndarray  # (B, 7) float64
    result: np.ndarray  # (B, ., W) float64


PER_ENV = ("env_f", "env_k", "free", "slot_f", "slot_k", "slot_demand", "pool", "cost", "result")
"""Fields that change while the simulation runs: all that a snapshot needs."""


def build_world(
    workload: Workload,
    profiles: ProfileTable,
    cluster: Cluster,
    sim: SimConfig,
    est_factor: np.ndarray,
    num_envs: int = 1,
    window: int | None = None,
) -> World:
    """Allocate a world; `kernels.start` then begins an episode in each environment.

    Args:
        est_factor: (J,) float64 > 0, size estimate over true size; ones for a clairvoyant view.
        window: most jobs in one episode; default the whole workload.
    """
    jobs = len(workload)
    window = jobs if window is None else min(window, jobs)
    capacity = cluster.capacity
    num_gpus = cluster.num_gpus
    job_f = np.empty((c.NUM_JOB_F, jobs))
    job_f[c.JOB_ARRIVAL_S] = workload.arrival_s
    job_f[c.JOB_DURATION_S] = workload.duration_s
    job_f[c.JOB_PRIORITY] = workload.priority
    job_f[c.JOB_DEADLINE_S] = workload.deadline_s - workload.arrival_s
    job_f[c.JOB_EST_FACTOR] = est_factor
    with np.errstate(divide="ignore", invalid="ignore"):
        efficiency = profiles.nominal_rates[:, 1:] / profiles.sizes[:, 1:]
    return World(
        capacity=capacity,
        total=capacity.sum(axis=0),
        node_type=cluster.node_type,
        sizes=np.ascontiguousarray(profiles.sizes, dtype=np.int64),
        num_levels=np.ascontiguousarray(profiles.num_levels, dtype=np.int64),
        request_level=np.ascontiguousarray(profiles.request_level, dtype=np.int64),
        rates=np.ascontiguousarray(profiles.rates, dtype=np.float64),
        nominal_rates=np.ascontiguousarray(profiles.nominal_rates, dtype=np.float64),
        profile_f=np.stack([profiles.restart_s, np.nanmax(efficiency, axis=1)]).astype(float),
        job_f=job_f,
        job_k=np.stack([profiles.job_profile, workload.tenant]).astype(np.int64),
        job_demand=np.ascontiguousarray(workload.demand, dtype=np.float64),
        round_s=float(sim.round_s),
        charge_first_start=bool(sim.charge_first_start),
        env_f=np.zeros((num_envs, c.NUM_ENV_F)),
        env_k=np.zeros((num_envs, c.NUM_ENV_K), dtype=np.int64),
        free=np.repeat(capacity[None], num_envs, axis=0),
        slot_f=np.zeros((num_envs, c.NUM_SLOT_F, window)),
        slot_k=np.zeros((num_envs, c.NUM_SLOT_K, window), dtype=np.int64),
        slot_demand=np.zeros((num_envs, window, 4)),
        pool=np.zeros((num_envs, c.NUM_ENTRY, 2 * num_gpus), dtype=np.int64),
        cost=np.zeros((num_envs, c.NUM_COST)),
        result=np.full((num_envs, c.NUM_RESULT, window), np.nan),
    )
