"""First come, first served."""

import numpy as np

from marl_sched.jit import kernel
from marl_sched.types import ClusterView


@kernel
def fcfs(v: ClusterView, params: np.ndarray, key: np.ndarray) -> None:
    """Whole requests in order of arrival; nobody passes the head of the queue.

    Not preemptive. Source: textbook rule; the default of most batch systems.
    """
    key[:] = v.arrival_s
