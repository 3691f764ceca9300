"""Which nodes a gang gets: compiled, one environment `b` of a `World` at a time.

A gang lives on one GPU type. Types are tried fastest first; within a type the placement rule
chooses. `consolidate`, the default, takes the best-fitting single node, else the fewest nodes,
within one rack where the cluster has several.
"""

from __future__ import annotations

import numpy as np

from marl_sched.jit import kernel, part
from marl_sched.sim import columns as c
from marl_sched.sim.nodes import add_jobs, first_of_type, set_whole, whole_free
from marl_sched.sim.rules import FIRST_FIT
from marl_sched.sim.world import World

EPSILON = 1e-9
"""Slack when free resources are divided by a demand."""


@kernel
def device_with_room(w: World, b: int, node: int, milli: int) -> int:
    """GPU of `node` with the least free share that is at least `milli`; -1 without."""
    best = -1
    for g in range(w.device_free.shape[2]):
        left = w.device_free[b, node, g]
        if left >= milli and (best < 0 or left < w.device_free[b, node, best]):
            best = g
    return best


@kernel
def node_fit(w: World, b: int, slot: int, node: int) -> int:
    """GPUs (or shares) of the job in `slot` that `node` can still take, by every resource."""
    if w.node_k[b, c.NODE_STATE, node] != c.OPEN:
        return 0
    milli = w.job_k[c.JOB_MILLI, w.slot_k[b, c.JOB, slot]]
    if milli < 1000:
        fit = 1 if device_with_room(w, b, node, milli) >= 0 else 0
    else:
        fit = w.node_k[b, c.NODE_WHOLE, node]
    for r in range(1, 4):
        demand = w.slot_demand[b, slot, r]
        if demand > 0.0:
            fit = min(fit, int((w.free[b, node, r] + EPSILON) / demand))
    return fit


@kernel
def take(w: World, b: int, slot: int, node: int, gpus: int) -> None:
    """Give `gpus` of `node` to the job in `slot`: a new entry at the head of its list."""
    entry = w.env_k[b, c.POOL_FREE]
    w.env_k[b, c.POOL_FREE] = w.pool[b, c.ENTRY_NEXT, entry]
    w.pool[b, c.ENTRY_NODE, entry] = node
    w.pool[b, c.ENTRY_GPUS, entry] = gpus
    w.pool[b, c.ENTRY_NEXT, entry] = w.slot_k[b, c.PLACEMENT, slot]
    w.pool[b, c.ENTRY_DEVICES, entry] = choose_devices(w, b, slot, node, gpus)
    w.slot_k[b, c.PLACEMENT, slot] = entry
    book(w, b, slot, entry, 1)


@kernel
def choose_devices(w: World, b: int, slot: int, node: int, gpus: int) -> int:
    """Bits of the GPUs that the job gets on `node`; 0 where devices are not tracked."""
    devices = w.device_free.shape[2]
    if devices == 0:
        return 0
    milli = w.job_k[c.JOB_MILLI, w.slot_k[b, c.JOB, slot]]
    if milli < 1000:
        return 1 << device_with_room(w, b, node, milli)
    chosen = 0
    for g in range(devices):
        if gpus > 0 and w.device_free[b, node, g] == 1000:
            chosen |= 1 << g
            gpus -= 1
    return chosen


