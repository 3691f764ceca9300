"""A world from a workload, a cluster and rules, with room for what will happen in it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from marl_sched.config import SimConfig
from marl_sched.perf.profiles import ProfileTable
from marl_sched.sim import columns as c
from marl_sched.sim.devices import MILLI
from marl_sched.sim.job_fields import interference_of, job_fields, quotas_of, speed_fields
from marl_sched.sim.rules import rules_of
from marl_sched.sim.views import sealed
from marl_sched.sim.world import World
from marl_sched.types import Cluster
from marl_sched.workload.jobs import Workload

FIRST_SLOTS = 256
"""Rows of the table of active jobs to begin with, where it may grow."""


class Room(NamedTuple):
    """How much of everything the state of a world holds."""

    envs: int
    window: int  # jobs of an episode
    slots: int  # active jobs
    phases: int
    nodes: int
    types: int  # of GPUs
    classes: int  # of nodes
    most_gpus: int  # of a node
    devices: int  # GPUs of a node that are tracked one by one
    entries: int  # of placements
    linked: int  # jobs of an episode, where any waits for another
    log_rows: int


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
    window = len(workload) if window is None else min(window, len(workload))
    slots = window if slots is None else min(slots, window)
    given_events = np.empty((0, 4)) if node_events is None else node_events
    machines = _machines(cluster)
    jobs = job_fields(workload, profiles, cluster, sim, est_factor)
    shares = bool((jobs["job_k"][c.JOB_MILLI] < MILLI).any())
    rules = _rules(sim, cluster, jobs, given_events, shares, seed)
    most_gpus = int(machines["capacity"][:, 0].max())
    scored = sim.placement not in ("consolidate", "first_fit")
    room = Room(
        envs=num_envs,
        window=window,
        slots=slots,
        phases=profiles.phase_left.shape[1],
        nodes=len(cluster.nodes),
        types=len(cluster.gpu_types),
        classes=len(machines["class_type"]),
        most_gpus=most_gpus,
        devices=most_gpus if shares or scored else 0,
        entries=_most_entries(cluster, slots, shares),
        linked=window if jobs["parents"].size else 0,
        log_rows=log_rows,
    )
    quota = quotas_of(workload, sim)
    world = World(
        **rules,
        **machines,
        **speed_fields(profiles),
        **jobs,
        interference=interference_of(workload, profiles) if shares else np.empty((0, 0)),
        tenant_quota=quota,
        given_events=given_events,
        **_state(room, machines["total"]),
        **_quota_state(num_envs, quota.size),
        **_node_state(room, machines["capacity"]),
        **_job_state(room),
    )
    return sealed(world)


def _rules(
    sim: SimConfig,
    cluster: Cluster,
    jobs: dict[str, Any],
    given_events: np.ndarray,
    shares: bool,
    seed: int,
) -> dict[str, Any]:
    """The fields that are rules, some of which hold only where a job or a node calls for them."""
    every_type = (1 << len(cluster.gpu_types)) - 1
    plain = not shares and not jobs["job_demand"][:, 1:].any()
    jobs_fail = bool((jobs["job_f"][c.JOB_FAILURE_RATE_PER_S] > 0).any())
    return rules_of(
        sim,
        gpus_only=plain and bool((jobs["job_k"][c.JOB_TYPES] == every_type).all()),
        shares=shares,
        num_racks=len(cluster.racks),
        abrupt=jobs_fail or sim.node_mtbf_h is not None or len(given_events) > 0,
        seed=seed,
    )


def _most_entries(cluster: Cluster, slots: int, shares: bool) -> int:
    """Most placement entries at once: a job has one on each of its nodes, twice while it grows."""
    return 2 * cluster.num_gpus + (2 * slots if shares else 0)


def _machines(cluster: Cluster) -> dict[str, Any]:
    """The fields that describe the cluster."""
    capacity = cluster.capacity
    largest = capacity.max(axis=0)
    node_class, class_type = _classes(cluster)
    return dict(
        capacity=capacity,
        total=capacity.sum(axis=0),
        node_type=cluster.node_type,
        node_rack=cluster.node_rack,
        node_gpus=capacity[:, 0].astype(np.int64),
        largest=np.where(largest > 0.0, largest, 1.0),
        node_class=node_class,
        class_type=class_type,
    )


def _state(room: Room, total: np.ndarray) -> dict[str, Any]:
    """The fields of each environment as a whole, all free; what is scratch."""
    b = room.envs
    return dict(
        env_f=np.zeros((b, c.NUM_ENV_F)),
        env_k=np.zeros((b, c.NUM_ENV_K), dtype=np.int64),
        usable=np.repeat(total[None], b, axis=0),
        spare=np.repeat(total[None], b, axis=0),
        spare_by_type=np.zeros((b, room.types if room.types > 1 else 0, 4)),
        pool=np.zeros((b, c.NUM_ENTRY, room.entries), dtype=np.int64),
        cost=np.zeros((b, c.NUM_COST)),
        account=np.zeros((b, c.NUM_ACCOUNT)),
        log=np.zeros((room.log_rows, c.NUM_LOG)),
        view_table=np.empty((b, 0), dtype=np.int64),
        table=np.empty(0, dtype=np.int64),
    )


def _quota_state(envs: int, tenants: int) -> dict[str, Any]:
    """What the tenants hold, nothing, in each environment; tenants is 0 without quotas."""
    return dict(
        tenant_held=np.zeros((envs, tenants), dtype=np.int64),
        tenant_tally=np.zeros((2, tenants + 1), dtype=np.int64),
    )


def _node_state(room: Room, capacity: np.ndarray) -> dict[str, Any]:
    """The fields of each node in each environment, all free."""
    b, nodes, devices = room.envs, room.nodes, room.devices
    kinds = (b, room.classes, room.most_gpus + 1)
    words = -(-nodes // 64)
    return dict(
        free=np.repeat(capacity[None], b, axis=0),
        node_f=np.zeros((b, c.NUM_NODE_F, nodes)),
        node_k=np.zeros((b, c.NUM_NODE_K, nodes), dtype=np.int64),
        device_free=np.zeros((b, nodes, devices), dtype=np.int64),
        residents=np.zeros((b, nodes, devices + 1), dtype=np.int64),
        index_bits=np.zeros((*kinds, words), dtype=np.uint64),
        index_count=np.zeros(kinds, dtype=np.int64),
    )


def _job_state(room: Room) -> dict[str, Any]:
    """The fields of each active job, and of each job of an episode, in each environment."""
    b, slots, linked = room.envs, room.slots, room.linked
    return dict(
        slot_f=np.zeros((b, c.NUM_SLOT_F, slots)),
        slot_k=np.zeros((b, c.NUM_SLOT_K, slots), dtype=np.int64),
        slot_demand=np.zeros((b, slots, 4)),
        slot_rate=np.zeros((b, slots, room.phases)),
        target=np.zeros((b, slots), dtype=np.int64),
        changes=np.zeros((b, slots), dtype=np.int64),
        heap=np.zeros((b, slots), dtype=np.int64),
        running=np.zeros((b, slots), dtype=np.int64),
        waiting=np.zeros((b, slots), dtype=np.int64),
        blocked=np.zeros((b, linked), dtype=np.int64),
        doomed=np.zeros((b, linked), dtype=np.bool_),
        ready=np.zeros((b, linked), dtype=np.int64),
        result=np.full((b, c.NUM_RESULT, room.window), np.nan),
    )


def _classes(cluster: Cluster) -> tuple[np.ndarray, np.ndarray]:
    """Class of each node (N,) and GPU type of each class (C,): nodes alike in type and GPUs."""
    key = np.stack([cluster.node_type, cluster.capacity[:, 0].astype(np.int64)], axis=1)
    kinds, which = np.unique(key, axis=0, return_inverse=True)
    return which.reshape(-1).astype(np.int64), np.ascontiguousarray(kinds[:, 0])
