"""On demand: everyone gets what it asks for while it lasts."""

import numpy as np
from numba import njit

from marl_sched.schedulers.filling import fill_requests, keep_running
from marl_sched.types import ClusterView


@njit(cache=True)
def on_demand(v: ClusterView, params: np.ndarray, target: np.ndarray) -> None:
    """Whole requests in order of arrival; a job that does not fit is passed over.

    Not preemptive. Source: textbook rule (first fit); large gangs may starve.
    """
    left = v.capacity.copy()
    keep_running(v, target, left)
    fill_requests(v, v.arrival_s, False, target, left)
