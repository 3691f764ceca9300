"""Which nodes a gang gets: compiled, one environment `b` of a `World` at a time.

A gang lives on one GPU type. Types are tried fastest first; within a type the placement rule
chooses. `consolidate`, the default, takes the best-fitting single node, else the fewest nodes,
within one rack where the cluster has several. The rules of `scoring` choose a node for the whole
gang, or, where none has room, one after the other for parts as large as any node takes.
"""

from __future__ import annotations

import numpy as np

from marl_sched.compiled.jit import kernel, part
from marl_sched.sim import columns as c
from marl_sched.sim import scoring
from marl_sched.sim.devices import MILLI, Demand, first_device
from marl_sched.sim.draws import PLACEMENT, uniform
from marl_sched.sim.fragmentation import Mix, no_cache
from marl_sched.sim.holdings import drop_entries, give_back, node_fit, take
from marl_sched.sim.nodes import first_of_type, whole_free
from marl_sched.sim.rules import CONSOLIDATE, FIRST_FIT
from marl_sched.sim.world import World

MAX_PARTS = 4096
"""Draws set aside for one start: a gang has at most so many parts."""


@kernel
def consolidate_indexed(w: World, b: int, slot: int, size: int, gpu_type: int) -> bool:
    """`consolidate` by the index alone: whole GPUs, nothing else asked, one rack."""
    most = w.index_count.shape[2] - 1
    for gpus in range(size, most + 1):
        node = first_of_type(w, b, gpu_type, gpus)
        if node >= 0:
            take(w, b, slot, node, size)
            return True
    if whole_free(w, b, gpu_type) < size:
        return False
    while size > 0:
        node, part = -1, size
        for gpus in range(size, most + 1):
            node = first_of_type(w, b, gpu_type, gpus)
            if node >= 0:
                break
        if node < 0:
            for gpus in range(min(most, size), 0, -1):
                node, part = first_of_type(w, b, gpu_type, gpus), gpus
                if node >= 0:
                    break
        take(w, b, slot, node, part)
        size -= part
    return True


@kernel
def rack_for(w: World, b: int, slot: int, size: int, gpu_type: int) -> int:
    """Rack with the least room for the job that is still enough; -1 without."""
    room = np.zeros(w.num_racks, dtype=np.int64)
    for node in range(w.capacity.shape[0]):
        if w.node_type[node] == gpu_type:
            room[w.node_rack[node]] += node_fit(w, b, slot, node)
    best = -1
    for rack in range(room.size):
        if room[rack] >= size and (best < 0 or room[rack] < room[best]):
            best = rack
    return best


@part
def consolidate(w: World, b: int, slot: int, size: int, gpu_type: int) -> bool:
    """Place `size` GPUs on nodes of one type: the tightest node, else as few as possible."""
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
        return True
    if room < size:
        return False
    rack = rack_for(w, b, slot, size, gpu_type) if w.num_racks > 1 else -1
    while size > 0:
        # A node that can hold all that is left, tightest first; else the roomiest.
        best, best_free = -1, np.inf
        roomiest, most = -1, 0
        for node in range(num_nodes):
            if w.node_type[node] != gpu_type or (rack >= 0 and w.node_rack[node] != rack):
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
    return True


@part
def first_fit(w: World, b: int, slot: int, size: int, gpu_type: int) -> bool:
    """The first node with room; a gang larger than that takes idle nodes first, the roomiest.

    What is left of such a gang then goes to the first node with room for it. Source: the
    placement of Tiresias and Muri (Gu et al., NSDI 2019; Zhao et al., SIGCOMM 2022), whose nodes
    are all alike.
    """
    milli = w.job_k[c.JOB_MILLI, w.slot_k[b, c.JOB, slot]]
    left = size
    while left > 0:
        holding, roomiest, most = -1, -1, 0
        for node in range(w.capacity.shape[0]):
            if w.node_type[node] != gpu_type:
                continue
            fit = node_fit(w, b, slot, node)
            if fit >= left:
                holding = node
                break
            if fit > most and w.node_k[b, c.NODE_JOBS, node] == 0:
                roomiest, most = node, fit
        if holding >= 0:
            take(w, b, slot, holding, left, first_device(w.device_free[b, holding], milli))
            return True
        if roomiest < 0:
            break
        take(w, b, slot, roomiest, most)
        left -= most
    undo(w, b, slot)
    return False


