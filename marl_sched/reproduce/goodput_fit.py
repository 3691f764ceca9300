"""Fit of a job's step time to what it has measured so far, compiled.

    minimise  rms(log gradient time) + rms(log step time)
              + 0.001 (gamma - 1)^2 + 0.01 (b_n / a_n)^2 + 0.01 (b_r / a_r)^2

rms over the measurements, of computed less measured ones. By Levenberg-Marquardt over the
logarithms of the six times and gamma itself, a few times over, each with the mean squares weighted
by 1 / (2 rms) of the one before, which has the same minimum.

What a job has not yet seen is taken to be good, so that it is tried: constants about which nothing
measured says anything stay at nothing, and a spread over nodes is taken to be a tenth slower than
one node. Source of the objective and of these assumptions: Qiao et al., Pollux, OSDI 2021,
artifact, which uses L-BFGS.
"""

from __future__ import annotations

import numpy as np

from marl_sched.compiled.jit import kernel, part
from marl_sched.compiled.records import copy_into
from marl_sched.reproduce.goodput import (
    A_C,
    A_N,
    A_R,
    B_C,
    B_N,
    B_R,
    GAMMA,
    GPUS,
    GRAD_S,
    LOCAL,
    NODES,
    NOTHING_S,
    NUM_PARAMS,
    STEP_S,
)
from marl_sched.types import Floats1, Floats2

START = np.array([0.1, 0.01, 0.1, 0.01, 0.1, 0.01, 1.001])
MOST_GAMMA = 10.0
UNSET_S = 1e-6
"""A constant below it was not fitted before."""
GAMMA_WEIGHT = 1e-3
GROWTH_WEIGHT = 1e-2
"""Of (gamma - 1)^2 and of the squared growth of synchronisation, beside root mean square errors."""
ROUNDS = 4
"""Of new weights."""
FIRST_ERROR, LEAST_ERROR = 0.05, 1e-3
"""rms that the first weights stand for, and below which it counts as so much."""
ITERATIONS = 20
ENOUGH = 1e-5
"""Relative decrease of the cost below which the fit has converged."""


@kernel
def free_constants(seen: np.ndarray, x: np.ndarray, free: np.ndarray) -> None:
    """Mark the constants that measurements (P, 5) tell something about; set the others."""
    free[:] = True
    spans, within, several = False, False, False
    one_size = True
    for i in range(len(seen)):
        spans |= seen[i, NODES] > 1
        within |= seen[i, NODES] == 1 and seen[i, GPUS] > 1
        several |= seen[i, GPUS] > 2
        one_size &= seen[i, LOCAL] == seen[0, LOCAL]
    free[A_C] = not one_size
    free[A_N], free[A_R] = spans, within
    free[B_N], free[B_R] = spans and several, within and several
    for c in range(NUM_PARAMS):
        if not free[c]:
            x[c] = NOTHING_S
        elif x[c] < UNSET_S:
            x[c] = START[c]
    if one_size:
        # Half of it fixed, half per sample: optimistic about larger batches.
        x[A_C] = 0.0
        for i in range(len(seen)):
            x[A_C] += 0.5 * seen[i, GRAD_S] / len(seen)


@kernel
def normal_equations(
    seen: np.ndarray,
    x: np.ndarray,
    free: np.ndarray,
    weight: np.ndarray,
    h: np.ndarray,
    b: np.ndarray,
    square: np.ndarray,
) -> float:
    """Cost at x (7,), with J'J (7, 7) and J'r (7,) of the residuals r by log constants.

    Args:
        weight: (2,) of the mean squared errors of accumulation steps and of steps.
        square: (2,) gets these two.
    """
    h[:], b[:] = 0.0, 0.0
    first, second = np.zeros(NUM_PARAMS), np.zeros(NUM_PARAMS)
    square[:] = 0.0
    g = x[GAMMA]
    for i in range(len(seen)):
        grad = x[A_C] + x[B_C] * seen[i, LOCAL]
        first[:], second[:] = 0.0, 0.0
        first[A_C], first[B_C] = x[A_C] / grad, x[B_C] * seen[i, LOCAL] / grad
        log_grad = np.log(grad)
        miss = log_grad - np.log(seen[i, GRAD_S])
        add_residual(miss, first, weight[0] / len(seen), h, b)
        square[0] += miss * miss / len(seen)
        log_step = log_grad
        share = 1.0
        if seen[i, GPUS] > 1:
            a_s, b_s = (A_N, B_N) if seen[i, NODES] > 1 else (A_R, B_R)
            growth = x[b_s] * max(seen[i, GPUS] - 2.0, 0.0)
            sync = x[a_s] + growth
            ratio = (sync / grad) ** g
            share = 1.0 / (1.0 + ratio)
            log_sync = np.log(sync)
            log_step = log_grad + np.log1p(ratio) / g
            second[a_s] = (1.0 - share) * x[a_s] / sync
            second[b_s] = (1.0 - share) * growth / sync
            second[GAMMA] = (share * log_grad + (1.0 - share) * log_sync - log_step) / g
        second[A_C], second[B_C] = share * first[A_C], share * first[B_C]
        miss = log_step - np.log(seen[i, STEP_S])
        add_residual(miss, second, weight[1] / len(seen), h, b)
        square[1] += miss * miss / len(seen)
    cost = weight[0] * square[0] + weight[1] * square[1]
    first[:] = 0.0
    first[GAMMA] = np.sqrt(GAMMA_WEIGHT)
    cost += add_residual(first[GAMMA] * (g - 1.0), first, 1.0, h, b)
    for a_s, b_s in ((A_N, B_N), (A_R, B_R)):
        first[:] = 0.0
        growth = np.sqrt(GROWTH_WEIGHT) * x[b_s] / x[a_s]
        first[a_s], first[b_s] = -growth, growth
        cost += add_residual(growth, first, 1.0, h, b)
    for c in range(NUM_PARAMS):
        if not free[c]:
            h[c, :], h[:, c], b[c] = 0.0, 0.0, 0.0
            h[c, c] = 1.0
    return cost


