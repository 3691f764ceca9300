"""Where a job would run: one GPU type, one node if it can, one rack if it can."""

from __future__ import annotations

import math

from tests.reference import scores
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
        if sum(fits.values()) < gpus:
            continue
        if world.rules.placement == "consolidate":
            return spread(world, gpus, one_rack(world, gpus, fits))
        if world.rules.placement == "first_fit":
            placement = first_fit(world, gpus, fits)
        else:
            placement = scored(world, job, gpus, fits)
        if placement is not None:
            return placement
    return None


def first_fit(world: ReferenceWorld, gpus: int, fits: dict[int, int]) -> Placement | None:
    """The first node with room for all that is left; while none has, the roomiest idle one."""
    held = {n for job in world.active for n in job.placement}
    placement: Placement = {}
    left = gpus
    while left > 0:
        rest = [n for n in sorted(fits) if n not in placement and fits[n] > 0]
        with_room = [n for n in rest if fits[n] >= left]
        idle = [n for n in rest if n not in held]
        if with_room:
            placement[with_room[0]] = left
        elif idle:
            node = max(idle, key=lambda n: (fits[n], -n))
            placement[node] = fits[node]
        else:
            return None
        left = gpus - sum(placement.values())
    return placement


def scored(world: ReferenceWorld, job: ReferenceJob, gpus: int, fits: dict[int, int]) -> Placement:
    """Node after node of the highest score that takes all, or as much as any node can."""
    placement: Placement = {}
    while gpus > sum(placement.values()):
        left = gpus - sum(placement.values())
        rest = {n: fits[n] for n in fits if n not in placement}
        part = min(left, max(rest.values()))
        able = [n for n in sorted(rest) if rest[n] >= part]
        placement[scores.best_node(world, job, part, able, len(placement))] = part
    return placement


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
    free = {n: sum(world.free_milli(n)) for n in fits}
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
    suitable = sum(milli >= job.milli for milli in world.free_milli(node))
    if job.milli < WHOLE:
        suitable = min(suitable, 1)
    free = world.free_resources(node)
    bounds = [
        math.floor((free[r] + EPSILON) / job.demand[r])
        for r in range(1, len(free))
        if job.demand[r] > 0
    ]
    return min([suitable] + bounds)


def take(world: ReferenceWorld, job: ReferenceJob, placement: Placement) -> None:
    """Give the job its GPUs: the lowest free ones; for a share, the one that the rule names."""
    devices: dict[int, list[int]] = {}
    for node, gpus in placement.items():
        free = world.free_milli(node)
        able = [device for device in range(len(free)) if free[device] >= job.milli]
        if job.milli < WHOLE:
            able = [scores.device_of(world, job, node)]
        devices[node] = able[:gpus]
    job.placement, job.devices = dict(placement), devices


def drop(job: ReferenceJob) -> None:
    job.placement = {}
    job.devices = {}
