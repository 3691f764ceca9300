"""Optimus: marginal gain of one more worker."""

import numpy as np

from marl_sched.compiled.jit import part
from marl_sched.schedulers.mechanisms.filling import fill_whole
from marl_sched.schedulers.rules.drf import dominant_share
from marl_sched.types import ClusterView, Floats1, Ints1


@part
def optimus(v: ClusterView, params: Floats1, target: Ints1) -> None:
    """Everybody its smallest size by arrival, then more to who saves most time for it.

    The gain of a step is the estimated remaining time before it minus after it, over the
    dominant share of the resources that it takes. Preemptive and elastic. Source: Peng et al.,
    "Optimus", EuroSys 2018. Deviations: a worker is a GPU with its CPUs and memory and there
    are no parameter servers; a step goes from one allowed size to the next; remaining times are
    the view's estimates where theirs come from a fitted loss curve.
    """
    n = v.job.size
    table = np.full((n, v.sizes.shape[1]), -np.inf)
    for i in range(n):
        profile = v.profile[i]
        table[i, 0] = np.inf
        for level in range(1, v.num_levels[profile]):
            slow, fast = v.rates[profile, level], v.rates[profile, level + 1]
            if fast <= slow:
                break
            share = dominant_share(v, i, v.sizes[profile, level + 1] - v.sizes[profile, level])
            table[i, level] = v.est_remaining_s[i] * (1.0 / slow - 1.0 / fast) / share
    fill_whole(v, table, target)
