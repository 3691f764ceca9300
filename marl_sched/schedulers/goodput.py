"""Goodput of a job by what it has measured of itself, compiled.

    T_grad(m)    = a_c + b_c m
    T_sync(K)    = a_r + b_r (K - 2) on one node, a_n + b_n (K - 2) across nodes
    T_step       = s T_grad + (T_grad^g + T_sync^g)^(1/g)
    M            = K m (s + 1)
    efficiency   = gain / scale, gain = (var + sqr) / (var / scale + sqr), scale = M / M0
    goodput      = max over M of M / T_step x efficiency

K GPUs, m samples per GPU, s accumulation steps, M samples in a step, M0 the smallest batch;
sqr and var are the squared norm and the variance of the gradient at M0.
Source: Qiao et al., Pollux, OSDI 2021.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from marl_sched.jit import kernel, part
from marl_sched.records import record
from marl_sched.types import Floats2, Floats3, Ints1, Ints2

A_C, B_C, A_N, B_N, A_R, B_R, GAMMA = range(7)
NUM_PARAMS = 7

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
    memo: Floats3
    """(J, 2, K + 1) goodput on k GPUs of one node, and across nodes; negative: not yet known."""


@kernel
def step_s(
    params: np.ndarray, spans: bool, gpus: int, local: float, steps: int
) -> float:
    """Seconds of one step with `steps` accumulation steps."""
    grad = params[A_C] + params[B_C] * local
    if gpus <= 1:
        return (steps + 1) * grad
    more = max(gpus - 2, 0)
    sync = params[A_R] + params[B_R] * more
    if spans:
        sync = params[A_N] + params[B_N] * more
    g = params[GAMMA]
    # Scaled by the larger one: powers up to 10 of small times lose their digits.
    high, low = max(grad, sync), min(grad, sync)
    return steps * grad + high * (1.0 + (low / high) ** g) ** (1.0 / g)


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
        goodput = first * gain / step_s(a.params[j], spans, gpus, atomic, steps)
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
