"""Moving jobs: `repack` places whole requests anew, `apply_placement` as it is told; compiled."""

from __future__ import annotations

import numpy as np

from marl_sched.allocation import quota
from marl_sched.compiled.jit import kernel, part
from marl_sched.sim import columns as c
from marl_sched.sim.apply import settle
from marl_sched.sim.devices import choose_devices, devices_suffice, give_devices
from marl_sched.sim.holdings import drop_entries, give_back, take
from marl_sched.sim.lifecycle import mark_spanning, run_at, suspend, unplace
from marl_sched.sim.placement import place
from marl_sched.sim.progress import enter_phase, predict, sync
from marl_sched.sim.world import World
from marl_sched.types import Floats2, Ints1, Ints2


@kernel
def same_nodes(w: World, b: int, one: int, other: int) -> bool:
    """Whether two lists of placement entries hold the same GPUs of the same nodes."""
    extra = 0
    while one >= 0:
        entry, found = other, False
        while entry >= 0 and not found:
            same_node = w.pool[b, c.ENTRY_NODE, one] == w.pool[b, c.ENTRY_NODE, entry]
            same_gpus = w.pool[b, c.ENTRY_GPUS, one] == w.pool[b, c.ENTRY_GPUS, entry]
            found = same_node and same_gpus
            entry = w.pool[b, c.ENTRY_NEXT, entry]
        if not found:
            return False
        one = w.pool[b, c.ENTRY_NEXT, one]
        extra += 1
    while other >= 0:
        other = w.pool[b, c.ENTRY_NEXT, other]
        extra -= 1
    return extra == 0


@part
def repack(w: World, b: int, order: Ints1) -> None:
    """Place whole requests anew in an empty cluster, passing over jobs that find no room.

    A running job that lands where it was just runs on.

    Args:
        order: (n,) int64 rows, who is placed first; rows left out wait.
    """
    active = w.env_k[b, c.NUM_ACTIVE]
    old = np.full(active, -1, dtype=np.int64)
    kinds = w.slot_k[b, c.GPU_TYPE, :active].copy()
    spans = w.slot_k[b, c.SPAN, :active].copy()
    for k in range(w.env_k[b, c.NUM_RUNNING]):
        i = w.running[b, k]
        mark_spanning(w, b, i, -1)
        give_back(w, b, i, 1)
        old[i] = w.slot_k[b, c.PLACEMENT, i]
        w.slot_k[b, c.PLACEMENT, i] = -1
    placed = np.zeros(active, dtype=np.bool_)
    limits, held, tally = w.tenant_quota, w.tenant_held[b], w.tenant_tally
    quota.count_anew(limits, tally, False)
    for i in order:
        level = min(w.slot_k[b, c.REQUEST_LEVEL, i], w.slot_k[b, c.LIMIT_LEVEL, i])
        tenant, gpus = w.slot_k[b, c.TENANT, i], w.sizes[w.slot_k[b, c.PROFILE, i], level]
        milli = quota.thousandths(gpus, w.slot_demand[b, i, 0])
        within = quota.excess(limits, held, tally, tenant, milli) == 0.0
        if within and place(w, b, i, level):
            placed[i] = True
            quota.add(limits, held, tally, tenant, milli)
    for i in range(active):
        if old[i] >= 0 and not placed[i]:
            drop_entries(w, b, old[i])
            sync(w, b, i)
            suspend(w, b, i)
    for i in range(active):
        if not placed[i]:
            continue
        level = min(w.slot_k[b, c.REQUEST_LEVEL, i], w.slot_k[b, c.LIMIT_LEVEL, i])
        stays = kinds[i] == w.slot_k[b, c.GPU_TYPE, i] and w.slot_k[b, c.LEVEL, i] == level
        if old[i] >= 0 and stays and same_nodes(w, b, old[i], w.slot_k[b, c.PLACEMENT, i]):
            w.slot_k[b, c.SPAN, i] = spans[i]
            mark_spanning(w, b, i, 1)
        else:
            sync_if_running(w, b, i)
            run_at(w, b, i, level)
        if old[i] >= 0:
            drop_entries(w, b, old[i])
    settle(w, b)


@kernel
def sync_if_running(w: World, b: int, i: int) -> None:
    if w.slot_k[b, c.LEVEL, i] > 0:
        sync(w, b, i)


