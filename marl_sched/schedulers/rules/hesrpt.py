"""heSRPT: the optimal shares of jobs that all speed up alike."""

import math

import numpy as np

from marl_sched.allocation.room import raise_level, whole_room
from marl_sched.compiled.jit import kernel, part
from marl_sched.compiled.order import rows_by, rows_in_order
from marl_sched.schedulers.mechanisms.filling import fill_by_score
from marl_sched.schedulers.rules.elastic_index import MIN_REMAINING_S
from marl_sched.types import ClusterView, Floats1, Ints1


@kernel
def work_left(v: ClusterView, p: float) -> np.ndarray:
    """(A,) float64, remaining seconds on one GPU of each job if k GPUs are k^p times as fast."""
    work = np.empty(v.job.size)
    for i in range(v.job.size):
        profile = v.profile[i]
        left = max(v.est_remaining_s[i], MIN_REMAINING_S) / v.rates[profile, 1]
        work[i] = left * v.sizes[profile, 1] ** p
    return work


@kernel
def closed_form(
    work: np.ndarray, weight: np.ndarray, job: np.ndarray, p: float
) -> tuple[np.ndarray, np.ndarray]:
    """Optimal shares theta_i / N and log of the worth a_i of a second of work of each job.

    Jobs by work descending, z_i the sum of the first i weights, c = 1 / (1 - p):
    theta_i = N [(z_i / z_m)^c - (z_{i-1} / z_m)^c], a_i = N^-p (z_i^c - z_{i-1}^c)^(1/c).
    The common factor N^-p z_m is left out of a_i.

    Args:
        work: (A,) float64, seconds on one GPU, > 0.
        weight: (A,) float64, > 0.
        job: (A,) int64, unique, orders jobs of equal work.
        p: exponent of the speed, in [0, 1).
    """
    n = work.size
    c = 1.0 / (1.0 - p)
    order = rows_by(-work, job)
    total = weight.sum()
    share, log_worth = np.empty(n), np.empty(n)
    before = 0.0
    for rank in range(n):
        i = order[rank]
        upto = before + weight[i]
        # log(z_i^c - z_{i-1}^c) without cancellation or overflow at large ranks.
        log_power = c * math.log(upto / total)
        if before > 0.0:
            log_power += math.log(-math.expm1(c * math.log(before / upto)))
        share[i] = math.exp(log_power)
        log_worth[i] = log_power / c
        before = upto
    return share, log_worth


@part
def hesrpt(v: ClusterView, params: Floats1, target: Ints1) -> None:
    """Shares that minimise the sum of completion times, on allowed sizes.

    Each job gets the largest size within its share; what is over goes, step by step, to the
    largest worth a_i times speed gained per GPU. Preemptive and elastic. Source: Berg, Vesilo
    and Harchol-Balter, "heSRPT", Performance Evaluation 2020, optimal when all jobs are there,
    GPUs divide and k GPUs are k^p times as fast as one. Deviations: whole GPUs and allowed
    sizes; jobs come over time and the shares are computed anew at each epoch; sizes are
    estimates; the speed is taken for k^p whatever the profile says, except that a size which is
    no faster is not given.

    Args:
        params: (p, slowdown): exponent; 1 minimises the sum of slowdowns instead, by weights
            of 1 / estimated total work.
    """
    n = v.job.size
    p = params[0]
    if n == 0:
        return
    room = whole_room(v)
    work = work_left(v, p)
    weight = np.ones(n)
    if params[1] > 0.0:
        for i in range(n):
            done = max(v.est_total_s[i] - v.est_remaining_s[i], 0.0)
            weight[i] = 1.0 / (work[i] * (1.0 + done / max(v.est_remaining_s[i], MIN_REMAINING_S)))
    share, log_worth = closed_form(work, weight, v.job, p)
    table = np.full((n, v.sizes.shape[1]), -np.inf)
    for rank in rows_in_order(v.job):
        profile = v.profile[rank]
        for level in range(v.num_levels[profile]):
            if v.rates[profile, level + 1] <= v.rates[profile, level]:
                break
            size, larger = float(v.sizes[profile, level]), float(v.sizes[profile, level + 1])
            gain = larger**p - (size**p if level > 0 else 0.0)
            if gain > 0.0:
                table[rank, level] = log_worth[rank] + math.log(gain / (larger - size))
        level = 0
        while (
            level < v.limit_level[rank]
            and table[rank, level] > -np.inf
            and v.sizes[profile, level + 1] <= share[rank] * v.capacity[0] + 1e-9
        ):
            level += 1
        while level > 0 and not raise_level(v, room, rank, 0, level):
            level -= 1
        target[rank] = level
    fill_by_score(v, table, target, room.left, room.kind)
