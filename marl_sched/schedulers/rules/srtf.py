"""Shortest remaining time first."""

from marl_sched.compiled.jit import part
from marl_sched.types import ClusterView, Floats1


@part
def srtf(v: ClusterView, params: Floats1, key: Floats1) -> None:
    """All jobs by estimated remaining time; one that does not fit is passed over.

    Preemptive. Source: Schrage, "A proof of the optimality of the shortest remaining
    processing time discipline", Operations Research 1968, for one server; here gangs and
    estimates with error.
    """
    key[:] = v.est_remaining_s
