"""The room that is left while a rule decides: by GPU type and resource, and within quotas.

A rule opens a room, asks it for GPUs job by job, and is told whether they are there:

    room = free_room(v)           who runs keeps what it holds
    room = whole_room(v)          nobody holds anything yet
    take(v, room, i, level)       job i at a level, on the first of its types with room
    raise_level(v, room, i, a, b) job i from level a to b, on the type that it is on if it can

A gang lives on one GPU type, so that GPUs of two types are never added up. A job's types are tried
in the order in which placement tries them, the fastest first. What a room cannot know is which
nodes have the GPUs: where a start finds none, the simulator notes that in `v.refused_at`, and the
job is passed over until GPUs come back.

One room at a time is open on a view: tenants are counted in its `tenant_tally`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from marl_sched.allocation import quota
from marl_sched.compiled.jit import kernel
from marl_sched.types import ClusterView


class Room(NamedTuple):
    """What is left, T GPU types."""

    left: np.ndarray  # (T, 4) float64, order of RESOURCES
    kind: np.ndarray  # (A,) int64, GPU type of whoever was given any; (0,) in a plain view


@kernel
def is_plain(v: ClusterView) -> bool:
    """Whether all GPUs are of one type and nobody has a quota."""
    return v.free_by_type.shape[0] == 1 and v.tenant_quota.size == 0


@kernel
def gpus_in(
    sizes: np.ndarray, profile: np.ndarray, demand: np.ndarray, i: int, level: int
) -> float:
    """GPUs of job `i` at a level; a share counts as the fraction that it is.

    Args:
        sizes: (P, L) int64, GPUs of each profile's levels.
        profile, demand: (A,) int64 and (A, 4) float64, of the jobs; of one of their GPUs.
    """
    return float(sizes[profile[i], level] * demand[i, 0])


@kernel
def gpus_of(v: ClusterView, i: int, level: int) -> float:
    """`gpus_in` of a view."""
    return gpus_in(v.sizes, v.profile, v.demand, i, level)


@kernel
def room_of(v: ClusterView, total: np.ndarray, from_held: bool) -> Room:
    """A room with nothing charged: `total` (4,) on one type, what is free on several."""
    types = v.free_by_type.shape[0]
    left = np.empty((types, 4))
    for t in range(types):
        for r in range(4):
            left[t, r] = total[r] if types == 1 else v.free_by_type[t, r]
    quota.count_anew(v.tenant_quota, v.tenant_tally, from_held)
    if is_plain(v):
        return Room(left, v.job[:0])  # not even an empty array is made
    return Room(left, np.zeros(v.job.size, dtype=np.int64))


@kernel
def free_room(v: ClusterView) -> Room:
    """What is free once running jobs are down to what their agents accept."""
    room = room_of(v, v.free, True)
    release_above_limits(v, room)
    return room


@kernel
def release_above_limits(v: ClusterView, room: Room) -> None:
    """Give back what running jobs hold above what their agents accept."""
    level, limit = v.level, v.limit_level
    for i in v.running:
        if level[i] > limit[i]:
            profile = v.profile[i]
            over = v.sizes[profile, level[i]] - v.sizes[profile, limit[i]]
            charge(v, room, i, -over, v.gpu_type[i])


@kernel
def room_beside_running(v: ClusterView, target: np.ndarray) -> Room:
    """What is left beside the running jobs, which keep their levels: written into target (A,)."""
    for i in range(v.job.size):
        target[i] = min(v.level[i], v.limit_level[i])
    if v.free_by_type.shape[0] > 1:
        return free_room(v)
    room = room_of(v, v.capacity, False)
    for i in range(v.job.size):
        if target[i] > 0:
            charge(v, room, i, v.sizes[v.profile[i], target[i]], 0)
    return room


@kernel
def whole_room(v: ClusterView) -> Room:
    """What there is to give away if nobody held anything."""
    room = room_of(v, v.capacity, False)
    if v.free_by_type.shape[0] > 1:
        for i in v.running:
            release(v, room.left, i, v.sizes[v.profile[i], v.level[i]], v.gpu_type[i])
    return room


@kernel
def most_left(room: Room) -> float:
    """GPUs left of the type that has most: no job finds more."""
    most = room.left[0, 0]
    for t in range(1, room.left.shape[0]):
        most = max(most, room.left[t, 0])
    return float(most)


@kernel
def covers(v: ClusterView, left: np.ndarray, i: int, gpus: int, kind: int) -> bool:
    """Whether the rest of one GPU type in `left` (T, 4) covers `gpus` of job `i`."""
    for r in range(4):
        if gpus * v.demand[i, r] > left[kind, r] + 1e-9:
            return False
    return True


@kernel
def release(v: ClusterView, left: np.ndarray, i: int, gpus: int, kind: int) -> None:
    """Give `gpus` of job `i` back to one GPU type in `left` (T, 4)."""
    for r in range(4):
        left[kind, r] += gpus * v.demand[i, r]


@kernel
def charge(v: ClusterView, room: Room, i: int, gpus: int, kind: int) -> None:
    """Take `gpus` of job `i`, with the CPU, memory and network they need, from one GPU type."""
    for r in range(4):
        room.left[kind, r] -= gpus * v.demand[i, r]
    count(v, i, gpus)
    if room.kind.size > 0:
        room.kind[i] = kind


@kernel
def count(v: ClusterView, i: int, gpus: int) -> None:
    """Count `gpus` of job `i` for its tenant."""
    if v.tenant_quota.size > 0:
        more = quota.thousandths(gpus, v.demand[i, 0])
        quota.add(v.tenant_quota, v.tenant_held, v.tenant_tally, v.tenant[i], more)


@kernel
def over_quota(v: ClusterView, i: int, gpus: int) -> bool:
    """Whether `gpus` of job `i` are more than its tenant's quota leaves."""
    if v.tenant_quota.size == 0:
        return False
    more = quota.thousandths(gpus, v.demand[i, 0])
    return quota.excess(v.tenant_quota, v.tenant_held, v.tenant_tally, v.tenant[i], more) > 0.0


