"""Classic schedulers: one file each, in a plain registry.

A scheduler is a pure rule `ClusterView -> Allocation`: no clock, no I/O. The same object runs
in the simulator, as base or shadow of the environment, and on a live cluster.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from marl_sched.errors import UserError
from marl_sched.schedulers import dispatch
from marl_sched.types import Allocation, ClusterView

__all__ = ["REGISTRY", "Scheduler", "get_scheduler"]


@dataclass(frozen=True)
class Scheduler:
    """A named rule with its parameters."""

    name: str
    decide: Callable[[ClusterView, np.ndarray, np.ndarray], None]
    """Compiled rule (view, params, target levels out)."""
    elastic: bool = False
    """Whether it gives other sizes than the request."""
    preemptive: bool = False
    params: dict[str, float] = field(default_factory=dict)

    @property
    def number(self) -> int:
        """What `dispatch.decide` calls it by."""
        return dispatch.NUMBERED.index(self.decide)

    @property
    def param_array(self) -> np.ndarray:
        """(.,) float64, at least one entry, in the order of `params`."""
        return np.array(list(self.params.values()) or [0.0])

    @property
    def summary(self) -> str:
        """First line of the rule's docstring."""
        return (self.decide.__doc__ or "").strip().splitlines()[0]

    def with_params(self, given: dict[str, float]) -> Scheduler:
        """The same rule with some parameters replaced.

        Raises:
            UserError: for a parameter that it does not have.
        """
        for key in given:
            if key not in self.params:
                known = ", ".join(self.params) or "none"
                raise UserError(f"scheduler {self.name!r}: no parameter {key!r}; it has: {known}")
            low, high, legal = _LEGAL[key]
            if not low <= given[key] < high:
                raise UserError(f"scheduler {self.name!r}: {key}={given[key]:g} must be {legal}")
        return replace(self, params={**self.params, **given})

    def allocate(self, view: ClusterView) -> Allocation:
        """GPUs for each active job of `view`."""
        target = np.zeros(view.job.size, dtype=np.int64)
        self.decide(view, self.param_array, target)
        return Allocation(gpus=view.sizes[view.profile, target])


_POSITIVE = (math.ulp(0.0), math.inf, "a number > 0")
_NOT_NEGATIVE = (0.0, math.inf, "a number >= 0")
_LEGAL = {
    "slice_s": _POSITIVE,
    "quantum_gpu_s": _POSITIVE,
    "seed": (0.0, 2.0**31, "from 0 to 2147483647"),
    "p": (0.0, 1.0, "from 0 to below 1"),
    "h": _NOT_NEGATIVE,
    "g": _NOT_NEGATIVE,
    "b": _NOT_NEGATIVE,
}
"""Parameter: lowest legal value, first one too large, in words."""

_SCHEDULERS = (
    Scheduler("fcfs", dispatch.fcfs),
    Scheduler("fcfs_backfill", dispatch.fcfs_backfill),
    Scheduler("sjf", dispatch.sjf),
    Scheduler("srtf", dispatch.srtf, preemptive=True),
    Scheduler("round_robin", dispatch.round_robin, preemptive=True, params={"slice_s": 3600.0}),
    Scheduler("las", dispatch.las, preemptive=True, params={"quantum_gpu_s": 3600.0}),
    Scheduler("drf", dispatch.drf),
    Scheduler("equal", dispatch.equal, elastic=True, preemptive=True),
    Scheduler("on_demand", dispatch.on_demand),
    Scheduler("priority", dispatch.priority, preemptive=True),
    Scheduler("random", dispatch.random, params={"seed": 0.0}),
    Scheduler("equi", dispatch.equi, elastic=True, preemptive=True),
    Scheduler(
        "elastic_index",
        dispatch.elastic_index,
        elastic=True,
        preemptive=True,
        params={"p": 0.6, "h": 0.5, "g": 42.0, "b": 4.0},
    ),
)

REGISTRY: dict[str, Scheduler] = {scheduler.name: scheduler for scheduler in _SCHEDULERS}


def get_scheduler(name: str) -> Scheduler:
    """The scheduler `NAME` or `NAME:param=value,param=value`.

    Raises:
        UserError: for an unknown name or parameter, naming the known ones.
    """
    head, _, tail = name.partition(":")
    if head not in REGISTRY:
        raise UserError(f"unknown scheduler {head!r}; known: {', '.join(REGISTRY)}")
    given: dict[str, float] = {}
    for part in filter(None, tail.split(",")):
        key, _, value = part.partition("=")
        try:
            given[key.strip()] = float(value)
        except ValueError:
            raise UserError(
                f"scheduler {name!r}: {part!r} is not param=number, as in las:quantum_gpu_s=3600"
            ) from None
    return REGISTRY[head].with_params(given)
