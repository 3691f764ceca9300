"""The parsed job list: arrays over the J jobs of a trace, in order of arrival."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from marl_sched.errors import UserError, listed, quoted
from marl_sched.quantities import LONGEST_S
from marl_sched.types import ANY_GPU, DEFAULT_PER_GPU, RESOURCES, Cluster, Job
from marl_sched.workload.arrays import UNLIMITED, is_constant, shifted
from marl_sched.workload.parents import Parents

_ESTIMATE_STREAM = 0xE57
"""Keeps the estimates' random numbers apart from those of the assignment rule."""


def _all(value: float | int) -> np.ndarray:
    """Default of a field: one value, which `Workload` spreads over its jobs without copying."""
    return field(default_factory=lambda: np.array(value))  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
class Workload:
    """Jobs sorted by arrival; ties keep the order of the trace.

    An array on which the trace is silent may be a read-only broadcast of one value.
    """

    job_id: np.ndarray
    """(J,) StringDType (or object) of unique str."""
    arrival_s: np.ndarray
    """(J,) float64, non-decreasing; the first of a loaded trace is 0."""
    duration_s: np.ndarray
    """(J,) float64 > 0, isolated run time on the request."""
    num_gpus: np.ndarray
    """(J,) int64 >= 1, the request R_i."""
    model: np.ndarray
    """(J,) int64, index into `models`."""
    models: tuple[str, ...]
    """Models of the catalogue."""
    elastic: np.ndarray
    """(J,) bool."""
    min_gpus: np.ndarray
    """(J,) int64 >= 1; the request where rigid."""
    max_gpus: np.ndarray
    """(J,) int64; the request where rigid."""
    demand: np.ndarray
    """(J, 4) float64, per GPU, order of RESOURCES; demand[:, 0] is 1, or below it the share of
    the one GPU that a rigid job asks for."""
    priority: np.ndarray
    """(J,) float64, higher runs first."""
    tenant: np.ndarray
    """(J,) int64, index into `tenants`."""
    tenants: tuple[str, ...]
    """One tenant "" where the trace names none."""
    deadline_s: np.ndarray
    """(J,) float64, on the clock of `arrival_s`; +inf without one."""
    gpu_type_mask: np.ndarray = _all(-1)
    """(J,) int64, bit t set where the job may run on `gpu_types[t]`; -1 on all."""
    gpu_types: tuple[str, ...] = ()
    """Names of the bits of `gpu_type_mask`: the GPU types of the cluster it was loaded for."""
    cancel_s: np.ndarray = _all(np.inf)
    """(J,) float64, clock of `arrival_s`, when the user cancels the job; +inf never."""
    parents: Parents = field(default_factory=lambda: Parents.none(0))
    """Jobs of this workload that have to end first; by default nobody waits."""
    max_retries: np.ndarray = _all(UNLIMITED)
    """(J,) int64 >= 0, failures after which the job starts again; `UNLIMITED` without a limit."""
    failure_rate_per_h: np.ndarray = _all(0.0)
    """(J,) float64 >= 0, per hour of running."""
    checkpoint_interval_s: np.ndarray = _all(np.nan)
    """(J,) float64 >= 0, 0 continuously; NaN as the simulation has it."""
    loader_cpus_per_gpu: np.ndarray = _all(0.0)
    """(J,) float64 >= 0, CPUs per GPU at which data loading no longer bounds the job."""
    name: str = ""
    """The trace's file name without its suffix, or "synthetic"."""
    skipped: dict[str, int] = field(default_factory=dict)
    """Rows of the file that are not jobs here: reason -> count."""

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, np.ndarray) and value.ndim == 0:
                object.__setattr__(self, f.name, np.broadcast_to(value, (len(self),)))
        if not len(self.parents.indices):
            object.__setattr__(self, "parents", Parents.none(len(self)))

    @classmethod
    def rigid(
        cls,
        name: str,
        job_id: np.ndarray,
        arrival_s: np.ndarray,
        duration_s: np.ndarray,
        num_gpus: np.ndarray,
    ) -> Workload:
        """Jobs (J,) that name no model, run on what they ask for, and have nothing else to say.

        Args:
            arrival_s: in any order; the jobs are sorted by it, ties as given.
        """
        order = np.argsort(arrival_s, kind="stable")
        gpus = num_gpus[order].astype(np.int64)
        demand = np.zeros((len(order), 4))
        demand[:, 0] = 1.0
        return cls(
            job_id=job_id[order],
            arrival_s=arrival_s[order].astype(np.float64),
            duration_s=duration_s[order].astype(np.float64),
            num_gpus=gpus,
            model=np.array(0),
            models=("",),
            elastic=np.array(False),
            min_gpus=gpus,
            max_gpus=gpus,
            demand=demand,
            priority=np.array(0.0),
            tenant=np.array(0),
            tenants=("",),
            deadline_s=np.array(np.inf),
            name=name,
        )

    def __len__(self) -> int:
        return len(self.job_id)

    def job(self, i: int) -> Job:
        """The i-th job in order of arrival."""
        return Job(
            job_id=str(self.job_id[i]),
            arrival_s=float(self.arrival_s[i]),
            duration_s=float(self.duration_s[i]),
            num_gpus=int(self.num_gpus[i]),
            model=self.models[self.model[i]],
            min_gpus=int(self.min_gpus[i]),
            max_gpus=int(self.max_gpus[i]),
            elastic=bool(self.elastic[i]),
            priority=float(self.priority[i]),
            tenant=self.tenants[self.tenant[i]],
            deadline_s=float(self.deadline_s[i]),
        )

    def slice(self, lo: int, hi: int) -> Workload:
        """Jobs lo..hi-1, arrival times kept; a dependency on another job counts as met."""
        arrays = {
            f.name: getattr(self, f.name)[lo:hi]
            for f in fields(self)
            if isinstance(getattr(self, f.name), np.ndarray)
        }
        inside = np.arange(len(self))[lo:hi]
        return replace(self, **arrays, parents=self.parents.take(inside))

    @classmethod
    def join(cls, parts: Sequence[Workload]) -> Workload:
        """Draws of one workload, one after the other: each begins when the last of the one before
        has arrived, and its jobs have other names (`ID~1`, `ID~2`, ..).

        Args:
            parts: with the same catalogue, tenants and GPU types.
        """
        first, *others = parts
        if not others:
            return first
        moved, end_s = [first], float(first.arrival_s[-1])
        for number, part in enumerate(others, 1):
            later = part._arriving(part.arrival_s + (end_s - part.arrival_s[0]))
            names = np.array([f"{name}~{number}" for name in part.job_id.tolist()], object)
            moved.append(replace(later, job_id=names.astype(part.job_id.dtype)))
            end_s = float(later.arrival_s[-1])
        arrays: dict[str, Any] = {
            f.name: np.concatenate([getattr(part, f.name) for part in moved])
            for f in fields(first)
            if isinstance(getattr(first, f.name), np.ndarray)
        }
        return replace(first, **arrays, parents=Parents.join([part.parents for part in moved]))

    def split(self, fractions: tuple[float, float, float]) -> tuple[Workload, Workload, Workload]:
        """Chronological training, validation and test parts by number of jobs.

        The fractions sum to 1.
        """
        count = len(self)
        first = round(fractions[0] * count)
        second = min(round((fractions[0] + fractions[1]) * count), count)
        return self.slice(0, first), self.slice(first, second), self.slice(second, count)

    def offered_load(self, num_gpus: int) -> float:
        """GPU-seconds asked per GPU-second of a cluster of `num_gpus`, over the arrivals.

        A share of a GPU counts as such. +inf where all jobs arrive at once.
        """
        work_gpu_s = float(np.dot(self.num_gpus * self.demand[:, 0], self.duration_s))
        span_s = float(self.arrival_s[-1] - self.arrival_s[0]) if len(self) else 0.0
        return work_gpu_s / (num_gpus * span_s) if span_s > 0 else float("inf")

    def with_load(self, load: float, num_gpus: int) -> Workload:
        """The same jobs with arrivals stretched about the first to an offered load.

        Deadlines and cancellations keep their distance from the arrival.

        Raises:
            UserError: where all jobs arrive at once, so no stretch gives the load; where the
                stretch is beyond any simulation.
        """
        now = self.offered_load(num_gpus)
        if not np.isfinite(now):
            raise UserError(
                f"workload {self.name!r}: all {len(self)} jobs arrive at once, so no offered load "
                "can be set; leave out the load, or give a trace with arrivals over time"
            )
        first_s = self.arrival_s[0]
        arrival_s = first_s + (self.arrival_s - first_s) * (now / load)
        span_s = float(arrival_s[-1] - first_s)
        if span_s > LONGEST_S:
            raise UserError(
                f"workload {self.name!r}: at an offered load of {load:g} its jobs arrive over "
                f"{span_s:.1e} s, and {LONGEST_S:.0e} s is the most; ask for a higher load"
            )
        return self._arriving(arrival_s)

    def with_burstiness(self, exponent: float) -> Workload:
        """The same jobs in the same time, the gaps between arrivals to a power.

        Gaps g become g^exponent, scaled so that their sum stays. Deadlines and cancellations
        keep their distance from the arrival.
        """
        gaps_s = np.diff(self.arrival_s)
        powers = (gaps_s / max(float(gaps_s.max(initial=0.0)), 1e-9)) ** exponent
        total = float(powers.sum())
        if total <= 0.0:
            return self
        arrival_s = self.arrival_s.copy()
        arrival_s[1:] = arrival_s[0] + np.cumsum(powers) * (float(gaps_s.sum()) / total)
        return self._arriving(arrival_s)

    def _arriving(self, arrival_s: np.ndarray) -> Workload:
        later = arrival_s - self.arrival_s
        return replace(
            self,
            arrival_s=arrival_s,
            deadline_s=shifted(self.deadline_s, later),
            cancel_s=shifted(self.cancel_s, later),
        )

    def estimate_factors(self, sigma: float, seed: int) -> np.ndarray:
        """(J,) float64 > 0, what a size estimate is multiplied with: exp(sigma normal).

        The factor of a job depends on `seed` and its position alone.
        """
        rng = np.random.default_rng([seed, _ESTIMATE_STREAM])
        factors: np.ndarray = np.exp(sigma * rng.standard_normal(len(self)))
        return factors

    def allowed_types(self, cluster: Cluster) -> np.ndarray:
        """(J, T) bool, True where the job may run on the GPU type of `cluster`."""
        spelled = {name.lower(): bit for bit, name in enumerate(self.gpu_types)}
        allowed = np.broadcast_to(self.gpu_type_mask[:, None] == -1, (len(self), 1))
        columns = []
        for name in cluster.gpu_types:
            bit = spelled.get(name.lower())
            on = np.zeros(len(self), bool) if bit is None else (self.gpu_type_mask >> bit) & 1 == 1
            columns.append(allowed[:, 0] | on)
        return np.stack(columns, axis=1)

    def check_fits(self, cluster: Cluster) -> None:
        """Refuse jobs that no pool of one GPU type can hold.

        Raises:
            UserError: naming the first such job and the mend.
        """
        allowed = self.allowed_types(cluster)
        bad = np.flatnonzero(~fits(self.num_gpus, self.demand, cluster, allowed))
        if len(bad):
            i = int(bad[0])
            most = self.demand[bad].max(axis=0)
            reason = misfit(int(self.num_gpus[i]), self.demand[i], cluster, allowed[i], most)
            raise UserError(f"workload {self.name!r}: job {quoted(str(self.job_id[i]))} {reason}")

    def check_quotas(self, quotas: Mapping[str, float]) -> None:
        """Refuse jobs that can never start, as their smallest size is above their tenant's quota.

        Raises:
            UserError: naming the first such job and the mend.
        """
        if not quotas:
            return
        smallest = smallest_gpus(self.num_gpus, self.min_gpus, self.demand[:, 0])
        bad = np.flatnonzero(over_quota(smallest, self.tenant, self.tenants, quotas))
        if len(bad):
            i = int(bad[0])
            reason = quota_problem(smallest[i], self.tenants[self.tenant[i]], quotas)
            raise UserError(f"workload {self.name!r}: job {quoted(str(self.job_id[i]))} {reason}")


