"""The elastic index corrected by a small learned network: a residual scorer."""

from __future__ import annotations

import numpy as np

from marl_sched.allocation.room import all_fit as all_fit_by_type
from marl_sched.allocation.room import is_plain
from marl_sched.compiled.jit import kernel, part
from marl_sched.compiled.logarithm import log_each
from marl_sched.schedulers.mechanisms.filling import fill_whole
from marl_sched.schedulers.rules.elastic_index import remaining_s, surprise, write_index
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
INDEX_PARAMS = ("p", "h", "g", "b", "trust")
NUM_INDEX_PARAMS = len(INDEX_PARAMS)
NUM_WEIGHTS = (len(FEATURES) + 2) * HIDDEN
"""First layer (F, H) row by row, its bias (H,), last layer (H,)."""

NUM_GUARD = NUM_INDEX_PARAMS + 2 * len(GLOBAL_FEATURES)
"""Behind the weights: parameters of the index to fall back on, then the least and the highest value
of each global feature that counts as known."""
NUM_TALLY = 2 + 2 * len(GLOBAL_FEATURES)
"""Behind those, what the rule notes: decisions that the network was asked for, those among them
that fell back, then the least and the highest value met of each global feature."""

NUM_GLOBAL, NUM_JOB, NUM_LEVEL = map(len, (GLOBAL_FEATURES, JOB_FEATURES, LEVEL_FEATURES))
BIAS = len(FEATURES) * HIDDEN
LAST = BIAS + HIDDEN


@kernel
def most_useful_level(v: ClusterView, table: np.ndarray, i: int) -> int:
    """Highest level of job `i` that table (A, L) has a score for."""
    level = 0
    while level < v.limit_level[i] and table[i, level] > -np.inf:
        level += 1
    return level


@kernel
def most_useful(v: ClusterView, table: np.ndarray) -> np.ndarray:
    """(A,) int64, `most_useful_level` of every job."""
    level = np.empty(v.job.size, dtype=np.int64)
    for i in range(v.job.size):
        level[i] = most_useful_level(v, table, i)
    return level


@kernel
def all_fit(v: ClusterView, table: np.ndarray) -> bool:
    """Whether every level that is worth something can be given at once: no score matters."""
    if not is_plain(v):
        return all_fit_by_type(v, most_useful(v, table))
    left = v.capacity.copy()
    for i in range(v.job.size):
        level = most_useful_level(v, table, i)
        gpus = v.sizes[v.profile[i], level]
        for r in range(4):
            left[r] -= gpus * v.demand[i, r]
    for r in range(4):
        if left[r] < -1e-9:
            return False
    return True


@kernel
def write_global(
    v: ClusterView, log_work: np.ndarray, friction: np.ndarray, log_mean: float, x: np.ndarray
) -> None:
    """Fill x with `GLOBAL_FEATURES`.

    Args:
        log_work, friction: (A,) float64, the log of each job's work, and its `log_friction`.
        log_mean: log of the mean work.
    """
    n, gpus = v.job.size, max(v.capacity[0], 1.0)
    asked, most, logs, squares = 0.0, 0.0, 0.0, 0.0
    for i in range(n):
        profile, share = v.profile[i], v.demand[i, 0]
        asked += share * v.sizes[profile, v.request_level[i]]
        most += share * v.sizes[profile, v.limit_level[i]]
        away = log_work[i] - log_mean
        logs += away
        squares += away * away
    x[0] = np.log1p(n) / 8.0
    x[1] = v.waiting.size / n
    x[2] = np.log1p(asked / gpus)
    x[3] = np.log1p(most / gpus) / 2.0
    x[4] = np.sqrt(max(squares / n - (logs / n) ** 2, 0.0)) / 4.0
    x[5] = friction.sum() / n
    x[6] = v.free[0] / gpus


