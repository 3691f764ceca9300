"""Dominant resource fairness."""

import numpy as np

from marl_sched.allocation.room import most_left, room_beside_running, take
from marl_sched.compiled.jit import kernel, part
from marl_sched.compiled.order import rows_by
from marl_sched.schedulers.mechanisms.serving import asked_level, serve_waiting
from marl_sched.types import ClusterView, Floats1, Ints1


@kernel
def dominant_share(v: ClusterView, i: int, gpus: int) -> float:
    """Largest fraction of any resource that `gpus` of job `i` take of the cluster."""
    share = 0.0
    for r in range(4):
        if v.capacity[r] > 0.0:
            share = max(share, gpus * v.demand[i, r] / v.capacity[r])
    return share


@kernel
def group_by_tenant(v: ClusterView, order: np.ndarray, group: np.ndarray) -> np.ndarray:
    """(G + 1,) int64, where in `order` the jobs of each of G tenants begin, and the end.

    Args:
        order: (A,) int64, rows by tenant, then by job.
        group: (A,) int64, overwritten: the place of each job's tenant among the G.
    """
    first = np.empty(order.size + 1, dtype=np.int64)
    groups = 0
    for at in range(order.size):
        if at == 0 or v.tenant[order[at]] != v.tenant[order[at - 1]]:
            first[groups] = at
            groups += 1
        group[order[at]] = groups - 1
    first[groups] = order.size
    return first[: groups + 1].copy()


@part
def drf(v: ClusterView, params: Floats1, target: Ints1) -> None:
    """The tenant with the smallest dominant share starts its earliest waiting job next.

    A tenant whose job does not fit is passed over. With one tenant only, every job counts as
    its own: small dominant demands first. Not preemptive. Source: Ghodsi et al., "Dominant
    Resource Fairness", NSDI 2011; a tenant's share is summed over its running jobs.
    """
    n = v.job.size
    room = room_beside_running(v, target)
    if n == 0 or v.tenant.min() == v.tenant.max():
        own = np.empty(n)
        for i in range(n):
            own[i] = dominant_share(v, i, v.sizes[v.profile[i], asked_level(v, i)])
        serve_waiting(v, own, False, target)
        return
    order, group = rows_by(v.tenant.astype(np.float64), v.job), np.empty(n, dtype=np.int64)
    first = group_by_tenant(v, order, group)
    share = np.zeros(first.size - 1)
    for i in range(n):
        if target[i] > 0:
            share[group[i]] += dominant_share(v, i, v.sizes[v.profile[i], target[i]])
    at = first[:-1].copy()  # in `order`: where each tenant's jobs are tried next
    while most_left(room) > 1e-9:
        best = -1
        for g in range(share.size):
            while at[g] < first[g + 1] and target[order[at[g]]] > 0:
                at[g] += 1
            if at[g] < first[g + 1] and share[g] < np.inf and (best < 0 or share[g] < share[best]):
                best = g
        if best < 0:
            return
        i = order[at[best]]
        level = asked_level(v, i)
        if take(v, room, i, level):
            target[i] = level
            share[best] += dominant_share(v, i, v.sizes[v.profile[i], level])
        else:
            share[best] = np.inf
