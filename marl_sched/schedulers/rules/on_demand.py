"""On demand: everyone gets what it asks for while it lasts."""

from marl_sched.compiled.jit import part
from marl_sched.types import ClusterView, Floats1


@part
def on_demand(v: ClusterView, params: Floats1, key: Floats1) -> None:
    """Whole requests in order of arrival; a job that does not fit is passed over.

    Not preemptive. Source: textbook rule (first fit); large gangs may starve.
    """
    key[:] = v.arrival_s