@kernel
def write_jobs(
    v: ClusterView, left_s: np.ndarray, work: np.ndarray, weight: np.ndarray, x: np.ndarray
) -> float:
    """Fill x (A, 9) with `JOB_FEATURES`, and x[:, 0] with the log of work itself / 4 for now.

    Returns:
        The log of the mean work.
    """
    n, gpus, heaviest = v.job.size, max(v.capacity[0], 1.0), weight.max()
    logs = np.empty((4, n))
    for i in range(n):
        restart_s, request = v.restart_s[i], v.sizes[v.profile[i], v.request_level[i]]
        for_s = (v.now_s - v.run_since_s[i]) / (restart_s + 1.0)
        if v.level[i] == 0:
            for_s = (v.now_s - v.waiting_since_s[i]) / left_s[i]
        logs[0, i] = work[i]
        logs[1, i] = 1.0 + restart_s / left_s[i]
        logs[2, i] = 1.0 + for_s
        logs[3, i] = request * v.demand[i, 0] / gpus
    log_each(logs.ravel())
    for i in range(n):
        runs = v.level[i] > 0
        x[i, 0] = logs[0, i] / 4.0
        x[i, 1] = (weight[i] - heaviest) / 4.0
        x[i, 2] = logs[1, i]
        x[i, 3] = 1.0 if runs else 0.0
        x[i, 4] = logs[2, i] / 8.0 if runs else 0.0
        x[i, 5] = 0.0 if runs else logs[2, i] / 8.0
        x[i, 6] = min(max(1.0 - v.est_remaining_s[i] / v.est_total_s[i], 0.0), 1.0)
        x[i, 7] = surprise(v, i) / 2.0
        x[i, 8] = logs[3, i] / 4.0
    return float(np.log(work.sum() / n))


@kernel
def write_levels(
    v: ClusterView, gains: np.ndarray, owner: np.ndarray, step: np.ndarray, x: np.ndarray
) -> None:
    """Fill x (R, 5) with `LEVEL_FEATURES`; arguments as of `write_features`."""
    size = np.empty(owner.size)
    for r in range(owner.size):
        i = owner[r]
        sizes = v.sizes[v.profile[i]]
        size[r] = sizes[step[r] + 1] / sizes[v.request_level[i]]
    log_each(size)
    for r in range(owner.size):
        i, k = owner[r], step[r]
        held = v.level[i]
        x[r, 0] = gains[i, k] / 4.0
        x[r, 1] = 1.0 if k < held else 0.0
        x[r, 2] = 1.0 if k >= held > 0 else 0.0
        x[r, 3] = 1.0 if k == 0 else 0.0
        x[r, 4] = size[r] / 2.0


@kernel
def list_levels(v: ClusterView, table: np.ndarray, owner: np.ndarray, step: np.ndarray) -> int:
    """List the steps that table (A, L) has a score for, job by job; their number R.

    Args:
        owner, step: (A * L,) int64, overwritten: the job, and the level that it leaves.
    """
    count = 0
    for i in range(v.job.size):
        for k in range(v.limit_level[i]):
            if table[i, k] == -np.inf:
                break
            owner[count] = i
            step[count] = k
            count += 1
    return count


@kernel
def write_features(
    v: ClusterView,
    left_s: np.ndarray,
    work: np.ndarray,
    weight: np.ndarray,
    gains: np.ndarray,
    owner: np.ndarray,
    step: np.ndarray,
    shared: np.ndarray,
    job: np.ndarray,
    level: np.ndarray,
) -> None:
    """Fill shared (7,), job (A, 9) and level (R, 5), float32, with the three kinds of features.

    Args:
        owner, step: (R,) int64, as of `list_levels`.
    """
    features = np.empty((v.job.size, NUM_JOB))
    log_mean = write_jobs(v, left_s, work, weight, features)
    write_global(v, 4.0 * features[:, 0], features[:, 2], log_mean, shared)
    features[:, 0] -= log_mean / 4.0
    job[:] = features
    write_levels(v, gains, owner, step, level)


@kernel
def residuals(
    net: np.ndarray, shared: np.ndarray, job: np.ndarray, level: np.ndarray, owner: np.ndarray
) -> np.ndarray:
    """(R,) float32, the network's output for each step: what `scorer.onnx` computes too.

    tanh is x (27 + x^2) / (27 + 9 x^2), exact at 0 and +-3, and +-1 beyond. Unit by unit, so that
    the loops over steps run several at once.

    Args:
        net: (NUM_WEIGHTS,) float32.
        shared, job, level, owner: as of `write_features`.
    """
    top, c27, c9 = np.float32(3.0), np.float32(27.0), np.float32(9.0)
    jobs, levels = np.ascontiguousarray(job.T), np.ascontiguousarray(level.T)
    out = np.zeros(owner.size, dtype=np.float32)
    own, z = np.empty(len(job), dtype=np.float32), np.empty(owner.size, dtype=np.float32)
    for unit in range(HIDDEN):
        bias = net[BIAS + unit]
        for f in range(NUM_GLOBAL):
            bias += shared[f] * net[f * HIDDEN + unit]
        own[:] = bias
        for f in range(NUM_JOB):
            weight, x = net[(NUM_GLOBAL + f) * HIDDEN + unit], jobs[f]
            for i in range(own.size):
                own[i] += weight * x[i]
        for r in range(z.size):
            z[r] = own[owner[r]]
        for f in range(NUM_LEVEL):
            weight, x = net[(NUM_GLOBAL + NUM_JOB + f) * HIDDEN + unit], levels[f]
            for r in range(z.size):
                z[r] += weight * x[r]
        last = net[LAST + unit]
        for r in range(z.size):
            x = min(max(z[r], -top), top)
            square = x * x
            out[r] += last * (x * (c27 + square) / (c27 + c9 * square))
    return out


