"""Where a job would run: one GPU type, one node if it can, one rack if it can."""

from __future__ import annotations

import math

from tests.reference.records import ReferenceJob
from tests.reference.rules import EPSILON, WHOLE
from tests.reference.world import ReferenceWorld

Placement = dict[int, int]
"""Node to GPUs on it."""


def place(world: ReferenceWorld, job: ReferenceJob, level: int) -> Placement | None:
    """GPUs per node for the job at `level`, all on one GPU type, or None."""
    gpus = world.size(job, level)
    packed = [float(world.rates[job.profile][t][level][0]) for t in range(world.num_types)]
    for kind in sorted(range(world.num_types), key=lambda t: (-packed[t], t)):
        if not job.allowed[kind]:
            continue
        nodes = [node.index for node in world.nodes if node.kind == kind]
        fits = {n: fit(world, n, job) for n in nodes}
        if sum(fits.values()) >= gpus:
            return spread(world, gpus, one_rack(world, gpus, fits))
    return None


def one_rack(world: ReferenceWorld, gpus: int, fits: dict[int, int]) -> dict[int, int]:
    """The offers of the rack to span, or all of them: for one node, or if no rack suffices."""
    if max(fits.values()) >= gpus:
        return fits
    racks: dict[int, dict[int, int]] = {}
    for n, offer in fits.items():
        racks.setdefault(world.nodes[n].rack, {})[n] = offer
    enough = [rack for rack in racks if sum(racks[rack].values()) >= gpus]
    if not enough:
        return fits
    return racks[min(enough, key=lambda rack: (sum(racks[rack].values()), rack))]


def spread(world: ReferenceWorld, gpus: int, fits: dict[int, int]) -> Placement:
    """Take `gpus` from nodes that offer `fits`: as few nodes, then as tight, as it can."""
    free = {n: sum(free_milli(world, n)) for n in fits}
    placement: Placement = {}
    left = gpus
    while left > 0:
        rest = [n for n in fits if n not in placement]
        holding = [n for n in rest if fits[n] >= left]
        if holding:
            node = min(holding, key=lambda n: (free[n], n))
            placement[node] = left
        else:
            node = min(rest, key=lambda n: (-fits[n], n))
            placement[node] = fits[node]
        left -= placement[node]
    return placement


def fit(world: ReferenceWorld, node: int, job: ReferenceJob) -> int:
    """How many GPUs of the job the node could still carry; 0 or 1 for a share of one."""
    if not world.nodes[node].is_open:
        return 0
    suitable = sum(milli >= job.milli for milli in free_milli(world, node))
    if job.milli < WHOLE:
        suitable = min(suitable, 1)
    free = free_resources(world, node)
    bounds = [
        math.floor((free[r] + EPSILON) / job.demand[r])
        for r in range(1, len(free))
        if job.demand[r] > 0
    ]
    return min([suitable] + bounds)


def free_milli(world: ReferenceWorld, node: int) -> list[int]:
    """Free thousandths of each GPU of the node."""
    free = [WHOLE] * int(world.nodes[node].capacity[0])
    for job in world.active:
        for device in job.devices.get(node, []):
            free[device] -= job.milli
    return free


def free_resources(world: ReferenceWorld, node: int) -> list[float]:
    """Free CPUs, memory and bandwidth; the first entry, GPUs, is `free_milli`'s matter."""
    left = list(world.nodes[node].capacity)
    for job in world.active:
        gpus = job.placement.get(node, 0)
        for r in range(len(left)):
            left[r] -= gpus * job.demand[r]
    return left


def take(world: ReferenceWorld, job: ReferenceJob, placement: Placement) -> None:
    """Give the job its GPUs: the lowest free ones; for a share, the fullest GPU that has room."""
    devices: dict[int, list[int]] = {}
    for node, gpus in placement.items():
        free = free_milli(world, node)
        able = [device for device in range(len(free)) if free[device] >= job.milli]
        if job.milli < WHOLE:
            able.sort(key=lambda device: (free[device], device))
        devices[node] = able[:gpus]
    job.placement, job.devices = dict(placement), devices


def drop(job: ReferenceJob) -> None:
    job.placement = {}
    job.devices = {}
