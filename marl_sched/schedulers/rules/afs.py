"""AFS: apathetic future share."""

import numpy as np

from marl_sched.allocation.room import most_left, raise_level, whole_room
from marl_sched.compiled.jit import kernel, part
from marl_sched.compiled.order import rows_by
from marl_sched.schedulers.rules.elastic_index import MIN_REMAINING_S
from marl_sched.types import ClusterView, Floats1, Ints1


@kernel
def first_above(tree: np.ndarray, start: int, bound: float) -> int:
    """First leaf at or after `start` with a value > bound; -1 without one.

    `tree` is (2 W,) with W a power of two: leaves at [W, 2 W), each parent the larger child.
    """
    width = tree.size // 2
    if start >= width:
        return -1
    node = start + width
    while tree[node] <= bound:
        # Up while we are a right child, then over to the right neighbour.
        while node & 1:
            node >>= 1
            if node == 0:
                return -1
        node += 1
    while node < width:
        node *= 2
        if tree[node] <= bound:
            node += 1
    return node - width


@kernel
def set_leaf(tree: np.ndarray, leaf: int, value: float) -> None:
    """Write a leaf and its ancestors."""
    node = leaf + tree.size // 2
    tree[node] = value
    node >>= 1
    while node >= 1:
        tree[node] = max(tree[2 * node], tree[2 * node + 1])
        node >>= 1


@kernel
def step_gains(v: ClusterView, i: int, level: int) -> tuple[float, float]:
    """Gain per GPU of the step above `level`: (over the speed before, over the speed after).

    (-inf, -inf) where there is no step or it brings no speed.
    """
    profile = v.profile[i]
    if level >= v.limit_level[i]:
        return -np.inf, -np.inf
    slow, fast = v.rates[profile, level], v.rates[profile, level + 1]
    if fast <= slow:
        return -np.inf, -np.inf
    gpus = v.sizes[profile, level + 1] - v.sizes[profile, level]
    return (np.inf if slow <= 0.0 else (fast - slow) / slow / gpus), (fast - slow) / fast / gpus


@part
def afs(v: ClusterView, params: Floats1, target: Ints1) -> None:
    """The next GPU goes to the longer of two jobs only if it pays more there for ever.

    With speeds h before and h' after a step, the longer job b beats the shorter job a if
    (h'_b - h_b) / h'_b > (h'_a - h_a) / h_a: then the sum of the two completion times is less,
    as a's share falls to b when a ends. The winner of a pass over all jobs, shortest first, gets
    the step. Preemptive and elastic. Source: Hwang et al., "Elastic resource sharing for
    distributed deep learning" (AFS-L), NSDI 2021. Deviations: "shorter" is by estimated
    remaining time on the smallest allowed size, once per epoch, where theirs is by the time on
    the GPUs given so far; gains are per GPU, because steps go from one allowed size to the next.
    """
    n = v.job.size
    room = whole_room(v)
    length = np.empty(n)
    for i in range(n):
        length[i] = max(v.est_remaining_s[i], MIN_REMAINING_S) / v.rates[v.profile[i], 1]
    order = rows_by(length, v.job)
    width = 1
    while width < n:
        width *= 2
    as_longer = np.full(2 * width, -np.inf)
    as_shorter = np.full(n, -np.inf)
    for rank in range(n):
        target[order[rank]] = 0
        as_shorter[rank], as_longer[width + rank] = step_gains(v, order[rank], 0)
    for node in range(width - 1, 0, -1):
        as_longer[node] = max(as_longer[2 * node], as_longer[2 * node + 1])
    while most_left(room) > 1e-9:
        winner, rival = -1, first_above(as_longer, 0, -np.inf)
        while rival >= 0:
            winner = rival
            rival = first_above(as_longer, winner + 1, as_shorter[winner])
        if winner < 0:
            return
        i = order[winner]
        longer = -np.inf
        if raise_level(v, room, i, target[i], target[i] + 1):
            target[i] += 1
            as_shorter[winner], longer = step_gains(v, i, target[i])
        set_leaf(as_longer, winner, longer)
