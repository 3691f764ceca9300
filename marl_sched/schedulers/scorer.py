"""The elastic index corrected by a small learned network: a residual scorer."""

from __future__ import annotations

import numpy as np

from marl_sched.jit import kernel, part
from marl_sched.schedulers.elastic_index import remaining_s, surprise, write_index
from marl_sched.schedulers.filling import fill_by_score
from marl_sched.types import ClusterView, Floats1, Ints1

GLOBAL_FEATURES = (
    "log_active",  # log(1 + active jobs) / 8
    "waiting",  # share of them
    "asked",  # log(1 + GPUs requested over GPUs that are up)
    "most",  # log(1 + GPUs that could be used over GPUs that are up) / 2
    "spread",  # standard deviation of log work / 4
    "friction",  # mean of log_friction
    "free",  # share of the GPUs that are up
)
"""The same for all jobs at a decision. Work is estimated single-GPU seconds left."""

JOB_FEATURES = (
    "log_work",  # log of work over the mean of the active jobs / 4
    "log_weight",  # log of the heSRPT rank weight, relative to the heaviest job's / 4
    "log_friction",  # log(1 + restart cost / estimated seconds left)
    "running",  # 0 or 1
    "log_held_for",  # log(1 + time since the start of this run / restart cost) / 8
    "log_waited",  # log(1 + time since the start of this wait / estimated seconds left) / 8
    "done",  # share of its work
    "surprise",  # log of (work done by the estimate / work done by the GPU-time held) / 2
    "log_request",  # log of GPUs requested over GPUs that are up / 4
)
"""Of a job."""

LEVEL_FEATURES = (
    "log_gain",  # log of single-GPU speed gained per GPU / 4
    "held",  # whether the job holds this level already
    "grows",  # whether it runs, and would restart for this level
    "first",  # whether it is the first: to run at all
    "log_size",  # log of GPUs at the level over GPUs requested / 2
)
"""Of one more level of a job."""

FEATURES = GLOBAL_FEATURES + JOB_FEATURES + LEVEL_FEATURES
"""Rows of the first layer, in order. All are relative, so that one network serves any cluster."""

HIDDEN = 16
NUM_INDEX_PARAMS = 5
NUM_WEIGHTS = (len(FEATURES) + 2) * HIDDEN
"""First layer (F, H) row by row, its bias (H,), last layer (H,)."""

NUM_GLOBAL, NUM_JOB = len(GLOBAL_FEATURES), len(JOB_FEATURES)
BIAS = len(FEATURES) * HIDDEN
LAST = BIAS + HIDDEN


@kernel
def all_fit(v: ClusterView, table: np.ndarray) -> bool:
    """Whether every level that is worth something can be given at once: no score matters."""
    left = v.capacity.copy()
    for i in range(v.job.size):
        level = 0
        while level < v.limit_level[i] and table[i, level] > -np.inf:
            level += 1
        gpus = v.sizes[v.profile[i], level]
        for r in range(4):
            left[r] -= gpus * v.demand[i, r]
    for r in range(4):
        if left[r] < -1e-9:
            return False
    return True


@kernel
def write_global(v: ClusterView, left_s: np.ndarray, work: np.ndarray, x: np.ndarray) -> float:
    """Fill x with `GLOBAL_FEATURES`; the log of the mean work."""
    n, gpus = v.job.size, max(v.capacity[0], 1.0)
    asked, most, friction = 0.0, 0.0, 0.0
    total, logs, squares = 0.0, 0.0, 0.0
    for i in range(n):
        profile, share = v.profile[i], v.demand[i, 0]
        asked += share * v.sizes[profile, v.request_level[i]]
        most += share * v.sizes[profile, v.limit_level[i]]
        friction += np.log1p(v.restart_s[i] / left_s[i])
        log_work = np.log(work[i])
        total += work[i]
        logs += log_work
        squares += log_work * log_work
    x[0] = np.log1p(n) / 8.0
    x[1] = v.waiting.size / n
    x[2] = np.log1p(asked / gpus)
    x[3] = np.log1p(most / gpus) / 2.0
    x[4] = np.sqrt(max(squares / n - (logs / n) ** 2, 0.0)) / 4.0
    x[5] = friction / n
    x[6] = v.free[0] / gpus
    return float(np.log(total / n))


