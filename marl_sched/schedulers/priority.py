"""Fixed priorities."""

import numpy as np

from marl_sched.jit import kernel
from marl_sched.schedulers.filling import fill_requests
from marl_sched.types import ClusterView


@kernel
def priority(v: ClusterView, params: np.ndarray, target: np.ndarray) -> None:
    """Higher `priority` first, by arrival among equals; who does not fit is passed over.

    Preemptive. Source: textbook rule.
    """
    left = v.capacity.copy()
    target[:] = 0
    # The heap breaks ties by job index, which follows the arrivals.
    fill_requests(v, -v.priority, False, target, left)
