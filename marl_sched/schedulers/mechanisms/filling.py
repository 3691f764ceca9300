"""Raising elastic jobs level by level, the best score first, shared by schedulers; compiled."""

from __future__ import annotations

import numpy as np

from marl_sched.allocation.room import (
    Room,
    covers,
    is_plain,
    is_refused,
    most_left,
    raise_level,
    raise_plainly,
    whole_room,
)
from marl_sched.compiled.jit import kernel, part
from marl_sched.compiled.order import heapify, sift_down
from marl_sched.types import ClusterView, Floats2, Ints1

HALVINGS = 12
"""After so many the few levels that are still open are taken in order."""


@kernel
def highest(v: ClusterView, i: int) -> int:
    """Level up to which job `i` may be raised at all."""
    return 0 if is_refused(v, i) else int(v.limit_level[i])


@kernel
def list_steps(
    v: ClusterView,
    rows: np.ndarray,
    table: np.ndarray,
    target: np.ndarray,
    worth: np.ndarray,
    gpus: np.ndarray,
) -> int:
    """List the levels that jobs could still get, each with its GPUs; their number.

    Args:
        rows, table, target: as in `fill_rows`.
        worth: (m * L,) float64, overwritten: the least score up to the level, which is when
            `fill_by_score` would come to it.
        gpus: (m * L,) int64, overwritten, in 1/1000: integers are added several at once.
    """
    count = 0
    sizes = v.sizes
    for at in range(rows.size):
        i, score = rows[at], table[at]
        size, milli = sizes[v.profile[i]], int(1000.0 * v.demand[i, 0] + 0.5)
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
    v: ClusterView,
    rows: np.ndarray,
    table: np.ndarray,
    target: np.ndarray,
    left: np.ndarray,
    score: float,
) -> bool:
    """Give out every level that comes at `score` or above, if all of them fit together."""
    raised, gpus = np.empty(rows.size, dtype=np.int64), np.empty(rows.size)
    profile, sizes, demand = v.profile, v.sizes, v.demand
    for at in range(rows.size):
        i, worth = rows[at], table[at]
        level, limit = target[i], highest(v, i)
        while level < limit and worth[level] >= score and worth[level] > -np.inf:
            level += 1
        gpus[at] = sizes[profile[i], level] - sizes[profile[i], target[i]]
        raised[at] = level
    rest = left.copy()
    for r in range(4):
        asked = 0.0
        for at in range(rows.size):
            asked += gpus[at] * demand[rows[at], r]
        rest[r] -= asked
    if rest.min() < -1e-9:
        return False
    for at in range(rows.size):
        target[rows[at]] = raised[at]
    left[:] = rest
    return True


@part
def fill_by_score(
    v: ClusterView, table: Floats2, target: Ints1, left: Floats2, kind: Ints1
) -> None:
    """Raise jobs one level at a time, highest score first, until nothing fits.

    Args:
        table: (A, L) float64, table[i, l] the score of going from level l to l + 1;
            -inf stops the job there.
        target: (A,) int64 levels to start from, raised in place.
        left, kind: fields of the room not yet given away, which is lowered in place.
    """
    fill_rows(v, np.arange(v.job.size), table, target, left, kind)


@part
def fill_rows(
    v: ClusterView, rows: Ints1, table: Floats2, target: Ints1, left: Floats2, kind: Ints1
) -> float:
    """`fill_by_score` of some jobs alone.

    Whoever comes before the first that finds no room is not sorted, but found by a score: where
    one type of GPU and no quota makes the room one sum.

    Args:
        rows: (m,) int64, the jobs.
        table: (m, L) float64, their scores.
        target, left, kind: as in `fill_by_score`.

    Returns:
        A score above which all that was given or refused lies; -inf where GPUs are left over. A
        further job, all of whose scores are lower, would have got nothing and changed nothing.
    """
    room, lowest, plain = Room(left, kind), np.inf, is_plain(v)
    if plain:
        worth, gpus = np.empty(table.size), np.empty(table.size, dtype=np.int64)
        steps = list_steps(v, rows, table, target, worth, gpus)
        if steps > 0:
            score = fitting_score(worth[:steps], gpus[:steps], left[0, 0])
            if take_at_once(v, rows, table, target, left[0], score):
                lowest = score
    if most_left(room) <= 1e-9:
        return lowest
    heap, job = np.empty(rows.size, dtype=np.int64), v.job[rows]
    key = np.empty(rows.size)
    waiting = 0
    for at in range(rows.size):
        i = rows[at]
        level = target[i]
        if level >= highest(v, i) or table[at, level] == -np.inf:
            continue
        if may_grow(v, room, i, level):
            key[at] = -table[at, level]
            heap[waiting] = at
            waiting += 1
    heapify(heap, waiting, key, job)
    while waiting > 0 and most_left(room) > 1e-9:
        at = heap[0]
        i = rows[at]
        level = target[i]
        lowest = min(lowest, -key[at])
        key[at] = np.inf
        if plain:
            raised = raise_plainly(v, left, i, level, level + 1)
        else:
            raised = raise_level(v, room, i, level, level + 1)
        if raised:
            target[i] = level + 1
            if level + 1 < v.limit_level[i]:
                key[at] = -table[at, level + 1]
        if key[at] == np.inf:
            waiting -= 1
            heap[0] = heap[waiting]
        sift_down(heap, waiting, 0, key, job)
    return lowest if most_left(room) <= 1e-9 else -np.inf


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
    fill_rows(v, np.arange(target.size), table, target, room.left, room.kind)


@kernel
def fill_whole_of(v: ClusterView, rows: np.ndarray, table: np.ndarray, target: np.ndarray) -> float:
    """`fill_rows` of everything there is, from nothing; the other jobs hold nothing."""
    for i in rows:
        target[i] = 0
    room = whole_room(v)
    return fill_rows(v, rows, table, target, room.left, room.kind)
