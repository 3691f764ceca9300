"""First come, first served."""

import numpy as np

from marl_sched.jit import kernel
from marl_sched.schedulers.filling import fill_requests, keep_running
from marl_sched.types import ClusterView


@kernel
def fcfs(v: ClusterView, params: np.ndarray, target: np.ndarray) -> None:
    """Whole requests in order of arrival; nobody passes the head of the queue.

    Not preemptive. Source: textbook rule; the default of most batch systems.
    """
    left = v.capacity.copy()
    keep_running(v, target, left)
    fill_requests(v, v.arrival_s, True, target, left)
