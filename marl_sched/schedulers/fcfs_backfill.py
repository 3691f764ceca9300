"""First come, first served with EASY backfilling."""

import numpy as np

from marl_sched.jit import kernel, part
from marl_sched.schedulers.filling import (
    asked_level,
    charge,
    enough,
    free_after_limits,
    serve_queue,
)
from marl_sched.types import ClusterView, Floats1, Ints1


@kernel
def reservation(v: ClusterView, head_gpus: float, target: np.ndarray) -> tuple[float, float]:
    """When the head of the queue can start by the estimates, and the GPUs left over then."""
    n = v.job.size
    end = np.full(n, np.inf)
    free = v.capacity[0]
    for i in range(n):
        if target[i] > 0:
            free -= v.sizes[v.profile[i], target[i]]
            end[i] = v.now_s + v.est_remaining_s[i] / v.rates[v.profile[i], target[i]]
    while free < head_gpus:
        first = -1
        for i in range(n):
            if end[i] < np.inf and (first < 0 or end[i] < end[first]):
                first = i
        if first < 0:
            return np.inf, 0.0
        free += v.sizes[v.profile[first], target[first]]
        at = end[first]
        end[first] = np.inf
        if free >= head_gpus:
            return at, free - head_gpus
    return v.now_s, free - head_gpus


@part
def fcfs_backfill(v: ClusterView, params: Floats1, target: Ints1) -> None:
    """FCFS, where a later job may start at once if it does not delay the head's reservation.

    It must end, by its estimate, before the head can start, or use only GPUs that the head
    leaves over. Not preemptive. Source: Lifka, "The ANL/IBM SP scheduling system", JSSPP
    1995 (EASY); reservations count GPUs cluster-wide.
    """
    left = free_after_limits(v)
    serve_queue(v, True, target, left)
    head = -1
    for i in v.waiting:
        if head < 0 and target[i] == 0:
            head = i
    if head < 0 or left[0] <= 0.0:
        return
    head_gpus = v.sizes[v.profile[head], asked_level(v, head)]
    shadow_s, extra = reservation(v, head_gpus, target)
    for i in v.waiting:
        if left[0] <= 0.0:
            return
        if target[i] > 0 or i == head:
            continue
        level = asked_level(v, i)
        gpus = v.sizes[v.profile[i], level]
        if not enough(v, i, gpus, left):
            continue
        in_time = v.now_s + v.est_total_s[i] / v.rates[v.profile[i], level] <= shadow_s
        if in_time or gpus <= extra:
            target[i] = level
            charge(v, i, gpus, left)
            if not in_time:
                extra -= gpus
