"""Classic schedulers: one file each, in a plain registry.

A scheduler is a pure rule `ClusterView -> Allocation`: no clock, no I/O. The same object runs
in the simulator, as base or shadow of the environment, and on a live cluster.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from marl_sched.errors import UserError, do_you_mean
from marl_sched.schedulers import dispatch
from marl_sched.schedulers.gavel import (
    GandivaFair,
    MaxMinFairness,
    MaxSumThroughput,
    MinTotalDuration,
)
from marl_sched.schedulers.guard import Guard
from marl_sched.schedulers.scorer_file import PRETRAINED, ScorerRecord, is_scorer, load_scorer
from marl_sched.schedulers.sia import Sia
from marl_sched.schedulers.tuned import tuned_params
from marl_sched.types import Allocation, ClusterView, NodeView

__all__ = ["REGISTRY", "Planner", "Scheduler", "get_scheduler"]


class Planner(Protocol):
    """A scheduler in plain Python that may remember what it did: LPs, searches."""

    def allocate(self, view: ClusterView, nodes: NodeView) -> Allocation:
        """GPUs, and where it chooses them itself places, for each active job."""


_SOURCE = re.compile(r"Source: (.*?)(?:\.(?: [A-Z]|$)|;)")


@dataclass(frozen=True)
class Scheduler:
    """A named rule with its parameters."""

    name: str
    rule: Callable[..., Any] | None = None
    """Compiled: writes keys or target levels, see `dispatch`; None for a planner."""
    elastic: bool = False
    """Whether it gives other sizes than the request."""
    params: dict[str, float] = field(default_factory=dict)
    planner: Callable[..., Planner] | None = None
    """Makes a planner, which begins a run with no memory, from the parameters by name."""
    weights: tuple[float, ...] = ()
    """Learned parameters, which a compiled rule reads behind `params`."""

    @property
    def compiled(self) -> bool:
        """Whether it runs inside the kernels."""
        return self.rule is not None

    @property
    def number(self) -> int:
        """What `dispatch.decide` calls it by.

        Raises:
            UserError: for one in plain Python, which kernels cannot call.
        """
        if self.rule is None:
            raise UserError(
                f"scheduler {self.name!r} runs in plain Python and not inside the environment: "
                "`simulate` and `evaluate` play it; take a compiled one here"
            )
        number = dispatch.NUMBERED.index(self.rule)
        return number + dispatch.ELASTIC * (self.elastic and number < dispatch.NUM_KEYED)

    @property
    def is_order(self) -> bool:
        """Whether it is an order of jobs, which are served whole or not at all."""
        return self.compiled and self.number < dispatch.NUM_KEYED

    @property
    def preemptive(self) -> bool:
        """Whether it may take GPUs from a running job."""
        kept = (*dispatch.QUEUES, *dispatch.WAITING, *_NOT_PREEMPTIVE)
        return self.elastic or self.rule not in kept

    @property
    def guarded(self) -> bool:
        """Whether it is a scorer, which falls back on the index in states it was not trained on."""
        return self.rule is dispatch.scorer

    @property
    def param_array(self) -> np.ndarray:
        """(.,) float64, at least one entry: `params` in their order, then `weights`."""
        return np.array([*self.params.values(), *self.weights] or [0.0])

    @property
    def summary(self) -> str:
        """First line of the rule's docstring."""
        described = self.rule or self.planner
        first = (described.__doc__ or "").strip().splitlines()[0]
        return f"Elastic shares by rank in an order: {first}" if self.ranks else first

    @property
    def ranks(self) -> bool:
        """Whether it is the elastic form of an order, see `schedulers.elastic_order`."""
        return self.compiled and self.number >= dispatch.ELASTIC

    @property
    def kind(self) -> str:
        """order (of jobs served whole), levels (any size for each job), or python (a planner)."""
        if not self.compiled:
            return "python"
        return "order" if self.is_order else "levels"

    @property
    def source(self) -> str:
        """Who published the rule, from its docstring; empty where that names nobody."""
        text = " ".join(((self.rule or self.planner).__doc__ or "").split())
        found = _SOURCE.search(text)
        return found[1] if found else ""

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

    def new_planner(self) -> Planner:
        """The rule as a planner, ready for a run: the way to call any scheduler on a view."""
        return _Compiled(self) if self.planner is None else self.planner(**self.params)

    def levels(self, view: ClusterView) -> np.ndarray:
        """(A,) int64, level wanted for each active job of `view`, by a compiled rule."""
        target = np.minimum(view.level, view.limit_level)
        dispatch.decide(self.number, view, self.param_array, target)
        return target

    def allocate(self, view: ClusterView) -> Allocation:
        """GPUs for each active job of `view`, by a compiled rule."""
        return Allocation(gpus=view.sizes[view.profile, self.levels(view)])


