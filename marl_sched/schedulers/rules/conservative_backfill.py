"""First come, first served with conservative backfilling."""

from typing import NamedTuple

import numpy as np

from marl_sched.allocation.room import (
    Room,
    close_tenant,
    count,
    covers,
    is_refused,
    over_quota,
    room_beside_running,
)
from marl_sched.compiled.jit import kernel, part
from marl_sched.compiled.order import rows_by, rows_in_order
from marl_sched.schedulers.mechanisms.serving import asked_level, back_from
from marl_sched.types import ClusterView, Floats1, Ints1


class Plan(NamedTuple):
    """What is free from now on: a linked list of segments, the first at 0."""

    start_s: np.ndarray  # (K,) float64
    after: np.ndarray  # (K,) int64, the next segment, -1 at the last
    free: np.ndarray  # (K, T, 4) float64, of each GPU type, order of RESOURCES
    used: np.ndarray  # (1,) int64, segments in use


@kernel
def split(plan: Plan, at: int, when_s: float) -> int:
    """Cut the plan at `when_s`, not before segment `at`; the segment that begins there."""
    while plan.after[at] >= 0 and plan.start_s[plan.after[at]] <= when_s:
        at = plan.after[at]
    if plan.start_s[at] >= when_s:
        return at
    new = plan.used[0]
    plan.used[0] = new + 1
    plan.start_s[new] = when_s
    plan.free[new] = plan.free[at]
    plan.after[new] = plan.after[at]
    plan.after[at] = new
    return int(new)


@kernel
def add(v: ClusterView, i: int, gpus: int, kind: int, plan: Plan, at: int, until: int) -> None:
    """Add `gpus` of job `i` to what is free from segment `at` until `until` (-1: for ever)."""
    while at != until:
        for r in range(4):
            plan.free[at, kind, r] += gpus * v.demand[i, r]
        at = plan.after[at]


@kernel
def earliest(v: ClusterView, i: int, gpus: int, kind: int, seconds: float, plan: Plan) -> int:
    """First segment from whose start on `gpus` of job `i` fit for `seconds`; -1 without one."""
    start, at = 0, 0
    while at >= 0:
        following = plan.after[at]
        # Without a node for it now, it waits for the next GPUs that come back.
        refused = at == 0 and is_refused(v, i)
        if refused or not covers(v, plan.free[at], i, gpus, kind):
            start = following
        elif following < 0 or plan.start_s[following] >= plan.start_s[start] + seconds:
            return int(start)
        at = following
    return -1


@kernel
def reserve(v: ClusterView, i: int, level: int, plan: Plan) -> int:
    """Plan job `i` for the earliest time on any of its types; the segment, -1 without one."""
    gpus = v.sizes[v.profile[i], level]
    seconds = v.restart_s[i] + v.est_remaining_s[i] / v.rates[v.profile[i], level]
    best, chosen = -1, 0
    for rank in range(plan.free.shape[1]):
        kind = 0
        if plan.free.shape[1] > 1:
            kind = v.type_order[v.profile[i], level, rank]
            if not v.types[i] >> kind & 1:
                continue
        at = earliest(v, i, gpus, kind, seconds, plan)
        if at >= 0 and (best < 0 or plan.start_s[at] < plan.start_s[best]):
            best, chosen = at, kind
    if best >= 0:
        until = split(plan, best, plan.start_s[best] + seconds)
        add(v, i, -gpus, chosen, plan, best, until)
    return best


@kernel
def present_plan(v: ClusterView, target: np.ndarray, room: Room) -> Plan:
    """What is free if the running jobs end by their estimates and nobody starts."""
    n = v.job.size
    size = 2 * n + 2
    free = np.empty((size, room.left.shape[0], 4))
    plan = Plan(np.empty(size), np.empty(size, np.int64), free, np.ones(1, np.int64))
    plan.start_s[0] = v.now_s
    plan.after[0] = -1
    plan.free[0] = room.left
    end_s = np.full(n, np.inf)
    for i in range(n):
        if target[i] > 0:
            end_s[i] = v.now_s + v.est_remaining_s[i] / v.rates[v.profile[i], target[i]]
    at = 0
    for i in rows_by(end_s, v.job):
        if target[i] > 0:
            at = split(plan, at, end_s[i])
            # Nothing follows yet.
            add(v, i, back_from(v, i, target[i]), v.gpu_type[i], plan, at, -1)
    return plan


@kernel
def most_now(plan: Plan) -> float:
    """GPUs free now of the type that has most."""
    most = plan.free[0, 0, 0]
    for kind in range(1, plan.free.shape[1]):
        most = max(most, plan.free[0, kind, 0])
    return float(most)


@part
def conservative_backfill(v: ClusterView, params: Floats1, target: Ints1) -> None:
    """FCFS, where a later job may start at once if it delays nobody's reservation.

    Every waiting job, in order of arrival, is given the earliest time from which it fits until
    its estimated end; those whose time is now start. Not preemptive. Source: Mu'alem and
    Feitelson, "Utilization, predictability, workloads, and user runtime estimates in scheduling
    the IBM SP2 with backfilling", IEEE TPDS 2001. Deviations: the plan is made anew at each
    epoch instead of being kept and compressed: with exact estimates that is the same plan, with
    wrong ones a reservation may move back; it counts the resources of each GPU type; a job that
    its tenant's quota holds back has no reservation, and its tenant's later jobs do not pass it.
    Making the plan stops as soon as nobody else fits now, and takes
    O(waiting x (running + waiting)) at worst.
    """
    n = v.job.size
    plan = present_plan(v, target, room_beside_running(v, target))
    order = rows_in_order(v.job)
    smallest = np.full(n + 1, np.inf)  # request of those from here on
    for rank in range(n - 1, -1, -1):
        i = order[rank]
        smallest[rank] = smallest[rank + 1]
        if target[i] == 0:
            gpus = v.sizes[v.profile[i], asked_level(v, i)] * v.demand[i, 0]
            smallest[rank] = min(smallest[rank], gpus)
    for rank in range(n):
        if smallest[rank] > most_now(plan) + 1e-9:
            return
        i = order[rank]
        if target[i] > 0:
            continue
        level = asked_level(v, i)
        gpus = v.sizes[v.profile[i], level]
        if over_quota(v, i, gpus):
            close_tenant(v, i)
        elif reserve(v, i, level, plan) == 0:
            target[i] = level
            count(v, i, gpus)
