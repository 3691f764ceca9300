"""Themis: partial auctions by finish-time fairness."""

import math

import numpy as np

from marl_sched.allocation.room import keep, whole_room
from marl_sched.compiled.jit import kernel, part
from marl_sched.compiled.order import rows_by
from marl_sched.schedulers.mechanisms.filling import fill_by_score
from marl_sched.schedulers.rules.elastic_index import MIN_REMAINING_S
from marl_sched.types import ClusterView, Floats1, Ints1

FROM_NOTHING = 1e6
"""Worth of a first GPU over any further one: a job without GPUs never finishes."""


@kernel
def unfairness(v: ClusterView, i: int, level: int) -> float:
    """Finish-time fairness rho of job `i` from now on at `level`, up to a factor.

    rho = (time since arrival + estimated remaining time) / estimated run time on a 1/n share.
    n is the same for all jobs, so it changes neither order nor ratios and is left out.
    """
    total = max(v.est_total_s[i], MIN_REMAINING_S)
    left = max(v.est_remaining_s[i], MIN_REMAINING_S) / v.rates[v.profile[i], level]
    return (v.now_s - v.arrival_s[i] + left) / total


@kernel
def bid_table(v: ClusterView, table: np.ndarray) -> None:
    """Fill table[i, l] with the fall of log rho per GPU from level l to l + 1.

    The product of the valuations 1 / rho grows most by the largest entry.
    """
    table[:, :] = -np.inf
    for i in range(v.job.size):
        profile = v.profile[i]
        table[i, 0] = FROM_NOTHING + math.log(unfairness(v, i, 1))
        for level in range(1, v.num_levels[profile]):
            fall = math.log(unfairness(v, i, level) / unfairness(v, i, level + 1))
            if fall <= 0.0:
                break
            step = v.sizes[profile, level + 1] - v.sizes[profile, level]
            table[i, level] = fall / step


@kernel
def worst_off(v: ClusterView, count: int) -> np.ndarray:
    """(A,) bool, the `count` jobs of largest rho: who waits before who runs, earlier first."""
    rho = np.empty(v.job.size)
    for i in range(v.job.size):
        rho[i] = -unfairness(v, i, max(v.level[i], 1)) - FROM_NOTHING * (v.level[i] == 0)
    worst = rows_by(rho, v.job)
    chosen = np.zeros(v.job.size, dtype=np.bool_)
    chosen[worst[:count]] = True
    return chosen


@part
def themis(v: ClusterView, params: Floats1, target: Ints1) -> None:
    """The worst-off jobs bid for GPUs whose lease is over; the rest goes to the others.

    A job holds its GPUs for one lease. What is free then is offered to the fraction
    1 - `fairness` of jobs with the largest rho, so as to maximise the product of their 1 / rho,
    and only what they leave to everybody else. Preemptive and elastic. Source: Mahajan et al.,
    "Themis", NSDI 2020. Deviations: jobs bid truthfully (here the arbiter computes the bids), so
    no hidden payment is withheld; the product is raised greedily step by step instead of
    exactly; bids count GPUs, not their places; what is left over goes by the same rule and not
    at random; a lease that is over lapses again at each epoch until the GPUs change hands.

    Args:
        params: (lease_s, fairness).
    """
    n = v.job.size
    room = whole_room(v)
    for i in range(n):
        target[i] = 0
        if v.level[i] > 0 and v.now_s - v.run_since_s[i] < params[0]:
            target[i] = min(v.level[i], v.limit_level[i])
            keep(v, room, i, target[i])
    table = np.empty((n, v.sizes.shape[1]))
    bid_table(v, table)
    invited = worst_off(v, int(math.ceil((1.0 - params[1]) * n - 1e-9)))
    bids = table.copy()
    for i in range(n):
        if not invited[i]:
            bids[i, :] = -np.inf
    fill_by_score(v, bids, target, room.left, room.kind)
    fill_by_score(v, table, target, room.left, room.kind)