@kernel
def write_job(
    v: ClusterView,
    i: int,
    left_s: float,
    log_work: float,
    log_weight: float,
    gpus: float,
    x: np.ndarray,
) -> None:
    """Fill x with `JOB_FEATURES` of job `i`; both logs are relative already."""
    restart_s = v.restart_s[i]
    runs = v.level[i] > 0
    x[0] = log_work / 4.0
    x[1] = log_weight / 4.0
    x[2] = np.log1p(restart_s / left_s)
    x[3] = 1.0 if runs else 0.0
    x[4] = np.log1p((v.now_s - v.run_since_s[i]) / (restart_s + 1.0)) / 8.0 if runs else 0.0
    x[5] = 0.0 if runs else np.log1p((v.now_s - v.waiting_since_s[i]) / left_s) / 8.0
    x[6] = min(max(1.0 - v.est_remaining_s[i] / v.est_total_s[i], 0.0), 1.0)
    x[7] = surprise(v, i) / 2.0
    x[8] = np.log(v.sizes[v.profile[i], v.request_level[i]] * v.demand[i, 0] / gpus) / 4.0


@kernel
def write_level(v: ClusterView, i: int, k: int, log_gain: float, x: np.ndarray) -> None:
    """Fill x with `LEVEL_FEATURES` of the step of job `i` from level k to k + 1."""
    profile, held = v.profile[i], v.level[i]
    sizes = v.sizes[profile]
    x[0] = log_gain / 4.0
    x[1] = 1.0 if k < held else 0.0
    x[2] = 1.0 if k >= held > 0 else 0.0
    x[3] = 1.0 if k == 0 else 0.0
    x[4] = np.log(sizes[k + 1] / sizes[v.request_level[i]]) / 2.0


@kernel
def add_rows(net: np.ndarray, first: int, x: np.ndarray, z: np.ndarray) -> None:
    """Add the features x, rows `first` and on of the first layer, to what its units receive."""
    for f in range(x.size):
        row = (first + f) * HIDDEN
        for unit in range(HIDDEN):
            z[unit] += x[f] * net[row + unit]


@kernel
def output(net: np.ndarray, z: np.ndarray) -> float:
    """Last layer over squashed units: tanh by x (27 + x^2) / (27 + 9 x^2), exact at 0 and +-3."""
    total = 0.0
    for unit in range(HIDDEN):
        x = min(max(z[unit], -3.0), 3.0)
        square = x * x
        total += net[LAST + unit] * x * (27.0 + square) / (27.0 + 9.0 * square)
    return total


@kernel
def add_residual(
    v: ClusterView,
    net: np.ndarray,
    left_s: np.ndarray,
    work: np.ndarray,
    weight: np.ndarray,
    gains: np.ndarray,
    table: np.ndarray,
) -> None:
    """Add the network's output to each score in table (A, L) that a job may still be given."""
    shared = net[BIAS:LAST].copy()
    x = np.empty(NUM_GLOBAL)
    log_mean, heaviest = write_global(v, left_s, work, x), weight.max()
    add_rows(net, 0, x, shared)
    job, level = np.empty(NUM_JOB), np.empty(len(LEVEL_FEATURES))
    own, z = np.empty(HIDDEN), np.empty(HIDDEN)
    gpus = max(v.capacity[0], 1.0)
    for i in range(v.job.size):
        own[:] = shared
        log_work = np.log(work[i]) - log_mean
        write_job(v, i, left_s[i], log_work, weight[i] - heaviest, gpus, job)
        add_rows(net, NUM_GLOBAL, job, own)
        for k in range(v.limit_level[i]):
            if table[i, k] == -np.inf:
                break
            z[:] = own
            write_level(v, i, k, gains[i, k], level)
            add_rows(net, NUM_GLOBAL + NUM_JOB, level, z)
            table[i, k] += output(net, z)


@part
def scorer(v: ClusterView, params: Floats1, target: Ints1) -> None:
    """The elastic index, each score corrected by a learned network of 16 tanh units.

    score(i, k -> k+1) = index score + w . tanh(W x(i, k) + c)

    With w = 0 it is `elastic_index` exactly, which is where training starts. Preemptive and
    elastic. Source: ours; residual policy learning after Silver et al., 2018 (arXiv 1812.06298).

    Args:
        params: (p, h, g, b, trust), then the network as `NUM_WEIGHTS` says.
    """
    n = v.job.size
    gains, table = np.empty((n, v.sizes.shape[1])), np.empty((n, v.sizes.shape[1]))
    work, weight, left_s = np.empty(n), np.empty(n), remaining_s(v, params[4])
    write_index(v, params, left_s, work, weight, gains, table)
    if not all_fit(v, table):
        add_residual(v, params[NUM_INDEX_PARAMS:], left_s, work, weight, gains, table)
    target[:] = 0
    fill_by_score(v, table, target, v.capacity.copy())


def initial_weights(seed: int | list[int]) -> np.ndarray:
    """(NUM_WEIGHTS,) float64: random units, none of which counts yet."""
    rng = np.random.default_rng(seed)
    weights = np.zeros(NUM_WEIGHTS)
    weights[:BIAS] = rng.standard_normal(BIAS) / np.sqrt(len(FEATURES))
    return weights
