"""Ways to hand out GPUs, shared by the classic schedulers; compiled.

`serve_queue`, `serve_waiting` and `serve_all` serve whole requests in an order;
`fill_by_score` raises elastic jobs level by level, best score first. A binary heap orders only
as many jobs as can be served.
"""

from __future__ import annotations

import numpy as np

from marl_sched.jit import kernel, part
from marl_sched.order import comes_before, heapify, sift_down, sort_nearly_sorted
from marl_sched.types import ClusterView, Floats1, Floats2, Ints1

HALVINGS = 12
"""After so many the few levels that are still open are taken in order."""


@kernel
def asked_level(v: ClusterView, i: int) -> int:
    """Level that job `i` asks for and accepts."""
    return int(min(v.request_level[i], v.limit_level[i]))


@kernel
def charge(v: ClusterView, i: int, gpus: int, left: np.ndarray) -> None:
    """Take `gpus` of job `i`, with the CPU, memory and network they need, from `left` (4,)."""
    for r in range(4):
        left[r] -= gpus * v.demand[i, r]


@kernel
def enough(v: ClusterView, i: int, gpus: int, left: np.ndarray) -> bool:
    """Whether the cluster-wide rest `left` (4,) covers `gpus` of job `i`."""
    for r in range(4):
        if gpus * v.demand[i, r] > left[r] + 1e-9:
            return False
    return True


@kernel
def keep_running(v: ClusterView, target: np.ndarray, left: np.ndarray) -> None:
    """Let every running job keep its level: the first step of a non-preemptive rule."""
    for i in range(v.job.size):
        target[i] = min(v.level[i], v.limit_level[i])
        if target[i] > 0:
            charge(v, i, v.sizes[v.profile[i], target[i]], left)


@kernel
def free_after_limits(v: ClusterView) -> np.ndarray:
    """(4,) float64, what is free once running jobs are down to what their agents accept."""
    left = v.free.copy()
    for i in v.running:
        if v.level[i] > v.limit_level[i]:
            profile = v.profile[i]
            over = v.sizes[profile, v.level[i]] - v.sizes[profile, v.limit_level[i]]
            charge(v, i, -over, left)
    return left


@kernel
def serve_queue(v: ClusterView, strict: bool, target: np.ndarray, left: np.ndarray) -> None:
    """Give waiting jobs their whole request in order of arrival; who runs keeps what it holds.

    Args:
        strict: stop at the first job that does not fit, instead of passing over it.
        target: (A,) int64, the levels held; raised in place.
        left: (4,) float64, free resources; lowered in place.
    """
    for i in v.waiting:
        if left[0] <= 0.0:
            return
        level = asked_level(v, i)
        gpus = v.sizes[v.profile[i], level]
        if enough(v, i, gpus, left):
            target[i] = level
            charge(v, i, gpus, left)
        elif strict:
            return


@kernel
def serve_waiting(v: ClusterView, key: np.ndarray, strict: bool, target: np.ndarray) -> None:
    """Give waiting jobs their whole request, smallest key first; who runs keeps what it holds.

    Args:
        key: (A,) float64; +inf leaves a job out.
        strict, target: as in `serve_queue`.
    """
    heap = np.empty(v.waiting.size, dtype=np.int64)
    count, smallest = 0, np.inf
    for i in v.waiting:
        if key[i] < np.inf:
            heap[count] = i
            count += 1
            smallest = min(smallest, v.sizes[v.profile[i], asked_level(v, i)] * v.demand[i, 0])
    left = free_after_limits(v)
    fill_from_heap(v, heap, count, smallest, key, strict, target, left)


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
    left, last, changes = v.capacity[0], -1, False
    for at in range(running.size):
        i = running[at]
        left -= v.gpus[i]
        after[at] = left
        if last < 0 and left < smallest - 1e-9:
            last = i
        changes |= v.level[i] != wanted_level(v, key, i)
    heap = np.empty(v.waiting.size, dtype=np.int64)
    count = 0
    for i in v.waiting:
        if key[i] < np.inf and (last < 0 or comes_before(key, v.job, i, last)):
            heap[count] = i
            count += 1
    if changes or displace(v, key, heap, count, after, target):
        serve_in_turn(v, key, heap, smallest, target)


