"""Earliest deadline first."""

from marl_sched.compiled.jit import part
from marl_sched.types import ClusterView, Floats1

LAST = 1e300
"""Key of a job that runs only on what the others leave; +inf would mean not at all."""


@part
def edf(v: ClusterView, params: Floats1, key: Floats1) -> None:
    """All jobs by absolute deadline, then those without one; who does not fit is passed over.

    Preemptive. Source: Liu and Layland, "Scheduling algorithms for multiprogramming in a
    hard-real-time environment", JACM 1973 (deadline driven), for periodic tasks on one
    processor; here one-off gangs, and a missed deadline does not end a job: it stays first.

    Args:
        key: (A,) float64, seconds, smaller runs first.
    """
    for i in range(v.job.size):
        key[i] = min(v.deadline_s[i], LAST)
