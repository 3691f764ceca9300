"""The cost-aware elastic index: the strong heuristic that training starts from."""

import numpy as np

from marl_sched.compiled.jit import kernel, part
from marl_sched.compiled.logarithm import log_each
from marl_sched.compiled.order import bound_of_first, rows_by_key
from marl_sched.schedulers.mechanisms.filling import fill_whole, fill_whole_of
from marl_sched.schedulers.mechanisms.serving import FEW_WAIT
from marl_sched.types import ClusterView, Floats1, Ints1

MIN_REMAINING_S = 1.0
"""Floor of the estimated remaining time, so that ratios stay finite."""

FEWEST_DONE = 0.01
"""Share of a job's work below which nothing is concluded from it."""

LARGEST_SURPRISE = 3.0


@kernel
def log_rank_weights(work: np.ndarray, p: float) -> np.ndarray:
    """log a_i of heSRPT: the worth of a second of single-GPU work of each job.

    Jobs by work descending have ranks k = 1..n; a_k = (k^c - (k-1)^c)^(1-p), c = 1/(1-p), the
    derivative of the optimal sum of completion times in the job's size.
    """
    out = np.empty(work.size)
    order = rows_by_key(-work)
    for rank in range(work.size):
        out[order[rank]] = log_weight(rank + 1.0, p)
    return out


@kernel
def log_weight(k: float, p: float) -> float:
    """log a_k of `log_rank_weights`; it grows with the rank k, where p > 0."""
    c = 1.0 / (1.0 - p)
    # (k^c - (k-1)^c) without cancellation or overflow at large ranks.
    return (1.0 - p) * (
        c * np.log(k) + np.log(-np.expm1(c * np.log1p(-1.0 / k))) if k > 1.0 else 0.0
    )


@kernel
def surprise(v: ClusterView, i: int) -> float:
    """How much larger the estimate of job `i` is than what it has done so far tells, as a log.

    An estimate is off by one factor for the whole job, and the share that is done is known:

        log(estimated time of the done share / time of it by the GPU-seconds held)

    taking these as at the level held, or the request's. 0 while too little is done, at most
    LARGEST_SURPRISE either way.
    """
    total_s = v.est_total_s[i]
    done_s = total_s - v.est_remaining_s[i]
    if done_s < FEWEST_DONE * total_s or v.attained_gpu_s[i] <= 0.0:
        return 0.0
    profile, level = v.profile[i], v.level[i] if v.level[i] > 0 else v.request_level[i]
    speed = v.rates[profile, level] / (v.sizes[profile, level] * v.demand[i, 0])
    ratio = np.log(done_s / (v.attained_gpu_s[i] * speed))
    return float(min(max(ratio, -LARGEST_SURPRISE), LARGEST_SURPRISE))


@kernel
def remaining_s(v: ClusterView, trust: float) -> np.ndarray:
    """(A,) float64, estimated seconds left, corrected by `trust` of each job's surprise."""
    left_s = v.est_remaining_s.copy()
    if trust > 0.0:
        for i in range(left_s.size):
            left_s[i] *= np.exp(-trust * surprise(v, i))
    for i in range(left_s.size):
        left_s[i] = max(left_s[i], MIN_REMAINING_S)
    return left_s


@kernel
def single_gpu_work(v: ClusterView, left_s: np.ndarray, work: np.ndarray) -> None:
    """Fill work (A,) float64 with the seconds left of each job on a single GPU.

    Args:
        left_s: (A,) float64, on the request.
    """
    profile, sizes, rates = v.profile, v.sizes, v.rates
    if work.size < sizes.shape[0]:
        for i in range(work.size):
            work[i] = left_s[i] / (rates[profile[i], 1] / sizes[profile[i], 1])
        return
    speed = rates[:, 1] / sizes[:, 1]
    for i in range(work.size):
        work[i] = left_s[i] / speed[profile[i]]


@kernel
def write_log_gains(sizes: np.ndarray, rates: np.ndarray, row: np.ndarray) -> None:
    """Fill row (L,) with log ds(k), the gain in single-GPU speed per GPU of each level.

    -inf from the first level on that brings no speed.

    Args:
        sizes, rates: (most + 1,) of a profile, up to its highest level.
    """
    row[:] = -np.inf
    for level in range(sizes.size - 1):
        gain = rates[level + 1] - rates[level]
        if gain <= 0.0:
            return
        row[level] = np.log(gain / (sizes[level + 1] - sizes[level]) * sizes[1] / rates[1])


