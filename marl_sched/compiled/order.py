"""Sorting rows by a key, compiled: one sort for everybody, instead of numpy's for each type."""

from __future__ import annotations

import numpy as np

from marl_sched.compiled.jit import kernel, part
from marl_sched.types import Floats1, Ints1

MOST_LOOKS = 256
"""Keys that are looked at to guess how the others lie."""

RUN = 8
"""Rows that are sorted by insertion, before they are merged with others."""


@kernel
def comes_before(key: np.ndarray, tie: np.ndarray, i: int, j: int) -> bool:
    """Whether row `i` comes before row `j` by (key, tie)."""
    return bool(key[i] < key[j] or (key[i] == key[j] and tie[i] < tie[j]))


@kernel
def sift_down(heap: np.ndarray, n: int, at: int, key: np.ndarray, tie: np.ndarray) -> None:
    """Restore the min-heap `heap[:n]` of rows below `at`; ties of `key` go to the lower `tie`."""
    item = heap[at]
    while True:
        child = 2 * at + 1
        if child >= n:
            break
        right = child + 1
        if right < n:
            if comes_before(key, tie, heap[right], heap[child]):
                child = right
        if comes_before(key, tie, heap[child], item):
            heap[at] = heap[child]
            at = child
        else:
            break
    heap[at] = item


@kernel
def heapify(heap: np.ndarray, n: int, key: np.ndarray, tie: np.ndarray) -> None:
    """Order `heap[:n]` as a min-heap by (key, tie)."""
    for at in range(n // 2 - 1, -1, -1):
        sift_down(heap, n, at, key, tie)


@part
def rows_by(key: Floats1, tie: Ints1) -> Ints1:
    """(n,) int64, the rows by (key, tie), smallest first; no key is NaN, ties are unique.

    Merge sort, from short runs that insertion has sorted.
    """
    n = key.size
    order, merged = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    for first in range(0, n, RUN):
        for at in range(first, min(first + RUN, n)):
            to = at
            while to > first and comes_before(key, tie, at, order[to - 1]):
                order[to] = order[to - 1]
                to -= 1
            order[to] = at
    width = RUN
    while width < n:
        for first in range(0, n, 2 * width):
            merge(order, merged, first, min(first + width, n), min(first + 2 * width, n), key, tie)
        order, merged = merged, order
        width *= 2
    return order


@kernel
def merge(
    order: np.ndarray,
    merged: np.ndarray,
    first: int,
    middle: int,
    end: int,
    key: np.ndarray,
    tie: np.ndarray,
) -> None:
    """Write the sorted runs [first, middle) and [middle, end) of `order` as one to `merged`."""
    left, right = first, middle
    for to in range(first, end):
        if right == end:
            takes_left = True
        elif left == middle:
            takes_left = False
        else:
            takes_left = not comes_before(key, tie, order[right], order[left])
        if takes_left:
            merged[to] = order[left]
            left += 1
        else:
            merged[to] = order[right]
            right += 1


@part
def rows_in_order(tie: Ints1) -> Ints1:
    """(n,) int64, the rows by `tie`, which is unique: jobs by arrival."""
    return rows_by(np.zeros(tie.size), tie)


@part
def rows_by_key(key: Floats1) -> Ints1:
    """(n,) int64, the rows by key, smallest first; equal keys in order of their rows."""
    row = np.empty(key.size, dtype=np.int64)
    for i in range(key.size):
        row[i] = i
    return rows_by(key, row)


@part
def sort_nearly_sorted(rows: Ints1, key: Floats1, tie: Ints1) -> None:
    """Sort `rows` in place by (key, tie), in linear time where few are out of place."""
    n = rows.size
    budget = 8 * n + 64
    for at in range(1, n):
        row = rows[at]
        to = at
        while to > 0 and comes_before(key, tie, row, rows[to - 1]):
            rows[to] = rows[to - 1]
            to -= 1
        rows[to] = row
        budget -= at - to
        if budget < 0:
            order = rows_by(key[rows], tie[rows])
            before = rows.copy()
            for rank in range(n):
                rows[rank] = before[order[rank]]
            return


@kernel
def descending_again(order: np.ndarray, known: int, key: np.ndarray) -> None:
    """Order rows by key, largest first, starting from their order at another time.

    Equal keys come in order of their rows, so that the result does not depend on the start; but
    where little has changed since, this costs one pass.

    Args:
        order: (S,) int64; its first `known` are a permutation of the rows [0, known), its
            first n become one of [0, n).
        key: (n,) float64, not NaN.
    """
    n, kept = key.size, 0
    for at in range(known):
        if order[at] < n:
            order[kept] = order[at]
            kept += 1
    for row in range(kept, n):
        order[row] = row
    sort_nearly_sorted(order[:n], -key, np.arange(n))


@kernel
def bound_of_first(rows: np.ndarray, key: np.ndarray, count: int) -> float:
    """A key, at most which roughly `count` of the rows (m,) have, m > 0: by a look at some."""
    looks = min(rows.size, MOST_LOOKS)
    some = np.empty(looks)
    for k in range(looks):
        some[k] = key[rows[k * rows.size // looks]]
    return float(np.sort(some)[min(count * looks // rows.size + 2, looks - 1)])


@kernel
def smallest_first(rows: np.ndarray, count: int, key: np.ndarray) -> None:
    """Reorder rows (m,) so that the `count` < m with the smallest keys come first, in any order.

    Equal keys count in order of their rows. Hoare's selection: O(m) on average.
    """
    low, high = 0, rows.size - 1
    while low < high:
        pivot = rows[(low + high) >> 1]
        i, j = low, high
        while i <= j:
            while before(rows[i], pivot, key):
                i += 1
            while before(pivot, rows[j], key):
                j -= 1
            if i <= j:
                rows[i], rows[j] = rows[j], rows[i]
                i += 1
                j -= 1
        if count <= j:
            high = j
        elif count >= i:
            low = i
        else:
            return


@kernel
def before(one: int, other: int, key: np.ndarray) -> bool:
    """Whether row `one` has the smaller key, or an equal one and stands further up."""
    return key[one] < key[other] or (key[one] == key[other] and one < other)