@kernel
def undo(w: World, b: int, slot: int) -> None:
    """Give back all that the slot's job has been given so far."""
    give_back(w, b, slot, 1)
    drop_entries(w, b, w.slot_k[b, c.PLACEMENT, slot])
    w.slot_k[b, c.PLACEMENT, slot] = -1


@part
def scored(w: World, b: int, slot: int, size: int, gpu_type: int) -> bool:
    """Place `size` GPUs on nodes of one type by the scores of the placement rule."""
    num_nodes = w.capacity.shape[0]
    job = w.slot_k[b, c.JOB, slot]
    starts = w.slot_k[b, c.RESTARTS, slot] + (not np.isnan(w.slot_f[b, c.FIRST_START_S, slot]))
    left, parts = size, 0
    able, draw = np.empty(num_nodes, np.bool_), np.empty(2)
    while left > 0:
        largest = 0
        for node in range(num_nodes):
            if w.node_type[node] == gpu_type:
                largest = max(largest, node_fit(w, b, slot, node))
        if largest == 0:
            undo(w, b, slot)
            return False
        gpus = min(left, largest)
        for node in range(num_nodes):
            fits = w.node_type[node] == gpu_type and node_fit(w, b, slot, node) >= gpus
            able[node] = fits
        for which in range(2):
            count = 2 * (MAX_PARTS * starts + parts) + which
            draw[which] = uniform(w.seed, PLACEMENT, job, count)
        node, device = best_scored(w, b, slot, gpus, able, draw)
        take(w, b, slot, node, gpus, device)
        left -= gpus
        parts += 1
    return True


@kernel
def best_scored(
    w: World, b: int, slot: int, gpus: int, able: np.ndarray, draw: np.ndarray
) -> tuple[int, int]:
    """`scoring.choose` among the nodes `able` (N,) to take so many GPUs of the slot's job."""
    job = w.slot_k[b, c.JOB, slot]
    demand = Demand(
        gpus * w.slot_demand[b, slot, 1],
        gpus * w.slot_demand[b, slot, 2],
        gpus,
        w.job_k[c.JOB_MILLI, job],
        w.job_k[c.JOB_TYPES, job],
    )
    return scoring.choose(
        w.placement - FIRST_FIT,
        able,
        w.free[b, :, 1],
        w.device_free[b],
        w.node_gpus,
        w.node_type,
        w.residents[b],
        demand,
        w.largest[1],
        int(w.largest[0]) * MILLI,
        draw,
        Mix(w.mix_f[0], w.mix_k[0], w.mix_k[1], w.mix_k[2], w.mix_f[1]),
        -1,
        no_cache(),
    )


@kernel
def place_on_type(w: World, b: int, slot: int, size: int, gpu_type: int) -> bool:
    """Place `size` GPUs on nodes of one type by the placement rule."""
    if w.gpus_only and w.num_racks == 1:
        return consolidate_indexed(w, b, slot, size, gpu_type)
    if w.placement == CONSOLIDATE:
        return consolidate(w, b, slot, size, gpu_type)
    if w.placement == FIRST_FIT:
        return first_fit(w, b, slot, size, gpu_type)
    return scored(w, b, slot, size, gpu_type)


@part
def place(w: World, b: int, slot: int, level: int) -> bool:
    """Place the slot's job at `level` on the fastest type with room; False without any."""
    profile = w.slot_k[b, c.PROFILE, slot]
    size = w.sizes[profile, level]
    allowed = w.job_k[c.JOB_TYPES, w.slot_k[b, c.JOB, slot]]
    num_types = w.rates.shape[1]
    if num_types == 1:
        w.slot_k[b, c.GPU_TYPE, slot] = 0
        return place_on_type(w, b, slot, size, 0)
    for rank in range(num_types):
        gpu_type = w.type_order[profile, level, rank]
        if allowed >> gpu_type & 1 and place_on_type(w, b, slot, size, gpu_type):
            w.slot_k[b, c.GPU_TYPE, slot] = gpu_type
            return True
    return False
