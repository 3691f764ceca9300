"""Rate monotonic priorities."""

from marl_sched.compiled.jit import part
from marl_sched.schedulers.rules.edf import LAST
from marl_sched.types import ClusterView, Floats1


@part
def rate_monotonic(v: ClusterView, params: Floats1, key: Floats1) -> None:
    """All jobs by the length of their deadline window, shortest first, then those without one.

    The priority is fixed on arrival, unlike `edf`'s. Preemptive; who does not fit is passed
    over. Source: Liu and Layland, "Scheduling algorithms for multiprogramming in a
    hard-real-time environment", JACM 1973, where tasks come back every period; a training job
    runs once, and its window deadline - arrival stands for the period.

    Args:
        key: (A,) float64, seconds, smaller runs first.
    """
    for i in range(v.job.size):
        key[i] = min(v.deadline_s[i] - v.arrival_s[i], LAST)
