"""How fast a placed job works, beside those who run now."""

from __future__ import annotations

import math

from tests.reference.records import ReferenceJob
from tests.reference.rules import WHOLE
from tests.reference.world import ReferenceWorld


def rate_of(world: ReferenceWorld, job: ReferenceJob) -> float:
    """Isolated seconds per second."""
    return gang_rate(world, job) * loading_factor(world, job) * sharing_factor(world, job)


def gang_rate(world: ReferenceWorld, job: ReferenceJob) -> float:
    """The profile's rate, by how far the gang spans, less what the network's other users take."""
    nodes = [world.nodes[n] for n in job.placement]
    rates = world.rates[job.profile][nodes[0].kind][job.level]
    packed = float(rates[0])
    if len(nodes) == 1:
        return packed
    across_racks = len({node.rack for node in nodes}) > 1
    spanning = float(rates[2] if across_racks and len(rates) > 2 else rates[1])
    if not world.rules.network_contention:
        return spanning
    users = max(
        sum(len(other.placement) > 1 and n in other.placement for other in world.active)
        for n in job.placement
    )
    return 1.0 / (1.0 / packed + (1.0 / spanning - 1.0 / packed) * users)


def loading_factor(world: ReferenceWorld, job: ReferenceJob) -> float:
    """Below 1 where a node has fewer CPUs per GPU than the job's data loading needs."""
    if job.loader_cpus == 0.0:
        return 1.0
    factor = 1.0
    for n in job.placement:
        capacity = world.nodes[n].capacity
        cpus = max(job.demand[1], capacity[1] / capacity[0])
        factor = min(factor, cpus / job.loader_cpus)
    return factor


def co_runners(world: ReferenceWorld, job: ReferenceJob) -> list[ReferenceJob]:
    """The others on the job's device; whole GPUs are never shared."""
    if job.milli == WHOLE:
        return []
    return [
        other
        for other in world.active
        if other is not job
        and any(set(job.devices[n]) & set(other.devices.get(n, [])) for n in job.devices)
    ]


def sharing_factor(world: ReferenceWorld, job: ReferenceJob) -> float:
    """What the others on its device leave of the rate."""
    others = co_runners(world, job)
    if world.rules.sharing == "interference":
        table = world.rules.interference
        return math.prod(float(table[job.profile][other.profile]) for other in others)
    if world.rules.sharing == "time_slice":
        return 1.0 / (1 + len(others))
    return 1.0


def refresh(world: ReferenceWorld) -> None:
    """Rates, and with them predicted ends, after co-runners came or went."""
    for job in world.running:
        rate = rate_of(world, job)
        if rate != job.rate:
            job.rate = rate
            job.finish_at = max(world.now, job.resume_at) + job.remaining / rate


def charge_everybody(world: ReferenceWorld) -> None:
    """Every running job pauses for its restart cost now; its predicted end ignores that.

    What was done before is safe: the pause is a restart, and so a checkpoint.
    """
    for job in world.running:
        job.worked = []
        job.resume_at = world.now + world.restart(job, job.level)
        job.finish_at = world.now + job.remaining / job.rate
