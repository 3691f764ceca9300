"""The elastic form of an order of jobs: the cost-aware index with the order's own ranks."""

import numpy as np

from marl_sched.compiled.jit import kernel
from marl_sched.compiled.order import rows_by
from marl_sched.schedulers.rules.elastic_index import log_rank_weights, remaining_s, share_by_index
from marl_sched.types import ClusterView

NUM_INDEX_PARAMS = 4
"""(p, h, g, b) of the index come before the parameters of the order itself."""


@kernel
def share_by_rank(v: ClusterView, key: np.ndarray, params: np.ndarray, target: np.ndarray) -> None:
    """Raise jobs level by level, where jobs with a smaller key weigh more.

    The worth of a level is that of `elastic_index`, with log a_i from the job's place in the
    order instead of its estimated work: the first of n has rank n. So an order gives up neither
    resizing nor the care for restart costs, and differs from the index only in whom it prefers.

    Args:
        key: (A,) float64, smaller comes first; ties by job.
        params: (p, h, g, b, ..): p = 0 treats all jobs alike, towards 1 the first take all.
        target: (A,) int64, overwritten.
    """
    place = np.empty(v.job.size)
    order = rows_by(key, v.job)
    for rank in range(order.size):
        place[order[rank]] = rank
    weight = log_rank_weights(place, params[0])
    share_by_index(v, params, remaining_s(v, 0.0), weight, target)
