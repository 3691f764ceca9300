"""Classic schedulers: one file each, in a plain registry.

A scheduler is a pure rule `ClusterView -> Allocation`: no clock, no I/O. The same object runs
in the simulator, as base or shadow of the environment, and on a live cluster.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from marl_sched.compiled.records import build_table as check
from marl_sched.errors import UserError, do_you_mean
from marl_sched.schedulers import dispatch
from marl_sched.schedulers.learned.guard import Guard
from marl_sched.schedulers.learned.scorer import scorer
from marl_sched.schedulers.learned.scorer_file import (
    PRETRAINED,
    ScorerRecord,
    is_scorer,
    load_scorer,
)
from marl_sched.schedulers.params import (
    FRACTION,
    NOT_NEGATIVE,
    POSITIVE,
    SEED,
    SHARE,
    SWITCH,
    Legal,
    Param,
    Search,
)
from marl_sched.schedulers.rules.afs import afs
from marl_sched.schedulers.rules.conservative_backfill import conservative_backfill
from marl_sched.schedulers.rules.drf import drf
from marl_sched.schedulers.rules.edf import edf
from marl_sched.schedulers.rules.elastic_index import elastic_index
from marl_sched.schedulers.rules.equal import equal
from marl_sched.schedulers.rules.equi import equi
from marl_sched.schedulers.rules.fcfs import fcfs
from marl_sched.schedulers.rules.fcfs_backfill import fcfs_backfill
from marl_sched.schedulers.rules.gavel import (
    GandivaFair,
    MaxMinFairness,
    MaxSumThroughput,
    MinTotalDuration,
)
from marl_sched.schedulers.rules.gittins import gittins
from marl_sched.schedulers.rules.hesrpt import hesrpt
from marl_sched.schedulers.rules.las import las
from marl_sched.schedulers.rules.on_demand import on_demand
from marl_sched.schedulers.rules.optimus import optimus
from marl_sched.schedulers.rules.power_mean import pollux
from marl_sched.schedulers.rules.priority import priority
from marl_sched.schedulers.rules.qssf import qssf
from marl_sched.schedulers.rules.random import random
from marl_sched.schedulers.rules.rate_monotonic import rate_monotonic
from marl_sched.schedulers.rules.round_robin import round_robin
from marl_sched.schedulers.rules.sia import Sia
from marl_sched.schedulers.rules.sjf import sjf
from marl_sched.schedulers.rules.srsf import srsf
from marl_sched.schedulers.rules.srtf import srtf
from marl_sched.schedulers.rules.themis import themis
from marl_sched.schedulers.rules.tiresias import tiresias
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
    """Compiled: writes keys or target levels; None for a planner."""
    serving: int = dispatch.LEVELS
    """What becomes of the rule's answer, see `dispatch`."""
    elastic: bool = False
    """Whether it gives other sizes than the request."""
    takes: Mapping[str, Param] = field(default_factory=dict)
    """Its parameters, in the order in which the rule reads them."""
    params: dict[str, float] = field(default_factory=dict)
    """Their values; those left out are the defaults."""
    planner: Callable[..., Planner] | None = None
    """Makes a planner, which begins a run with no memory, from the parameters by name."""
    weights: tuple[float, ...] = ()
    """Learned parameters, which a compiled rule reads behind `params`."""

    def __post_init__(self) -> None:
        defaults = {name: param.default for name, param in self.takes.items()}
        object.__setattr__(self, "params", defaults | self.params)

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
        return dispatch.number_of(self.rule, self.serving)

    @property
    def is_order(self) -> bool:
        """Whether it is an order of jobs, which are served whole or not at all."""
        return self.compiled and self.serving not in _NAMES_LEVELS

    @property
    def preemptive(self) -> bool:
        """Whether it may take GPUs from a running job."""
        return self.serving not in _LEAVES_RUNNING

    @property
    def guarded(self) -> bool:
        """Whether it is a scorer, which falls back on the index in states it was not trained on."""
        return self.rule is scorer

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
        """Whether it is the elastic form of an order, see `schedulers.rules.elastic_order`."""
        return self.serving == dispatch.RANKED

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
            legal = self.takes[key].legal
            if not legal.holds(given[key]):
                raise UserError(
                    f"scheduler {self.name!r}: {key}={given[key]:g} must be {legal.words}"
                )
        return replace(self, params={**self.params, **given})

    def new_planner(self) -> Planner:
        """The rule as a planner, ready for a run: the way to call any scheduler on a view."""
        return _Compiled(self) if self.planner is None else self.planner(**self.params)

    def levels(self, view: ClusterView) -> np.ndarray:
        """(A,) int64, level wanted for each active job of `view`, by a compiled rule.

        The view is left as it is: compiled rules get copies of its scratch.

        Raises:
            TypeError: for a field of another type or shape than `ClusterView` says.
        """
        check(view)
        target = np.minimum(view.level, view.limit_level)
        dispatch.decide(self.number, view.with_own_scratch(), self.param_array, target)
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


_LEAVES_RUNNING = (
    dispatch.QUEUE, dispatch.STRICT_QUEUE, dispatch.WAITING, dispatch.STRICT_WAITING,
    dispatch.STARTS,
)  # fmt: skip
_NAMES_LEVELS = (dispatch.LEVELS, dispatch.STARTS, dispatch.RANKED)