@kernel
def is_known(shared: np.ndarray, guard: np.ndarray, tally: np.ndarray) -> bool:
    """Whether all global features lie where training has been; noted in the tally.

    Args:
        guard: (NUM_GUARD,) float64.
        tally: (NUM_TALLY,) float64, updated.
    """
    known = True
    low, high = guard[NUM_INDEX_PARAMS : NUM_INDEX_PARAMS + NUM_GLOBAL], guard[-NUM_GLOBAL:]
    least, most = tally[2 : 2 + NUM_GLOBAL], tally[-NUM_GLOBAL:]
    for f in range(NUM_GLOBAL):
        known &= low[f] <= shared[f] <= high[f]
        least[f] = min(least[f], shared[f])
        most[f] = max(most[f], shared[f])
    tally[0] += 1.0
    tally[1] += 0.0 if known else 1.0
    return known


@kernel
def add_residual(
    v: ClusterView,
    learned: np.ndarray,
    left_s: np.ndarray,
    work: np.ndarray,
    weight: np.ndarray,
    gains: np.ndarray,
    table: np.ndarray,
) -> bool:
    """Add the network's output to each score in table (A, L) that a job may still be given.

    Args:
        learned: network, guard and tally.

    Returns:
        False, and nothing is added, where the guard does not know such a state.
    """
    n, most = v.job.size, table.size
    owner, step = np.empty(most, dtype=np.int64), np.empty(most, dtype=np.int64)
    count = list_levels(v, table, owner, step)
    owner, step = owner[:count], step[:count]
    shared = np.empty(NUM_GLOBAL, dtype=np.float32)
    job = np.empty((n, NUM_JOB), dtype=np.float32)
    level = np.empty((count, NUM_LEVEL), dtype=np.float32)
    write_features(v, left_s, work, weight, gains, owner, step, shared, job, level)
    tail = learned[NUM_WEIGHTS:]
    if not is_known(shared, tail[:NUM_GUARD], tail[NUM_GUARD:]):
        return False
    net = learned[:NUM_WEIGHTS].astype(np.float32)
    out = residuals(net, shared, job, level, owner)
    for r in range(count):
        table[owner[r], step[r]] += out[r]
    return True


@kernel
def write_scores(v: ClusterView, params: np.ndarray, table: np.ndarray) -> None:
    """Fill table (A, L) with the scores by which `scorer` hands out levels; `params` as there."""
    n = v.job.size
    gains = np.empty(table.shape)
    work, weight, left_s = np.empty(n), np.empty(n), remaining_s(v, params[4])
    write_index(v, params, left_s, work, weight, gains, table)
    learned = params[NUM_INDEX_PARAMS:]
    if all_fit(v, table) or add_residual(v, learned, left_s, work, weight, gains, table):
        return
    fallback = learned[NUM_WEIGHTS : NUM_WEIGHTS + NUM_INDEX_PARAMS]
    left_s = remaining_s(v, fallback[4])
    write_index(v, fallback, left_s, work, weight, gains, table)


@part
def scorer(v: ClusterView, params: Floats1, target: Ints1) -> None:
    """The elastic index, each score corrected by a learned network of 16 tanh units.

    score(i, k -> k+1) = index score + w . tanh(W x(i, k) + c)

    With w = 0 it is `elastic_index` exactly, which is where training starts. In a state unlike
    those of training (`is_known`) the index that training started from decides alone. Preemptive
    and elastic. Source: ours; residual policy learning after Silver et al., 2018 (arXiv
    1812.06298).

    Args:
        params: (p, h, g, b, trust), the network as `NUM_WEIGHTS` says, guard and tally, which
            the rule writes.
    """
    table = np.empty((v.job.size, v.sizes.shape[1]))
    write_scores(v, params, table)
    fill_whole(v, table, target)


def initial_weights(seed: int | list[int]) -> np.ndarray:
    """(NUM_WEIGHTS,) float64: random units, none of which counts yet."""
    rng = np.random.default_rng(seed)
    weights = np.zeros(NUM_WEIGHTS)
    weights[:BIAS] = rng.standard_normal(BIAS) / np.sqrt(len(FEATURES))
    return weights
