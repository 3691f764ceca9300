"""The parsed job list: arrays over the J jobs of a trace, in order of arrival."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

import numpy as np

from marl_sched.errors import UserError
from marl_sched.types import RESOURCES, Cluster, Job

_ESTIMATE_STREAM = 0xE57
"""Keeps the estimates' random numbers apart from those of the assignment rule."""


@dataclass(frozen=True, eq=False)
class Workload:
    """Jobs sorted by arrival; ties keep the order of the trace."""

    job_id: np.ndarray
    """(J,) object, str, unique."""
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
    """(J, 4) float64, per GPU, order of RESOURCES; demand[:, 0] == 1."""
    priority: np.ndarray
    """(J,) float64, higher runs first."""
    tenant: np.ndarray
    """(J,) int64, index into `tenants`."""
    tenants: tuple[str, ...]
    """One tenant "" where the trace names none."""
    deadline_s: np.ndarray
    """(J,) float64, on the clock of `arrival_s`; +inf without one."""
    name: str = ""
    """The trace's file name without its suffix, or "synthetic"."""
    skipped: dict[str, int] = field(default_factory=dict)
    """Rows of the file that are not jobs here: reason -> count."""

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
        """Jobs lo..hi-1, arrival times kept."""
        arrays = {
            f.name: getattr(self, f.name)[lo:hi]
            for f in fields(self)
            if isinstance(getattr(self, f.name), np.ndarray)
        }
        return replace(self, **arrays)

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

        +inf where all jobs arrive at once.
        """
        work_gpu_s = float(np.dot(self.num_gpus, self.duration_s))
        span_s = float(self.arrival_s[-1] - self.arrival_s[0]) if len(self) else 0.0
        return work_gpu_s / (num_gpus * span_s) if span_s > 0 else float("inf")

    def with_load(self, load: float, num_gpus: int) -> Workload:
        """The same jobs with arrivals stretched about the first to an offered load.

        Deadlines keep their distance from the arrival.

        Raises:
            UserError: where all jobs arrive at once, so no stretch gives the load.
        """
        now = self.offered_load(num_gpus)
        if not np.isfinite(now):
            raise UserError(
                f"workload {self.name!r}: all {len(self)} jobs arrive at once, so no offered load "
                "can be set; leave out the load, or give a trace with arrivals over time"
            )
        first_s = self.arrival_s[0]
        arrival_s = first_s + (self.arrival_s - first_s) * (now / load)
        deadline_s = arrival_s + (self.deadline_s - self.arrival_s)
        return replace(self, arrival_s=arrival_s, deadline_s=deadline_s)

    def estimate_factors(self, sigma: float, seed: int) -> np.ndarray:
        """(J,) float64 > 0, what a size estimate is multiplied with: exp(sigma normal).

        The factor of a job depends on `seed` and its position alone.
        """
        rng = np.random.default_rng([seed, _ESTIMATE_STREAM])
        factors: np.ndarray = np.exp(sigma * rng.standard_normal(len(self)))
        return factors

    def check_fits(self, cluster: Cluster) -> None:
        """Refuse jobs that no pool of one GPU type can hold.

        Raises:
            UserError: naming the first such job and the mend.
        """
        bad = np.flatnonzero(~fits(self.num_gpus, self.demand, cluster))
        if len(bad):
            i = int(bad[0])
            reason = misfit(int(self.num_gpus[i]), self.demand[i], cluster)
            raise UserError(f"workload {self.name!r}: job {self.job_id[i]!r} {reason}")


def pool_limit(cluster: Cluster, demand: np.ndarray) -> int:
    """Most GPUs that one GPU type of an empty `cluster` can give at this per-GPU demand (4,).

    A node gives as many GPUs as its scarcest resource allows; a gang stays on one GPU type.
    """
    asked = demand > 0
    per_node = np.floor((cluster.capacity[:, asked] + 1e-9) / demand[asked]).min(axis=1)
    by_type = np.bincount(cluster.node_type, weights=per_node)
    return int(by_type.max())


def fits(num_gpus: np.ndarray, demand: np.ndarray, cluster: Cluster) -> np.ndarray:
    """(J,) bool, True where an empty `cluster` can hold the job.

    Args:
        num_gpus: (J,) int64.
        demand: (J, 4) float64, per GPU.
        cluster: Where the jobs are to run.
    """
    if (demand == demand[:1]).all():
        return np.asarray(num_gpus <= pool_limit(cluster, demand[0]))
    kinds, which = np.unique(demand, axis=0, return_inverse=True)
    limits = np.array([pool_limit(cluster, kind) for kind in kinds])
    return np.asarray(num_gpus <= limits[which.reshape(-1)])


def misfit(num_gpus: int, demand: np.ndarray, cluster: Cluster) -> str:
    """Why a job does not fit, and the mend."""
    stated = ", ".join(
        f"{value:g} {name}"
        for name, value in zip(RESOURCES[1:], demand[1:], strict=True)
        if value > 0
    )
    return (
        f"asks for {num_gpus} GPUs{f' with {stated} each' if stated else ''}, and no pool of one "
        f"GPU type of cluster {cluster} can give more than {pool_limit(cluster, demand)}; give a "
        "larger --cluster, or pass --skip-bad-rows to drop such jobs and count them"
    )
