"""Sia: an integer program over (GPU type, number of GPUs) for each job."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from marl_sched.allocation.feasibility import QuotaRoom, open_capacity
from marl_sched.schedulers.mechanisms.node_fitting import place_gangs
from marl_sched.schedulers.mechanisms.solving import uninterrupted
from marl_sched.types import Allocation, ClusterView, NodeView

MOST_COST = 3000.0
"""Cap of a configuration's cost, as in the authors' simulator."""

GAP = 1e-4
"""Relative gap at which the solver may stop, as in the authors' simulator."""


class Choices(NamedTuple):
    """The configurations that are worth choosing; C of them."""

    job: np.ndarray  # (C,) int64, row of the view, ascending
    gpu_type: np.ndarray  # (C,) int64
    gpus: np.ndarray  # (C,) int64
    value: np.ndarray  # (C,) float64, < 0: change of the objective against no GPUs


class Sia:
    """Gives each job a GPU type and count so as to minimise the sum of goodput^p, p < 0.

    G_ij, the speed of job i in configuration j (type, size), is scaled so that its least is the
    job's least number of GPUs, and times r_i wherever j is not what it holds, with
    r_i = max(age - restarts S, 0) / (age + S), S the restart cost (1 while age < S):

        minimise sum_ij X_ij G_ij^p + lambda sum_i (1 - sum_j X_ij)
        subject to sum_j X_ij <= 1, GPUs (CPUs, memory, network) of each type within the cluster,
        GPUs of each tenant within its quota

    Preemptive, elastic, chooses GPU types and places. Source: Jayaram Subramanya et al., "Sia:
    Heterogeneity-aware, goodput-optimized ML-cluster scheduling", SOSP 2023, and the authors'
    simulator. Deviations: speeds are the profile's, known from the start, where theirs are
    learned as a job runs; sizes are the job's allowed ones, on one node or filling whole nodes
    where nodes of the type are alike; G^p is not rounded to two digits; the other resources
    count; the program is solved by HiGHS instead of CBC. A gang that would fit a node and
    finds none, as sizes other than powers of two may, spans several or waits.
    """

    def __init__(self, fairness_power: float = -0.5, idle_penalty: float = 1.1) -> None:
        self.power = fairness_power
        self.idle_penalty = idle_penalty

    def allocate(self, view: ClusterView, nodes: NodeView) -> Allocation:
        """GPUs and places of each active job."""
        capacity = open_capacity(nodes)
        gpus = np.zeros(view.job.size, dtype=np.int64)
        gpu_type = np.zeros(view.job.size, dtype=np.int64)
        choices = self.choices(view, nodes, capacity)
        quotas = QuotaRoom(view.tenant, view.tenant_quota)
        chosen = solve(choices, view.demand, total_by_type(nodes.gpu_type, capacity), quotas)
        gpus[choices.job[chosen]] = choices.gpus[chosen]
        gpu_type[choices.job[chosen]] = choices.gpu_type[chosen]
        placement = place_gangs(
            gpus, gpu_type, view.job, view.demand, nodes.held, nodes.gpu_type, capacity
        )
        return Allocation(gpus=placement.sum(axis=1), placement=placement)

    def choices(self, view: ClusterView, nodes: NodeView, capacity: np.ndarray) -> Choices:
        """Configurations that are legal, better than none, and not beaten by a smaller one."""
        sizes = view.sizes[view.profile]  # (A, L)
        speed = nodes.rates[view.profile][..., 0].copy()  # (A, T, L)
        able = (speed > 0.0) & nodes.allowed[:, :, None]
        able &= (np.arange(sizes.shape[1]) <= view.limit_level[:, None])[:, None, :]
        legal = whole_shapes(sizes, able, nodes.gpu_type, capacity)
        if not legal.any():
            none = np.zeros(0, dtype=np.int64)
            return Choices(none, none, none, np.zeros(0))
        least = np.where(legal, speed, np.inf).min(axis=(1, 2))
        fewest = np.where(legal, sizes[:, None, :], np.iinfo(np.int64).max).min(axis=(1, 2))
        # Jobs without a legal configuration drop out below, whatever they are scaled by.
        goodput = speed * np.where(np.isfinite(least), fewest / least, 1.0)[:, None, None]
        goodput *= self.restart_factors(view, nodes)
        with np.errstate(divide="ignore"):
            value = np.minimum(goodput**self.power, MOST_COST) - self.idle_penalty
        value = np.where(legal, value, np.inf)
        before = np.minimum.accumulate(value, axis=2)
        useful = value < 0.0
        useful[:, :, 1:] &= value[:, :, 1:] < before[:, :, :-1]
        job, kind, level = np.nonzero(useful)
        return Choices(job, kind, sizes[job, level], value[job, kind, level])

    def restart_factors(self, view: ClusterView, nodes: NodeView) -> np.ndarray:
        """(A, T, L) float64 in [0, 1]: 1 at what a job holds, and for a job that holds nothing."""
        age = view.now_s - view.arrival_s
        cost = view.restart_s
        lost = nodes.restarts * cost
        factor = np.maximum(age - lost, 0.0) / np.maximum(age + cost, 1.0)
        factor = np.where((age < cost) | (view.level == 0), 1.0, factor)
        shape = (view.job.size, nodes.rates.shape[1], view.sizes.shape[1])
        table = np.broadcast_to(factor[:, None, None], shape).copy()
        runs = np.flatnonzero(view.level > 0)
        here = nodes.gpu_type[np.argmax(nodes.held[runs] > 0, axis=1)]
        table[runs, here, view.level[runs]] = 1.0
        return table


