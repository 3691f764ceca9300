"""Schedulers: `registry` has them by name, `rules/` one file each, `mechanisms/` what rules share,
`learned/` those with trained weights, `dispatch` how kernels call one.

A scheduler is a pure rule `ClusterView -> Allocation`: no clock, no I/O. The same object runs
in the simulator, as base or shadow of the environment, and on a live cluster.
"""

from marl_sched.schedulers.registry import (
    REGISTRY,
    Planner,
    Scheduler,
    get_scheduler,
    learned_scorer,
    make_scorer,
    scorer_of_record,
)

__all__ = [
    "REGISTRY",
    "Planner",
    "Scheduler",
    "get_scheduler",
    "learned_scorer",
    "make_scorer",
    "scorer_of_record",
]
