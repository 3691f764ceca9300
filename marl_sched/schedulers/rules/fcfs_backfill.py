"""First come, first served with EASY backfilling."""

import numpy as np

from marl_sched.allocation.room import (
    Room,
    charge,
    covers,
    free_room,
    gpus_of,
    is_refused,
    most_left,
    over_quota,
)
from marl_sched.compiled.jit import kernel, part
from marl_sched.schedulers.mechanisms.serving import asked_level, back_from, serve_queue
from marl_sched.types import ClusterView, Floats1, Ints1


@kernel
def first_type(v: ClusterView, i: int, level: int, free: np.ndarray) -> int:
    """The type of job `i` with enough of the GPUs `free` (T,); -1 without."""
    gpus = gpus_of(v, i, level)
    if free.size == 1:
        return 0 if free[0] >= gpus else -1
    for rank in range(free.size):
        kind = v.type_order[v.profile[i], level, rank]
        if v.types[i] >> kind & 1 and free[kind] >= gpus:
            return int(kind)
    return -1


@kernel
def reservation(
    v: ClusterView, head: int, target: np.ndarray, room: Room
) -> tuple[float, float, int]:
    """When job `head` can start by the estimates, the GPUs left over then, and their type."""
    level = asked_level(v, head)
    rows = np.flatnonzero(target)
    end = np.empty(rows.size)
    for at in range(rows.size):
        i = rows[at]
        end[at] = v.now_s + v.est_remaining_s[i] / v.rates[v.profile[i], target[i]]
    free = room.left[:, 0].copy()
    # Without a node for it now, it waits for the next GPUs that come back.
    at_s, kind = v.now_s, -1 if is_refused(v, head) else first_type(v, head, level, free)
    while kind < 0:
        soonest = -1
        for at in range(rows.size):
            if end[at] < np.inf and (soonest < 0 or end[at] < end[soonest]):
                soonest = at
        if soonest < 0:
            return np.inf, 0.0, 0
        first = rows[soonest]
        if v.level[first] > 0:
            free[v.gpu_type[first]] += back_from(v, first, target[first]) * v.demand[first, 0]
        else:
            started = room.kind[first] if room.kind.size > 0 else 0
            free[started] += gpus_of(v, first, target[first])
        at_s, end[soonest] = end[soonest], np.inf
        kind = first_type(v, head, level, free)
    return at_s, free[kind] - gpus_of(v, head, level), kind


@kernel
def type_behind(v: ClusterView, i: int, level: int, room: Room, reserved: int, extra: float) -> int:
    """The type on which job `i` may start now; -1 without.

    Args:
        reserved: type on which the head will start, and `extra` the GPUs that it leaves over;
            +inf where the job has ended by then.
    """
    gpus = v.sizes[v.profile[i], level]
    if is_refused(v, i) or over_quota(v, i, gpus):
        return -1
    types = room.left.shape[0]
    for rank in range(types):
        kind = v.type_order[v.profile[i], level, rank] if types > 1 else 0
        allowed = types == 1 or v.types[i] >> kind & 1 > 0
        spare = extra if kind == reserved else np.inf
        if allowed and gpus_of(v, i, level) <= spare and covers(v, room.left, i, gpus, kind):
            return int(kind)
    return -1


@part
def fcfs_backfill(v: ClusterView, params: Floats1, target: Ints1) -> None:
    """FCFS, where a later job may start at once if it does not delay the head's reservation.

    It must end, by its estimate, before the head can start, or use only GPUs that the head
    leaves over. Not preemptive. Source: Lifka, "The ANL/IBM SP scheduling system", JSSPP
    1995 (EASY). Reservations count the GPUs of each type; a job that its tenant's quota holds
    back has none, and its tenant's later jobs do not pass it.
    """
    room = free_room(v)
    serve_queue(v, True, target, room)
    if most_left(room) <= 0.0:
        return
    head = -1
    for i in v.waiting:
        asked = v.sizes[v.profile[i], asked_level(v, i)]
        if target[i] == 0 and not over_quota(v, i, asked):
            head = i
            break
    if head < 0:
        return
    shadow_s, extra, reserved = reservation(v, head, target, room)
    # Read once, not for each of the very many jobs that may wait.
    profile, request, limit, sizes, rates, total_s, demand, now_s = (
        v.profile, v.request_level, v.limit_level, v.sizes, v.rates, v.est_total_s, v.demand,
        v.now_s,
    )  # fmt: skip
    most, one_type = most_left(room), room.left.shape[0] == 1
    for i in v.waiting:
        if most <= 0.0:
            return
        level = min(request[i], limit[i])
        gpus = sizes[profile[i], level] * demand[i, 0]
        if gpus > most + 1e-9 or target[i] > 0 or i == head:
            continue
        in_time = now_s + total_s[i] / rates[profile[i], level] <= shadow_s
        if one_type and not in_time and gpus > extra:
            continue
        kind = type_behind(v, i, level, room, reserved, np.inf if in_time else extra)
        if kind >= 0:
            target[i] = level
            charge(v, room, i, v.sizes[v.profile[i], level], kind)
            most = most_left(room)
            if not in_time and kind == reserved:
                extra -= gpus_of(v, i, level)
