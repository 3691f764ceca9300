"""The simulator's state: B environments over one workload and one cluster, as arrays."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from marl_sched.compiled.records import record
from marl_sched.sim import columns as c
from marl_sched.sim.views import sealed
from marl_sched.types import (
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
    type_watts: Floats2  # (T, 2) float64, of one GPU: idle, busy
    node_rack: Ints1  # (N,) int64 in [0, num_racks)
    node_gpus: Ints1  # (N,) int64
    largest: Floats1  # (4,) float64, of any node; 1 where nobody has any
    node_class: Ints1  # (N,) int64 in [0, C): nodes of one type and size
    class_type: Ints1  # (C,) int64
    sizes: Ints2  # (P, L) int64, GPUs
    num_levels: Ints1  # (P,) int64
    request_level: Ints1  # (P,) int64
    rates: Floats4  # (P, T, L, 2 or 3) float64: on one node, within a rack, across racks
    type_order: Ints3  # (P, L, T) int64, types as placement tries them, the fastest first
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
    tenant_quota: Floats1  # (tenants,) float64 GPUs; +inf without one; (0,): nobody has one
    given_events: Floats2  # (G, 4) float64: time, node, kind, notice in seconds

    env_f: Floats2  # (B, .) float64
    env_k: Ints2  # (B, .) int64
    free: Floats3  # (B, N, 4) float64
    usable: Floats2  # (B, 4) float64, what jobs hold and what open nodes have free
    spare: Floats2  # (B, 4) float64, free on open nodes
    spare_by_type: Floats3  # (B, T, 4) float64, the same of each GPU type; (B, 0, 4) with one
    tenant_held: Ints2  # (B, tenants) int64, thousandths of a GPU; (B, 0) without quotas
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
    cost: Floats2  # (B, K) float64, of the K terms of the reward
    account: Floats2  # (B, .) float64
    blocked: Ints2  # (B, W) int64, parents that have not ended; (B, 0) without dependencies
    doomed: Flags2  # (B, W) bool: a parent ended without finishing
    ready: Ints2  # (B, W) int64, jobs to take up now
    result: Floats3  # (B, ., W) float64
    tenant_tally: Ints2  # (2, tenants + 1) int64, scratch of `allocation.quota`
    log: Floats2  # (E, 6) float64 of environment 0; E = 0 keeps none
    view_table: Ints2  # (B, .), tables of the schedulers' views, see `views`
    table: np.ndarray  # (.,) int64, of this record


SHARED = World._fields[: World._fields.index("env_f")]
"""Fields that the kernels never write."""

SCRATCH = ("changes", "tenant_tally", "log", "view_table", "table")

PER_ENV = tuple(name for name in World._fields if name not in SHARED + SCRATCH)
"""Fields that change while the simulation runs: all that a snapshot needs."""

_PER_SLOT = (
    "slot_f", "slot_k", "slot_demand", "slot_rate", "target", "changes", "heap", "running",
    "waiting",
)  # fmt: skip
_SLOT_AXIS = {"slot_f": 2, "slot_k": 2}


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
