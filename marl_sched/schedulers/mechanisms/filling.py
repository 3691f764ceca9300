"""Ways to hand out GPUs, shared by the classic schedulers; compiled.

`serve_queue`, `serve_waiting` and `serve_all` serve whole requests in an order;
`fill_by_score` raises elastic jobs level by level, best score first. A binary heap orders only
as many jobs as can be served.
"""

from __future__ import annotations

import numpy as np

from marl_sched.allocation.room import (
    Room,
    charge,
    close_tenant,
    count,
    covers,
    free_room,
    is_plain,
    is_refused,
    most_left,
    over_quota,
    raise_level,
    release,
    room_of,
    take,
    type_for,
    whole_room,
)
from marl_sched.compiled.jit import kernel, part
from marl_sched.compiled.order import comes_before, heapify, sift_down, sort_nearly_sorted
from marl_sched.types import ClusterView, Floats1, Floats2, Ints1

HALVINGS = 12
"""After so many the few levels that are still open are taken in order."""


@kernel
def asked_level(v: ClusterView, i: int) -> int:
    """Level that job `i` asks for and accepts."""
    return int(min(v.request_level[i], v.limit_level[i]))


@kernel
def serve_queue(v: ClusterView, strict: bool, target: np.ndarray, room: Room) -> None:
    """Give waiting jobs their whole request in order of arrival; who runs keeps what it holds.

    Args:
        strict: stop at the first job that does not fit, instead of passing over it. A job that its
            tenant's quota holds back stops its own tenant's jobs alone.
        target: (A,) int64, the levels held; raised in place.
        room: what is free; lowered in place.
    """
    for i in v.waiting:
        if most_left(room) <= 0.0:
            return
        level = asked_level(v, i)
        if take(v, room, i, level):
            target[i] = level
        elif strict and stops_the_queue(v, i, level):
            return


@kernel
def stops_the_queue(v: ClusterView, i: int, level: int) -> bool:
    """Whether nobody may pass job `i`, which found no room; else nobody of its tenant does."""
    if not over_quota(v, i, v.sizes[v.profile[i], level]):
        return True
    close_tenant(v, i)
    return False


@kernel
def serve_waiting(v: ClusterView, key: np.ndarray, strict: bool, target: np.ndarray) -> None:
    """Give waiting jobs their whole request, smallest key first; who runs keeps what it holds.

    Args:
        key: (A,) float64; +inf leaves a job out.
        strict, target: as in `serve_queue`.
    """
    heap = np.empty(v.waiting.size, dtype=np.int64)
    size, smallest = 0, np.inf
    for i in v.waiting:
        if key[i] < np.inf:
            heap[size] = i
            size += 1
            smallest = min(smallest, v.sizes[v.profile[i], asked_level(v, i)] * v.demand[i, 0])
    fill_from_heap(v, heap, size, smallest, key, strict, target, free_room(v))


@kernel
def wanted_level(v: ClusterView, key: np.ndarray, i: int) -> int:
    """Level of the running job `i` when its turn comes: as held, its request, or none."""
    if key[i] == -np.inf:
        return int(min(v.level[i], v.limit_level[i]))
    return asked_level(v, i) if key[i] < np.inf else 0


@kernel
def serve_all(v: ClusterView, key: np.ndarray, target: np.ndarray) -> None:
    """Give all jobs, running or waiting, their whole request, smallest key first.

    Most of the time nobody who runs has to go. Those are therefore kept sorted from one call to
    the next, and everybody is served anew only where that changes something for them.

    Args:
        key: (A,) float64; -inf keeps exactly what the job holds, +inf leaves it out.
        target: (A,) int64, the levels held; overwritten.
    """
    running = v.running
    sort_nearly_sorted(running, key, v.job)
    smallest = np.inf
    for i in v.waiting:
        if key[i] < np.inf:
            smallest = min(smallest, v.sizes[v.profile[i], asked_level(v, i)] * v.demand[i, 0])
    # GPUs left for those who come after each running job; after `last` for nobody who waits.
    after = np.empty(running.size)
    left, last, changes, plain = v.capacity[0], -1, False, is_plain(v)
    for at in range(running.size):
        i = running[at]
        left -= v.gpus[i]
        after[at] = left
        if last < 0 and left < smallest - 1e-9:
            last = i
        changes |= v.level[i] != wanted_level(v, key, i)
        plain &= v.leaving[i] == 0
    if not plain:
        if changes or smallest < np.inf:  # else all stay, and nobody comes
            serve_by_turns(v, key, smallest, target)
        return
    heap = np.empty(v.waiting.size, dtype=np.int64)
    size = 0
    for i in v.waiting:
        if key[i] < np.inf and (last < 0 or comes_before(key, v.job, i, last)):
            heap[size] = i
            size += 1
    if changes or displace(v, key, heap, size, after, target):
        serve_in_turn(v, key, heap, smallest, target)