def pool_limit(cluster: Cluster, demand: np.ndarray, allowed: np.ndarray | None = None) -> int:
    """Most GPUs that one GPU type of an empty `cluster` can give at this per-GPU demand (4,).

    A node gives as many GPUs as its scarcest resource allows; a gang stays on one GPU type, of
    those that `allowed` (T,) bool names (None: all).
    """
    asked = demand > 0
    per_node = np.floor((cluster.capacity[:, asked] + 1e-9) / demand[asked]).min(axis=1)
    by_type = np.bincount(cluster.node_type, weights=per_node)
    return int(by_type.max() if allowed is None else (by_type * allowed).max())


def fits(
    num_gpus: np.ndarray,
    demand: np.ndarray,
    cluster: Cluster,
    allowed: np.ndarray | None = None,
) -> np.ndarray:
    """(J,) bool, True where an empty `cluster` can hold the job.

    Args:
        num_gpus: (J,) int64.
        demand: (J, 4) float64, per GPU.
        cluster: Where the jobs are to run.
        allowed: (J, T) bool, GPU types that a job may use; None: all.
    """
    if allowed is not None and allowed.all():
        allowed = None
    if allowed is None and (is_constant(demand) or (demand == demand[:1]).all()):
        return np.asarray(num_gpus <= pool_limit(cluster, demand[0]))
    every = np.ones((len(demand), len(cluster.gpu_types)))
    keys = np.concatenate([demand, every if allowed is None else allowed], axis=1)
    kinds, which = np.unique(keys, axis=0, return_inverse=True)
    limits = np.array([pool_limit(cluster, kind[:4], kind[4:]) for kind in kinds])
    return np.asarray(num_gpus <= limits[which.reshape(-1)])


