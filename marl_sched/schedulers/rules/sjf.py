"""Shortest job first."""

from marl_sched.compiled.jit import part
from marl_sched.types import ClusterView, Floats1


@part
def sjf(v: ClusterView, params: Floats1, key: Floats1) -> None:
    """Waiting jobs by estimated run time; one that does not fit is passed over.

    Not preemptive. Source: textbook rule.
    """
    key[:] = v.est_total_s
