"""Figures of one simulated run, from the simulator's per-job results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from marl_sched.files import replacing
from marl_sched.sim import columns as c
from marl_sched.workload.jobs import Workload

STATUSES = ("finished", "failed", "cancelled")
"""How a job may end, by number from 1."""

FALLBACK = "fallback_fraction"
"""Metric of trained scorers alone."""

TIMES = (
    "avg_jct_s", "p50_jct_s", "p99_jct_s", "makespan_s", "avg_queueing_delay_s",
    "avg_first_wait_s", "avg_slowdown", "avg_finish_time_fairness", "unfair_fraction",
    "gpu_allocated_fraction",
)  # fmt: skip
"""Metrics that need a finished job. `unfair_fraction`: share of jobs with rho > 1, that took longer
than on a 1/n share (Zheng et al., Shockwave, NSDI 2023)."""


@dataclass(frozen=True)
class JobResults:
    """What became of each job; arrays (J,) in the order of the workload, NaN where unfinished."""

    workload: Workload
    num_gpus: int
    """GPUs of the cluster."""
    arrival_s: np.ndarray
    """float64, from the first arrival, after any change of load."""
    first_start_s: np.ndarray
    finish_s: np.ndarray
    held_s: np.ndarray
    """Time holding GPUs."""
    attained_gpu_s: np.ndarray
    num_preemptions: np.ndarray
    num_restarts: np.ndarray
    finish_time_fairness: np.ndarray
    """rho: run time shared over run time on a 1/n share (Themis, NSDI 2020)."""
    status: np.ndarray
    """How each ended: `columns.FINISHED_JOB`, `FAILED_JOB` or `CANCELLED_JOB`."""
    overhead_gpu_s: np.ndarray
    """GPU-seconds held without progress: restarts."""
    lost_gpu_s: np.ndarray
    """GPU-seconds held for progress that failures undid."""
    num_retries: np.ndarray
    """Failures of the job itself."""
    up_gpu_s: float
    """GPU-seconds of the nodes that were up; equal to the idle ones and those attained."""
    idle_gpu_s: float
    energy_kwh: float
    """Of all GPUs of nodes that were up, see `perf.power`."""
    events: np.ndarray | None = None
    """(E, 6) float64, the event log where one was kept; columns `columns.LOG_*`."""
    fallback_fraction: float | None = None
    """Share of decisions that a trained scorer left to the index; None for other schedulers."""

    @property
    def jct_s(self) -> np.ndarray:
        """(J,) float64 completion times."""
        return self.finish_s - self.arrival_s

    def summary(self) -> dict[str, float]:
        """The metrics of `simulate --json`, over finished jobs; NaN where none finished."""
        done = self.status == c.FINISHED_JOB
        missed = self.jct_s > self.workload.deadline_s - self.workload.arrival_s
        return {
            "num_jobs": int(done.size),
            "num_finished": int(done.sum()),
            "num_failed": int((self.status == c.FAILED_JOB).sum()),
            "num_cancelled": int((self.status == c.CANCELLED_JOB).sum()),
            **(self._times(done) if done.any() else dict.fromkeys(TIMES, np.nan)),
            "num_preemptions": int(self.num_preemptions[done].sum()),
            "num_restarts": int(self.num_restarts[done].sum()),
            "num_retries": int(self.num_retries.sum()),
            "overhead_gpu_s": float(self.overhead_gpu_s.sum()),
            "lost_gpu_s": float(self.lost_gpu_s.sum()),
            "num_deadlines_missed": int(missed[done].sum()),
            "deadline_missed_fraction": float(missed[done].sum() / done.size),
            "energy_kwh": self.energy_kwh,
            **({} if self.fallback_fraction is None else {FALLBACK: self.fallback_fraction}),
        }

    def _times(self, done: np.ndarray) -> dict[str, float]:
        """`TIMES` over the jobs that are `done` (J,) bool, at least one."""
        jct = self.jct_s[done]
        duration = self.workload.duration_s[done]
        makespan = float(self.finish_s[done].max() - self.arrival_s.min())
        values = (
            jct.mean(),
            np.percentile(jct, 50),
            np.percentile(jct, 99),
            makespan,
            max(0.0, float((jct - self.held_s[done]).mean())),
            (self.first_start_s - self.arrival_s)[done].mean(),
            (jct / duration).mean(),
            self.finish_time_fairness[done].mean(),
            (self.finish_time_fairness[done] > 1.0).mean(),
            self.attained_gpu_s[done].sum() / (self.num_gpus * makespan),
        )
        return {name: float(value) for name, value in zip(TIMES, values, strict=True)}

    def write_csv(self, path: Path) -> None:
        """One row a job, whole or not at all."""
        import pandas as pd

        work = self.workload
        frame = pd.DataFrame(
            {
                "job_id": work.job_id,
                "arrival_s": self.arrival_s,
                "first_start_s": self.first_start_s,
                "finish_s": self.finish_s,
                "status": np.array(["", *STATUSES], dtype=object)[self.status.astype(np.int64)],
                "jct_s": self.jct_s,
                "queueing_delay_s": self.jct_s - self.held_s,
                "slowdown": self.jct_s / work.duration_s,
                "duration_s": work.duration_s,
                "num_gpus": work.num_gpus,
                "model": np.array(work.models, dtype=object)[work.model],
                "attained_gpu_s": self.attained_gpu_s,
                "num_preemptions": self.num_preemptions.astype(np.int64),
                "num_restarts": self.num_restarts.astype(np.int64),
                "num_retries": self.num_retries.astype(np.int64),
                "overhead_gpu_s": self.overhead_gpu_s,
                "lost_gpu_s": self.lost_gpu_s,
            }
        )
        with replacing(path) as temporary:
            frame.to_csv(temporary, index=False)


def job_results(
    workload: Workload,
    num_gpus: int,
    result: np.ndarray,
    account: np.ndarray,
    events: np.ndarray | None = None,
) -> JobResults:
    """Read one environment's result rows.

    Args:
        workload: the J jobs of the episode.
        num_gpus: of the cluster.
        result: (., W) float64 rows of `World.result`, W >= J.
        account: (.,) float64 row of `World.account`.
        events: (E, 6) float64, the event log.
    """
    rows = result[:, : len(workload)].copy()
    return JobResults(
        workload=workload,
        num_gpus=num_gpus,
        arrival_s=rows[c.FINAL_ARRIVAL_S],
        first_start_s=rows[c.FINAL_FIRST_START_S],
        finish_s=rows[c.FINAL_FINISH_S],
        held_s=rows[c.FINAL_HELD_S],
        attained_gpu_s=rows[c.FINAL_ATTAINED_GPU_S],
        num_preemptions=rows[c.FINAL_PREEMPTIONS],
        num_restarts=rows[c.FINAL_RESTARTS],
        finish_time_fairness=rows[c.FINAL_RHO],
        status=rows[c.FINAL_STATUS],
        overhead_gpu_s=rows[c.FINAL_OVERHEAD_GPU_S],
        lost_gpu_s=rows[c.FINAL_LOST_GPU_S],
        num_retries=rows[c.FINAL_RETRIES],
        up_gpu_s=float(account[c.UP_GPU_S]),
        idle_gpu_s=float(account[c.IDLE_GPU_S]),
        energy_kwh=float(account[c.ENERGY_KWH]),
        events=events,
    )


def fallbacks(report: dict[str, Any]) -> dict[str, float]:
    """Trained scorers of a comparison that left decisions to the index, and which share."""
    found = {name: metrics.get(FALLBACK) for name, metrics in report["schedulers"].items()}
    return {name: share["mean"] for name, share in found.items() if share and share["mean"] > 0.0}


def shorter_than(report: dict[str, Any], name: str) -> dict[str, float]:
    """Schedulers of a comparison whose mean JCT is below that of `name`, the shortest first, and by
    how many percent (below 0)."""
    jct = {who: metrics["avg_jct_s"]["mean"] for who, metrics in report["schedulers"].items()}
    found = {who: 100.0 * (mean / jct[name] - 1.0) for who, mean in jct.items() if mean < jct[name]}
    return dict(sorted(found.items(), key=lambda item: item[1]))