@kernel
def add_residual(r: float, slope: np.ndarray, weight: float, h: np.ndarray, b: np.ndarray) -> float:
    """Add a weighted residual with its slope (7,); its part of the cost."""
    for i in range(NUM_PARAMS):
        if slope[i] != 0.0:
            b[i] += weight * slope[i] * r
            for j in range(NUM_PARAMS):
                h[i, j] += weight * slope[i] * slope[j]
    return weight * r * r


@kernel
def solve(h: np.ndarray, b: np.ndarray) -> None:
    """Solve h x = b for a positive definite h (n, n); x is left in b, h is used up."""
    n = len(b)
    for i in range(n):
        for k in range(i + 1, n):
            factor = h[k, i] / h[i, i]
            for j in range(i, n):
                h[k, j] -= factor * h[i, j]
            b[k] -= factor * b[i]
    for i in range(n - 1, -1, -1):
        for j in range(i + 1, n):
            b[i] -= h[i, j] * b[j]
        b[i] /= h[i, i]


@kernel
def stepped(x: np.ndarray, step: np.ndarray, free: np.ndarray, new: np.ndarray) -> None:
    """x less a step in logarithms, within the bounds."""
    for c in range(NUM_PARAMS):
        new[c] = x[c]
        if free[c] and c == GAMMA:
            new[c] = min(max(x[c] - step[c], 1.0), MOST_GAMMA)
        elif free[c]:
            new[c] = max(x[c] * np.exp(-min(max(step[c], -2.0), 2.0)), NOTHING_S)


@kernel
def descend(seen: np.ndarray, x: np.ndarray, free: np.ndarray, square: np.ndarray) -> None:
    """One fit with the errors weighted by what they are at x; they are left in `square` (2,)."""
    weight, new_square = np.empty(2), np.empty(2)
    h, b = np.empty((NUM_PARAMS, NUM_PARAMS)), np.empty(NUM_PARAMS)
    new_h, new_b = h.copy(), b.copy()
    damped, step, new = h.copy(), b.copy(), b.copy()
    for e in range(2):
        weight[e] = 0.5 / max(np.sqrt(square[e]), LEAST_ERROR)
    cost, damping = normal_equations(seen, x, free, weight, h, b, square), 1e-3
    for _ in range(ITERATIONS):
        copy_into(damped, h)
        copy_into(step, b)
        for c in range(NUM_PARAMS):
            damped[c, c] += damping * h[c, c] + 1e-12
        solve(damped, step)
        stepped(x, step, free, new)
        new_cost = normal_equations(seen, new, free, weight, new_h, new_b, new_square)
        if new_cost >= cost:
            damping *= 8.0
            if damping > 1e6:
                return
            continue
        done = new_cost > cost * (1.0 - ENOUGH)
        cost = new_cost
        copy_into(x, new)
        copy_into(h, new_h)
        copy_into(b, new_b)
        copy_into(square, new_square)
        damping = max(damping / 8.0, 1e-9)
        if done:
            return


@part
def fit_step_time(seen: Floats2, x: Floats1) -> None:
    """Fit the constants to measurements.

    Args:
        seen: (P, 5) float64: nodes, GPUs, batch of one GPU, seconds of an accumulation step, and
            of a whole step; P >= 1.
        x: (7,) float64, the last fit or zeros; gets the constants.
    """
    free, square = np.empty(NUM_PARAMS, dtype=np.bool_), np.empty(2)
    square[:] = FIRST_ERROR**2
    free_constants(seen, x, free)
    for _ in range(ROUNDS):
        descend(seen, x, free, square)
    if not free[A_N]:
        x[A_N] = max(x[A_N], 1.1 * x[A_R])
        x[B_N] = max(x[B_N], 1.1 * x[B_R])
