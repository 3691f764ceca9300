"""Shortest remaining time first."""

import numpy as np

from marl_sched.jit import kernel
from marl_sched.types import ClusterView


@kernel
def srtf(v: ClusterView, params: np.ndarray, key: np.ndarray) -> None:
    """All jobs by estimated remaining time; one that does not fit is passed over.

    Preemptive. Source: Schrage, "A proof of the optimality of the shortest remaining
    processing time discipline", Operations Research 1968, for one server; here gangs and
    estimates with error.
    """
    key[:] = v.est_remaining_s
