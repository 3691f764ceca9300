"""Least attained service."""

import math

from marl_sched.compiled.jit import part
from marl_sched.types import ClusterView, Floats1


@part
def las(v: ClusterView, params: Floats1, key: Floats1) -> None:
    """Jobs by discretised attained service (GPU-seconds held), by arrival within a queue.

    Queue 0 ends at `quantum_gpu_s` and each further queue at twice the one before, so that a
    job is overtaken only O(log) times. Preemptive; needs no estimates. Source: Nuyens and
    Wierman, "The foreground-background queue", 2008; discretised as in Gu et al., Tiresias,
    NSDI 2019, which has two queues instead of doubling ones.

    Args:
        params: (quantum_gpu_s,).
    """
    for i in range(v.job.size):
        quanta = v.attained_gpu_s[i] / params[0]
        queue = 0
        if quanta >= 1.0:
            _, queue = math.frexp(quanta)  # 2^(queue - 1) <= quanta < 2^queue
        key[i] = queue * 1e12 + v.arrival_s[i]
