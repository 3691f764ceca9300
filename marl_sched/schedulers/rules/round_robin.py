"""Round robin with a time slice."""

import numpy as np

from marl_sched.compiled.jit import part
from marl_sched.types import ClusterView, Floats1


@part
def round_robin(v: ClusterView, params: Floats1, key: Floats1) -> None:
    """A job keeps its GPUs for one slice, then queues behind those that wait.

    The queue is ordered by the time since which a job waits; a job whose slice is over joins
    at the tail and runs on if nobody takes its place. Preemptive. Source: textbook rule.

    Args:
        params: (slice_s,).
    """
    for i in range(v.job.size):
        key[i] = v.waiting_since_s[i]
        if v.level[i] > 0:
            if v.now_s - v.run_since_s[i] < params[0]:
                key[i] = -np.inf
            else:
                # Behind everybody who waits; among the expired, who ran longest goes last.
                key[i] = v.now_s - v.run_since_s[i] + v.now_s
