"""Shortest job first."""

import numpy as np

from marl_sched.jit import kernel
from marl_sched.schedulers.filling import fill_requests, keep_running
from marl_sched.types import ClusterView


@kernel
def sjf(v: ClusterView, params: np.ndarray, target: np.ndarray) -> None:
    """Waiting jobs by estimated run time; one that does not fit is passed over.

    Not preemptive. Source: textbook rule.
    """
    left = v.capacity.copy()
    keep_running(v, target, left)
    fill_requests(v, v.est_total_s, False, target, left)