@kernel
def displace(
    v: ClusterView,
    key: np.ndarray,
    heap: np.ndarray,
    count: int,
    after: np.ndarray,
    target: np.ndarray,
) -> bool:
    """Serve those who wait in `heap[:count]` from what is free; True if one displaces who runs.

    Args:
        after: (R,) float64, GPUs left after each running job's turn, as long as all stay.
    """
    free, given = v.free.copy(), 0.0
    heapify(heap, count, key, v.job)
    while count > 0:
        i = heap[0]
        count -= 1
        heap[0] = heap[count]
        sift_down(heap, count, 0, key, v.job)
        level = asked_level(v, i)
        gpus = v.sizes[v.profile[i], level] * v.demand[i, 0]
        target[i] = serve(v, i, level, free)
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
        if gpus <= left - given + 1e-9:
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
    count = 0
    for i in v.waiting:
        target[i] = 0
        if key[i] < np.inf:
            heap[count] = i
            count += 1
    heapify(heap, count, key, v.job)
    left = v.capacity.copy()
    at = 0
    while at < v.running.size or count > 0:
        waits = count > 0 and left[0] >= smallest - 1e-9
        if waits and at < v.running.size:
            waits = comes_before(key, v.job, heap[0], v.running[at])
        if waits:
            i = heap[0]
            count -= 1
            heap[0] = heap[count]
            sift_down(heap, count, 0, key, v.job)
            target[i] = serve(v, i, asked_level(v, i), left)
        elif at < v.running.size:
            i = v.running[at]
            at += 1
            target[i] = serve(v, i, wanted_level(v, key, i), left)
        else:
            return


@kernel
def serve(v: ClusterView, i: int, level: int, left: np.ndarray) -> int:
    """Take the GPUs of job `i` at `level` from `left` (4,) if they are there; its level then."""
    gpus = v.sizes[v.profile[i], level]
    if not enough(v, i, gpus, left):
        return 0
    charge(v, i, gpus, left)
    return level


@kernel
def fill_from_heap(
    v: ClusterView,
    heap: np.ndarray,
    count: int,
    smallest: float,
    key: np.ndarray,
    strict: bool,
    target: np.ndarray,
    left: np.ndarray,
) -> None:
    """Give `heap[:count]` rows their request, smallest key first, from what is `left` (4,)."""
    if left[0] < smallest - 1e-9:
        return
    heapify(heap, count, key, v.job)
    while count > 0 and left[0] >= smallest - 1e-9:
        i = heap[0]
        count -= 1
        heap[0] = heap[count]
        sift_down(heap, count, 0, key, v.job)
        level = asked_level(v, i)
        gpus = v.sizes[v.profile[i], level]
        if enough(v, i, gpus, left):
            target[i] = level
            charge(v, i, gpus, left)
        elif strict:
            return


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
    limit, sizes = v.limit_level, v.sizes
    for i in range(target.size):
        size, score, milli = sizes[v.profile[i]], table[i], int(1000.0 * v.demand[i, 0] + 0.5)
        least = np.inf
        for level in range(target[i], limit[i]):
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
    profile, limit, sizes, demand = v.profile, v.limit_level, v.sizes, v.demand
    for i in range(target.size):
        worth, level = table[i], target[i]
        while level < limit[i] and worth[level] >= score and worth[level] > -np.inf:
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
def fill_by_score(v: ClusterView, table: Floats2, target: Ints1, left: Floats1) -> None:
    """Raise jobs one level at a time, highest score first, until nothing fits.

    Whoever comes before the first that finds no room is not sorted, but found by a score.

    Args:
        table: (A, L) float64, table[i, l] the score of going from level l to l + 1;
            -inf stops the job there.
        target: (A,) int64 levels to start from, raised in place.
        left: (4,) float64 resources not yet given away, lowered in place.
    """
    n = v.job.size
    worth, gpus = np.empty(table.size), np.empty(table.size, dtype=np.int64)
    steps = list_steps(v, table, target, worth, gpus)
    if steps > 0:
        take_at_once(v, table, target, left, fitting_score(worth[:steps], gpus[:steps], left[0]))
    if left[0] <= 1e-9:
        return
    heap = np.empty(n, dtype=np.int64)
    key = np.empty(n)
    waiting = 0
    profile, limit, sizes = v.profile, v.limit_level, v.sizes
    for i in range(n):
        level = target[i]
        if level >= limit[i] or table[i, level] == -np.inf:
            continue
        # What does not fit now never will.
        if enough(v, i, sizes[profile[i], level + 1] - sizes[profile[i], level], left):
            key[i] = -table[i, level]
            heap[waiting] = i
            waiting += 1
    heapify(heap, waiting, key, v.job)
    while waiting > 0 and left[0] > 1e-9:
        i = heap[0]
        level = target[i]
        step = v.sizes[v.profile[i], level + 1] - v.sizes[v.profile[i], level]
        key[i] = np.inf
        if enough(v, i, step, left):
            target[i] = level + 1
            charge(v, i, step, left)
            if level + 1 < v.limit_level[i]:
                key[i] = -table[i, level + 1]
        if key[i] == np.inf:
            waiting -= 1
            heap[0] = heap[waiting]
        sift_down(heap, waiting, 0, key, v.job)