@kernel
def write_worth(
    v: ClusterView,
    left_s: np.ndarray,
    params: np.ndarray,
    weight: np.ndarray,
    gains: np.ndarray,
    row_of: np.ndarray,
    table: np.ndarray,
) -> None:
    """`write_worth_of` all active jobs."""
    given = (v.profile, v.level, v.restart_s)
    write_worth_of(given, v.num_levels, left_s, params, weight, gains, row_of, table)


@kernel
def write_worth_of(
    jobs: tuple[np.ndarray, np.ndarray, np.ndarray],
    num_levels: np.ndarray,
    left_s: np.ndarray,
    params: np.ndarray,
    weight: np.ndarray,
    gains: np.ndarray,
    row_of: np.ndarray,
    table: np.ndarray,
) -> None:
    """Fill table (m, L) with the worth of raising job i from level l to l + 1, as a log.

    score(i, k -> k+1) = log ds_i(k) + log a_i
        + 1[k < k_cur] log(1 + h + g d / rem) - 1[k >= k_cur > 0] b log(1 + d / rem)

    ds_i is the gain in single-GPU speed per GPU, a_i the heSRPT rank weight, d the restart
    cost and rem the estimated remaining time: keeping what a job holds is worth more, and
    changing it less, the less there is left to gain from it.

    Args:
        jobs: (m,) profile, level held and restart cost of each.
        num_levels: (P,) int64.
        left_s: (m,) float64, rem.
        params: (p, h, g, b, ..).
        weight: (m,) float64, log a_i.
        gains: (., L) float64, log ds of each level.
        row_of: (m,) int64, the row of `gains` that is job i's.
        table: overwritten up to each job's highest level.
    """
    profile, level, restart_s = jobs
    n = profile.size
    h, g, b = params[1], params[2], params[3]
    keep, move = np.empty(n), np.empty(n)
    for i in range(n):
        friction = restart_s[i] / left_s[i]
        keep[i] = 1.0 + h + g * friction
        move[i] = 1.0 + friction
    log_each(keep)
    log_each(move)
    for i in range(n):
        held, gain, row = level[i], gains[row_of[i]], table[i]
        kept = weight[i] + keep[i]
        changed = weight[i] - (b * move[i] if held > 0 else 0.0)
        for k in range(held):
            row[k] = gain[k] + kept
        for k in range(held, num_levels[profile[i]]):
            row[k] = gain[k] + changed


@kernel
def write_table(
    v: ClusterView,
    params: np.ndarray,
    left_s: np.ndarray,
    weight: np.ndarray,
    gains: np.ndarray,
    table: np.ndarray,
) -> None:
    """Fill table (A, L) with `write_worth`, and on the way gains (A, L).

    Args:
        params: (p, h, g, b, ..).
        left_s: (A,) float64, `remaining_s`.
        weight: (A,) float64, log a_i.
    """
    n = v.job.size
    rows = np.empty(n, dtype=np.int64)
    for i in range(n):
        profile, levels = v.profile[i], v.num_levels[v.profile[i]] + 1
        write_log_gains(v.sizes[profile, :levels], v.rates[profile, :levels], gains[i])
        rows[i] = i
    write_worth(v, left_s, params, weight, gains, rows, table)


@kernel
def write_index(
    v: ClusterView,
    params: np.ndarray,
    left_s: np.ndarray,
    work: np.ndarray,
    weight: np.ndarray,
    gains: np.ndarray,
    table: np.ndarray,
) -> None:
    """`write_table` with the index's own weights; on the way work (A,) and weight (A,)."""
    single_gpu_work(v, left_s, work)
    weight[:] = log_rank_weights(work, params[0])
    write_table(v, params, left_s, weight, gains, table)


@kernel
def share_by_index(
    v: ClusterView, params: np.ndarray, left_s: np.ndarray, weight: np.ndarray, target: np.ndarray
) -> None:
    """Give the next level to the job with the largest worth (`write_worth`), until none fits.

    Args:
        params: (p, h, g, b, ..).
        left_s: (A,) float64, `remaining_s`.
        weight: (A,) float64, log a_i.
        target: (A,) int64, overwritten.
    """
    n = v.job.size
    gains, table = np.empty((n, v.sizes.shape[1])), np.empty((n, v.sizes.shape[1]))
    write_table(v, params, left_s, weight, gains, table)
    fill_whole(v, table, target)


