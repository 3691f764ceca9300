"""The equal split on whole GPUs."""

from marl_sched.allocation.room import is_plain, raise_level, whole_room
from marl_sched.compiled.jit import part
from marl_sched.compiled.order import rows_in_order
from marl_sched.types import ClusterView, Floats1, Ints1


@part
def equal(v: ClusterView, params: Floats1, target: Ints1) -> None:
    """The m earliest jobs get R/m GPUs each, rounded down to an allowed size up to the request.

    m is the largest number for which that gives each of them at least its smallest size: the
    plain split over all jobs is infeasible as soon as one needs more than its share. What a
    job cannot use is left idle; `equi` redistributes. Where GPUs are of several types or a tenant
    has a quota, a share that finds no room is the next smaller one that does. Source: textbook
    rule.
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
    share, room = v.num_gpus // members, whole_room(v)
    for rank in range(members):
        i = order[rank]
        level = min(v.request_level[i], v.limit_level[i])
        while level > 0 and v.sizes[v.profile[i], level] > share:
            level -= 1
        while level > 0 and not is_plain(v) and not raise_level(v, room, i, 0, level):
            level -= 1
        target[i] = level
