"""Shortest remaining service first."""

from marl_sched.compiled.jit import part
from marl_sched.schedulers.mechanisms.serving import asked_level
from marl_sched.types import ClusterView, Floats1


@part
def srsf(v: ClusterView, params: Floats1, key: Floats1) -> None:
    """All jobs by estimated remaining time times GPUs; one that does not fit is passed over.

    Preemptive. Source: Gu et al., "Tiresias", NSDI 2019 (SRSF, its clairvoyant baseline), and
    Zhao et al., "Muri", SIGCOMM 2022. Sizes are estimates here, which may be wrong.

    Args:
        key: (A,) float64, GPU-seconds, smaller runs first.
    """
    for i in range(v.job.size):
        key[i] = v.est_remaining_s[i] * v.sizes[v.profile[i], asked_level(v, i)]
