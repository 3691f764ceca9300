"""Pollux' objective over allowed sizes."""

import numpy as np

from marl_sched.compiled.jit import kernel, part
from marl_sched.schedulers.mechanisms.filling import fill_whole
from marl_sched.types import ClusterView, Floats1, Ints1

LEAST = 1e-3
"""Speedup that no job falls below."""


@kernel
def rate_at(v: ClusterView, i: int, gpus: float) -> float:
    """Progress of job `i` on the largest of its sizes up to `gpus`, or a part of the smallest's."""
    profile = v.profile[i]
    level = 1
    while level < v.num_levels[profile] and v.sizes[profile, level + 1] <= gpus:
        level += 1
    return float(v.rates[profile, level] * min(gpus / v.sizes[profile, level], 1.0))


@part
def pollux(v: ClusterView, params: Floats1, target: Ints1) -> None:
    """Sizes that make the harmonic mean of all jobs' speedups large, step by step.

    A job's speedup is its goodput over that on an equal share of the cluster; where its size
    changes it counts T / (T + restart cost) times, T the time since it arrived. Each step goes to
    whom it helps most for each GPU. Preemptive and elastic. Source: Qiao et al., "Pollux", OSDI
    2021, with p = -1. Deviations: a greedy fill instead of a genetic algorithm, and the cluster's
    placement rule instead of places of its own; goodput is the view's. The published rules by
    themselves are `marl-sched reproduce pollux`.
    """
    n = v.job.size
    levels = v.sizes.shape[1]
    table = np.full((n, levels), -np.inf)
    worth = np.empty(levels)
    for i in range(n):
        profile = v.profile[i]
        fair = rate_at(v, i, v.capacity[0] / n / v.demand[i, 0])
        age_s = v.now_s - v.arrival_s[i]
        for level in range(v.num_levels[profile] + 1):
            speedup = v.rates[profile, level] / fair
            if level != v.level[i] and v.level[i] > 0 and age_s + v.restart_s[i] > 0.0:
                speedup *= age_s / (age_s + v.restart_s[i])
            worth[level] = -1.0 / (speedup + LEAST)
        for level in range(v.limit_level[i]):
            for above in range(level + 1, v.limit_level[i] + 1):
                gpus = (v.sizes[profile, above] - v.sizes[profile, level]) * v.demand[i, 0]
                gain = (worth[above] - worth[level]) / gpus
                if gain > 0.0:
                    table[i, level] = max(table[i, level], gain)
    fill_whole(v, table, target)
