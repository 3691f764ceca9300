"""Gavel's policies: fractions of time by a linear program, carried out in rounds.

| policy | fractions X of time |
|---|---|
| max_min_fairness | maximise the least of gang x rate / (weight x rate on an equal share) |
| max_sum_throughput | maximise the sum of rates |
| min_total_duration | finish all jobs as early as possible |
| gandiva_fair | the same share of every GPU type for every job |

They make one decision a round: run them with `sim.decide_on=rounds`, and `sim.round_s` as the
length of a round, with `round_s` of the scheduler the same. Deviations from the artifact: a job
that has arrived since the fractions were computed may use GPUs that nobody else wants; no two jobs
share a GPU; a gang that finds no room under the nodes' other resources waits; so does a job whose
tenant has its quota already, of which the fractions know nothing.

Axes: A active jobs, T GPU types, N nodes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from marl_sched.allocation.feasibility import QuotaRoom, open_capacity
from marl_sched.schedulers.mechanisms import fractions
from marl_sched.schedulers.mechanisms.node_fitting import place_gangs
from marl_sched.schedulers.mechanisms.rounds import Rounds
from marl_sched.types import Allocation, ClusterView, NodeView


class Demand(NamedTuple):
    """What the programs know of the active jobs."""

    gang: np.ndarray  # (A,) float64, GPUs
    rate: np.ndarray  # (A, T) float64, work per second; 0 where it cannot run
    remaining: np.ndarray  # (A,) float64, work left
    weight: np.ndarray  # (A,) float64 > 0
    capacity: np.ndarray  # (T,) float64, GPUs


def max_min_fairness(demand: Demand) -> np.ndarray:
    """Maximise the least gang x rate / (weight x rate on an equal share); (A, T).

    The equal share of T types is X = N_t / sum N. Heterogeneity-aware, section 4.1 of the paper.
    """
    share = demand.capacity / demand.capacity.sum()
    return _max_min(demand, demand.rate / np.maximum(demand.rate @ share, _TINY)[:, None])


def max_min_fairness_agnostic(demand: Demand) -> np.ndarray:
    """The same for somebody who takes all GPU types for equal: fairness of time alone; (A, T)."""
    return _max_min(demand, (demand.rate > 0.0).astype(float))


def _max_min(demand: Demand, relative: np.ndarray) -> np.ndarray:
    per_time = relative * (demand.gang / demand.weight)[:, None]
    return fractions.max_min(per_time, demand.gang, demand.capacity)


def max_sum_throughput(demand: Demand) -> np.ndarray:
    """Maximise the sum of rates; (A, T)."""
    return fractions.max_sum(demand.rate, demand.gang, demand.capacity)


def min_total_duration(demand: Demand) -> np.ndarray:
    """Finish all active jobs as early as possible; (A, T)."""
    return fractions.min_makespan(demand.rate, demand.remaining, demand.gang, demand.capacity)


def min_total_duration_agnostic(demand: Demand) -> np.ndarray:
    """The same for somebody who takes every GPU type for the first; (A, T)."""
    rate = np.where(demand.rate > 0.0, demand.rate[:, :1], 0.0)
    return min_total_duration(demand._replace(rate=rate))


def gandiva_fair(demand: Demand) -> np.ndarray:
    """The same share of every GPU type for every job; (A, T)."""
    return fractions.equal(len(demand.gang), demand.capacity)


PROGRAMS: dict[str, Callable[[Demand], np.ndarray]] = {
    "max_min_fairness": max_min_fairness,
    "max_min_fairness_agnostic": max_min_fairness_agnostic,
    "max_sum_throughput": max_sum_throughput,
    "min_total_duration": min_total_duration,
    "min_total_duration_agnostic": min_total_duration_agnostic,
    "gandiva_fair": gandiva_fair,
}

FIXED_ORDER = ("max_min_fairness", "max_sum_throughput", "min_total_duration")
"""Programs that know which type is good for whom walk through the types in a fixed order."""

_TINY = np.finfo(float).tiny


class GavelPlanner:
    """One of `PROGRAMS` on the whole cluster, round by round.

    Args:
        round_s: length of a round: half of it counts as had when a job arrives.
        reset_s: least time between two computations of the fractions.
        seed: of the order in which GPU types are filled.
    """

    program = ""
    """Key of `PROGRAMS`."""

    def __init__(self, round_s: float = 120.0, reset_s: float = 1000.0, seed: float = 0.0) -> None:
        self.round_s, self.reset_s, self.seed = round_s, reset_s, int(seed)
        self._rounds: Rounds | None = None
        self._ran = (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
        self._since_s = 0.0

    def allocate(self, view: ClusterView, nodes: NodeView) -> Allocation:
        """Whole requests on one GPU type each; running jobs stay where they are if they can."""
        capacity = open_capacity(nodes)
        demand = demand_of(view, nodes, capacity)
        types = len(demand.capacity)
        if self._rounds is None:
            fixed = self.program in FIXED_ORDER
            self._rounds = Rounds(types, self.round_s, self.reset_s, self.seed, fixed_order=fixed)
        job, ran_on = self._ran
        self._rounds.book(job, ran_on, np.full(job.size, view.now_s - self._since_s))
        self._ran, self._since_s = (job[:0], ran_on[:0]), view.now_s
        if not demand.capacity.any():
            # No node takes jobs: there is nothing to take fractions of.
            placement = np.zeros_like(nodes.held)
            return Allocation(gpus=placement.sum(axis=1), placement=placement)
        # Rows of a view are in no order, the mechanism breaks ties by job.
        order = np.argsort(view.job)
        ordered = demand._replace(
            **{
                name: getattr(demand, name)[order]
                for name in ("gang", "rate", "remaining", "weight")
            }
        )
        chosen = np.full(view.job.size, -1, dtype=np.int64)
        chosen[order] = self._rounds.decide(
            view.now_s,
            view.job[order],
            ordered.gang.astype(np.int64),
            ordered.rate > 0.0,
            ordered.capacity.astype(np.int64),
            lambda: PROGRAMS[self.program](ordered),
            QuotaRoom(view.tenant[order], view.tenant_quota),
        )
        gpus = np.where(chosen >= 0, demand.gang, 0.0).astype(np.int64)
        placement = place_gangs(
            gpus, chosen, view.job, view.demand, nodes.held, nodes.gpu_type, capacity
        )
        runs = placement.any(axis=1)
        self._ran = (view.job[runs].copy(), chosen[runs])
        return Allocation(gpus=placement.sum(axis=1), placement=placement)


def demand_of(view: ClusterView, nodes: NodeView, capacity: np.ndarray) -> Demand:
    """What the programs see of a view, given the capacity (N, 4) of the nodes that are up."""
    gang = view.sizes[view.profile, view.request_level]
    types = nodes.rates.shape[1]
    gpus = np.bincount(nodes.gpu_type, weights=capacity[:, 0], minlength=types)
    able = nodes.allowed & (gang[:, None] <= gpus)
    able &= (view.limit_level >= view.request_level)[:, None]
    return Demand(
        gang=gang.astype(float),
        rate=np.where(able, nodes.rates[view.profile, :, view.request_level, 0], 0.0),
        remaining=view.est_remaining_s,
        weight=np.where(view.priority > 0.0, view.priority, 1.0),
        capacity=gpus,
    )


class MaxMinFairness(GavelPlanner):
    """Maximises the least, over jobs, of speed per weight against an equal share of the cluster.

    min_j gang_j sum_t rate_jt X_jt / (weight_j sum_t rate_jt N_t / sum N), the weight being the
    job's priority where that is positive. Preemptive; whole requests. Source: Narayanan et al.,
    "Heterogeneity-aware cluster scheduling policies for deep learning workloads" (Gavel), OSDI
    2020. Deviations: see the module.
    """

    program = "max_min_fairness"


class MaxSumThroughput(GavelPlanner):
    """Maximises the sum of the jobs' speeds.

    Preemptive; whole requests. Source: Narayanan et al., Gavel, OSDI 2020. Deviations: see the
    module.
    """

    program = "max_sum_throughput"


class MinTotalDuration(GavelPlanner):
    """Finishes all jobs that are there as early as possible: the least makespan.

    Preemptive; whole requests. Source: Narayanan et al., Gavel, OSDI 2020; called OSSP in Zheng et
    al., Shockwave, NSDI 2023. Deviations: see the module.
    """

    program = "min_total_duration"


class GandivaFair(GavelPlanner):
    """Gives every job the same share of the time on every GPU type.

    Preemptive; whole requests. Source: Chaudhary et al., "Balancing efficiency and fairness in
    heterogeneous GPU clusters" (Gandiva-fair), EuroSys 2020, as in the artifact of Zheng et al.,
    Shockwave, NSDI 2023: no trading, and no regard to the size of the gang.
    """

    program = "gandiva_fair"