_INDEX = {
    "p": Param(0.6, SHARE, Search(0.0, 0.95, "even")),
    "h": Param(0.5, NOT_NEGATIVE, Search(0.03, 5.0)),
    "g": Param(42.0, NOT_NEGATIVE, Search(1.0, 300.0)),
    "b": Param(4.0, NOT_NEGATIVE, Search(0.1, 30.0)),
}
"""The elastic index: weight by size, and care for restart costs."""

_TRUST = {"trust": Param(0.0, FRACTION, Search(0.0, 1.0, "even"))}

_IN_ROUNDS = {
    "round_s": Param(120.0, POSITIVE),
    "reset_s": Param(1000.0, NOT_NEGATIVE),
    "seed": Param(0.0, SEED),
}
"""Gavel's policies."""

_QUANTUM = Search(60.0, 1e6)

_ORDERS = (
    Scheduler("fcfs", fcfs, dispatch.STRICT_QUEUE),
    Scheduler("srtf", srtf, dispatch.EVERYBODY),
    Scheduler("srsf", srsf, dispatch.EVERYBODY),
    Scheduler(
        "las",
        las,
        dispatch.EVERYBODY,
        takes={"quantum_gpu_s": Param(3600.0, POSITIVE, _QUANTUM)},
    ),
    Scheduler(
        "tiresias",
        tiresias,
        dispatch.EVERYBODY,
        takes={
            "limit_1_gpu_s": Param(3250.0, POSITIVE, Search(60.0, 1e5)),
            "limit_2_gpu_s": Param(7200.0, POSITIVE, Search(1e3, 1e7)),
            "promote": Param(0.0, NOT_NEGATIVE, Search(0.1, 100.0, "log or 0")),
        },
    ),
    Scheduler(
        "gittins",
        gittins,
        dispatch.EVERYBODY,
        takes={
            "median_gpu_s": Param(3600.0, POSITIVE, Search(60.0, 1e6)),
            "sigma": Param(2.0, POSITIVE, Search(0.5, 4.0, "even")),
            "quantum_gpu_s": Param(1800.0, POSITIVE, _QUANTUM),
        },
    ),
)
"""Orders that have an elastic form beside the rigid one."""

_SCHEDULERS = (
    *_ORDERS,
    *(
        Scheduler(
            f"elastic_{one.name}",
            one.rule,
            dispatch.RANKED,
            elastic=True,
            takes=_INDEX | dict(one.takes),
        )
        for one in _ORDERS
    ),
    Scheduler("fcfs_backfill", fcfs_backfill, dispatch.STARTS),
    Scheduler("conservative_backfill", conservative_backfill, dispatch.STARTS),
    Scheduler("sjf", sjf, dispatch.WAITING),
    Scheduler("qssf", qssf, dispatch.STRICT_WAITING),
    Scheduler(
        "round_robin",
        round_robin,
        dispatch.EVERYBODY,
        takes={"slice_s": Param(3600.0, POSITIVE, Search(60.0, 1e5))},
    ),
    Scheduler("edf", edf, dispatch.EVERYBODY),
    Scheduler("rate_monotonic", rate_monotonic, dispatch.EVERYBODY),
    Scheduler("drf", drf, dispatch.STARTS),
    Scheduler("equal", equal, elastic=True),
    Scheduler("on_demand", on_demand, dispatch.QUEUE),
    Scheduler("priority", priority, dispatch.EVERYBODY),
    Scheduler("random", random, dispatch.WAITING, takes={"seed": Param(0.0, SEED)}),
    Scheduler("equi", equi, elastic=True),
    Scheduler("elastic_index", elastic_index, elastic=True, takes=_INDEX | _TRUST),
    Scheduler(
        "hesrpt",
        hesrpt,
        elastic=True,
        takes={
            "p": Param(0.5, SHARE, Search(0.0, 0.95, "even")),
            "slowdown": Param(0.0, SWITCH, Search(0.0, 1.0, "ends")),
        },
    ),
    Scheduler("afs", afs, elastic=True),
    Scheduler("optimus", optimus, elastic=True),
    Scheduler(
        "themis",
        themis,
        elastic=True,
        takes={
            "lease_s": Param(1200.0, NOT_NEGATIVE, Search(60.0, 1e5)),
            "fairness": Param(0.8, SHARE, Search(0.0, 0.95, "even")),
        },
    ),
    Scheduler("pollux", pollux, elastic=True),
    Scheduler(
        "sia",
        planner=Sia,
        elastic=True,
        takes={
            "fairness_power": Param(-0.5, Legal(-100.0, 0.0, "a number < 0, from -100")),
            "idle_penalty": Param(1.1, POSITIVE),
        },
    ),
    Scheduler("max_min_fairness", planner=MaxMinFairness, takes=_IN_ROUNDS),
    Scheduler("max_sum_throughput", planner=MaxSumThroughput, takes=_IN_ROUNDS),
    Scheduler("min_total_duration", planner=MinTotalDuration, takes=_IN_ROUNDS),
    Scheduler("gandiva_fair", planner=GandivaFair, takes=_IN_ROUNDS),
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
    return Scheduler(
        name, scorer, elastic=True, takes=_INDEX | _TRUST, params=params, weights=learned
    )


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