@kernel
def differs(w: World, b: int, i: int, wanted: np.ndarray) -> bool:
    """Whether row `i` holds other GPUs than `wanted` (N,)."""
    entry, held = w.slot_k[b, c.PLACEMENT, i], 0
    while entry >= 0:
        gpus = w.pool[b, c.ENTRY_GPUS, entry]
        if wanted[w.pool[b, c.ENTRY_NODE, entry]] != gpus:
            return True
        held += gpus
        entry = w.pool[b, c.ENTRY_NEXT, entry]
    return held != wanted.sum()


@kernel
def level_of(w: World, profile: int, gpus: int) -> int:
    """Level of a profile with exactly so many GPUs, which it has."""
    level = 0
    while w.sizes[profile, level] != gpus:
        level += 1
    return level


@kernel
def placing_order(w: World, b: int, placement: np.ndarray) -> np.ndarray:
    """(n,) int64, the rows that `placement` (A, N) moves; larger shares of a GPU before smaller."""
    rows = np.empty(w.env_k[b, c.NUM_ACTIVE], dtype=np.int64)
    count = 0
    for i in range(rows.size):
        if differs(w, b, i, placement[i]):
            rows[count] = i
            count += 1
    rows = rows[:count]
    if w.device_free.shape[2] == 0:
        return rows
    smaller = np.empty(count, dtype=np.int64)
    for k in range(count):
        smaller[k] = -w.job_k[c.JOB_MILLI, w.slot_k[b, c.JOB, rows[k]]]
    return rows[np.argsort(smaller, kind="mergesort")]


@part
def row_without_device(w: World, b: int, placement: Ints2) -> int:
    """First row whose GPUs `apply_placement` would not find, device by device; -1 without.

    Args:
        placement: as there; every node has enough GPUs in total.
    """
    if w.device_free.shape[2] == 0:
        return -1
    free = w.device_free[b].copy()
    rows = placing_order(w, b, placement)
    for i in rows:
        entry, milli = w.slot_k[b, c.PLACEMENT, i], w.job_k[c.JOB_MILLI, w.slot_k[b, c.JOB, i]]
        while entry >= 0:
            node = w.pool[b, c.ENTRY_NODE, entry]
            give_devices(free[node], w.pool[b, c.ENTRY_DEVICES, entry], milli)
            entry = w.pool[b, c.ENTRY_NEXT, entry]
    for i in rows:
        milli = w.job_k[c.JOB_MILLI, w.slot_k[b, c.JOB, i]]
        for node in range(placement.shape[1]):
            gpus = placement[i, node]
            if gpus > 0 and not devices_suffice(free[node], gpus, milli):
                return i
            if gpus > 0:
                give_devices(free[node], choose_devices(free[node], gpus, milli), -milli)
    return -1


@part
def apply_placement(w: World, b: int, placement: Ints2, rates: Floats2, given: bool) -> None:
    """Carry out given places; who is elsewhere now restarts there.

    Args:
        placement: (A, N) int64, GPUs of each active job on each node, which break no bound of
            `allocation.feasibility`.
        rates: (A, F) float64, progress per second in each phase; read where `given`.
    """
    moved = np.zeros(w.env_k[b, c.NUM_ACTIVE], dtype=np.bool_)
    rows = placing_order(w, b, placement)
    moved[rows] = True
    for i in range(moved.size):
        if moved[i] and w.slot_k[b, c.LEVEL, i] > 0:
            sync(w, b, i)
            unplace(w, b, i)
            if placement[i].sum() == 0:
                suspend(w, b, i)
    for i in rows:
        if placement[i].sum() > 0:
            for node in range(placement.shape[1] - 1, -1, -1):
                if placement[i, node] > 0:
                    take(w, b, i, node, placement[i, node])
                    w.slot_k[b, c.GPU_TYPE, i] = w.node_type[node]
            run_at(w, b, i, level_of(w, w.slot_k[b, c.PROFILE, i], placement[i].sum()))
    if given:
        for k in range(w.env_k[b, c.NUM_RUNNING]):
            i = w.running[b, k]
            if moved[i] or (w.slot_rate[b, i] != rates[i]).any():
                sync(w, b, i)
                w.slot_rate[b, i] = rates[i]
                enter_phase(w, b, i)
                predict(w, b, i)
    settle(w, b)