@kernel
def write_weights_of(
    rows: np.ndarray, v: ClusterView, work: np.ndarray, bound: float, p: float, out: np.ndarray
) -> int:
    """Write `log_rank_weights` of `rows` alone; the rank of the least job that is left out.

    Args:
        rows: (m,) int64, those who run, and those who wait with a work of at most `bound`.
        work: (A,) float64.
        out: (m,) float64, overwritten.
    """
    order = rows_by_key(-work[rows])
    large = 0  # who runs and has more work than that
    while large < rows.size and work[rows[order[large]]] > bound:
        large += 1
    ahead = np.zeros(large + 1, dtype=np.int64)  # of those left out, who comes before each
    if large > 0:
        for i in range(work.size):
            if v.level[i] == 0 and work[i] > bound:
                low, high = 0, large
                while low < high:
                    middle = (low + high) >> 1
                    row = rows[order[middle]]
                    if work[row] > work[i] or (work[row] == work[i] and row < i):
                        low = middle + 1
                    else:
                        high = middle
                ahead[low] += 1
    before = 0
    for at in range(rows.size):
        before = before + ahead[at] if at < large else work.size - rows.size
        out[order[at]] = log_weight(at + before + 1.0, p)
    return int(work.size - rows.size + large)


@kernel
def share_among_first(
    v: ClusterView,
    params: np.ndarray,
    left_s: np.ndarray,
    work: np.ndarray,
    guess: int,
    target: np.ndarray,
) -> bool:
    """`share_by_index` among those who run and the first of those who wait; False where others
    might have got something.

    Whoever waits is worth its weight, which falls with its work: once all GPUs went to jobs that
    are worth more, nobody behind need be ranked or scored.

    Args:
        left_s, work: (A,) float64, `remaining_s` and `single_gpu_work`.
        guess: how many of those who wait.
        target: (A,) int64, the levels held; overwritten.
    """
    bound, count = bound_of_first(v.waiting, work, guess), 0
    rows, level = np.empty(work.size, dtype=np.int64), v.level
    for i in range(work.size):
        if work[i] <= bound or level[i] > 0:
            rows[count] = i
            count += 1
    rows = rows[:count]
    weight, row_of = np.empty(count), v.profile[rows]
    least = write_weights_of(rows, v, work, bound, params[0], weight)
    gains, known = np.empty(v.sizes.shape), np.zeros(v.num_levels.size, dtype=np.bool_)
    for profile in row_of:
        if not known[profile]:
            known[profile], levels = True, v.num_levels[profile] + 1
            sizes, rates = v.sizes[profile, :levels], v.rates[profile, :levels]
            write_log_gains(sizes, rates, gains[profile])
    table = np.empty((count, v.sizes.shape[1]))
    jobs = (row_of, v.level[rows], v.restart_s[rows])
    write_worth_of(jobs, v.num_levels, left_s[rows], params, weight, gains, row_of, table)
    lowest = fill_whole_of(v, rows, table, target)
    # The first level brings a speed of 1, so that its gain is 0 but for rounding.
    return lowest > log_weight(float(least), params[0]) + 1e-9


@part
def elastic_index(v: ClusterView, params: Floats1, target: Ints1) -> None:
    """Give the next level to the job with the largest worth of speed gained per GPU.

    The worth is `write_worth`. Preemptive and elastic. Source: Berg, Vesilo and
    Harchol-Balter, "heSRPT", Performance Evaluation 2020 (rank weights); the hysteresis terms
    and the correction of estimates (`surprise`) are ours, the defaults tuned on training parts
    of ITP, Philly and synthetic workloads.

    Args:
        params: (p, h, g, b, trust).
    """
    work, left_s = np.empty(v.job.size), remaining_s(v, params[4])
    single_gpu_work(v, left_s, work)
    if v.waiting.size > FEW_WAIT and params[0] > 0.01:
        guess = 2.0 * v.free[0] + 0.25 * v.running.size + 64.0
        while guess < 0.5 * v.waiting.size:
            if share_among_first(v, params, left_s, work, int(guess), target):
                return
            guess *= 8.0
    share_by_index(v, params, left_s, log_rank_weights(work, params[0]), target)