@dataclass(frozen=True)
class _Compiled:
    """A compiled rule behind the planners' interface."""

    scheduler: Scheduler

    def allocate(self, view: ClusterView, nodes: NodeView) -> Allocation:
        return self.scheduler.allocate(view)


_NOT_PREEMPTIVE = (dispatch.fcfs_backfill, dispatch.conservative_backfill, dispatch.drf)

_POSITIVE = (math.ulp(0.0), math.inf, "a number > 0")
_NOT_NEGATIVE = (0.0, math.inf, "a number >= 0")
_SHARE = (0.0, 1.0, "from 0 to below 1")
_LEGAL = {
    "slice_s": _POSITIVE,
    "quantum_gpu_s": _POSITIVE,
    "seed": (0.0, 2.0**31, "from 0 to 2147483647"),
    "p": _SHARE,
    "h": _NOT_NEGATIVE,
    "g": _NOT_NEGATIVE,
    "b": _NOT_NEGATIVE,
    "trust": (0.0, 1.0 + 1e-9, "from 0 to 1"),
    "limit_1_gpu_s": _POSITIVE,
    "limit_2_gpu_s": _POSITIVE,
    "promote": _NOT_NEGATIVE,
    "median_gpu_s": _POSITIVE,
    "sigma": _POSITIVE,
    "slowdown": (0.0, 1.0 + 1e-9, "0 or 1"),
    "lease_s": _NOT_NEGATIVE,
    "fairness": _SHARE,
    "fairness_power": (-100.0, 0.0, "a number < 0"),
    "idle_penalty": _POSITIVE,
    "round_s": _POSITIVE,
    "reset_s": _NOT_NEGATIVE,
}
"""Parameter: lowest legal value, first one too large, in words."""

_IN_ROUNDS = {"round_s": 120.0, "reset_s": 1000.0, "seed": 0.0}
"""Parameters of Gavel's policies."""

_INDEX = {"p": 0.6, "h": 0.5, "g": 42.0, "b": 4.0}
"""Parameters of the elastic index."""

_ORDERS = (
    Scheduler("fcfs", dispatch.fcfs),
    Scheduler("srtf", dispatch.srtf),
    Scheduler("srsf", dispatch.srsf),
    Scheduler("las", dispatch.las, params={"quantum_gpu_s": 3600.0}),
    Scheduler(
        "tiresias",
        dispatch.tiresias,
        params={"limit_1_gpu_s": 3250.0, "limit_2_gpu_s": 7200.0, "promote": 0.0},
    ),
    Scheduler(
        "gittins",
        dispatch.gittins,
        params={"median_gpu_s": 3600.0, "sigma": 2.0, "quantum_gpu_s": 1800.0},
    ),
)
"""Orders that have an elastic form beside the rigid one."""

