"""Nodes: who is open, how many whole GPUs each has free, and an index to find one fast.

The index keeps, for each class of like nodes and each number of free whole GPUs, the open nodes
as bits: the tightest node for a gang is then found in a few machine words instead of a pass over
all nodes.
"""

from __future__ import annotations

import math

import numpy as np

from marl_sched.compiled.jit import kernel
from marl_sched.compiled.records import copy_into
from marl_sched.sim import columns as c
from marl_sched.sim.devices import MILLI
from marl_sched.sim.world import World


@kernel
def flip(w: World, b: int, node: int, add: bool) -> None:
    """Enter `node` into the index at its present number of free GPUs, or take it out."""
    kind, gpus = w.node_class[node], w.node_k[b, c.NODE_WHOLE, node]
    w.index_bits[b, kind, gpus, node >> 6] ^= np.uint64(1) << np.uint64(node & 63)
    w.index_count[b, kind, gpus] += 1 if add else -1


@kernel
def set_whole(w: World, b: int, node: int, gpus: int) -> None:
    """Book that `node` has `gpus` whole GPUs free."""
    if w.node_k[b, c.NODE_STATE, node] == c.OPEN:
        flip(w, b, node, False)
        w.node_k[b, c.NODE_WHOLE, node] = gpus
        flip(w, b, node, True)
    else:
        w.node_k[b, c.NODE_WHOLE, node] = gpus


@kernel
def set_state(w: World, b: int, node: int, state: int) -> None:
    """Open, close or take down a node; what runs on it is the caller's matter."""
    before = w.node_k[b, c.NODE_STATE, node]
    if before == state:
        return
    sign = 1 if state == c.OPEN else -1
    if state == c.OPEN or before == c.OPEN:
        if before == c.OPEN:
            flip(w, b, node, False)
        for r in range(4):
            w.spare[b, r] += sign * w.free[b, node, r]
            w.usable[b, r] += sign * w.free[b, node, r]
        if w.spare_by_type.shape[1] > 0:
            for r in range(4):
                w.spare_by_type[b, w.node_type[node], r] += sign * w.free[b, node, r]
        if w.node_k[b, c.NODE_JOBS, node] == 0:
            w.env_k[b, c.IDLE_NODES] += sign
    w.node_k[b, c.NODE_STATE, node] = state
    if state == c.OPEN:
        flip(w, b, node, True)
        w.env_k[b, c.RELEASES] += 1
    if c.DOWN in (before, state):
        gpus = w.capacity[node, 0] * (1.0 if before == c.DOWN else -1.0)
        w.env_f[b, c.UP_GPUS] += gpus
        w.env_f[b, c.UP_WATTS] += gpus * w.type_watts[w.node_type[node], 0]


@kernel
def add_jobs(w: World, b: int, node: int, more: int) -> None:
    """Book that `more` gangs (1 or -1) have a part on `node`."""
    before = w.node_k[b, c.NODE_JOBS, node]
    w.node_k[b, c.NODE_JOBS, node] = before + more
    if w.node_k[b, c.NODE_STATE, node] == c.OPEN:
        if before == 0:
            w.env_k[b, c.IDLE_NODES] -= 1
        elif before + more == 0:
            w.env_k[b, c.IDLE_NODES] += 1


@kernel
def open_all(w: World, b: int) -> None:
    """All nodes up and empty."""
    nodes = w.capacity.shape[0]
    copy_into(w.free[b], w.capacity)
    copy_into(w.usable[b], w.total)
    copy_into(w.spare[b], w.total)
    if w.spare_by_type.shape[1] > 0:
        w.spare_by_type[b] = 0.0
        for node in range(nodes):
            for r in range(4):
                w.spare_by_type[b, w.node_type[node], r] += w.capacity[node, r]
    w.env_f[b, c.UP_GPUS] = w.total[0]
    w.env_f[b, c.UP_WATTS] = 0.0
    w.env_f[b, c.HELD_WATTS] = 0.0
    w.node_k[b] = 0
    w.node_f[b] = 0.0
    w.index_bits[b] = np.uint64(0)
    w.index_count[b] = 0
    w.residents[b] = 0
    w.env_k[b, c.IDLE_NODES] = nodes
    for node in range(nodes):
        w.env_f[b, c.UP_WATTS] += w.capacity[node, 0] * w.type_watts[w.node_type[node], 0]
        w.node_f[b, c.NODE_OWN_EVENT_S, node] = np.inf
        w.node_f[b, c.NODE_GONE_AT_S, node] = np.inf
        w.node_k[b, c.NODE_WHOLE, node] = int(w.capacity[node, 0])
        flip(w, b, node, True)
        for device in range(min(w.device_free.shape[2], int(w.capacity[node, 0]))):
            w.device_free[b, node, device] = MILLI


@kernel
def lowest_bit(word: np.uint64) -> int:
    """Position of the lowest set bit of `word`, which is not 0."""
    # The isolated bit is a power of two, which a float64 holds exactly.
    _, exponent = math.frexp(np.float64(word & (~word + np.uint64(1))))
    return exponent - 1


@kernel
def first_node(w: World, b: int, kind: int, gpus: int) -> int:
    """Lowest open node of a class with exactly `gpus` whole GPUs free, -1 without."""
    if w.index_count[b, kind, gpus] == 0:
        return -1
    words = w.index_bits[b, kind, gpus]
    for k in range(words.size):
        if words[k] != np.uint64(0):
            return 64 * k + lowest_bit(words[k])
    return -1


@kernel
def first_of_type(w: World, b: int, gpu_type: int, gpus: int) -> int:
    """Lowest open node of a GPU type with exactly `gpus` whole GPUs free, -1 without."""
    best = -1
    for kind in range(w.class_type.size):
        if w.class_type[kind] == gpu_type:
            node = first_node(w, b, kind, gpus)
            if node >= 0 and (best < 0 or node < best):
                best = node
    return best


@kernel
def whole_free(w: World, b: int, gpu_type: int) -> int:
    """Whole GPUs free on the open nodes of a type."""
    total = 0
    for kind in range(w.class_type.size):
        if w.class_type[kind] == gpu_type:
            for gpus in range(1, w.index_count.shape[2]):
                total += gpus * w.index_count[b, kind, gpus]
    return total


@kernel
def emptiest_share(w: World, b: int) -> float:
    """Largest share of a node's GPUs that is free, over the open nodes."""
    best = 0.0
    for node_class in range(w.class_type.size):
        for gpus in range(w.index_count.shape[2] - 1, 0, -1):
            if w.index_count[b, node_class, gpus] > 0:
                node = first_node(w, b, node_class, gpus)
                best = max(best, gpus / w.capacity[node, 0])
                break
    return best
