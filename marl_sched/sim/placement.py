"""Which nodes a gang gets: compiled, one environment `b` of a `World` at a time.

A gang lives on one GPU type. Types are tried fastest first; within a type the gang goes to the
best-fitting single node, else over the fewest nodes.
"""

from __future__ import annotations

import numpy as np

from marl_sched.jit import kernel
from marl_sched.sim import columns as c
from marl_sched.sim.world import World


@kernel
def node_fit(w: World, b: int, slot: int, node: int) -> int:
    """GPUs of the job in `slot` that `node` can still take, by every resource."""
    fit = int(w.free[b, node, 0] + 1e-9)
    for r in range(1, 4):
        demand = w.slot_demand[b, slot, r]
        if demand > 0.0:
            fit = min(fit, int((w.free[b, node, r] + 1e-9) / demand))
    return fit


@kernel
def take(w: World, b: int, slot: int, node: int, gpus: int) -> None:
    """Give `gpus` of `node` to the job in `slot`: a new entry at the head of its list."""
    entry = w.env_k[b, c.POOL_FREE]
    w.env_k[b, c.POOL_FREE] = w.pool[b, c.ENTRY_NEXT, entry]
    w.pool[b, c.ENTRY_NODE, entry] = node
    w.pool[b, c.ENTRY_GPUS, entry] = gpus
    w.pool[b, c.ENTRY_NEXT, entry] = w.slot_k[b, c.PLACEMENT, slot]
    w.slot_k[b, c.PLACEMENT, slot] = entry
    for r in range(4):
        w.free[b, node, r] -= gpus * w.slot_demand[b, slot, r]


@kernel
def give_back(w: World, b: int, slot: int, sign: float) -> None:
    """Add the slot's placement to the free resources (`sign` 1) or take it again (-1)."""
    entry = w.slot_k[b, c.PLACEMENT, slot]
    while entry >= 0:
        node = w.pool[b, c.ENTRY_NODE, entry]
        gpus = w.pool[b, c.ENTRY_GPUS, entry]
        for r in range(4):
            w.free[b, node, r] += sign * gpus * w.slot_demand[b, slot, r]
        entry = w.pool[b, c.ENTRY_NEXT, entry]


@kernel
def drop_entries(w: World, b: int, head: int) -> None:
    """Return a list of entries to the free list, whose resources are free already."""
    while head >= 0:
        following = w.pool[b, c.ENTRY_NEXT, head]
        w.pool[b, c.ENTRY_NEXT, head] = w.env_k[b, c.POOL_FREE]
        w.env_k[b, c.POOL_FREE] = head
        head = following


@kernel
def place_on_type(w: World, b: int, slot: int, size: int, gpu_type: int) -> int:
    """Place `size` GPUs on nodes of one type; the number of nodes used, 0 on failure."""
    num_nodes = w.capacity.shape[0]
    best, best_free, room = -1, np.inf, 0
    for node in range(num_nodes):
        if w.node_type[node] != gpu_type:
            continue
        fit = node_fit(w, b, slot, node)
        room += fit
        if fit >= size and w.free[b, node, 0] < best_free:
            best, best_free = node, w.free[b, node, 0]
    if best >= 0:
        take(w, b, slot, best, size)
        return 1
    if room < size:
        return 0
    nodes_used = 0
    while size > 0:
        # A node that can hold all that is left, tightest first; else the roomiest.
        best, best_free = -1, np.inf
        roomiest, most = -1, 0
        for node in range(num_nodes):
            if w.node_type[node] != gpu_type:
                continue
            fit = node_fit(w, b, slot, node)
            if fit >= size and w.free[b, node, 0] < best_free:
                best, best_free = node, w.free[b, node, 0]
            if fit > most:
                roomiest, most = node, fit
        if best >= 0:
            take(w, b, slot, best, size)
            size = 0
        else:
            take(w, b, slot, roomiest, most)
            size -= most
        nodes_used += 1
    return nodes_used


@kernel
def place(w: World, b: int, slot: int, level: int) -> float:
    """Place the slot's job at `level`; its rate there, or 0 when no type has room."""
    profile = w.slot_k[b, c.PROFILE, slot]
    size = w.sizes[profile, level]
    num_types = w.rates.shape[1]
    tried = np.zeros(num_types, dtype=np.bool_)
    for _ in range(num_types):
        gpu_type, fastest = -1, -1.0
        for t in range(num_types):
            if not tried[t] and w.rates[profile, t, level, 0] > fastest:
                gpu_type, fastest = t, w.rates[profile, t, level, 0]
        tried[gpu_type] = True
        nodes_used = place_on_type(w, b, slot, size, gpu_type)
        if nodes_used > 0:
            return float(w.rates[profile, gpu_type, level, 0 if nodes_used == 1 else 1])
    return 0.0
