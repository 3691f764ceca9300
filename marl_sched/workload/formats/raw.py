"""What a trace says about its jobs, whatever its format."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from marl_sched.workload.arrays import UNLIMITED, constant, names, pick, shifted
from marl_sched.workload.parents import Parents

WAITS = "depends_on: a skipped job"


@dataclass(frozen=True, eq=False)
class RawTrace:
    """What a trace says, over its J usable rows; what it leaves open is marked so.

    Arrays may be read-only broadcasts of one value.
    """

    name: str
    where: str
    """The file, for messages."""
    row: np.ndarray
    """(J,) int64, row in the file."""
    job_id: np.ndarray
    """(J,) StringDType."""
    arrival_s: np.ndarray
    """(J,) float64, on any clock, in any order."""
    duration_s: np.ndarray
    """(J,) float64 > 0."""
    num_gpus: np.ndarray
    """(J,) int64 >= 1."""
    model: np.ndarray
    """(J,) object, str; "" open."""
    elastic: np.ndarray
    """(J,) int64, 1 elastic, 0 rigid, -1 open."""
    min_gpus: np.ndarray
    """(J,) int64; 0 open."""
    max_gpus: np.ndarray
    """(J,) int64; 0 open."""
    demand: np.ndarray
    """(J, 4) float64, per GPU; demand[:, 0] is the share of one GPU, below 1 for one GPU only."""
    priority: np.ndarray
    """(J,) float64."""
    tenant: np.ndarray
    """(J,) object, str."""
    deadline_s: np.ndarray
    """(J,) float64, clock of `arrival_s`; +inf without one."""
    gpu_types: np.ndarray
    """(J,) object, str: allowed GPU types separated by blanks; "" all."""
    cancel_s: np.ndarray
    """(J,) float64, clock of `arrival_s`, >= arrival_s; +inf never."""
    parents: Parents
    """Jobs that have to end first."""
    max_retries: np.ndarray
    """(J,) int64 >= 0; `UNLIMITED` without a limit."""
    failure_rate_per_h: np.ndarray
    """(J,) float64 >= 0, per hour of running."""
    checkpoint_interval_s: np.ndarray
    """(J,) float64 >= 0, 0 continuously; NaN as the simulation has it."""
    loader_cpus_per_gpu: np.ndarray
    """(J,) float64 >= 0, CPUs per GPU at which data loading no longer bounds the job."""
    skipped: dict[str, int]
    """Rows left out: reason -> count."""

    def __len__(self) -> int:
        return len(self.row)

    @property
    def gpu_s(self) -> np.ndarray:
        """(J,) float64, GPU-seconds asked; a share of a GPU counts as such."""
        return np.asarray(self.num_gpus * self.demand[:, 0] * self.duration_s)

    def take(self, index: np.ndarray) -> RawTrace:
        """The jobs that `index`, a mask or an array of indices, selects.

        A dependency on a job that is not selected counts as met.
        """
        if index.dtype == bool:
            if index.all():
                return self
            index = np.flatnonzero(index)
        changes: dict[str, Any] = {
            f.name: pick(getattr(self, f.name), index)
            for f in fields(self)
            if isinstance(getattr(self, f.name), np.ndarray)
        }
        return replace(self, **changes, parents=self.parents.take(index))

    def skip(self, keep: np.ndarray, reason: str | dict[str, int]) -> RawTrace:
        """The jobs where `keep` is True, but for those that wait for one of the others.

        Args:
            reason: under which the others are counted; or their numbers by reason.
        """
        gone = int((~keep).sum())
        counts = reason if isinstance(reason, dict) else ({reason: gone} if gone else {})
        left = ~self.parents.descendants(~keep)
        # They would run before their time.
        wait = int((~left).sum()) - gone
        counts = {**self.skipped, **counts, **({WAITS: wait} if wait else {})}
        return replace(self.take(left), skipped=counts)

    def sorted(self) -> RawTrace:
        """In order of arrival, ties in the order of the file, the first at 0 s."""
        in_order = bool((np.diff(self.arrival_s) >= 0).all())
        ordered = self if in_order else self.take(np.argsort(self.arrival_s, kind="stable"))
        first_s = ordered.arrival_s[0] if len(self) else 0.0
        if first_s == 0:
            return ordered
        return replace(
            ordered,
            arrival_s=ordered.arrival_s - first_s,
            deadline_s=shifted(ordered.deadline_s, -first_s),
            cancel_s=shifted(ordered.cancel_s, -first_s),
        )


def plain(
    name: str,
    where: str,
    row: np.ndarray,
    job_id: np.ndarray,
    arrival_s: np.ndarray,
    duration_s: np.ndarray,
    num_gpus: np.ndarray,
) -> RawTrace:
    """A trace that states nothing but arrivals, run times and GPUs."""
    jobs = len(row)
    return RawTrace(
        name,
        where,
        row,
        names(job_id),
        arrival_s,
        duration_s,
        num_gpus,
        model=constant("", jobs),
        elastic=constant(-1, jobs),
        min_gpus=constant(0, jobs),
        max_gpus=constant(0, jobs),
        demand=np.broadcast_to(np.array([1.0, 0.0, 0.0, 0.0]), (jobs, 4)),
        priority=constant(0.0, jobs),
        tenant=constant("", jobs),
        deadline_s=constant(np.inf, jobs),
        gpu_types=constant("", jobs),
        cancel_s=constant(np.inf, jobs),
        parents=Parents.none(jobs),
        max_retries=constant(UNLIMITED, jobs),
        failure_rate_per_h=constant(0.0, jobs),
        checkpoint_interval_s=constant(np.nan, jobs),
        loader_cpus_per_gpu=constant(0.0, jobs),
        skipped={},
    )
