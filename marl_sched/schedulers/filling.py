"""Two ways to hand out GPUs, shared by the classic schedulers; compiled.

`fill_requests` serves whole requests in order of a key; `fill_by_score` raises elastic jobs
level by level, best score first. Both keep a binary heap, so that only as many jobs are
ordered as can be served.
"""

from __future__ import annotations

import numpy as np

from marl_sched.jit import kernel
from marl_sched.types import ClusterView


@kernel
def sift_down(heap: np.ndarray, n: int, at: int, key: np.ndarray, job: np.ndarray) -> None:
    """Restore the min-heap `heap[:n]` of slots below `at`; ties go to the lower job index."""
    item = heap[at]
    while True:
        child = 2 * at + 1
        if child >= n:
            break
        right = child + 1
        if right < n:
            a, b = heap[right], heap[child]
            if key[a] < key[b] or (key[a] == key[b] and job[a] < job[b]):
                child = right
        a = heap[child]
        if key[a] < key[item] or (key[a] == key[item] and job[a] < job[item]):
            heap[at] = a
            at = child
        else:
            break
    heap[at] = item


@kernel
def heapify(heap: np.ndarray, n: int, key: np.ndarray, job: np.ndarray) -> None:
    """Order `heap[:n]` as a min-heap by (key, job)."""
    for at in range(n // 2 - 1, -1, -1):
        sift_down(heap, n, at, key, job)


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
def fill_requests(
    v: ClusterView, key: np.ndarray, strict: bool, target: np.ndarray, left: np.ndarray
) -> None:
    """Give jobs without a target their whole request, smallest key first.

    Args:
        key: (A,) float64; +inf leaves a job out.
        strict: stop at the first job that does not fit, instead of passing over it.
        target: (A,) int64 levels, raised in place.
        left: (4,) float64 resources not yet given away, lowered in place.
    """
    n = v.job.size
    heap = np.empty(n, dtype=np.int64)
    waiting, smallest = 0, np.inf
    for i in range(n):
        if target[i] == 0 and key[i] < np.inf:
            heap[waiting] = i
            waiting += 1
            smallest = min(smallest, v.sizes[v.profile[i], asked_level(v, i)])
    heapify(heap, waiting, key, v.job)
    while waiting > 0 and left[0] >= smallest:
        i = heap[0]
        waiting -= 1
        heap[0] = heap[waiting]
        sift_down(heap, waiting, 0, key, v.job)
        level = asked_level(v, i)
        gpus = v.sizes[v.profile[i], level]
        if enough(v, i, gpus, left):
            target[i] = level
            charge(v, i, gpus, left)
        elif strict:
            return


@kernel
def fill_by_score(v: ClusterView, table: np.ndarray, target: np.ndarray, left: np.ndarray) -> None:
    """Raise jobs one level at a time, highest score first, until nothing fits.

    Args:
        table: (A, L) float64, table[i, l] the score of going from level l to l + 1;
            -inf stops the job there.
        target: (A,) int64 levels to start from, raised in place.
        left: (4,) float64 resources not yet given away, lowered in place.
    """
    n = v.job.size
    heap = np.empty(n, dtype=np.int64)
    key = np.empty(n)
    waiting = 0
    for i in range(n):
        key[i] = np.inf
        if target[i] < v.limit_level[i]:
            key[i] = -table[i, target[i]]
        if key[i] < np.inf:
            heap[waiting] = i
            waiting += 1
    heapify(heap, waiting, key, v.job)
    while waiting > 0 and left[0] >= 1.0:
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