@kernel
def displace(
    v: ClusterView,
    key: np.ndarray,
    heap: np.ndarray,
    size: int,
    after: np.ndarray,
    target: np.ndarray,
) -> bool:
    """Serve those who wait in `heap[:size]` from what is free; True if one displaces who runs.

    Args:
        after: (R,) float64, GPUs left after each running job's turn, as long as all stay.
    """
    room, given = room_of(v, v.free, True), 0.0
    heapify(heap, size, key, v.job)
    while size > 0:
        i = heap[0]
        size -= 1
        heap[0] = heap[size]
        sift_down(heap, size, 0, key, v.job)
        level = asked_level(v, i)
        gpus = v.sizes[v.profile[i], level] * v.demand[i, 0]
        target[i] = serve(v, i, level, room)
        if target[i] > 0:
            given += gpus
            continue
        low, high = 0, after.size  # who runs and comes before it
        while low < high:
            middle = (low + high) >> 1
            if comes_before(key, v.job, v.running[middle], i):
                low = middle + 1
            else:
                high = middle
        left = after[low - 1] if low > 0 else v.capacity[0]
        if gpus <= left - given + 1e-9 and not is_refused(v, i):
            return True
    return False


@kernel
def serve_in_turn(
    v: ClusterView, key: np.ndarray, heap: np.ndarray, smallest: float, target: np.ndarray
) -> None:
    """Serve everybody anew: those who run, sorted, and those who wait, by turns.

    Args:
        heap: (W,) int64, scratch.
        smallest: GPUs of the least request of those who wait.
    """
    size = list_waiting(v, key, heap, target)
    room = whole_room(v)
    at = 0
    while at < v.running.size or size > 0:
        waits = size > 0 and most_left(room) >= smallest - 1e-9
        if waits and at < v.running.size:
            waits = comes_before(key, v.job, heap[0], v.running[at])
        if waits:
            i = heap[0]
            size -= 1
            heap[0] = heap[size]
            sift_down(heap, size, 0, key, v.job)
            target[i] = serve(v, i, asked_level(v, i), room)
        elif at < v.running.size:
            i = v.running[at]
            at += 1
            target[i] = serve(v, i, wanted_level(v, key, i), room)
        else:
            return


@kernel
def list_waiting(v: ClusterView, key: np.ndarray, heap: np.ndarray, target: np.ndarray) -> int:
    """Make `heap` (W,) a heap of those who wait and are not left out; their number. Target 0."""
    size = 0
    for i in v.waiting:
        target[i] = 0
        if key[i] < np.inf:
            heap[size] = i
            size += 1
    heapify(heap, size, key, v.job)
    return size


@kernel
def serve(v: ClusterView, i: int, level: int, room: Room) -> int:
    """Take the GPUs of job `i` at `level` from a room if they are there; its level then."""
    return level if take(v, room, i, level) else 0


