"""Gavel's policies: fractions of time by a linear program, carried out in rounds.

| policy | fractions X of time |
|---|---|
| max_min_fairness | maximise the least of gang x rate / (weight x rate on an equal share) |
| max_sum_throughput | maximise the sum of rates |
| min_total_duration | finish all jobs as early as possible |
| gandiva_fair | the same share of every GPU type for every job |

They make one decision a round: run them with `sim.decide_on=rounds`, and `sim.round_s` as the
length of a round. Sources: Narayanan et al., OSDI 2020; Zheng et al., NSDI 2023; Chaudhary et
al., Balancing Efficiency and Fairness (Gandiva-fair), EuroSys 2020. Deviations: a job that has
arrived since the fractions were computed may use GPUs that nobody else wants; no two jobs share a
GPU.

Axes: A active jobs, T GPU types, N nodes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from marl_sched.schedulers import fractions
from marl_sched.schedulers.rounds import Rounds
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


@dataclass
class GavelPlanner:
    """One of the policies on the whole cluster, round by round.

    Args:
        program: key of `PROGRAMS`.
        round_s: length of a round: the time a job counts as having had when it arrives.
        reset_s: least time between two computations of the fractions.
        seed: of the order in which GPU types are filled.
    """

    program: str
    round_s: float = 120.0
    reset_s: float = 1000.0
    seed: float = 0.0

    def __post_init__(self) -> None:
        self._rounds: Rounds | None = None
        self._ran = (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
        self._since_s = 0.0

    def allocate(self, view: ClusterView, nodes: NodeView) -> Allocation:
        """Whole requests on one GPU type each; running jobs stay where they are if they can."""
        types = nodes.rates.shape[1]
        if self._rounds is None:
            fixed = self.program in FIXED_ORDER
            self._rounds = Rounds(
                types, self.round_s, self.reset_s, int(self.seed), fixed_order=fixed
            )
        job, ran_on = self._ran
        self._rounds.book(job, ran_on, np.full(job.size, view.now_s - self._since_s))
        gang = view.sizes[view.profile, view.request_level]
        rate = nodes.rates[view.profile, :, view.request_level, 0]
        usable = np.where(nodes.up, nodes.capacity[:, 0], 0.0)
        capacity = np.bincount(nodes.gpu_type, weights=usable, minlength=types)
        rate = np.where((view.limit_level >= view.request_level)[:, None], rate, 0.0)
        demand = Demand(
            gang.astype(float),
            rate,
            view.est_remaining_s,
            np.where(view.priority > 0.0, view.priority, 1.0),
            capacity,
        )
        chosen = self._rounds.decide(
            view.now_s,
            view.job,
            gang,
            rate > 0.0,
            capacity.astype(np.int64),
            lambda: PROGRAMS[self.program](demand),
        )
        runs = chosen >= 0
        self._ran = (view.job[runs].copy(), chosen[runs])
        self._since_s = view.now_s
        placement = place(chosen, gang, nodes)
        return Allocation(gpus=placement.sum(axis=1), placement=placement)


def place(chosen: np.ndarray, gang: np.ndarray, nodes: NodeView) -> np.ndarray:
    """Where the jobs of a round run: large gangs first, each on as few nodes as it can.

    A job stays where it is if it stays on its type; a new one takes the fullest node that holds
    it whole, else the emptiest nodes. Node order breaks ties.

    Args:
        chosen: (A,) int64, GPU type, -1 waits.
        gang: (A,) int64, GPUs; those chosen fit the open nodes of their types.

    Returns:
        (A, N) int64.
    """
    placement = np.zeros_like(nodes.held)
    kind = np.where(nodes.up, nodes.gpu_type, -1)
    held_type = np.where(nodes.held.any(axis=1), kind[nodes.held.argmax(axis=1)], -1)
    stays = (chosen >= 0) & (held_type == chosen) & (nodes.held.sum(axis=1) == gang)
    stays &= (nodes.held * (kind < 0)).sum(axis=1) == 0
    placement[stays] = nodes.held[stays]
    free = nodes.capacity[:, 0].astype(np.int64) - placement.sum(axis=0)
    starts = np.flatnonzero((chosen >= 0) & ~stays)
    for a in starts[np.argsort(-gang[starts], kind="stable")]:
        room = np.where(kind == chosen[a], free, 0)
        whole = np.flatnonzero(room >= gang[a])
        order = whole[[room[whole].argmin()]] if whole.size else np.argsort(-room, kind="stable")
        left = int(gang[a])
        for node in order:
            placement[a, node] = min(left, room[node])
            left -= placement[a, node]
            if left == 0:
                break
        free -= placement[a]
    return placement