def whole_shapes(
    sizes: np.ndarray, able: np.ndarray, node_type: np.ndarray, capacity: np.ndarray
) -> np.ndarray:
    """(A, T, L) bool: sizes that fit a node of the type, or fill whole ones where all are alike.

    A size that spans and fills no whole nodes is allowed too where its job has no other.

    Args:
        sizes: (A, L) int64.
        able: (A, T, L) bool, what each job may have at all.
        node_type: (N,) int64.
        capacity: (N, 4) float64, zeros where a node takes no jobs.
    """
    types = int(node_type.max()) + 1
    legal = np.zeros((len(sizes), types, sizes.shape[1]), dtype=bool)
    possible = np.zeros_like(legal)
    for kind in range(types):
        gpus = capacity[node_type == kind, 0]
        open_nodes = gpus[gpus > 0]
        possible[:, kind] = able[:, kind] & (sizes > 0) & (sizes <= gpus.sum())
        if open_nodes.size:
            largest = open_nodes.max()
            alike = (open_nodes == largest).all()
            whole = (sizes <= largest) | (sizes % largest == 0) | (not alike)
            legal[:, kind] = possible[:, kind] & whole
    lost = ~legal.any(axis=(1, 2))
    legal[lost] = possible[lost]
    return legal


def total_by_type(node_type: np.ndarray, capacity: np.ndarray) -> np.ndarray:
    """(T, 4) float64, resources of all nodes of each type."""
    total = np.zeros((int(node_type.max()) + 1, 4))
    np.add.at(total, node_type, capacity)
    return total


def solve(
    choices: Choices, demand: np.ndarray, total: np.ndarray, quotas: QuotaRoom | None = None
) -> np.ndarray:
    """Indices of the chosen configurations, at most one a job: the least sum of values.

    Args:
        demand: (A, 4) float64, resources per GPU of each job.
        total: (T, 4) float64, resources of each GPU type.
        quotas: what tenants may have; None without any.
    """
    count = choices.job.size
    if count == 0:
        return np.zeros(0, dtype=np.int64)
    if quotas is not None and not quotas.bounded:
        quotas = None
    # Resources of each choice, and the best choice of each job, ties to the first.
    need = choices.gpus[:, None] * demand[choices.job]  # (C, 4)
    order = np.lexsort((choices.value, choices.job))
    best = order[np.unique(choices.job[order], return_index=True)[1]]
    used = np.zeros_like(total)
    np.add.at(used, choices.gpu_type[best], need[best])
    if (used <= total + 1e-9).all():
        gpus = np.zeros(len(demand))
        gpus[choices.job[best]] = need[best, 0]
        if quotas is None or quotas.first_above(gpus) < 0:
            return np.sort(best)
    return _integer_program(choices, need, total, quotas)


