"""What may be allocated: 0 <= x_i <= R_i and sum x <= R, for everything that has a bound.

An allocation x, GPUs of job i on node n, is feasible when

    x[i, n] >= 0 and whole,    sum_n x[i, n] a size of the job up to what its agent accepts,
    sum_i x[i, n] d[i, r] <= C[n, r] for every node n and resource r,
    x[i, n] > 0 only on nodes that take jobs, of one GPU type that the job may use,
    sum over a tenant's jobs and all nodes of x[i, n] d[i, 0] <= its quota.

Who runs on as before may stay on a node that takes nobody anew. An allocation that breaks a
bound is its author's error: it is refused by name, not mended. What is left while a compiled rule
decides is `room`'s matter, and what tenants may hold is counted by `quota` for both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn

import numpy as np

from marl_sched.allocation import quota
from marl_sched.allocation.room import raise_level, whole_room
from marl_sched.compiled.jit import kernel
from marl_sched.errors import UserError
from marl_sched.types import ClusterView, NodeView

SLACK = 1e-6
"""By which floating point may miss a bound: sums of CPUs, GB and thousandths of a GPU."""

UNITS = ("GPUs", "CPUs", "GB of memory", "Gbit/s of network")
"""What is counted of each of `types.RESOURCES`."""


class Infeasible(UserError):
    """An allocation that breaks a bound; the message says whose, where and when."""


@kernel
def exceeds(asked: float, most: float) -> bool:
    """Whether an amount is more than there is."""
    return asked > most + SLACK


@kernel
def placeable(v: ClusterView, target: np.ndarray) -> bool:
    """Whether there is room for the levels in target (A,) all at once, by GPU type and quota.

    Who keeps GPUs that it holds keeps them where they are; the others follow, row by row.
    """
    room = whole_room(v)
    for i in v.running:
        if 0 < target[i] <= v.level[i] and not raise_level(v, room, i, 0, target[i]):
            return False
    for i in range(target.size):
        if target[i] > v.level[i] and not raise_level(v, room, i, 0, target[i]):
            return False
    return True


def check_shares(
    granted: np.ndarray, most: np.ndarray | float, pool: float, what: str, *, whole: bool
) -> None:
    """Refuse shares of one pool of GPUs that break a bound.

    Args:
        granted: (n,) float64, GPUs of each agent.
        most: (n,) float64 or one number, what each may have.
        pool: GPUs there are.
        what: the shares in words, for the message.
        whole: GPUs are not divided.
    """
    if whole and (granted != np.floor(granted)).any():
        raise Infeasible(
            f"{what}, and GPUs are whole; allow fractional GPUs, or share on demand or by priority"
        )
    if (granted < 0.0).any() or (granted > most + SLACK).any():
        raise Infeasible(f"{what}: {granted.tolist()}; an agent may have 0 to {most}")
    if exceeds(float(granted.sum()), pool):
        raise Infeasible(f"{what}: {granted.tolist()} is more than the {pool:g} GPUs there are")


class QuotaRoom:
    """GPUs that tenants may still take in a plan that is being made, row by row of a view.

    Args:
        tenant: (A,) int64, whose job each row is.
        limits: (tenants,) float64 GPUs, +inf without one; (0,): nobody has one.
    """

    def __init__(self, tenant: np.ndarray, limits: np.ndarray) -> None:
        self.tenant = tenant
        self.limits = limits
        self._held = np.zeros(limits.size, dtype=np.int64)
        self._tally = np.zeros((2, limits.size + 1), dtype=np.int64)
        quota.count_anew(limits, self._tally, False)

    @property
    def bounded(self) -> bool:
        """Whether any tenant has a quota."""
        return bool(np.isfinite(self.limits).any())

    def anew(self) -> QuotaRoom:
        """The same quotas with nothing taken."""
        return QuotaRoom(self.tenant, self.limits)

    def take(self, row: int, gpus: float) -> bool:
        """Take GPUs for a row, if its tenant may have them; whether it did."""
        tenant, more = int(self.tenant[row]), quota.thousandths(1, float(gpus))
        if quota.excess(self.limits, self._held, self._tally, tenant, more) > 0.0:
            return False
        quota.add(self.limits, self._held, self._tally, tenant, more)
        return True

    def first_above(self, gpus: np.ndarray) -> int:
        """First row that is above its tenant's quota if all hold `gpus` (A,); -1 without."""
        room = self.anew()
        rows = np.flatnonzero(gpus) if self.bounded else ()
        return next((int(row) for row in rows if not room.take(int(row), gpus[row])), -1)


def open_capacity(nodes: NodeView) -> np.ndarray:
    """(N, 4) float64, what each node has for jobs that are placed now: 0 where it takes none."""
    return np.where(nodes.up[:, None], nodes.capacity, 0.0)


def check_placement(
    placement: np.ndarray,
    view: ClusterView,
    nodes: NodeView,
    job_name: Callable[[int], str] = "number {}".format,
) -> None:
    """Refuse places that cannot be.

    Args:
        placement: (A, N) int64, GPUs (or shares of one) of each active job on each node.
        job_name: what to call a job, given by its index in the workload.

    Raises:
        Infeasible: naming the time, the job, the node and the resource.
    """
    check = _Check(np.asarray(placement), view, nodes, job_name)
    check.form()
    check.entries()
    check.sizes()
    check.places()
    check.resources()
    check.quotas()