@part
def serve_by_turns(v: ClusterView, key: Floats1, smallest: float, target: Ints1) -> None:
    """`serve_in_turn` where it matters which GPUs a job has: by type, tenant and node.

    A running job is where it is. A job whose turn comes takes GPUs that nobody holds, on the first
    of its types that has enough; else on the first that has with what running jobs after it hold.

    Args:
        key, smallest, target: as in `serve_all`; running jobs are sorted already.
    """
    running = v.running
    heap = np.empty(v.waiting.size, dtype=np.int64)
    size = list_waiting(v, key, heap, target)
    room = room_of(v, v.free, False)  # what is not held, and not given since
    ahead = room.left.copy()  # with what running jobs hold whose turn is still to come
    for i in running:
        release(v, ahead, i, held_on_open(v, i), v.gpu_type[i])
    at = 0
    while at < running.size or size > 0:
        waits = size > 0 and most_left(Room(ahead, room.kind)) >= smallest - 1e-9
        if waits and at < running.size:
            waits = comes_before(key, v.job, heap[0], running[at])
        if waits:
            i = heap[0]
            size -= 1
            heap[0] = heap[size]
            sift_down(heap, size, 0, key, v.job)
            target[i] = serve_ahead(v, i, asked_level(v, i), room, ahead)
        elif at < running.size:
            i = running[at]
            at += 1
            target[i] = serve_running(v, i, wanted_level(v, key, i), room, ahead)
        else:
            return


@kernel
def held_on_open(v: ClusterView, i: int) -> int:
    """GPUs of a running job that others could have: not on nodes that are about to go."""
    return int(v.sizes[v.profile[i], v.level[i]] - v.leaving[i])


@kernel
def back_from(v: ClusterView, i: int, level: int) -> int:
    """GPUs that others can have when the running job `i`, kept at a level, has ended."""
    return int(min(v.sizes[v.profile[i], level], held_on_open(v, i)))


@kernel
def serve_ahead(v: ClusterView, i: int, level: int, room: Room, ahead: np.ndarray) -> int:
    """Place job `i` at `level` in free GPUs, else in those of running jobs after it; its level."""
    gpus = v.sizes[v.profile[i], level]
    if is_refused(v, i) or over_quota(v, i, gpus):
        return 0
    kind = type_for(v, room.left, i, level)
    if kind < 0:
        kind = type_for(v, ahead, i, level)
    if kind < 0:
        return 0
    charge(v, room, i, gpus, kind)
    release(v, ahead, i, -gpus, kind)
    return level


@kernel
def serve_running(v: ClusterView, i: int, level: int, room: Room, ahead: np.ndarray) -> int:
    """Let the running job `i` keep its place, or find one at another level; its level then.

    Args:
        level: wanted; 0 stops it.
    """
    gpus, kind = held_on_open(v, i), v.gpu_type[i]
    held = v.sizes[v.profile[i], v.level[i]]
    if level == v.level[i] and not over_quota(v, i, held) and covers(v, ahead, i, gpus, kind):
        release(v, ahead, i, -gpus, kind)
        count(v, i, held)
        return level
    release(v, room.left, i, gpus, kind)
    return serve_ahead(v, i, level, room, ahead) if 0 < level != v.level[i] else 0


@kernel
def fill_from_heap(
    v: ClusterView,
    heap: np.ndarray,
    size: int,
    smallest: float,
    key: np.ndarray,
    strict: bool,
    target: np.ndarray,
    room: Room,
) -> None:
    """Give `heap[:size]` rows their request, smallest key first, from what a room has left."""
    if most_left(room) < smallest - 1e-9:
        return
    heapify(heap, size, key, v.job)
    while size > 0 and most_left(room) >= smallest - 1e-9:
        i = heap[0]
        size -= 1
        heap[0] = heap[size]
        sift_down(heap, size, 0, key, v.job)
        level = asked_level(v, i)
        if take(v, room, i, level):
            target[i] = level
        elif strict and stops_the_queue(v, i, level):
            return


@kernel
def highest(v: ClusterView, i: int) -> int:
    """Level up to which job `i` may be raised at all."""
    return 0 if is_refused(v, i) else int(v.limit_level[i])


@kernel
def list_steps(
    v: ClusterView, table: np.ndarray, target: np.ndarray, worth: np.ndarray, gpus: np.ndarray
) -> int:
    """List the levels that jobs could still get, each with its GPUs; their number.

    Args:
        worth: (A * L,) float64, overwritten: the least score up to the level, which is when
            `fill_by_score` would come to it.
        gpus: (A * L,) int64, overwritten, in 1/1000: integers are added several at once.
    """
    count = 0
    sizes = v.sizes
    for i in range(target.size):
        size, score, milli = sizes[v.profile[i]], table[i], int(1000.0 * v.demand[i, 0] + 0.5)
        least = np.inf
        for level in range(target[i], highest(v, i)):
            least = min(least, score[level])
            if least == -np.inf:
                break
            worth[count] = least
            gpus[count] = milli * (size[level + 1] - size[level])
            count += 1
    return count