def _integer_program(
    choices: Choices, need: np.ndarray, total: np.ndarray, quotas: QuotaRoom | None
) -> np.ndarray:
    """Optimal choices within `GAP`: by the linear relaxation, and a search among what it leaves.

    The relaxation's solution is whole for all but a few jobs. Made whole, it costs `bound`; a
    choice whose reduced cost exceeds bound - relaxation is in no better solution.
    """
    # Not at the top: `import marl_sched` must stay light.
    from scipy.optimize import linprog

    matrix, most = _constraints(choices, need, total, quotas)
    with uninterrupted():
        relaxed = linprog(
            choices.value, A_ub=matrix, b_ub=most, bounds=(0.0, 1.0), method="highs-ds"
        )
    if relaxed.x is None:
        raise RuntimeError(f"HiGHS found no allocation: {relaxed.message}")
    rounded = _round(relaxed.x, choices, need, total, quotas)
    bound = choices.value[rounded].sum()
    if bound - relaxed.fun <= GAP * abs(bound):
        return rounded
    reduced = choices.value - matrix.T @ relaxed.ineqlin.marginals
    kept = np.flatnonzero(reduced <= bound - relaxed.fun + 1e-9)
    found = kept[_search(choices.value[kept], matrix[:, kept], most)]
    return found if choices.value[found].sum() < bound else rounded


def _search(value: np.ndarray, matrix: Any, most: np.ndarray) -> np.ndarray:
    from scipy.optimize import Bounds, LinearConstraint, milp

    with uninterrupted():
        result = milp(
            value,
            integrality=np.ones(value.size),
            bounds=Bounds(0.0, 1.0),
            constraints=LinearConstraint(matrix, -np.inf, most),
            options={"mip_rel_gap": GAP},
        )
    if result.x is None:
        raise RuntimeError(f"HiGHS found no allocation: {result.message}")
    return np.flatnonzero(result.x > 0.5)


def _constraints(
    choices: Choices, need: np.ndarray, total: np.ndarray, quotas: QuotaRoom | None = None
) -> tuple[Any, np.ndarray]:
    """Sparse (rows, C) and its upper bounds: a row a job, a type and resource, a quota."""
    from scipy.sparse import csc_array

    each = np.arange(choices.job.size)
    rows, at = np.unique(choices.job, return_inverse=True)
    scarce = np.flatnonzero((need > 0.0).any(axis=0))  # resources that anybody needs
    number = np.arange(total.shape[0])[:, None] * scarce.size + np.arange(scarce.size)
    row = np.concatenate([at, (len(rows) + number[choices.gpu_type]).reshape(-1)])
    column = np.concatenate([each, np.repeat(each, scarce.size)])
    data = np.concatenate([np.ones(each.size), need[:, scarce].reshape(-1)])
    most = np.concatenate([np.ones(len(rows)), total[:, scarce].reshape(-1)])
    if quotas is not None:
        tenant = quotas.tenant[choices.job]
        bound = np.flatnonzero(np.isfinite(quotas.limits))
        under = np.flatnonzero(np.isin(tenant, bound))
        row = np.concatenate([row, most.size + np.searchsorted(bound, tenant[under])])
        column = np.concatenate([column, under])
        data = np.concatenate([data, need[under, 0]])
        most = np.concatenate([most, quotas.limits[bound]])
    return csc_array((data, (row, column)), shape=(most.size, each.size)), most


def _round(
    relaxed: np.ndarray,
    choices: Choices,
    need: np.ndarray,
    total: np.ndarray,
    quotas: QuotaRoom | None,
) -> np.ndarray:
    """Whole choices near a relaxed solution: the larger parts first, then whatever still fits."""
    free = total + 1e-9
    room = None if quotas is None else quotas.anew()
    served: set[int] = set()
    taken: list[int] = []
    for at in np.lexsort((choices.value, -np.round(relaxed, 6))).tolist():
        job, kind = int(choices.job[at]), int(choices.gpu_type[at])
        fits = job not in served and (need[at] <= free[kind]).all()
        if fits and (room is None or room.take(job, need[at, 0])):
            free[kind] -= need[at]
            served.add(job)
            taken.append(at)
    return np.sort(np.array(taken, dtype=np.int64))
