"""Which fraction of its time each job should spend on each GPU type: linear programs.

    X[a, t] in [0, 1]     fraction of wall-clock time that job a runs on GPU type t
    sum_t X[a, t] <= 1    a job is in one place at a time
    sum_a g_a X[a, t] <= N_t    g_a GPUs of a job's gang, N_t GPUs of a type

Source: Narayanan et al., Heterogeneity-Aware Cluster Scheduling Policies for Deep Learning
Workloads (Gavel), OSDI 2020, sections 3 and 4; without space sharing.

These programs have many optima, and which of them is taken decides who fills the GPUs that are
left over. On one GPU type the optima have closed forms, and of many one inside is taken, as an
interior-point solver does; on several types a simplex vertex is taken, after a second program
that hands out what the first leaves free, and none is solved where every job may have its best
type all the time.

Axes: A jobs, T GPU types. Times in seconds.
"""

from __future__ import annotations

import numpy as np

from marl_sched.schedulers.mechanisms.interior import interior_point
from marl_sched.schedulers.mechanisms.solving import uninterrupted

LONGEST_S, SHORTEST_S, SEARCH_RATIO = 1e6, 100.0, 1.05
"""Where Gavel's search for the least makespan begins, and how close it comes."""

_PATH = 1e-11
"""How far from the optimum the central path of `max_sum` is left, in units of the best reward:
near enough that fractions are right to 1e-9, far enough that jobs outside the optimum keep a
fraction inversely proportional to what they lack, by which the GPUs left over are given."""

_TIE = 1e-12


def equal(num_jobs: int, capacity: np.ndarray) -> np.ndarray:
    """Every job the same share of every type, whatever its gang: X = N / A, at most 1 in all.

    Gandiva-fair as in the artifact of Zheng et al., Shockwave, NSDI 2023.

    Args:
        capacity: (T,) float64, GPUs of each type.

    Returns:
        (A, T) float64.
    """
    share = capacity / num_jobs
    return np.tile(share / max(share.sum(), 1.0), (num_jobs, 1))


def max_min(utility: np.ndarray, gang: np.ndarray, capacity: np.ndarray) -> np.ndarray:
    """Maximise the least utility, min_a sum_t utility[a, t] X[a, t].

    Args:
        utility: (A, T) float64 >= 0, each job's from running all the time on a type.
        gang: (A,) float64, GPUs.
        capacity: (T,) float64, GPUs.

    Returns:
        (A, T) float64.
    """
    if utility.shape[1] > 1:
        alone = _best_type(utility, gang, capacity)
        if alone is not None:
            return alone
        level = _best_level(utility, gang, capacity)
        return _sum_over(utility, gang, capacity, utility, level * np.ones(len(gang)))
    per_time = utility[:, 0]
    served = per_time > 0.0  # who cannot run on the type at all stays out
    x = np.zeros(len(gang))
    g, u = gang[served], per_time[served]
    if g.size:
        level = min(capacity[0] / (g / u).sum(), u.min())
        x[served] = _above(level / u, u, g, float(capacity[0]))
    return x[:, None]


def max_sum(reward: np.ndarray, gang: np.ndarray, capacity: np.ndarray) -> np.ndarray:
    """Maximise the total reward, sum_at reward[a, t] X[a, t].

    On one type: x is the zero of r + mu / x - mu / (1 - x) - price g, at the price that
    fills the GPUs; a job with r > price g runs all the time, one with r < price g never.

    Args:
        reward: (A, T) float64 >= 0, of running all the time on a type.
        gang: (A,) float64, GPUs.
        capacity: (T,) float64, GPUs.

    Returns:
        (A, T) float64.
    """
    if reward.shape[1] > 1:
        alone = _best_type(reward, gang, capacity)
        if alone is not None:
            return alone
        return _sum_over(reward, gang, capacity, reward, np.zeros(len(gang)))
    best = max(float(reward.max()), np.finfo(float).tiny)
    r = reward[:, 0] / best
    low, high = 0.0, 2.0 * float((r / gang).max()) + 1.0
    for _ in range(100):
        price = 0.5 * (low + high)
        if (gang * _on_path(r - price * gang)).sum() + _PATH / price > capacity[0]:
            low = price
        else:
            high = price
    return _on_path(r - high * gang)[:, None]


def min_makespan(
    rate: np.ndarray, remaining: np.ndarray, gang: np.ndarray, capacity: np.ndarray
) -> np.ndarray:
    """Finish all jobs within the shortest time T: sum_t rate[a, t] X[a, t] >= remaining_a / T.

    As published, T is the least that a bisection between 100 s and 1e6 s (ten times more, until
    it suffices) finds to 5 %.

    Args:
        rate: (A, T) float64 >= 0, work per second.
        remaining: (A,) float64, work left; at most 0: nothing is asked.
        gang: (A,) float64, GPUs.
        capacity: (T,) float64, GPUs.

    Returns:
        (A, T) float64.
    """
    if rate.shape[1] > 1:
        alone = _best_type(rate, gang, capacity)
        if alone is not None:  # no floor is above all the time on the best type
            return alone
    work = np.maximum(remaining, 0.0) * (rate > 0.0).any(axis=1)
    todo = work > 0.0
    least_s = 0.0
    if rate.shape[1] == 1:
        alone = work[todo] / rate[todo, 0]
        if alone.size:
            least_s = max(float(alone.max()), float((gang[todo] * alone).sum() / capacity[0]))
    elif todo.any():
        least_s = 1.0 / _best_level(rate[todo] / work[todo, None], gang[todo], capacity)
    within_s = search_makespan(least_s)
    if rate.shape[1] > 1:
        return _sum_over(rate, gang, capacity, rate, work / within_s)
    floor = np.divide(work, rate[:, 0] * within_s, out=np.zeros_like(work), where=todo)
    unit = np.where(rate[:, 0] > 0.0, rate[:, 0], 1.0)
    return _above(floor, unit, gang, float(capacity[0]))[:, None]


