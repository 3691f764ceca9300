"""Fixed priorities."""

import numpy as np

from marl_sched.jit import kernel
from marl_sched.types import ClusterView


@kernel
def priority(v: ClusterView, params: np.ndarray, key: np.ndarray) -> None:
    """Higher `priority` first, by arrival among equals; who does not fit is passed over.

    Preemptive. Source: textbook rule.
    """
    # Ties go by job index, which follows the arrivals.
    for i in range(v.job.size):
        key[i] = -v.priority[i]