@kernel
def book(w: World, b: int, slot: int, entry: int, sign: int) -> None:
    """Take what a placement entry holds from its node (`sign` 1), or give it back (-1)."""
    node, gpus = w.pool[b, c.ENTRY_NODE, entry], w.pool[b, c.ENTRY_GPUS, entry]
    is_open = w.node_k[b, c.NODE_STATE, node] == c.OPEN
    for r in range(4):
        part = sign * gpus * w.slot_demand[b, slot, r]
        w.free[b, node, r] -= part
        if is_open:
            w.spare[b, r] -= part
        else:
            w.usable[b, r] += part  # what comes back there is not to be had
    add_jobs(w, b, node, sign)
    devices = w.device_free.shape[2]
    if devices == 0:
        set_whole(w, b, node, w.node_k[b, c.NODE_WHOLE, node] - sign * gpus)
        return
    milli = w.job_k[c.JOB_MILLI, w.slot_k[b, c.JOB, slot]]
    chosen = w.pool[b, c.ENTRY_DEVICES, entry]
    whole, free = 0, 0
    for g in range(devices):
        if chosen >> g & 1:
            w.device_free[b, node, g] -= sign * milli
        whole += w.device_free[b, node, g] == 1000
        free += w.device_free[b, node, g]
    # Exact, whatever order shares come and go in.
    w.free[b, node, 0] = free / 1000.0
    w.spare[b, 0] = np.rint(1000.0 * w.spare[b, 0]) / 1000.0
    w.usable[b, 0] = np.rint(1000.0 * w.usable[b, 0]) / 1000.0
    set_whole(w, b, node, whole)


@kernel
def give_back(w: World, b: int, slot: int, sign: int) -> None:
    """Free what the slot's placement holds (`sign` 1), or take exactly the same again (-1)."""
    entry = w.slot_k[b, c.PLACEMENT, slot]
    while entry >= 0:
        book(w, b, slot, entry, -sign)
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
def span_of(w: World, b: int, slot: int) -> int:
    """0 when the placement lies on one node, 1 within a rack, 2 across racks."""
    entry = w.slot_k[b, c.PLACEMENT, slot]
    first = w.pool[b, c.ENTRY_NODE, entry]
    span = 0
    entry = w.pool[b, c.ENTRY_NEXT, entry]
    while entry >= 0:
        span = max(span, 1)
        if w.node_rack[w.pool[b, c.ENTRY_NODE, entry]] != w.node_rack[first]:
            return 2
        entry = w.pool[b, c.ENTRY_NEXT, entry]
    return span


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
    """The first node with room; a gang larger than a node takes whole idle nodes in order.

    The rest of such a gang goes to the first node with room for it. Source: the placement of
    Tiresias and Muri (Gu et al., NSDI 2019; Zhao et al., SIGCOMM 2022).
    """
    num_nodes = w.capacity.shape[0]
    largest = 0
    for node in range(num_nodes):
        if w.node_type[node] == gpu_type:
            largest = max(largest, int(w.capacity[node, 0]))
    left = size
    for node in range(num_nodes):
        if left < largest or size <= largest:
            break
        idle = w.node_k[b, c.NODE_JOBS, node] == 0 and w.capacity[node, 0] == largest
        if w.node_type[node] == gpu_type and idle and node_fit(w, b, slot, node) >= largest:
            take(w, b, slot, node, largest)
            left -= largest
    for node in range(num_nodes):
        if 0 < left <= largest and w.node_type[node] == gpu_type:
            if node_fit(w, b, slot, node) >= left:
                take(w, b, slot, node, left)
                left = 0
    if left == 0:
        return True
    give_back(w, b, slot, 1)
    drop_entries(w, b, w.slot_k[b, c.PLACEMENT, slot])
    w.slot_k[b, c.PLACEMENT, slot] = -1
    return False


@kernel
def place_on_type(w: World, b: int, slot: int, size: int, gpu_type: int) -> bool:
    """Place `size` GPUs on nodes of one type by the placement rule."""
    if w.gpus_only and w.num_racks == 1:
        return consolidate_indexed(w, b, slot, size, gpu_type)
    if w.placement == FIRST_FIT:
        return first_fit(w, b, slot, size, gpu_type)
    return consolidate(w, b, slot, size, gpu_type)


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
    tried = 0
    for _ in range(num_types):
        gpu_type, fastest = -1, -1.0
        for t in range(num_types):
            if not tried >> t & 1 and w.rates[profile, t, level, 0] > fastest:
                gpu_type, fastest = t, w.rates[profile, t, level, 0]
        if gpu_type < 0:
            return False
        tried |= 1 << gpu_type
        if allowed >> gpu_type & 1 and place_on_type(w, b, slot, size, gpu_type):
            w.slot_k[b, c.GPU_TYPE, slot] = gpu_type
            return True
    return False
