"""Carrying out what was decided: target levels, or (under `repack`) a placing order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tests.reference.happenings import stop
from tests.reference.placing import Placement, drop, place, take
from tests.reference.rates import rate_of, refresh
from tests.reference.records import ReferenceJob
from tests.reference.rules import INF
from tests.reference.world import ReferenceWorld


def apply(world: ReferenceWorld, decided: Mapping[int, int]) -> bool:
    """Preemptions, then shrinks, then growers and starters by decreasing target size.

    Returns whether to decide once more: a start found no node, which nobody knew before, or a job
    was stopped though GPUs of another type are free for its smallest size.
    """
    targets = affordable(world, decided)
    ran, surprised = list(world.running), False
    for job in ran:
        if targets[job.index] == 0:
            preempt(world, job)
    for job in world.active:
        if 0 < targets[job.index] < job.level:
            shrink(world, job, targets[job.index])
    rising = [job for job in world.active if targets[job.index] > job.level]
    rising.sort(key=lambda job: (-world.size(job, targets[job.index]), job.index))
    for job in rising:
        if job.level > 0:
            grow(world, job, targets[job.index])
        else:
            surprised |= not start_at_most(world, job, targets[job.index])
    refresh(world)
    stopped = [job for job in ran if job.level == 0]
    return surprised or any(could_move(world, job) for job in stopped)


def could_move(world: ReferenceWorld, job: ReferenceJob) -> bool:
    """Whether one of several types that the job may use has GPUs free for its smallest size."""
    kinds = [kind for kind in range(world.num_types) if job.allowed[kind]]
    free = [world.free_gpus(kind) for kind in kinds]
    return world.num_types > 1 and max(free) >= world.gpus(job, 1) - 1e-9


def affordable(world: ReferenceWorld, decided: Mapping[int, int]) -> dict[int, int]:
    """Targets within the profile, within quotas and, together, within the cluster's GPUs."""
    targets = {
        job.index: min(max(int(decided[job.index]), 0), world.num_levels[job.profile])
        for job in world.active
    }
    for tenant, quota in enumerate(world.rules.tenant_quota):
        for job in reversed(world.active):
            while (
                job.tenant == tenant
                and targets[job.index] > 0
                and world.total(targets, tenant) > quota
            ):
                targets[job.index] -= 1
    for job in reversed(world.active):
        while targets[job.index] > 0 and world.total(targets) > world.num_gpus:
            targets[job.index] -= 1
    return targets


def repack(world: ReferenceWorld, order: Sequence[int]) -> None:
    """Empty the cluster; place whole requests in this order, skipping who finds no room.

    Who is placed as before goes on undisturbed; who is not in `order` is not served.
    """
    before = empty(world)
    by_index = {job.index: job for job in world.active}
    for index in order:
        job = by_index[index]
        job.level = world.request_level[job.profile]  # to count within its tenant's quota
        placement = place(world, job, job.level) if within_quota(world, job) else None
        if placement is None:
            job.level = 0
        else:
            take(world, job, placement)
    settle(world, before)


def place_exactly(world: ReferenceWorld, wanted: Mapping[int, Placement]) -> None:
    """Give every active job just these GPUs by node; none is a preemption.

    A size that the profile has twice is its lower level.
    """
    before = empty(world)
    for job in world.active:
        placement = {n: gpus for n, gpus in wanted[job.index].items() if gpus > 0}
        if placement:
            job.level = world.sizes[job.profile].index(sum(placement.values()))
            take(world, job, placement)
    settle(world, before)


def empty(world: ReferenceWorld) -> dict[int, tuple[int, Placement]]:
    """Take everything from everybody; what they held, level and placement."""
    before = {job.index: (job.level, job.placement) for job in world.active}
    for job in world.active:
        drop(job)
        job.level = 0
    return before


def settle(world: ReferenceWorld, before: Mapping[int, tuple[int, Placement]]) -> None:
    """Book what an anew filled cluster means to each job: a stop, a start, a move or nothing."""
    for job in world.active:
        level, placement_before = before[job.index]
        placed, now_level = job.placement, job.level
        if not placed and level > 0:
            job.level = level
            preempt(world, job)
        elif placed and level == 0:
            start(world, job, now_level)
        elif placed != placement_before:
            hold(world, job, now_level, pays=True)
            world.log("move", job)
    refresh(world)


def within_quota(world: ReferenceWorld, job: ReferenceJob) -> bool:
    quota = world.rules.tenant_quota
    if job.tenant >= len(quota):
        return True
    return world.total({j.index: j.level for j in world.active}, job.tenant) <= quota[job.tenant]


def preempt(world: ReferenceWorld, job: ReferenceJob) -> None:
    stop(world, job, abruptly=False)
    job.num_preemptions += 1
    world.log("preempt", job)


def shrink(world: ReferenceWorld, job: ReferenceJob, target: int) -> None:
    drop(job)
    world.release()
    for level in range(target, 0, -1):
        placement = place(world, job, level)
        if placement is not None:
            take(world, job, placement)
            hold(world, job, level, pays=True)
            world.log("shrink", job)
            return
    preempt(world, job)


def grow(world: ReferenceWorld, job: ReferenceJob, target: int) -> None:
    before, devices = job.placement, job.devices
    drop(job)
    placement = place(world, job, target)
    if placement is None:
        job.placement, job.devices = before, devices
        return
    world.release()
    take(world, job, placement)
    hold(world, job, target, pays=True)
    world.log("grow", job)


def start_at_most(world: ReferenceWorld, job: ReferenceJob, target: int) -> bool:
    """False where it finds no node, not even for its smallest size, and that is news."""
    for level in range(target, 0, -1):
        placement = place(world, job, level)
        if placement is not None:
            take(world, job, placement)
            start(world, job, level)
            return True
    known, job.refused = job.refused, True
    return known


def start(world: ReferenceWorld, job: ReferenceJob, level: int) -> None:
    first = math.isnan(job.first_start)
    if first:
        job.first_start = world.now
    job.run_since = world.now
    job.fail_at = world.now + job.fail_budget if job.fail_budget < INF else INF
    hold(world, job, level, pays=not first)
    world.log("start", job)


def hold(world: ReferenceWorld, job: ReferenceJob, level: int, pays: bool) -> None:
    """Run at `level`, where it is placed now; `pays`: a restart, not the first start."""
    job.level = level
    job.worked = []  # a checkpoint
    if pays:
        job.num_restarts += 1
    costs = pays or world.charge_first_start
    job.resume_at = world.now + (world.restart(job, level) if costs else 0.0)
    job.rate = rate_of(world, job)
    job.finish_at = max(world.now, job.resume_at) + job.remaining / job.rate
