"""Quasi-shortest service first."""

import numpy as np

from marl_sched.compiled.jit import part
from marl_sched.schedulers.mechanisms.serving import asked_level
from marl_sched.types import ClusterView, Floats1


@part
def qssf(v: ClusterView, params: Floats1, key: Floats1) -> None:
    """Waiting jobs by predicted GPU time (run time times GPUs); nobody passes the head.

    Not preemptive. Source: Hu et al., "Characterization and prediction of deep learning
    workloads" (Helios), SC 2021, also the base order of Lucid, ASPLOS 2023. There a model
    trained on past jobs predicts the run time; here it is the view's estimate. Theirs keeps one
    queue for each virtual cluster, and orders jobs that have only just come by GPUs until they
    are predicted; neither is done here.

    Args:
        key: (A,) float64, GPU-seconds, smaller runs first; -inf for those who run.
    """
    for i in range(v.job.size):
        key[i] = v.est_total_s[i] * v.sizes[v.profile[i], asked_level(v, i)]
        if v.level[i] > 0:
            key[i] = -np.inf