_SCHEDULERS = (
    *_ORDERS,
    *(
        Scheduler(f"elastic_{one.name}", one.rule, elastic=True, params=_INDEX | one.params)
        for one in _ORDERS
    ),
    Scheduler("fcfs_backfill", dispatch.fcfs_backfill),
    Scheduler("conservative_backfill", dispatch.conservative_backfill),
    Scheduler("sjf", dispatch.sjf),
    Scheduler("qssf", dispatch.qssf),
    Scheduler("round_robin", dispatch.round_robin, params={"slice_s": 3600.0}),
    Scheduler("edf", dispatch.edf),
    Scheduler("rate_monotonic", dispatch.rate_monotonic),
    Scheduler("drf", dispatch.drf),
    Scheduler("equal", dispatch.equal, elastic=True),
    Scheduler("on_demand", dispatch.on_demand),
    Scheduler("priority", dispatch.priority),
    Scheduler("random", dispatch.random, params={"seed": 0.0}),
    Scheduler("equi", dispatch.equi, elastic=True),
    Scheduler(
        "elastic_index", dispatch.elastic_index, elastic=True, params=_INDEX | {"trust": 0.0}
    ),
    Scheduler("hesrpt", dispatch.hesrpt, elastic=True, params={"p": 0.5, "slowdown": 0.0}),
    Scheduler("afs", dispatch.afs, elastic=True),
    Scheduler("optimus", dispatch.optimus, elastic=True),
    Scheduler("themis", dispatch.themis, elastic=True, params={"lease_s": 1200.0, "fairness": 0.8}),
    Scheduler("pollux", dispatch.pollux, elastic=True),
    Scheduler(
        "sia", planner=Sia, elastic=True, params={"fairness_power": -0.5, "idle_penalty": 1.1}
    ),
    Scheduler("max_min_fairness", planner=MaxMinFairness, params=_IN_ROUNDS),
    Scheduler("max_sum_throughput", planner=MaxSumThroughput, params=_IN_ROUNDS),
    Scheduler("min_total_duration", planner=MinTotalDuration, params=_IN_ROUNDS),
    Scheduler("gandiva_fair", planner=GandivaFair, params=_IN_ROUNDS),
)

REGISTRY: dict[str, Scheduler] = {scheduler.name: scheduler for scheduler in _SCHEDULERS}


def learned_scorer(name: str) -> Scheduler:
    """The rule that ships as `pretrained`, or in a folder that `train --algo es` wrote."""
    return scorer_of_record(load_scorer(name), name)


def scorer_of_record(record: ScorerRecord, name: str) -> Scheduler:
    """The rule of a trained scorer, guarded as its record says."""
    guard = Guard(record.fallback, record.seen)
    return make_scorer(record.params, record.weights, name, guard)


def make_scorer(
    params: dict[str, float],
    weights: Sequence[float],
    name: str = "scorer",
    guard: Guard | None = None,
) -> Scheduler:
    """The elastic index with `params`, corrected by a network of `weights`; see `scorer`.

    Args:
        guard: None: the network decides everywhere.
    """
    tail = (Guard(params) if guard is None else guard).array
    learned = (*weights, *tail.tolist())
    return Scheduler(name, dispatch.scorer, elastic=True, params=params, weights=learned)


def get_scheduler(name: str) -> Scheduler:
    """The scheduler `NAME` or `NAME:param=value,param=value`; `NAME:tuned` as tuned by us;
    `pretrained`; or that of a trained scorer's folder.

    Raises:
        UserError: for an unknown name or parameter, naming the known ones; for a damaged folder.
    """
    head, _, tail = name.partition(":")
    if head not in REGISTRY and is_scorer(name):
        return learned_scorer(name)
    if head not in REGISTRY:
        known = ", ".join((*REGISTRY, PRETRAINED))
        if head == PRETRAINED:
            raise UserError(
                f"scheduler {name!r}: {PRETRAINED} takes no parameters; write {PRETRAINED}, or "
                "elastic_index:p=0.5"
            )
        if name and Path(name).is_dir():
            raise UserError(
                f"scheduler {name!r}: that folder holds no scorer of `marl-sched train --algo es`; "
                f"`evaluate` plays runs of PPO and DQN; known by name: {known}"
            )
        hint = do_you_mean(head, REGISTRY)
        raise UserError(f"unknown scheduler {head!r}{hint}; known: {known}")
    given: dict[str, float] = {}
    for part in filter(None, tail.split(",")):
        if part.strip() == "tuned":
            given |= tuned_params(head)
            continue
        key, _, value = part.partition("=")
        try:
            given[key.strip()] = float(value)
        except ValueError:
            raise UserError(
                f"scheduler {name!r}: {part!r} is not param=number, as in las:quantum_gpu_s=3600"
            ) from None
    return REGISTRY[head].with_params(given)
