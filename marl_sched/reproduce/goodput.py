"""Goodput of a job by what it has measured of itself, compiled.

    T_grad(m)    = a_c + b_c m
    T_sync(K)    = a_r + b_r (K - 2) on one node, a_n + b_n (K - 2) across nodes
    T_step       = s T_grad + (T_grad^g + T_sync^g)^(1/g)
    M            = K m (s + 1)
    efficiency   = gain / scale, gain = (var + sqr) / (var / scale + sqr), scale = M / M0
    goodput      = max over M of M / T_step x efficiency

K GPUs, m samples per GPU, s accumulation steps, M samples in a step, M0 the smallest batch;
sqr and var are the squared norm and the variance of the gradient at M0.
Where a job has run on as many GPUs before, what it measured there corrects both times: by the
ratio of measured to computed ones, linear between the batches that it tried.
Source of the model: Qiao et al., Pollux, OSDI 2021.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from marl_sched.compiled.jit import kernel, part
from marl_sched.compiled.records import record
from marl_sched.types import Floats2, Floats3, Ints1, Ints2

A_C, B_C, A_N, B_N, A_R, B_R, GAMMA = range(7)
NUM_PARAMS = 7

NODES, GPUS, LOCAL, GRAD_S, STEP_S = range(5)
NUM_SEEN = 5
"""Columns of a measurement: nodes, GPUs, batch of one GPU, seconds of a gradient and of a step."""

INITIAL_BATCH, MAX_BATCH, MIN_LOCAL, MAX_LOCAL = range(4)
NUM_BATCH = 4

POINTS = 50
"""Batch sizes tried, spaced geometrically, as in the artifact."""
SLACK = 1e-8
"""What keeps rounding errors from turning into one sample more."""
NOTHING_S = 1e-8
"""Synchronisation of one GPU; also the least value of a fitted constant."""


@record
class Agents(NamedTuple):
    """What J jobs know about themselves."""

    params: Floats2
    """(J, 7) constants of the step time, s; see the module."""
    gradient: Floats2
    """(J, 2) squared norm and variance of the gradient."""
    batch: Ints2
    """(J, 4) smallest and largest batch, smallest and largest batch of one GPU."""
    measured: Ints1
    """(J,) number of measurements; without any, k GPUs are taken to be k times as fast as one."""
    seen: Floats3
    """(J, P, 5) the measurements, of different (nodes, GPUs, batch of one GPU)."""
    memo: Floats3
    """(J, 2, K + 1) goodput on k GPUs of one node, and across nodes; negative: not yet known."""


@kernel
def grad_s(params: np.ndarray, local: float) -> float:
    """Seconds of a gradient."""
    return params[A_C] + params[B_C] * local


@kernel
def step_s(params: np.ndarray, spans: bool, gpus: int, grad: float) -> float:
    """Seconds of a step without accumulation whose gradient takes `grad`."""
    if gpus <= 1:
        return grad
    more = max(gpus - 2, 0)
    sync = params[A_R] + params[B_R] * more
    if spans:
        sync = params[A_N] + params[B_N] * more
    g = params[GAMMA]
    # Scaled by the larger one: powers up to 10 of small times lose their digits.
    high, low = max(grad, sync), min(grad, sync)
    return high * (1.0 + (low / high) ** g) ** (1.0 / g)


@kernel
def corrections(a: Agents, j: int, spans: bool, gpus: int, table: np.ndarray) -> int:
    """What job `j` has measured on `gpus` GPUs beside what is computed.

    Args:
        table: (P, 3), gets a row for each: batch of one GPU, ascending, and measured / computed
            seconds of a gradient and of a step.

    Returns:
        The number of rows.
    """
    count = 0
    for i in range(a.measured[j]):
        row = a.seen[j, i]
        if row[GPUS] != gpus or (row[NODES] > 1) != spans:
            continue
        at = count
        while at > 0 and table[at - 1, 0] > row[LOCAL]:
            table[at] = table[at - 1]
            at -= 1
        grad = grad_s(a.params[j], row[LOCAL])
        table[at, 0] = row[LOCAL]
        table[at, 1] = row[GRAD_S] / grad
        table[at, 2] = row[STEP_S] / step_s(a.params[j], spans, gpus, grad)
        count += 1
    return count


@kernel
def corrected_s(
    a: Agents, j: int, spans: bool, gpus: int, local: int, steps: int, table: np.ndarray, rows: int
) -> float:
    """Seconds of a step with `steps` accumulation steps, by the first `rows` of `table`."""
    grad = grad_s(a.params[j], local)
    step = step_s(a.params[j], spans, gpus, grad)
    if rows == 0:
        return steps * grad + step
    above = 0
    while above < rows and table[above, 0] < local:
        above += 1
    low, high = max(above - 1, 0), min(above, rows - 1)
    part_of_it = 0.0
    if high > low:
        part_of_it = (local - table[low, 0]) / (table[high, 0] - table[low, 0])
    grad *= table[low, 1] + part_of_it * (table[high, 1] - table[low, 1])
    step *= table[low, 2] + part_of_it * (table[high, 2] - table[low, 2])
    return steps * grad + step


@part
def best_batch(a: Agents, j: int, spans: bool, gpus: int, chosen: Ints1) -> float:
    """Highest goodput of job `j` on `gpus` GPUs, samples/s; 0 where no batch is allowed.

    Args:
        spans: whether the GPUs are on several nodes.
        chosen: (2,) int64, gets the batch of one GPU and the accumulation steps.
    """
    first, largest = a.batch[j, INITIAL_BATCH], a.batch[j, MAX_BATCH]
    smallest = max(first, a.batch[j, MIN_LOCAL] * gpus)
    sqr, var = a.gradient[j, 0], a.gradient[j, 1]
    table = np.empty((a.measured[j], 3))
    rows = corrections(a, j, spans, gpus, table)
    best = 0.0
    ratio = (largest / smallest) ** (1.0 / (POINTS - 1))
    total, before = float(smallest), 0
    for _ in range(POINTS):
        local = total / gpus
        steps = int(np.ceil(local / a.batch[j, MAX_LOCAL] - SLACK)) - 1
        if gpus == 1 and local > first + SLACK:
            steps = max(steps, 1)
        atomic = int(np.ceil(local / (steps + 1) - SLACK))
        total *= ratio
        samples = gpus * atomic * (steps + 1)
        if atomic < a.batch[j, MIN_LOCAL] or samples == before:
            continue
        before = samples
        scale = samples / first
        denominator = var / scale + sqr
        gain = (var + sqr) / denominator if denominator > 0.0 else 1.0
        goodput = first * gain / corrected_s(a, j, spans, gpus, atomic, steps, table, rows)
        if goodput > best:
            best = goodput
            chosen[0], chosen[1] = atomic, steps
    return best


@kernel
def goodput(a: Agents, j: int, spans: bool, gpus: int, chosen: np.ndarray) -> float:
    """The same by `a.memo`, and `gpus` itself before the first measurement."""
    if a.measured[j] == 0:
        return float(gpus)
    row = 1 if spans else 0
    if a.memo[j, row, gpus] < 0.0:
        a.memo[j, row, gpus] = best_batch(a, j, spans, gpus, chosen)
    return a.memo[j, row, gpus]
