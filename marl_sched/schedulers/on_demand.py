"""On demand: everyone gets what it asks for while it lasts."""

import numpy as np

from marl_sched.jit import kernel
from marl_sched.types import ClusterView


@kernel
def on_demand(v: ClusterView, params: np.ndarray, key: np.ndarray) -> None:
    """Whole requests in order of arrival; a job that does not fit is passed over.

    Not preemptive. Source: textbook rule (first fit); large gangs may starve.
    """
    key[:] = v.arrival_s