def misfit(
    num_gpus: int,
    demand: np.ndarray,
    cluster: Cluster,
    allowed: np.ndarray | None = None,
    most: np.ndarray | None = None,
) -> str:
    """Why a job does not fit, and the mend.

    Args:
        demand: (4,) float64, per GPU.
        allowed: (T,) bool, GPU types that it may use; None: all.
        most: (4,) float64, per GPU, what every job of the workload would find room with; None:
            `demand`.
    """
    stated = ", ".join(
        f"{value:g} {name}"
        for name, value in zip(RESOURCES[1:], demand[1:], strict=True)
        if value > 0
    )
    types = [] if allowed is None or allowed.all() else np.array(cluster.gpu_types)[allowed]
    only = f" that it may use ({listed(types)})" if len(types) else ""
    reason = (
        f"asks for {num_gpus} GPUs{f' with {stated} each' if stated else ''}, and no pool of one "
        f"GPU type{only} of cluster {cluster} can give more than "
        f"{pool_limit(cluster, demand, allowed)}; "
    )
    alone = np.array([demand[0], 0.0, 0.0, 0.0])
    if num_gpus > pool_limit(cluster, alone, allowed):
        return f"{reason}give a larger --cluster"
    return reason + _larger_nodes(cluster, demand if most is None else most)


