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


def apply(world: ReferenceWorld, decided: Mapping[int, int]) -> None:
    """Preemptions, then shrinks, then growers and starters by decreasing target size."""
    targets = affordable(world, decided)
    for job in world.running:
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
            start_at_most(world, job, targets[job.index])
    refresh(world)


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
    before = {job.index: (job.level, job.placement) for job in world.active}
    by_index = {job.index: job for job in world.active}
    for job in world.active:
        drop(job)
        job.level = 0
    for index in order:
        job = by_index[index]
        request = world.request_level[job.profile]
        job.level = request  # to count within its tenant's quota
        placement = place(world, job, request) if within_quota(world, job) else None
        if placement is None:
            job.level = 0
        else:
            take(world, job, placement)
    for job in world.active:
        level, placement_before = before[job.index]
        placed = job.placement
        if not placed and level > 0:
            preempt(world, job)
        elif placed and level == 0:
            job.level = 0
            start(world, job, world.request_level[job.profile], placed)
        elif placed != placement_before:
            hold(world, job, job.level, placed, pays=True)
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
    for level in range(target, 0, -1):
        placement = place(world, job, level)
        if placement is not None:
            hold(world, job, level, placement, pays=True)
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
    hold(world, job, target, placement, pays=True)
    world.log("grow", job)


def start_at_most(world: ReferenceWorld, job: ReferenceJob, target: int) -> None:
    for level in range(target, 0, -1):
        placement = place(world, job, level)
        if placement is not None:
            start(world, job, level, placement)
            return


def start(world: ReferenceWorld, job: ReferenceJob, level: int, placement: Placement) -> None:
    first = math.isnan(job.first_start)
    if first:
        job.first_start = world.now
    job.run_since = world.now
    job.fail_at = world.now + job.fail_budget if job.fail_budget < INF else INF
    hold(world, job, level, placement, pays=not first)
    world.log("start", job)


def hold(
    world: ReferenceWorld, job: ReferenceJob, level: int, placement: Placement, pays: bool
) -> None:
    """Run at `level` on `placement` from now on; `pays`: a restart, not the first start."""
    job.level = level
    drop(job)
    take(world, job, placement)
    job.worked = []  # a checkpoint
    if pays:
        job.num_restarts += 1
    pauses = (pays or world.charge_first_start) and not world.rules.overhead_each_epoch
    job.resume_at = world.now + (world.restart_s[job.profile] if pauses else 0.0)
    job.rate = rate_of(world, job)
    job.finish_at = max(world.now, job.resume_at) + job.remaining / job.rate
