"""The cost-aware elastic index: the strong heuristic that training starts from."""

import numpy as np

from marl_sched.jit import kernel, part
from marl_sched.order import rows_by_key
from marl_sched.schedulers.filling import fill_by_score
from marl_sched.types import ClusterView, Floats1, Ints1

MIN_REMAINING_S = 1.0
"""Floor of the estimated remaining time, so that ratios stay finite."""


@kernel
def log_rank_weights(work: np.ndarray, p: float) -> np.ndarray:
    """log a_i of heSRPT: the worth of a second of single-GPU work of each job.

    Jobs by work descending have ranks k = 1..n; a_k = (k^c - (k-1)^c)^(1-p), c = 1/(1-p), the
    derivative of the optimal sum of completion times in the job's size.
    """
    c = 1.0 / (1.0 - p)
    out = np.empty(work.size)
    order = rows_by_key(-work)
    for rank in range(work.size):
        k = rank + 1.0
        # (k^c - (k-1)^c) without cancellation or overflow at large ranks.
        out[order[rank]] = (1.0 - p) * (
            c * np.log(k) + np.log(-np.expm1(c * np.log1p(-1.0 / k))) if k > 1.0 else 0.0
        )
    return out


@kernel
def level_scores(v: ClusterView, params: np.ndarray, table: np.ndarray) -> None:
    """Fill table[i, l] with the worth of raising job i from level l to l + 1, as a log.

    score(i, k -> k+1) = log ds_i(k) + log a_i
        + 1[k < k_cur] log(1 + h + g d / rem) - 1[k >= k_cur > 0] b log(1 + d / rem)

    ds_i is the gain in single-GPU speed per GPU, a_i the heSRPT rank weight, d the restart
    cost and rem the estimated remaining time: keeping what a job holds is worth more, and
    changing it less, the less there is left to gain from it.

    Args:
        params: (p, h, g, b).
        table: (A, L) float64, overwritten; -inf where a level brings no speed.
    """
    n = v.job.size
    p, h, g, b = params[0], params[1], params[2], params[3]
    base = np.empty(n)
    work = np.empty(n)
    for i in range(n):
        profile = v.profile[i]
        base[i] = v.rates[profile, 1] / v.sizes[profile, 1]
        work[i] = max(v.est_remaining_s[i], MIN_REMAINING_S) / base[i]
    weight = log_rank_weights(work, p)
    table[:, :] = -np.inf
    for i in range(n):
        profile, held = v.profile[i], v.level[i]
        friction = v.restart_s[i] / max(v.est_remaining_s[i], MIN_REMAINING_S)
        for level in range(v.num_levels[profile]):
            gain = v.rates[profile, level + 1] - v.rates[profile, level]
            step = v.sizes[profile, level + 1] - v.sizes[profile, level]
            if gain <= 0.0:
                break
            score = np.log(gain / step / base[i]) + weight[i]
            if level < held:
                score += np.log(1.0 + h + g * friction)
            elif held > 0:
                score -= b * np.log(1.0 + friction)
            table[i, level] = score


@part
def elastic_index(v: ClusterView, params: Floats1, target: Ints1) -> None:
    """Give the next level to the job with the largest worth of speed gained per GPU.

    The worth is `level_scores`. Preemptive and elastic. Source: Berg, Vesilo and
    Harchol-Balter, "heSRPT", Performance Evaluation 2020 (rank weights); the hysteresis terms
    are ours, their defaults tuned on training parts of ITP, Philly and synthetic workloads.

    Args:
        params: (p, h, g, b).
    """
    left = v.capacity.copy()
    table = np.empty((v.job.size, v.sizes.shape[1]))
    level_scores(v, params, table)
    target[:] = 0
    fill_by_score(v, table, target, left)