_SHOWN_GROUPS = 6


def _larger_nodes(cluster: Cluster, demand: np.ndarray) -> str:
    """The cluster file whose nodes have at least `demand` (4,) for each of their GPUs."""
    usual = ", ".join(f"{key} {value:g}" for key, value in DEFAULT_PER_GPU.items())
    groups: dict[str, int] = {}
    for node in cluster.nodes:
        has = dict(zip(DEFAULT_PER_GPU, node.capacity[1:].tolist(), strict=True))
        cells = [f"gpus: {node.num_gpus}"]
        cells += [f"type: {node.gpu_type}"] if node.gpu_type != ANY_GPU else []
        for key, each in zip(DEFAULT_PER_GPU, demand[1:].tolist(), strict=True):
            wanted = max(has[key], math.ceil(each * node.num_gpus))
            if wanted != DEFAULT_PER_GPU[key] * node.num_gpus:
                cells.append(f"{key}: {wanted:.15g}")
        cells += [f"rack: {node.rack!r}"] if node.rack else []
        group = ", ".join(cells)
        groups[group] = groups.get(group, 0) + 1
    if len(groups) > _SHOWN_GROUPS:
        wanted_each = ", ".join(
            f"{key} {each:g}"
            for key, each in zip(DEFAULT_PER_GPU, demand[1:].tolist(), strict=True)
            if each > 0
        )
        how = f"write a cluster file whose nodes have at least {wanted_each} a GPU"
    else:
        text = ", ".join(f"{{count: {count}, {group}}}" for group, count in groups.items())
        how = f"write `nodes: [{text}]` to a file cluster.yaml"
    return (
        f"a node has {usual} for each of its GPUs unless a cluster file says otherwise: {how} and "
        "pass it as --cluster (docs/inputs.md)"
    )


def smallest_gpus(num_gpus: np.ndarray, min_gpus: np.ndarray, share: np.ndarray) -> np.ndarray:
    """(J,) float64, GPUs that a job holds at least while it runs; a share of one counts as such."""
    return np.asarray(np.minimum(num_gpus, min_gpus) * share)


def over_quota(
    smallest: np.ndarray, tenant: np.ndarray, tenants: tuple[str, ...], quotas: Mapping[str, float]
) -> np.ndarray:
    """(J,) bool, jobs that no schedule may ever start: their smallest size is above their quota.

    Args:
        smallest: (J,) float64, of `smallest_gpus`.
        tenant: (J,) int64, index into `tenants`.
        quotas: most GPUs that a tenant may hold; the others have no limit.
    """
    limits = np.array([float(quotas.get(name, np.inf)) for name in tenants])
    return np.asarray(smallest > limits[tenant] + 1e-9)


def quota_problem(smallest: float, tenant: str, quotas: Mapping[str, float]) -> str:
    """Why a job that is `over_quota` cannot run, and the mend."""
    return (
        f"holds at least {smallest:g} GPUs, and its tenant {quoted(tenant)} may hold "
        f"{quotas[tenant]:g}; raise the tenant's quota in sim.tenant_quota"
    )