def search_makespan(least_s: float) -> float:
    """The makespan that the published bisection stops at when `least_s` is possible."""
    found, top = np.inf, LONGEST_S
    low, high = SHORTEST_S, LONGEST_S
    while not np.isfinite(found):
        while SEARCH_RATIO * low < high:
            middle = 0.5 * (low + high)
            if middle >= least_s:
                found = high = middle
            else:
                low = middle
        low, high, top = top, 10.0 * top, 10.0 * top
    return found


def _on_path(gain: np.ndarray) -> np.ndarray:
    """x in (0, 1) with gain + mu / x - mu / (1 - x) = 0."""
    root = np.hypot(gain, 2.0 * _PATH)
    small = 2.0 * _PATH / (root + 2.0 * _PATH + np.abs(gain))
    return np.where(gain > 0.0, 1.0 - small, small)


def _above(floor: np.ndarray, rate: np.ndarray, gang: np.ndarray, capacity: float) -> np.ndarray:
    """(A,) x with floor <= x <= 1 and gang . x <= capacity, well inside where there is room."""
    x = np.minimum(floor, 1.0)
    loose = floor < 1.0 - _TIE
    room = capacity - gang[~loose].sum()
    if room - (gang[loose] * floor[loose]).sum() > 1e-9 * capacity and loose.any():
        x[loose] = interior_point(floor[loose], rate[loose], gang[loose], room)
    return np.maximum(x, np.minimum(floor, 1.0))


def _best_type(reward: np.ndarray, gang: np.ndarray, capacity: np.ndarray) -> np.ndarray | None:
    """(A, T) every job all the time on the type that is best for it; None where that is too much.

    No other point has a larger sum of rewards, nor a larger least one.
    """
    best = reward.argmax(axis=1)
    if (np.bincount(best, weights=gang, minlength=len(capacity)) > capacity).any():
        return None
    x = np.zeros_like(reward)
    x[np.arange(len(gang)), best] = reward.max(axis=1) > 0.0
    return x


def _best_level(utility: np.ndarray, gang: np.ndarray, capacity: np.ndarray) -> float:
    """The largest level that every job's utility can reach at once; jobs without any stay out."""
    able = (utility > 0.0).any(axis=1)
    if not able.any():
        return 0.0
    u = utility[able]
    cost = np.zeros(u.size + 1)
    cost[-1] = -1.0
    return float(_solve(cost, u, gang[able], capacity, np.zeros(len(u)))[-1])


def _sum_over(
    reward: np.ndarray,
    gang: np.ndarray,
    capacity: np.ndarray,
    utility: np.ndarray,
    least: np.ndarray,
) -> np.ndarray:
    """(A, T) maximising the reward with every job's utility at `least` (A,) at the lowest."""
    asked = np.where((utility > 0.0).any(axis=1), (1.0 - 1e-9) * np.maximum(least, 0.0), 0.0)
    scale = reward.max(initial=0.0)
    cost = -reward.reshape(-1) / (scale if scale > 0.0 else 1.0)
    return np.clip(_solve(cost, utility, gang, capacity, asked), 0.0, 1.0).reshape(reward.shape)


def _solve(
    cost: np.ndarray,
    utility: np.ndarray,
    gang: np.ndarray,
    capacity: np.ndarray,
    least: np.ndarray,
) -> np.ndarray:
    """Minimise cost . (X row by row, and a level where there is one more cost).

    Rows: T of GPUs; A of time; A of least + level <= utility. Written as columns, of which X[a, t]
    has one entry in each of the three.
    """
    # A second to load, and nothing to classic rules.
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csc_array

    jobs, types = utility.shape
    job, kind = np.divmod(np.arange(jobs * types), types)
    row = np.stack([kind, types + job, types + jobs + job], axis=1).reshape(-1)
    value = np.stack([gang[job], np.ones(job.size), -utility.reshape(-1)], axis=1).reshape(-1)
    start = 3 * np.arange(job.size + 1)
    upper = np.where(utility.reshape(-1) > 0.0, 1.0, 0.0)
    if cost.size > job.size:
        row = np.concatenate([row, types + jobs + np.arange(jobs)])
        value = np.concatenate([value, np.ones(jobs)])
        start, upper = np.append(start, row.size), np.append(upper, np.inf)
    matrix = csc_array((value, row, start), shape=(types + 2 * jobs, cost.size))
    most = np.concatenate([capacity, np.ones(jobs), -least])
    # No whole numbers are asked for: `milp` is the shorter way to HiGHS than `linprog`, and
    # presolving takes longer than it saves.
    with uninterrupted():
        solved = milp(
            cost,
            bounds=Bounds(0.0, upper),
            constraints=LinearConstraint(matrix, -np.inf, most),
            options={"presolve": False},
        )
    if solved.x is None:
        raise RuntimeError(f"HiGHS found no fractions: {solved.message}")
    return np.asarray(solved.x)
