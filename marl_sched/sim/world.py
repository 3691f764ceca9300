"""The simulator's state: B environments over one workload and one cluster, as arrays."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from marl_sched.config import SimConfig
from marl_sched.errors import UserError
from marl_sched.perf import interference
from marl_sched.perf.profiles import ProfileTable
from marl_sched.records import record
from marl_sched.sim import columns as c
from marl_sched.sim.devices import MILLI
from marl_sched.sim.fragmentation import usual_mix
from marl_sched.sim.rules import rules_of
from marl_sched.sim.views import sealed
from marl_sched.types import (
    Cluster,
    Flags2,
    Floats1,
    Floats2,
    Floats3,
    Floats4,
    Ints1,
    Ints2,
    Ints3,
    Words4,
)
from marl_sched.workload.jobs import Workload

FIRST_SLOTS = 256
"""Rows of the table of active jobs to begin with, where it may grow."""


@record
class World(NamedTuple):
    """Arrays behind B environments; rows are named in `marl_sched.sim.columns`.

    The first part is shared and never written by the kernels, the second is one slice per
    environment. A NamedTuple, so that compiled kernels read it by field.
    """

    round_s: float
    charge_first_start: bool
    decide_on_rounds: bool
    repack: bool
    overhead_each_epoch: bool
    whole_second_phases: bool
    placement: int  # position in rules.PLACEMENTS
    gpus_only: bool  # no job asks for anything but whole GPUs of any type
    sharing: int  # rules.INTERFERENCE or TIME_SLICE
    co_runners: bool  # rates depend on who else is there
    network_contention: bool
    num_racks: int
    node_mtbf_s: float  # +inf: nodes do not fail by themselves
    node_mttr_s: float
    abrupt: bool  # jobs may lose work: something fails
    seed: int  # of failures
    capacity: Floats2  # (N, 4) float64
    total: Floats1  # (4,) float64, capacity of the whole cluster
    node_type: Ints1  # (N,) int64 in [0, T)
    node_rack: Ints1  # (N,) int64 in [0, num_racks)
    node_gpus: Ints1  # (N,) int64
    largest: Floats1  # (4,) float64, of any node; 1 where nobody has any
    node_class: Ints1  # (N,) int64 in [0, C): nodes of one type and size
    class_type: Ints1  # (C,) int64
    sizes: Ints2  # (P, L) int64, GPUs
    num_levels: Ints1  # (P,) int64
    request_level: Ints1  # (P,) int64
    rates: Floats4  # (P, T, L, 2 or 3) float64: on one node, within a rack, across racks
    nominal_rates: Floats2  # (P, L) float64, what schedulers are told
    phase_left: Floats2  # (P, F) float64, work left at the end of each phase; last one 0
    restart: Floats2  # (P, L) float64 seconds, cost of a start at each level
    best_efficiency: Floats1  # (P,) float64, highest progress per GPU over the allowed sizes
    interference: Floats2  # (P, P) float64, my relative speed beside the other; else (0, 0)
    job_f: Floats2  # (., J) float64
    job_k: Ints2  # (., J) int64
    job_demand: Floats2  # (J, 4) float64, per GPU asked
    mix_f: Floats2  # (2, M) float64, CPU and weight of the usual jobs of `fragmentation.Mix`
    mix_k: Ints2  # (3, M) int64, their GPUs, share of each and types; M = 0 except under fgd
    parents_at: Ints1  # (J + 1,) int64, or (0,) without dependencies
    parents: Ints1  # (E,) int64, jobs
    children_at: Ints1  # (J + 1,) int64, as parents_at
    children: Ints1  # (E,) int64
    tenant_quota: Floats1  # (tenants,) float64 GPUs; +inf without one
    given_events: Floats2  # (G, 4) float64: time, node, kind, notice in seconds

    env_f: Floats2  # (B, .) float64
    env_k: Ints2  # (B, .) int64
    free: Floats3  # (B, N, 4) float64
    usable: Floats2  # (B, 4) float64, what jobs hold and what open nodes have free
    spare: Floats2  # (B, 4) float64, free on open nodes
    node_f: Floats3  # (B, ., N) float64
    node_k: Ints3  # (B, ., N) int64
    device_free: Ints3  # (B, N, G) int64 in 1/1000; G = 0 where devices are not tracked
    residents: Ints3  # (B, N, G + 1) int64, entries by whole GPUs held; column 0: shares
    index_bits: Words4  # (B, C, G + 1, N / 64) uint64: open nodes by whole GPUs free
    index_count: Ints3  # (B, C, G + 1) int64
    slot_f: Floats3  # (B, ., S) float64
    slot_k: Ints3  # (B, ., S) int64
    slot_demand: Floats3  # (B, S, 4) float64, per GPU
    slot_rate: Floats3  # (B, S, F) float64, rate in each phase
    target: Ints2  # (B, S) int64, the level held; a scheduler writes what it wants here
    changes: Ints2  # (B, S) int64, scratch
    heap: Ints2  # (B, S) int64, rows by their next own event
    running: Ints2  # (B, S) int64, rows that hold GPUs
    waiting: Ints2  # (B, S) int64, rows that hold none, by job
    pool: Ints3  # (B, 4, E) int64
    cost: Floats2  # (B, 7) float64
    account: Floats2  # (B, 2) float64
    blocked: Ints2  # (B, W) int64, parents that have not ended; (B, 0) without dependencies
    doomed: Flags2  # (B, W) bool: a parent ended without finishing
    ready: Ints2  # (B, W) int64, jobs to take up now
    result: Floats3  # (B, ., W) float64
    log: Floats2  # (E, 6) float64 of environment 0; E = 0 keeps none
    view_table: Ints2  # (B, .), tables of the schedulers' views, see `views`
    table: np.ndarray  # (.,) int64, of this record


SHARED = World._fields[: World._fields.index("env_f")]
"""Fields that the kernels never write."""

SCRATCH = ("changes", "log", "view_table", "table")

PER_ENV = tuple(name for name in World._fields if name not in SHARED + SCRATCH)
"""Fields that change while the simulation runs: all that a snapshot needs."""

_PER_SLOT: tuple[str, ...] = (
    "slot_f",
    "slot_k",
    "slot_demand",
    "slot_rate",
    "target",
    "changes",
    "heap",
)
_PER_SLOT += ("running", "waiting")
_SLOT_AXIS = {"slot_f": 2, "slot_k": 2}


def build_world(
    workload: Workload,
    profiles: ProfileTable,
    cluster: Cluster,
    sim: SimConfig,
    est_factor: np.ndarray,
    num_envs: int = 1,
    window: int | None = None,
    *,
    seed: int = 0,
    slots: int | None = None,
    log_rows: int = 0,
    node_events: np.ndarray | None = None,
) -> World:
    """Allocate a world; `kernels.start` then begins an episode in each environment.

    Args:
        est_factor: (J,) float64 > 0, size estimate over true size; ones for a clairvoyant view.
        window: most jobs in one episode; default the whole workload.
        seed: of failures.
        slots: rows of the table of active jobs; default the window. Where it may be too few,
            `Simulation` lets it grow.
        log_rows: rows of the event log; 0 keeps none.
        node_events: (G, 4) float64, `nodes.read_node_events`.
    """
    jobs = len(workload)
    window = jobs if window is None else min(window, jobs)
    slots = window if slots is None else min(slots, window)
    capacity = cluster.capacity
    job_f, job_k, demand = _job_columns(workload, profiles, cluster, sim, est_factor)
    shares = bool((job_k[c.JOB_MILLI] < MILLI).any())
    most_gpus = int(capacity[:, 0].max())
    plain = not demand[:, 1:].any() and not shares
    every_type = (1 << len(cluster.gpu_types)) - 1
    rules = rules_of(
        sim,
        gpus_only=plain and bool((job_k[c.JOB_TYPES] == every_type).all()),
        shares=shares,
        num_racks=len(cluster.racks),
        abrupt=bool(
            (job_f[c.JOB_FAILURE_RATE_PER_S] > 0).any()
            or sim.node_mtbf_h is not None
            or (node_events is not None and len(node_events) > 0)
        ),
        seed=seed,
    )
    node_class, class_type = _classes(cluster)
    parents_at, parents, children_at, children = _dependencies(workload)
    mix_f, mix_k = _usual_jobs(workload, job_k, demand, sim.placement == "fgd")
    scored = sim.placement not in ("consolidate", "first_fit")
    devices = most_gpus if shares or scored else 0
    linked = window if parents.size else 0
    phases = profiles.phase_left.shape[1]
    words = -(-len(cluster.nodes) // 64)
    nodes, b = len(cluster.nodes), num_envs
    slowdown = _interference(workload, profiles) if shares else np.empty((0, 0))
    world = World(
        **rules,
        capacity=capacity,
        total=capacity.sum(axis=0),
        node_type=cluster.node_type,
        node_rack=cluster.node_rack,
        node_gpus=capacity[:, 0].astype(np.int64),
        largest=np.where(capacity.max(axis=0) > 0.0, capacity.max(axis=0), 1.0),
        node_class=node_class,
        class_type=class_type,
        sizes=np.ascontiguousarray(profiles.sizes, dtype=np.int64),
        num_levels=np.ascontiguousarray(profiles.num_levels, dtype=np.int64),
        request_level=np.ascontiguousarray(profiles.request_level, dtype=np.int64),
        rates=np.ascontiguousarray(profiles.rates, dtype=np.float64),
        nominal_rates=np.ascontiguousarray(profiles.nominal_rates, dtype=np.float64),
        phase_left=np.ascontiguousarray(profiles.phase_left, dtype=np.float64),
        restart=np.ascontiguousarray(profiles.restart_s, dtype=np.float64),
        best_efficiency=_best_efficiency(profiles),
        interference=slowdown,
        job_f=job_f,
        job_k=job_k,
        job_demand=demand,
        mix_f=mix_f,
        mix_k=mix_k,
        parents_at=parents_at,
        parents=parents,
        children_at=children_at,
        children=children,
        tenant_quota=_quotas(workload, sim),
        given_events=np.empty((0, 4)) if node_events is None else node_events,
        env_f=np.zeros((b, c.NUM_ENV_F)),
        env_k=np.zeros((b, c.NUM_ENV_K), dtype=np.int64),
        free=np.repeat(capacity[None], b, axis=0),
        usable=np.repeat(capacity.sum(axis=0)[None], b, axis=0),
        spare=np.repeat(capacity.sum(axis=0)[None], b, axis=0),
        node_f=np.zeros((b, c.NUM_NODE_F, nodes)),
        node_k=np.zeros((b, c.NUM_NODE_K, nodes), dtype=np.int64),
        device_free=np.zeros((b, nodes, devices), dtype=np.int64),
        residents=np.zeros((b, nodes, devices + 1), dtype=np.int64),
        index_bits=np.zeros((b, len(class_type), most_gpus + 1, words), dtype=np.uint64),
        index_count=np.zeros((b, len(class_type), most_gpus + 1), dtype=np.int64),
        slot_f=np.zeros((b, c.NUM_SLOT_F, slots)),
        slot_k=np.zeros((b, c.NUM_SLOT_K, slots), dtype=np.int64),
        slot_demand=np.zeros((b, slots, 4)),
        slot_rate=np.zeros((b, slots, phases)),
        target=np.zeros((b, slots), dtype=np.int64),
        changes=np.zeros((b, slots), dtype=np.int64),
        heap=np.zeros((b, slots), dtype=np.int64),
        running=np.zeros((b, slots), dtype=np.int64),
        waiting=np.zeros((b, slots), dtype=np.int64),
        pool=np.zeros((b, c.NUM_ENTRY, _entries(cluster, slots, shares)), dtype=np.int64),
        cost=np.zeros((b, c.NUM_COST)),
        account=np.zeros((b, c.NUM_ACCOUNT)),
        blocked=np.zeros((b, linked), dtype=np.int64),
        doomed=np.zeros((b, linked), dtype=np.bool_),
        ready=np.zeros((b, linked), dtype=np.int64),
        result=np.full((b, c.NUM_RESULT, window), np.nan),
        log=np.zeros((log_rows, c.NUM_LOG)),
        view_table=np.empty((b, 0), dtype=np.int64),
        table=np.empty(0, dtype=np.int64),
    )
    return sealed(world)


def _entries(cluster: Cluster, slots: int, shares: bool) -> int:
    """Most placement entries at once: a job has one on each of its nodes, twice while it grows."""
    return 2 * cluster.num_gpus + (2 * slots if shares else 0)


def grown(world: World, slots: int) -> World:
    """The same state with room for `slots` active jobs, at most the window."""
    changed: dict[str, Any] = {}
    for name in _PER_SLOT:
        old = getattr(world, name)
        axis = _SLOT_AXIS.get(name, 1)
        shape = list(old.shape)
        shape[axis] = slots
        new = np.zeros(shape, dtype=old.dtype)
        new[(slice(None),) * axis + (slice(0, old.shape[axis]),)] = old
        changed[name] = new
    if world.device_free.shape[2]:
        changed["pool"] = _grown_pool(world, 2 * (slots - world.target.shape[1]))
    return sealed(world._replace(**changed))


def _grown_pool(world: World, more: int) -> np.ndarray:
    """(B, 4, E + more) the placement entries with `more` free ones at the head of the free list."""
    old = world.pool
    entries = old.shape[2]
    new = np.zeros((*old.shape[:2], entries + more), dtype=np.int64)
    new[:, :, :entries] = old
    new[:, c.ENTRY_NEXT, entries:-1] = np.arange(entries + 1, entries + more)
    new[:, c.ENTRY_NEXT, -1] = world.env_k[:, c.POOL_FREE]
    world.env_k[:, c.POOL_FREE] = entries
    return new


def _best_efficiency(profiles: ProfileTable) -> np.ndarray:
    """(P,) float64."""
    with np.errstate(divide="ignore", invalid="ignore"):
        efficiency = profiles.nominal_rates[:, 1:] / profiles.sizes[:, 1:]
    return np.asarray(np.nanmax(efficiency, axis=1), dtype=np.float64)


def _job_columns(
    workload: Workload,
    profiles: ProfileTable,
    cluster: Cluster,
    sim: SimConfig,
    est_factor: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """job_f (., J), job_k (., J) and the demand (J, 4) per GPU asked."""
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
    return job_f, job_k, np.ascontiguousarray(workload.demand, dtype=np.float64)


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


def _interference(workload: Workload, profiles: ProfileTable) -> np.ndarray:
    """(P, P) float64, relative speed of a profile's model beside another's on one GPU."""
    model = np.zeros(len(profiles.num_levels), dtype=np.int64)
    model[profiles.job_profile] = workload.model
    return np.ascontiguousarray(interference.table(workload.models)[np.ix_(model, model)])


def _quotas(workload: Workload, sim: SimConfig) -> np.ndarray:
    """(tenants,) float64, most GPUs that each may hold."""
    unknown = sorted(set(sim.tenant_quota) - set(workload.tenants))
    if unknown:
        known = ", ".join(repr(name) for name in workload.tenants[:8])
        raise UserError(
            f"setting sim.tenant_quota: {workload.name!r} has no tenant {unknown[0]!r}; it has "
            f"{known}"
        )
    return np.array([float(sim.tenant_quota.get(name, np.inf)) for name in workload.tenants])


def _classes(cluster: Cluster) -> tuple[np.ndarray, np.ndarray]:
    """Class of each node (N,) and GPU type of each class (C,): nodes alike in type and GPUs."""
    key = np.stack([cluster.node_type, cluster.capacity[:, 0].astype(np.int64)], axis=1)
    kinds, which = np.unique(key, axis=0, return_inverse=True)
    return which.reshape(-1).astype(np.int64), np.ascontiguousarray(kinds[:, 0])


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
