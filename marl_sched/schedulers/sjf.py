"""Shortest job first."""

import numpy as np

from marl_sched.jit import kernel
from marl_sched.types import ClusterView


@kernel
def sjf(v: ClusterView, params: np.ndarray, key: np.ndarray) -> None:
    """Waiting jobs by estimated run time; one that does not fit is passed over.

    Not preemptive. Source: textbook rule.
    """
    key[:] = v.est_total_s