def check_gpus(gpus: np.ndarray, view: ClusterView) -> None:
    """Refuse GPUs (A,) that are no counts of the active jobs; sizes are the simulator's matter."""
    at = f"at {view.now_s:.9g} s: the allocation's gpus"
    if gpus.shape != view.job.shape:
        raise Infeasible(f"{at} have shape {gpus.shape}, not {view.job.shape}: one number a job")
    if gpus.dtype.kind not in "iuf":
        raise Infeasible(f"{at} are of type {gpus.dtype}; give whole numbers (int64)")
    wrong = np.flatnonzero(~(gpus >= 0))  # NaN compares False
    if wrong.size:
        row = int(wrong[0])
        raise Infeasible(f"{at}: {gpus[row]:g} for job number {view.job[row]}; give 0 or more")


class _Check:
    """One placement against the bounds, in an order in which each step may rely on the last."""

    def __init__(
        self,
        placement: np.ndarray,
        view: ClusterView,
        nodes: NodeView,
        job_name: Callable[[int], str],
    ) -> None:
        self.placement = placement
        self.view = view
        self.nodes = nodes
        self.job_name = job_name

    def refuse(self, text: str, row: int | None = None) -> NoReturn:
        who = "" if row is None else f"job {self.job_name(int(self.view.job[row]))} "
        raise Infeasible(f"at {self.view.now_s:.9g} s: {who}{text}")

    def form(self) -> None:
        shape = (self.view.job.size, len(self.nodes.capacity))
        if self.placement.shape != shape:
            self.refuse(
                f"the placement has shape {self.placement.shape}, not {shape}: "
                f"a row for each active job, a column for each node"
            )
        if self.placement.dtype.kind not in "iu":
            self.refuse(f"the placement is of type {self.placement.dtype}; give int64 counts")

    def entries(self) -> None:
        """Every count by itself: not negative, not more than the node has."""
        share = self.view.demand[:, :1]
        wrong = (self.placement < 0) | (self.placement * share > self.nodes.capacity[:, 0] + SLACK)
        for row, node in np.argwhere(wrong):
            asked, most = self.placement[row, node], self.nodes.capacity[node, 0]
            self.refuse(f"is given {asked} of the {most:g} GPUs of node {node}", row)

    def sizes(self) -> None:
        """Every job has a size that it may have, or waits."""
        view, gpus = self.view, self.placement.sum(axis=1)
        sizes = view.sizes[view.profile]
        legal = np.arange(sizes.shape[1]) <= view.limit_level[:, None]
        for row in np.flatnonzero(~((sizes == gpus[:, None]) & legal).any(axis=1)):
            allowed = ", ".join(str(size) for size in sizes[row, legal[row]])
            self.refuse(f"is given {gpus[row]} GPUs; it may have {allowed}", int(row))

    def places(self) -> None:
        """Nobody is put on a node that takes no jobs, on two GPU types, or on a forbidden one."""
        nodes, given = self.nodes, self.placement > 0
        moved = (self.placement != nodes.held).any(axis=1)
        for row, node in np.argwhere(given & moved[:, None] & ~nodes.up):
            self.refuse(f"is put on node {node}, which is down or about to be reclaimed", row)
        kinds = np.zeros((len(given), nodes.allowed.shape[1]), dtype=np.int64)
        for kind in range(kinds.shape[1]):
            kinds[:, kind] = given[:, nodes.gpu_type == kind].any(axis=1)
        for row in np.flatnonzero(kinds.sum(axis=1) > 1):
            where = " and ".join(str(node) for node in np.flatnonzero(given[row]))
            self.refuse(f"is put on nodes {where}, of several GPU types; a gang has one", int(row))
        for row, kind in np.argwhere((kinds > 0) & ~nodes.allowed):
            node = np.flatnonzero(given[row] & (nodes.gpu_type == kind))[0]
            self.refuse(f"is put on node {node}, of GPU type number {kind}; it may not use it", row)

    def resources(self) -> None:
        """Every node has what its jobs take of it."""
        view, nodes = self.view, self.nodes
        used = self.placement.T @ view.demand
        for node, r in np.argwhere(used > nodes.capacity + SLACK):
            taken = np.cumsum(self.placement[:, node] * view.demand[:, r])
            row = int(np.argmax(taken > nodes.capacity[node, r] + SLACK))
            self.refuse(
                f"finds no room on node {node}: {used[node, r]:g} of its "
                f"{nodes.capacity[node, r]:g} {UNITS[r]} are given away",
                row,
            )

    def quotas(self) -> None:
        """No tenant has more than its quota."""
        view, held = self.view, self.placement.sum(axis=1) * self.view.demand[:, 0]
        row = QuotaRoom(view.tenant, view.tenant_quota).first_above(held)
        if row >= 0:
            tenant = view.tenant[row]
            total, most = held[view.tenant == tenant].sum(), view.tenant_quota[tenant]
            who = f"its tenant (number {tenant})"
            self.refuse(f"is above the quota of {who}: {total:g} of {most:g} GPUs are given", row)


def named(job_id: Sequence[str] | np.ndarray) -> Callable[[int], str]:
    """What to call jobs whose ids (J,) are known: id and number."""
    return lambda job: f"{str(job_id[job])!r} (number {job})"
