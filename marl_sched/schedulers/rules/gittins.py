"""Two-dimensional Gittins index."""

import math

import numpy as np

from marl_sched.compiled.jit import kernel, part
from marl_sched.types import ClusterView, Floats1

NUM_QUEUES = 48
"""Edges 0, q, 2q, 4q, ..: 2^47 quanta are beyond any job."""


@kernel
def survival(service: float, log_median: float, sigma: float) -> float:
    """P(S > service) of a log-normal service S with median exp(log_median)."""
    if service <= 0.0:
        return 1.0
    return 0.5 * math.erfc((math.log(service) - log_median) / (sigma * math.sqrt(2.0)))


@kernel
def gittins_table(
    median: float, sigma: float, quantum: float, edge: np.ndarray, index: np.ndarray
) -> None:
    """Gittins index at each queue edge for log-normal service.

    G(a) = max_D P(S - a <= D | S > a) / E[min(S - a, D) | S > a], over D that end at an edge:
    the best chance of finishing per GPU-second spent. With the survival function F,
    G(a) = max_b (F(a) - F(b)) / integral_a^b F, and the integral is
    b F(b) - a F(a) + E[S] (F'(a) - F'(b)), F' that of a median e^(sigma^2) times as large.

    Args:
        median: GPU-seconds.
        sigma: standard deviation of log S.
        quantum: GPU-seconds, the first edge after 0; each further edge is twice the last.
        edge: (Q,) float64, GPU-seconds, written.
        index: (Q,) float64, 1 / GPU-seconds, written.
    """
    queues = edge.size
    mu = math.log(median)
    shifted = mu + sigma * sigma
    mean = median * math.exp(0.5 * sigma * sigma)
    alive = np.empty(queues)
    area = np.zeros(queues)  # integral of the survival function from this edge to the next
    for q in range(queues):
        edge[q] = quantum * 2.0 ** (q - 1) if q > 0 else 0.0
        alive[q] = survival(edge[q], mu, sigma)
    for q in range(queues - 1):
        part = survival(edge[q], shifted, sigma) - survival(edge[q + 1], shifted, sigma)
        area[q] = edge[q + 1] * alive[q + 1] - edge[q] * alive[q] + mean * part
    for q in range(queues):
        index[q] = 0.0
        spent = 0.0
        for end in range(q + 1, queues):
            spent += area[end - 1]
            if not spent > 0.0:  # nothing left, or not a number in a far tail
                break
            index[q] = max(index[q], (alive[q] - alive[end]) / spent)


@part
def gittins(v: ClusterView, params: Floats1, key: Floats1) -> None:
    """Jobs by the Gittins index of their attained service (GPU-seconds held), highest first.

    Preemptive; needs the distribution of service but no estimates; who does not fit is passed
    over. Source: Gu et al., "Tiresias", NSDI 2019 (2D-Gittins, after Gittins 1979). Deviations:
    the distribution is a log-normal instead of a list of past jobs; the index changes only when
    a job passes 1, 2, 4, .. quanta, which plays the part of their queues; the look-ahead D is
    the best over those edges, as in Gittins' definition, where theirs is one fixed quantum.

    Args:
        params: (median_gpu_s, sigma, quantum_gpu_s).
        key: (A,) float64, minus the index, smaller runs first.
    """
    edge, index = np.empty(NUM_QUEUES), np.empty(NUM_QUEUES)
    gittins_table(params[0], params[1], params[2], edge, index)
    for i in range(v.job.size):
        key[i] = -index[np.searchsorted(edge, max(v.attained_gpu_s[i], 0.0), side="right") - 1]
