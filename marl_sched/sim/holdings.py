"""Who holds what: gangs take GPUs of nodes and give them back; compiled.

What a job holds is a list of placement entries, one for each of its nodes. Where somebody shares
a GPU, or a placement rule looks at devices, every device's free thousandths are kept too.
"""

from __future__ import annotations

import numpy as np

from marl_sched.compiled.jit import kernel
from marl_sched.sim import columns as c
from marl_sched.sim.devices import MILLI, NO_DEVICE, choose_devices, tightest_device
from marl_sched.sim.nodes import add_jobs, set_whole
from marl_sched.sim.world import World

GRAINS = 1e9
"""Free CPU, memory and bandwidth are kept in whole 1/GRAINS, exact in whatever order jobs go."""

EPSILON = 1e-6
"""Slack when free resources are divided by a demand."""


@kernel
def node_fit(w: World, b: int, slot: int, node: int) -> int:
    """GPUs (or shares) of the job in `slot` that `node` can still take, by every resource."""
    if w.node_k[b, c.NODE_STATE, node] != c.OPEN:
        return 0
    milli = w.job_k[c.JOB_MILLI, w.slot_k[b, c.JOB, slot]]
    if milli < MILLI:
        fit = 1 if tightest_device(w.device_free[b, node], milli) >= 0 else 0
    else:
        fit = w.node_k[b, c.NODE_WHOLE, node]
    for r in range(1, 4):
        demand = w.slot_demand[b, slot, r]
        if demand > 0.0:
            fit = min(fit, int((w.free[b, node, r] + EPSILON) / demand))
    return fit


@kernel
def take(w: World, b: int, slot: int, node: int, gpus: int, device: int = NO_DEVICE) -> None:
    """Give `gpus` of `node` to the job in `slot`: a new entry at the head of its list.

    Args:
        device: for a share of one; default the fullest with room.
    """
    entry = w.env_k[b, c.POOL_FREE]
    w.env_k[b, c.POOL_FREE] = w.pool[b, c.ENTRY_NEXT, entry]
    w.pool[b, c.ENTRY_NODE, entry] = node
    w.pool[b, c.ENTRY_GPUS, entry] = gpus
    w.pool[b, c.ENTRY_NEXT, entry] = w.slot_k[b, c.PLACEMENT, slot]
    w.pool[b, c.ENTRY_DEVICES, entry] = devices_for(w, b, slot, node, gpus, device)
    w.slot_k[b, c.PLACEMENT, slot] = entry
    book(w, b, slot, entry, 1)


@kernel
def devices_for(w: World, b: int, slot: int, node: int, gpus: int, device: int) -> int:
    """Bits of the GPUs that the job gets on `node`; 0 where devices are not tracked."""
    if w.device_free.shape[2] == 0:
        return 0
    milli = w.job_k[c.JOB_MILLI, w.slot_k[b, c.JOB, slot]]
    if milli < MILLI and device >= 0:
        return 1 << device
    return choose_devices(w.device_free[b, node], gpus, milli)


@kernel
def book(w: World, b: int, slot: int, entry: int, sign: int) -> None:
    """Take what a placement entry holds from its node (`sign` 1), or give it back (-1)."""
    node, gpus = w.pool[b, c.ENTRY_NODE, entry], w.pool[b, c.ENTRY_GPUS, entry]
    is_open = w.node_k[b, c.NODE_STATE, node] == c.OPEN
    for r in range(4):
        part = sign * gpus * w.slot_demand[b, slot, r]
        if part != 0.0:
            w.free[b, node, r] = np.rint(GRAINS * (w.free[b, node, r] - part)) / GRAINS
        if is_open:
            w.spare[b, r] = np.rint(GRAINS * (w.spare[b, r] - part)) / GRAINS
            if w.spare_by_type.shape[1] > 0:
                spare = w.spare_by_type[b, w.node_type[node]]
                spare[r] = np.rint(GRAINS * (spare[r] - part)) / GRAINS
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
        whole += w.device_free[b, node, g] == MILLI
        free += w.device_free[b, node, g]
    w.residents[b, node, 0 if milli < MILLI else gpus] += sign
    # Exact, whatever order shares come and go in.
    w.free[b, node, 0] = free / 1000.0
    w.spare[b, 0] = np.rint(1000.0 * w.spare[b, 0]) / 1000.0
    w.usable[b, 0] = np.rint(1000.0 * w.usable[b, 0]) / 1000.0
    if w.spare_by_type.shape[1] > 0:
        spare = w.spare_by_type[b, w.node_type[node]]
        spare[0] = np.rint(1000.0 * spare[0]) / 1000.0
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
