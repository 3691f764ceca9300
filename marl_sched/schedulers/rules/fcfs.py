"""First come, first served."""

from marl_sched.compiled.jit import part
from marl_sched.types import ClusterView, Floats1


@part
def fcfs(v: ClusterView, params: Floats1, key: Floats1) -> None:
    """Whole requests in order of arrival; nobody passes the head of the queue.

    Not preemptive. Source: textbook rule; the default of most batch systems.
    """
    key[:] = v.arrival_s
