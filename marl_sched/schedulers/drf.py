"""Dominant resource fairness."""

import numpy as np

from marl_sched.allocation.room import most_left, room_beside_running, take
from marl_sched.jit import kernel, part
from marl_sched.schedulers.filling import asked_level, serve_waiting
from marl_sched.types import ClusterView, Floats1, Ints1


@kernel
def dominant_share(v: ClusterView, i: int, gpus: int) -> float:
    """Largest fraction of any resource that `gpus` of job `i` take of the cluster."""
    share = 0.0
    for r in range(4):
        if v.capacity[r] > 0.0:
            share = max(share, gpus * v.demand[i, r] / v.capacity[r])
    return share


@part
def drf(v: ClusterView, params: Floats1, target: Ints1) -> None:
    """The tenant with the smallest dominant share starts its earliest waiting job next.

    A tenant whose job does not fit is passed over. With one tenant only, every job counts as
    its own: small dominant demands first. Not preemptive. Source: Ghodsi et al., "Dominant
    Resource Fairness", NSDI 2011; a tenant's share is summed over its running jobs.
    """
    n = v.job.size
    room = room_beside_running(v, target)
    tenants = int(v.tenant.max()) + 1 if n > 0 else 0
    if n == 0 or v.tenant.min() == v.tenant.max():
        own = np.empty(n)
        for i in range(n):
            own[i] = dominant_share(v, i, v.sizes[v.profile[i], asked_level(v, i)])
        serve_waiting(v, own, False, target)
        return
    share = np.zeros(tenants)
    for i in range(n):
        if target[i] > 0:
            share[v.tenant[i]] += dominant_share(v, i, v.sizes[v.profile[i], target[i]])
    while most_left(room) > 1e-9:
        head = np.full(tenants, -1)
        for i in range(n):
            t = v.tenant[i]
            if target[i] == 0 and (head[t] < 0 or v.job[i] < v.job[head[t]]):
                head[t] = i
        best = -1
        for t in range(tenants):
            if head[t] >= 0 and share[t] < np.inf and (best < 0 or share[t] < share[best]):
                best = t
        if best < 0:
            return
        i = head[best]
        level = asked_level(v, i)
        if take(v, room, i, level):
            target[i] = level
            share[best] += dominant_share(v, i, v.sizes[v.profile[i], level])
        else:
            share[best] = np.inf
