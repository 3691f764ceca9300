"""The rows of the active table in three orders: by next own event, running, waiting.

The heap is kept up to date in O(log n), the lists by moving some machine words. Those that run
are in no fixed order: a scheduler may sort them, and finds them nearly so the next time.
"""

from __future__ import annotations

import numpy as np

from marl_sched.compiled.jit import kernel
from marl_sched.sim import columns as c
from marl_sched.sim.world import World


@kernel
def earlier(w: World, b: int, i: int, j: int) -> bool:
    """Whether row `i`'s next event comes before row `j`'s; ties by job."""
    a, z = w.slot_f[b, c.NEXT_AT_S, i], w.slot_f[b, c.NEXT_AT_S, j]
    return a < z or (a == z and w.slot_k[b, c.JOB, i] < w.slot_k[b, c.JOB, j])


@kernel
def sift_up(w: World, b: int, at: int) -> None:
    heap = w.heap[b]
    row = heap[at]
    while at > 0:
        parent = (at - 1) >> 1
        if not earlier(w, b, row, heap[parent]):
            break
        heap[at] = heap[parent]
        w.slot_k[b, c.HEAP_AT, heap[at]] = at
        at = parent
    heap[at] = row
    w.slot_k[b, c.HEAP_AT, row] = at


@kernel
def sift_down(w: World, b: int, at: int) -> None:
    heap = w.heap[b]
    size = w.env_k[b, c.HEAP_SIZE]
    row = heap[at]
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and earlier(w, b, heap[child + 1], heap[child]):
            child += 1
        if not earlier(w, b, heap[child], row):
            break
        heap[at] = heap[child]
        w.slot_k[b, c.HEAP_AT, heap[at]] = at
        at = child
    heap[at] = row
    w.slot_k[b, c.HEAP_AT, row] = at


@kernel
def leave_heap(w: World, b: int, i: int) -> None:
    """Take row `i` out of the heap, if it is in."""
    at = w.slot_k[b, c.HEAP_AT, i]
    if at < 0:
        return
    w.env_k[b, c.HEAP_SIZE] -= 1
    size = w.env_k[b, c.HEAP_SIZE]
    w.slot_k[b, c.HEAP_AT, i] = -1
    if at == size:
        return
    last = w.heap[b, size]
    w.heap[b, at] = last
    w.slot_k[b, c.HEAP_AT, last] = at
    sift_up(w, b, at)
    sift_down(w, b, w.slot_k[b, c.HEAP_AT, last])


@kernel
def schedule(w: World, b: int, i: int) -> None:
    """Put row `i` at its place in the heap after a change of one of its event times."""
    at_s = min(w.slot_f[b, c.FINISH_AT_S, i], w.slot_f[b, c.FAIL_AT_S, i])
    at_s = min(at_s, w.slot_f[b, c.CANCEL_AT_S, i])
    w.slot_f[b, c.NEXT_AT_S, i] = at_s
    at = w.slot_k[b, c.HEAP_AT, i]
    if at_s == np.inf:
        leave_heap(w, b, i)
        return
    if at < 0:
        at = w.env_k[b, c.HEAP_SIZE]
        w.env_k[b, c.HEAP_SIZE] = at + 1
        w.heap[b, at] = i
        sift_up(w, b, at)
        return
    sift_up(w, b, at)
    sift_down(w, b, w.slot_k[b, c.HEAP_AT, i])


@kernel
def join_running(w: World, b: int, i: int) -> None:
    w.running[b, w.env_k[b, c.NUM_RUNNING]] = i
    w.env_k[b, c.NUM_RUNNING] += 1


@kernel
def leave_running(w: World, b: int, i: int) -> None:
    """Take row `i` out; the others stay in the order that a scheduler may have put them in."""
    line = w.running[b]
    w.env_k[b, c.NUM_RUNNING] -= 1
    for at in range(running_position(w, b, i), w.env_k[b, c.NUM_RUNNING]):
        line[at] = line[at + 1]


@kernel
def running_position(w: World, b: int, i: int) -> int:
    """Where row `i` is among the running ones."""
    at = 0
    while w.running[b, at] != i:
        at += 1
    return at


@kernel
def waiting_position(w: World, b: int, job: int) -> int:
    """First position in the waiting list whose job is not before `job`."""
    low = w.env_k[b, c.WAITING_HEAD]
    high = low + w.env_k[b, c.NUM_WAITING]
    if high > low and w.slot_k[b, c.JOB, w.waiting[b, high - 1]] < job:
        return high  # the usual case: a new arrival
    while low < high:
        middle = (low + high) >> 1
        if w.slot_k[b, c.JOB, w.waiting[b, middle]] < job:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def join_waiting(w: World, b: int, i: int) -> None:
    """Put row `i` into the waiting list, which stays in order of the jobs."""
    line = w.waiting[b]
    head, count = w.env_k[b, c.WAITING_HEAD], w.env_k[b, c.NUM_WAITING]
    at = waiting_position(w, b, w.slot_k[b, c.JOB, i])
    if head > 0 and (at - head < head + count - at or head + count == line.size):
        for k in range(head, at):
            line[k - 1] = line[k]
        line[at - 1] = i
        w.env_k[b, c.WAITING_HEAD] = head - 1
    else:
        for k in range(head + count, at, -1):
            line[k] = line[k - 1]
        line[at] = i
    w.env_k[b, c.NUM_WAITING] = count + 1


@kernel
def leave_waiting(w: World, b: int, i: int) -> None:
    line = w.waiting[b]
    head, count = w.env_k[b, c.WAITING_HEAD], w.env_k[b, c.NUM_WAITING]
    at = waiting_position(w, b, w.slot_k[b, c.JOB, i])
    if at - head < head + count - at:
        for k in range(at, head, -1):
            line[k] = line[k - 1]
        w.env_k[b, c.WAITING_HEAD] = head + 1
    else:
        for k in range(at, head + count - 1):
            line[k] = line[k + 1]
    w.env_k[b, c.NUM_WAITING] = count - 1
    if count == 1:
        w.env_k[b, c.WAITING_HEAD] = 0


@kernel
def move_row(w: World, b: int, source: int, to: int) -> None:
    """Copy a row of the active table over another, and tell the three orders."""
    # The list is searched by job: look while both rows say the same.
    if w.slot_k[b, c.LEVEL, source] > 0:
        w.running[b, running_position(w, b, source)] = to
    else:
        w.waiting[b, waiting_position(w, b, w.slot_k[b, c.JOB, source])] = to
    if w.slot_k[b, c.HEAP_AT, source] >= 0:
        w.heap[b, w.slot_k[b, c.HEAP_AT, source]] = to
    for row in range(c.NUM_SLOT_F):
        w.slot_f[b, row, to] = w.slot_f[b, row, source]
    for row in range(c.NUM_SLOT_K):
        w.slot_k[b, row, to] = w.slot_k[b, row, source]
    for r in range(4):
        w.slot_demand[b, to, r] = w.slot_demand[b, source, r]
    for phase in range(w.slot_rate.shape[2]):
        w.slot_rate[b, to, phase] = w.slot_rate[b, source, phase]
    w.target[b, to] = w.target[b, source]
