"""The equal split on whole GPUs."""

from marl_sched.jit import part
from marl_sched.order import rows_in_order
from marl_sched.types import ClusterView, Floats1, Ints1


@part
def equal(v: ClusterView, params: Floats1, target: Ints1) -> None:
    """The m earliest jobs get R/m GPUs each, rounded down to an allowed size up to the request.

    m is the largest number for which that gives each of them at least its smallest size: the
    plain split over all jobs is infeasible as soon as one needs more than its share. What a
    job cannot use is left idle; `equi` redistributes. Source: textbook rule.
    """
    order = rows_in_order(v.job)
    members, need = 0, 0
    for rank in range(v.job.size):
        need = max(need, v.sizes[v.profile[order[rank]], 1])
        if need * (rank + 1) <= v.num_gpus:
            members = rank + 1
    target[:] = 0
    if members == 0:
        return
    share = v.num_gpus // members
    for rank in range(members):
        i = order[rank]
        level = min(v.request_level[i], v.limit_level[i])
        while level > 0 and v.sizes[v.profile[i], level] > share:
            level -= 1
        target[i] = level
