"""Serving whole requests in an order, shared by the classic schedulers; compiled.

`serve_queue`, `serve_waiting` and `serve_all`. A binary heap orders only as many jobs as can be
served.
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
    raise_plainly,
    release,
    room_of,
    take,
    type_for,
    whole_room,
)
from marl_sched.compiled.jit import kernel, part
from marl_sched.compiled.order import (
    bound_of_first,
    comes_before,
    heapify,
    sift_down,
    sort_nearly_sorted,
)
from marl_sched.types import ClusterView, Floats1, Ints1

LEAST_REQUEST = 0.001
"""GPUs: no share is smaller."""

FEW_WAIT = 250
"""Jobs that wait, up to which all of them are looked at in earnest."""


@kernel
def asked_level(v: ClusterView, i: int) -> int:
    """Level that job `i` asks for and accepts."""
    return int(min(v.request_level[i], v.limit_level[i]))


@kernel
def serve_queue(v: ClusterView, strict: bool, target: np.ndarray, room: Room) -> int:
    """Give waiting jobs their whole request in order of arrival; who runs keeps what it holds.

    Args:
        strict: stop at the first job that does not fit, instead of passing over it. A job that its
            tenant's quota holds back stops its own tenant's jobs alone.
        target: (A,) int64, the levels held; raised in place.
        room: what is free; lowered in place.

    Returns:
        How many of the first jobs that wait have been looked at.
    """
    for at in range(v.waiting.size):
        if most_left(room) <= 0.0:
            return at
        i = v.waiting[at]
        level = asked_level(v, i)
        if take(v, room, i, level):
            target[i] = level
        elif strict and stops_the_queue(v, i, level):
            return at
    return int(v.waiting.size)


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
    room = free_room(v)
    if most_left(room) < LEAST_REQUEST - 1e-9:
        return
    heap, size = np.empty(v.waiting.size, dtype=np.int64), 0
    for i in v.waiting:
        if key[i] < np.inf:
            heap[size] = i
            size += 1
    fill_from_heap(v, heap, size, least_request(v, key), key, strict, target, room)


@kernel
def wanted_level(v: ClusterView, key: np.ndarray, i: int) -> int:
    """Level of the running job `i` when its turn comes: as held, its request, or none."""
    if key[i] == -np.inf:
        return int(min(v.level[i], v.limit_level[i]))
    return asked_level(v, i) if key[i] < np.inf else 0


@kernel
def least_request(v: ClusterView, key: np.ndarray) -> float:
    """GPUs that no job which waits and is not left out asks less than; +inf without any.

    The least request itself, where that is more than one GPU: with less about, all room matters.
    """
    least = np.inf
    for i in v.waiting:
        if key[i] < np.inf:
            least = min(least, v.sizes[v.profile[i], asked_level(v, i)] * v.demand[i, 0])
            if least <= 1.0:
                return LEAST_REQUEST
    return least


@kernel
def usual_bound(v: ClusterView, key: np.ndarray, room: float) -> float:
    """A key up to which enough jobs wait to fill `room` GPUs, as a rule; +inf for few jobs."""
    if v.waiting.size <= FEW_WAIT:
        return np.inf
    return bound_of_first(v.waiting, key, 64 + 2 * int(room))


@part
def heap_of(v: ClusterView, key: Floats1, bound: float, above: bool, last: int, heap: Ints1) -> int:
    """Make `heap` (W,) a heap of jobs that wait and are not left out; their number.

    When very many wait, one pass over the keys finds the few whose turn may come.

    Args:
        bound: of those with a key of at most so much, or of the others (`above`).
        last: and of those who come before this row; -1 for all.
    """
    size, level, waiting = 0, v.level, v.waiting
    if waiting.size <= FEW_WAIT:
        for i in waiting:
            if may_come(v, key, i, bound, above, last):
                heap[size] = i
                size += 1
    else:
        for i in range(key.size):
            if level[i] == 0 and may_come(v, key, i, bound, above, last):
                heap[size] = i
                size += 1
    heapify(heap, size, key, v.job)
    return size


@kernel
def may_come(v: ClusterView, key: np.ndarray, i: int, bound: float, above: bool, last: int) -> bool:
    """Whether job `i`, which waits, belongs into `heap_of`."""
    if (key[i] <= bound) == above or key[i] == np.inf:
        return False
    return last < 0 or comes_before(key, v.job, i, last)


@kernel
def serve_all(v: ClusterView, key: np.ndarray, target: np.ndarray) -> bool:
    """Give all jobs, running or waiting, their whole request, smallest key first.

    Most of the time nobody who runs has to go. Those are therefore kept sorted from one call to
    the next, and everybody is served anew only where that changes something for them.

    Args:
        key: (A,) float64; -inf keeps exactly what the job holds, +inf leaves it out.
        target: (A,) int64, the levels held; overwritten.

    Returns:
        Whether anybody's level may be another now.
    """
    running = v.running
    sort_nearly_sorted(running, key, v.job)
    # GPUs left for those who come after each running job.
    after = np.empty(running.size)
    left, changes, plain = v.capacity[0], False, is_plain(v)
    held, level, request, limit, leaving = (
        v.gpus, v.level, v.request_level, v.limit_level, v.leaving,
    )  # fmt: skip
    for at in range(running.size):
        i = running[at]
        left -= held[i]
        after[at] = left
        usual = min(request[i], limit[i]) == level[i] and -np.inf < key[i] < np.inf
        changes |= not usual and level[i] != wanted_level(v, key, i)
        plain &= leaving[i] == 0
    if not plain:
        least = least_request(v, key)
        if not changes and least == np.inf:
            return False  # all stay, and nobody comes
        serve_by_turns(v, key, least, target)
        return True
    # Where nothing at all is left, nobody's request need be looked at to know that.
    smallest = LEAST_REQUEST
    if left >= LEAST_REQUEST - 1e-9:
        smallest = least_request(v, key)
    at = 0
    while at < running.size and after[at] >= smallest - 1e-9:
        at += 1
    last = running[at] if at < running.size else -1  # after it nobody who waits finds room
    heap, bound = np.empty(v.waiting.size, dtype=np.int64), np.inf
    if not changes:
        if last < 0:
            bound = usual_bound(v, key, left)
        size = heap_of(v, key, bound if last < 0 else key[last], False, last, heap)
        if size == 0 and bound == np.inf:
            return False
        changes = displace(v, key, bound, heap, size, smallest, after, target)
    if changes:
        bound = usual_bound(v, key, left)
        serve_in_turn(v, key, bound, heap, least_request(v, key), target)
    return True


@kernel
def displace(
    v: ClusterView,
    key: np.ndarray,
    bound: float,
    heap: np.ndarray,
    size: int,
    smallest: float,
    after: np.ndarray,
    target: np.ndarray,
) -> bool:
    """Serve those who wait from what is free; True if one displaces who runs.

    Args:
        heap: `heap[:size]` has those with a key of at most `bound`, all others come after them.
        smallest: GPUs of the least request.
        after: (R,) float64, GPUs left after each running job's turn, as long as all stay.
    """
    left, given = room_of(v, v.free, True).left, 0.0
    while True:
        if size == 0 and bound < np.inf:
            size, bound = heap_of(v, key, bound, True, -1, heap), np.inf
        if size == 0:
            return False
        i = heap[0]
        size -= 1
        heap[0] = heap[size]
        sift_down(heap, size, 0, key, v.job)
        level = asked_level(v, i)
        gpus = v.sizes[v.profile[i], level] * v.demand[i, 0]
        if raise_plainly(v, left, i, 0, level):
            target[i] = level
            given += gpus
            continue
        target[i] = 0
        low, high = 0, after.size  # who runs and comes before it
        while low < high:
            middle = (low + high) >> 1
            if comes_before(key, v.job, v.running[middle], i):
                low = middle + 1
            else:
                high = middle
        ahead = after[low - 1] if low > 0 else v.capacity[0]
        if gpus <= ahead - given + 1e-9 and not is_refused(v, i):
            return True
        if ahead - given < smallest - 1e-9:
            return False  # and less is left for those behind


@kernel
def serve_in_turn(
    v: ClusterView,
    key: np.ndarray,
    bound: float,
    heap: np.ndarray,
    smallest: float,
    target: np.ndarray,
) -> None:
    """Serve everybody anew: those who run, sorted, and those who wait, by turns.

    Args:
        bound: a key up to which enough jobs wait, as a rule.
        heap: (W,) int64, scratch.
        smallest: GPUs of the least request of those who wait.
    """
    for i in v.waiting:
        target[i] = 0
    size = heap_of(v, key, bound, False, -1, heap)
    left = whole_room(v).left
    at = 0
    while True:
        if size == 0 and bound < np.inf and left[0, 0] >= smallest - 1e-9:
            if at == v.running.size or key[v.running[at]] > bound:
                size, bound = heap_of(v, key, bound, True, -1, heap), np.inf
        waits = size > 0 and left[0, 0] >= smallest - 1e-9
        if waits and at < v.running.size:
            waits = comes_before(key, v.job, heap[0], v.running[at])
        if waits:
            i = heap[0]
            size -= 1
            heap[0] = heap[size]
            sift_down(heap, size, 0, key, v.job)
            target[i] = serve_plainly(v, i, asked_level(v, i), left)
        elif at < v.running.size:
            i = v.running[at]
            at += 1
            target[i] = serve_plainly(v, i, wanted_level(v, key, i), left)
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
def serve_plainly(v: ClusterView, i: int, level: int, left: np.ndarray) -> int:
    """Take the GPUs of job `i` at `level` from a plain view if they are there; its level then."""
    return level if raise_plainly(v, left, i, 0, level) else 0


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
    plain, left = is_plain(v), room.left
    heapify(heap, size, key, v.job)
    while size > 0 and most_left(room) >= smallest - 1e-9:
        i = heap[0]
        size -= 1
        heap[0] = heap[size]
        sift_down(heap, size, 0, key, v.job)
        level = asked_level(v, i)
        if raise_plainly(v, left, i, 0, level) if plain else take(v, room, i, level):
            target[i] = level
        elif strict and stops_the_queue(v, i, level):
            return