@kernel
def fitting_score(worth: np.ndarray, gpus: np.ndarray, room: float) -> float:
    """A score at and above which all steps fit into `room` GPUs together, close to the lowest."""
    most = int(1000.0 * room + 0.5)
    low, high, total = np.inf, -np.inf, 0
    for k in range(worth.size):
        low, high = min(low, worth[k]), max(high, worth[k])
        total += gpus[k]
    if total <= most or high == np.inf:
        return -np.inf
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        asked = 0
        for k in range(worth.size):
            asked += gpus[k] if worth[k] >= middle else 0
        if asked <= most:
            high = middle
        else:
            low = middle
    return float(high)


@kernel
def take_at_once(
    v: ClusterView, table: np.ndarray, target: np.ndarray, left: np.ndarray, score: float
) -> None:
    """Give out every level that comes at `score` or above, if all of them fit together."""
    raised, gpus = target.copy(), np.empty(target.size)
    profile, sizes, demand = v.profile, v.sizes, v.demand
    for i in range(target.size):
        worth, level, limit = table[i], target[i], highest(v, i)
        while level < limit and worth[level] >= score and worth[level] > -np.inf:
            level += 1
        gpus[i] = sizes[profile[i], level] - sizes[profile[i], target[i]]
        raised[i] = level
    rest = left.copy()
    for r in range(4):
        asked = 0.0
        for i in range(target.size):
            asked += gpus[i] * demand[i, r]
        rest[r] -= asked
    if rest.min() >= -1e-9:
        target[:] = raised
        left[:] = rest


@part
def fill_by_score(
    v: ClusterView, table: Floats2, target: Ints1, left: Floats2, kind: Ints1
) -> None:
    """Raise jobs one level at a time, highest score first, until nothing fits.

    Whoever comes before the first that finds no room is not sorted, but found by a score: where
    one type of GPU and no quota makes the room one sum.

    Args:
        table: (A, L) float64, table[i, l] the score of going from level l to l + 1;
            -inf stops the job there.
        target: (A,) int64 levels to start from, raised in place.
        left, kind: fields of the room not yet given away, which is lowered in place.
    """
    n = v.job.size
    room = Room(left, kind)
    if is_plain(v):
        worth, gpus = np.empty(table.size), np.empty(table.size, dtype=np.int64)
        steps = list_steps(v, table, target, worth, gpus)
        if steps > 0:
            score = fitting_score(worth[:steps], gpus[:steps], left[0, 0])
            take_at_once(v, table, target, left[0], score)
    if most_left(room) <= 1e-9:
        return
    heap = np.empty(n, dtype=np.int64)
    key = np.empty(n)
    waiting = 0
    for i in range(n):
        level = target[i]
        if level >= highest(v, i) or table[i, level] == -np.inf:
            continue
        if may_grow(v, room, i, level):
            key[i] = -table[i, level]
            heap[waiting] = i
            waiting += 1
    heapify(heap, waiting, key, v.job)
    while waiting > 0 and most_left(room) > 1e-9:
        i = heap[0]
        level = target[i]
        key[i] = np.inf
        if raise_level(v, room, i, level, level + 1):
            target[i] = level + 1
            if level + 1 < v.limit_level[i]:
                key[i] = -table[i, level + 1]
        if key[i] == np.inf:
            waiting -= 1
            heap[0] = heap[waiting]
        sift_down(heap, waiting, 0, key, v.job)


@kernel
def may_grow(v: ClusterView, room: Room, i: int, level: int) -> bool:
    """Whether the next level of job `i` fits now; what does not on one type never will."""
    if room.left.shape[0] > 1:
        return True
    sizes = v.sizes[v.profile[i]]
    return covers(v, room.left, i, sizes[level + 1] - sizes[level], 0)


@kernel
def fill_whole(v: ClusterView, table: np.ndarray, target: np.ndarray) -> None:
    """`fill_by_score` of everything there is, from nothing; target (A,) is overwritten."""
    target[:] = 0
    room = whole_room(v)
    fill_by_score(v, table, target, room.left, room.kind)
