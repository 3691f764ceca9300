"""EQUI: equal shares over allowed sizes."""

import numpy as np

from marl_sched.compiled.jit import part
from marl_sched.schedulers.mechanisms.filling import fill_whole
from marl_sched.types import ClusterView, Floats1, Ints1


@part
def equi(v: ClusterView, params: Floats1, target: Ints1) -> None:
    """Raise the job that would then hold the fewest GPUs, until nothing more fits.

    Water-filling over allowed sizes up to each job's maximum; earlier jobs first among
    equals. A level that does not speed a job up is not given. Source: Edmonds, "Scheduling
    in the dark", STOC 1999 (EQUI-partition), on whole GPUs.
    """
    n, levels = v.job.size, v.sizes.shape[1]
    table = np.full((n, levels), -np.inf)
    for i in range(n):
        profile = v.profile[i]
        for level in range(v.num_levels[profile]):
            if v.rates[profile, level + 1] > v.rates[profile, level]:
                table[i, level] = -float(v.sizes[profile, level + 1])
    fill_whole(v, table, target)