@kernel
def close_tenant(v: ClusterView, i: int) -> None:
    """Give nothing more to the tenant of job `i`: its later jobs do not pass job `i`."""
    quota.add(v.tenant_quota, v.tenant_held, v.tenant_tally, v.tenant[i], quota.FULL)


@kernel
def is_refused(v: ClusterView, i: int) -> bool:
    """Whether job `i` waits and has found no node since GPUs last came back."""
    return bool(v.refused_at[i] == v.releases and v.level[i] == 0)


@kernel
def type_for(v: ClusterView, left: np.ndarray, i: int, level: int) -> int:
    """The type on which job `i` would be placed at a level, by `left` (T, 4); -1 without room."""
    profile = v.profile[i]
    gpus = v.sizes[profile, level]
    if left.shape[0] == 1:
        return 0 if covers(v, left, i, gpus, 0) else -1
    for rank in range(left.shape[0]):
        kind = v.type_order[profile, level, rank]
        if v.types[i] >> kind & 1 and covers(v, left, i, gpus, kind):
            return int(kind)
    return -1


@kernel
def fits(v: ClusterView, room: Room, i: int, level: int) -> bool:
    """Whether job `i`, which has been given nothing, finds room for a level."""
    if is_refused(v, i) or over_quota(v, i, v.sizes[v.profile[i], level]):
        return False
    return type_for(v, room.left, i, level) >= 0


@kernel
def raise_plainly(v: ClusterView, left: np.ndarray, i: int, level: int, above: int) -> bool:
    """`raise_level` in a plain view: what is left (1, 4) is all that there is to know of a room."""
    profile = v.profile[i]
    step = v.sizes[profile, above] - v.sizes[profile, level]
    if is_refused(v, i) or not covers(v, left, i, step, 0):
        return False
    for r in range(4):
        left[0, r] -= step * v.demand[i, r]
    return True


@kernel
def take(v: ClusterView, room: Room, i: int, level: int) -> bool:
    """Give job `i`, which has been given nothing, a level; False where there is no room."""
    if room.kind.size == 0:
        return raise_plainly(v, room.left, i, 0, level)
    gpus = v.sizes[v.profile[i], level]
    if is_refused(v, i) or over_quota(v, i, gpus):
        return False
    kind = type_for(v, room.left, i, level)
    if kind < 0:
        return False
    charge(v, room, i, gpus, kind)
    return True


@kernel
def raise_level(v: ClusterView, room: Room, i: int, level: int, above: int) -> bool:
    """Give job `i` a higher level than it has been given; False where there is no room.

    Up to the level that it holds, a running job is where it is. Beyond, and whoever waits, may
    change to another type that has room for the whole gang.
    """
    if room.kind.size == 0:
        return raise_plainly(v, room.left, i, level, above)
    sizes = v.sizes[v.profile[i]]
    step = sizes[above] - sizes[level]
    if room.left.shape[0] == 1:
        if is_refused(v, i) or over_quota(v, i, step) or not covers(v, room.left, i, step, 0):
            return False
        charge(v, room, i, step, 0)
        return True
    if is_refused(v, i) or over_quota(v, i, step):
        return False
    stays = above <= v.level[i]
    if stays or level > 0:
        kind = v.gpu_type[i] if level == 0 else room.kind[i]
        if covers(v, room.left, i, step, kind):
            charge(v, room, i, step, kind)
            return True
        if stays:
            return False
    # What it gives up on the type that it leaves is of no use on another.
    kind = type_for(v, room.left, i, above)
    if kind < 0:
        return False
    if level > 0:
        release(v, room.left, i, sizes[level], room.kind[i])
        count(v, i, -sizes[level])
    charge(v, room, i, sizes[above], kind)
    return True


@kernel
def keep(v: ClusterView, room: Room, i: int, level: int) -> None:
    """Let the running job `i` keep a level, at most its own, where it is."""
    charge(v, room, i, v.sizes[v.profile[i], level], v.gpu_type[i])


@kernel
def all_fit(v: ClusterView, target: np.ndarray) -> bool:
    """Whether jobs find room for the levels in target (A,) all at once, types as they come."""
    room = whole_room(v)
    for i in range(target.size):
        if target[i] > 0 and not raise_level(v, room, i, 0, target[i]):
            return False
    return True
