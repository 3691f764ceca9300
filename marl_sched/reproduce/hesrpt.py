"""Experiment R5: the optimum for jobs that speed up, known in closed form.

M jobs are there at time 0, N GPUs divide, and k GPUs are s(k) = k^p times as fast as one.
Source: Berg, Vesilo and Harchol-Balter, "heSRPT: Parallel scheduling to minimize mean slowdown",
Performance Evaluation 2020. Jobs by work x descending, i = 1 .. m, weights w_i (1, or 1 / x_i for
slowdown), z_i their sums, c = 1 / (1 - p):

    theta_i = N [(z_i / z_m)^c - (z_{i-1} / z_m)^c]
    sum w T = N^-p sum_i x_i [z_i^c - z_{i-1}^c]^(1/c)

The shares are those of the scheduler `hesrpt`; `run` plays them event by event and compares.

Whole GPUs, any concave s. V(x) = sum a_i x_i solves the optimality equation
max_k sum_{i<=m} a_i s(k_i) = z_m, and the next GPU goes to argmax a_i [s(k_i + 1) - s(k_i)].

* Exact for equal weights. One more job of the same a gains no more than the one before it, so
  a_i does not fall with i: the job with the least work has the most GPUs and ends first, and the
  rule costs V. V with works sorted anew is a bound for every policy, preemptive ones too.
* For weights that do not fall as the work does (slowdown), the rule costs V likewise. That no
  policy costs less we know for divisible GPUs (the paper), and for whole ones from brute force
  on small instances alone.
* A heuristic anywhere else: other weights, arrivals, jobs of different s, allowed sizes with
  gaps, a price of restarts. The scheduler `hesrpt` is used like that.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from marl_sched.errors import UserError
from marl_sched.schedulers.rules.hesrpt import closed_form
from marl_sched.workload.reading import read_table
from marl_sched.workload.table import Table

WEIGHTS = ("none", "slowdown")

BRUTE_FORCE = (4, 6)
"""Most jobs and GPUs for which all whole allocations are tried."""

DONE = 1e-12
"""A job whose remaining share of its work is below this has ended: rounding, not work."""


def run(
    path: Path, num_gpus: int, p: float, weights: str = "none", column: str | None = None
) -> dict[str, Any]:
    """Closed form, event-by-event run and whole-GPU rule on the jobs of a file.

    Args:
        path: CSV or Parquet: `duration_s` and `num_gpus` (work = duration_s num_gpus^p, and any
            `arrival_s` equal), or `size`, the seconds on one GPU.
        num_gpus: N.
        p: exponent of the speed, in (0, 1).
        weights: "none" or "slowdown".
        column: read the seconds on one GPU from this column instead.

    Returns:
        num_jobs, num_gpus, p, weights; `jcts_s`, completion times by job; `theta` by job in the
        order of the file; `closed_form`, `simulated` (weighted sums of completion times) and
        `relative_difference`; `whole_gpus`: allocation at the start, `value` (V), `simulated`,
        `relative_difference`, and `brute_force` (None beyond `BRUTE_FORCE`).

    Raises:
        UserError: for settings out of range or a file that cannot be used.
    """
    if weights not in WEIGHTS:
        raise UserError(f"weights {weights!r}: must be one of {', '.join(WEIGHTS)}")
    if not 0.0 < p < 1.0:
        raise UserError(f"p={p:g}: the exponent of the speed must be between 0 and 1")
    if num_gpus < 1:
        raise UserError(f"num_gpus={num_gpus}: needs at least one GPU")
    work = read_work(path, p, column)
    weight = np.ones_like(work) if weights == "none" else 1.0 / work
    theta, total = optimum(work, weight, float(num_gpus), p)
    completion_s = play_divisible(work, weight, float(num_gpus), p)
    simulated = float((weight * completion_s).sum())
    return {
        "num_jobs": work.size,
        "jcts_s": dict(zip(read_names(path), completion_s.tolist(), strict=True)),
        "num_gpus": num_gpus,
        "p": p,
        "weights": weights,
        "theta": theta.tolist(),
        "closed_form": total,
        "simulated": simulated,
        "relative_difference": abs(simulated - total) / total,
        "whole_gpus": _whole(work, weight, num_gpus, p),
    }


def _whole(work: np.ndarray, weight: np.ndarray, num_gpus: int, p: float) -> dict[str, Any]:
    speed = np.arange(num_gpus + 1.0) ** p
    speed[0] = 0.0
    worth = index_worths(work, weight, speed)
    value = float((worth * work).sum())
    simulated = float((weight * play_whole(work, weight, speed)).sum())
    small = work.size <= BRUTE_FORCE[0] and num_gpus <= BRUTE_FORCE[1]
    return {
        "allocation": index_allocation(worth, speed).tolist(),
        "value": value,
        "simulated": simulated,
        "relative_difference": abs(simulated - value) / value,
        "brute_force": brute_force(work, weight, speed) if small else None,
    }


def read_work(path: Path, p: float, column: str | None = None) -> np.ndarray:
    """(J,) float64, seconds on one GPU of each job of a file, all there at once.

    Raises:
        UserError: where columns are missing, cells are unusable or arrivals differ.
    """
    table = read_table(path)
    if len(table) == 0:
        raise UserError(f"jobs {path}: has no rows; give at least one job")
    if column is None and "size" in table.columns:
        column = "size"
    if column is not None:
        _require(table, column)
        work = table.positive(column)
    else:
        _require(table, "duration_s")
        _require(table, "num_gpus")
        work = table.positive("duration_s") * table.counts("num_gpus") ** p
    arrival_s = table.numbers("arrival_s") if "arrival_s" in table.columns else np.zeros(len(table))
    table.check()
    late = np.flatnonzero(arrival_s != arrival_s[0])
    if late.size:
        raise UserError(
            f"jobs {path}: row {table.row[late[0]]}, column 'arrival_s': all jobs must be there at "
            f"the same time, and {arrival_s[late[0]]:g} is not {arrival_s[0]:g}; set them equal"
        )
    return np.asarray(work)


def read_names(path: Path) -> list[str]:
    """Name of each job of a file: its `job_id` where these tell all apart, else its place."""
    table = read_table(path)
    places = [str(j) for j in range(len(table))]
    if "job_id" not in table.columns:
        return places
    names = [str(name) for name in table.texts("job_id")]
    return names if len(set(names)) == len(names) else places


def _require(table: Table, column: str) -> None:
    if column not in table.columns:
        raise UserError(
            f"jobs {table.path}: no column {column!r}; give duration_s and num_gpus, or the "
            "column of the seconds on one GPU"
        )


def optimum(
    work: np.ndarray, weight: np.ndarray, num_gpus: float, p: float
) -> tuple[np.ndarray, float]:
    """Optimal shares (J,) of divisible GPUs, and the weighted sum of completion times."""
    share, log_worth = closed_form(work, weight, np.arange(work.size), p)
    # The closed form leaves out the common factor N^-p z_m.
    total = num_gpus**-p * weight.sum() * float((work * np.exp(log_worth)).sum())
    return share * num_gpus, total


def play_divisible(work: np.ndarray, weight: np.ndarray, num_gpus: float, p: float) -> np.ndarray:
    """(J,) float64, completion times when the shares are computed anew at every completion."""

    def speeds(alive: np.ndarray, left: np.ndarray) -> np.ndarray:
        share, _ = closed_form(left[alive], weight[alive], alive, p)
        return np.asarray((share * num_gpus) ** p)

    return _play(work, speeds)


def play_whole(work: np.ndarray, weight: np.ndarray, speed: np.ndarray) -> np.ndarray:
    """(J,) float64, completion times under the whole-GPU index rule.

    Args:
        speed: (N + 1,) float64, s(0) = 0, s(1), .., s(N), concave.
    """

    known = weight[np.argsort(-work, kind="stable")]
    known_worths = chain_worths(known, speed)

    def speeds(alive: np.ndarray, left: np.ndarray) -> np.ndarray:
        order = np.argsort(-left[alive], kind="stable")
        chain = weight[alive][order]
        worth = np.empty(alive.size)
        # Sizes matter by their order alone, and the worths of the larger jobs stay as they were.
        same = np.array_equal(chain, known[: chain.size])
        worth[order] = known_worths[: chain.size] if same else chain_worths(chain, speed)
        return np.asarray(speed[index_allocation(worth, speed)])

    return _play(work, speeds)


def _play(work: np.ndarray, speeds: Any) -> np.ndarray:
    """Run jobs at constant speeds from completion to completion; exact but for rounding.

    Args:
        speeds: function (alive rows, work left (J,)) -> their speeds.
    """
    left, end_s = work.astype(float), np.zeros(work.size)
    alive = np.arange(work.size)
    now_s = 0.0
    while alive.size:
        rate = speeds(alive, left)
        # A tiny share may be too slow for a finite time.
        with np.errstate(divide="ignore", over="ignore"):
            step_s = left[alive] / rate
        seconds = float(step_s.min())
        left[alive] -= rate * seconds
        now_s += seconds
        ended = (step_s <= seconds) | (left[alive] <= DONE * work[alive])
        end_s[alive[ended]] = now_s
        alive = alive[~ended]
    return end_s


def index_worths(work: np.ndarray, weight: np.ndarray, speed: np.ndarray) -> np.ndarray:
    """(J,) float64, a_i: what a second of work of each job costs under the best whole split."""
    order = np.argsort(-work, kind="stable")
    worth = np.empty(work.size)
    worth[order] = chain_worths(weight[order], speed)
    return worth


def chain_worths(weight: np.ndarray, speed: np.ndarray) -> np.ndarray:
    """(J,) float64, a_i of jobs given by work descending.

    With F(n) the largest sum of a_i s(k_i) over the jobs so far on n GPUs,
    max_k [a s(k) + F(N - k)] = z_m holds for a = min_k [z_m - F(N - k)] / s(k).
    """
    worth = np.empty(weight.size)
    best = np.zeros(speed.size)  # F(n)
    total = np.cumsum(weight)
    for i in range(weight.size):
        worth[i] = ((total[i] - best[:-1][::-1]) / speed[1:]).min()
        best = _with_one_more(best, worth[i] * speed)
    return worth


def _with_one_more(best: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """(N + 1,) float64, max_k [gain(k) + best(n - k)] for each n: concave, so merge the steps."""
    steps = np.concatenate([np.diff(best), np.diff(gain)])
    steps = np.sort(steps)[::-1][: best.size - 1]
    return np.concatenate([[0.0], np.cumsum(steps)])


def index_allocation(worth: np.ndarray, speed: np.ndarray) -> np.ndarray:
    """(J,) int64, GPUs of each job: each in turn to the largest a_i [s(k_i + 1) - s(k_i)].

    Among equal indices the largest a_i, the job with less work, is served first.
    """
    num_gpus = speed.size - 1
    # Behind N jobs of a larger a nobody gets a GPU.
    served = np.argsort(-worth, kind="stable")[:num_gpus]
    steps = worth[served, None] * np.diff(speed)[None, :]  # falling along each row
    # Rows are by a descending, so a stable sort settles ties as said.
    chosen = np.argsort(-steps.reshape(-1), kind="stable")[:num_gpus]
    return np.bincount(served[chosen // num_gpus], minlength=worth.size)


def brute_force(work: np.ndarray, weight: np.ndarray, speed: np.ndarray) -> float:
    """Least weighted sum of completion times over all whole allocations between completions.

    All N GPUs are given away, which loses nothing as s does not fall.
    """
    if work.size == 0:
        return 0.0
    best = np.inf
    num_gpus = speed.size - 1
    slots = num_gpus + work.size - 1
    for bars in combinations(range(slots), work.size - 1):
        gpus = np.diff(np.array([-1, *bars, slots])) - 1
        rate = speed[gpus]
        with np.errstate(divide="ignore"):
            step_s = work / rate
        seconds = step_s.min()
        cost = float(weight.sum() * seconds)
        stays = step_s > seconds * (1.0 + DONE)
        if cost < best:
            rest = brute_force((work - rate * seconds)[stays], weight[stays], speed)
            best = min(best, cost + rest)
    return best
