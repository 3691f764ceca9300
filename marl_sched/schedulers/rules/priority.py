"""Fixed priorities."""

from marl_sched.compiled.jit import part
from marl_sched.types import ClusterView, Floats1


@part
def priority(v: ClusterView, params: Floats1, key: Floats1) -> None:
    """Higher `priority` first, by arrival among equals; who does not fit is passed over.

    Preemptive. Source: textbook rule.
    """
    # Ties go by job index, which follows the arrivals.
    for i in range(v.job.size):
        key[i] = -v.priority[i]
