"""Metrics of a run, by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from marl_sched.config import SimConfig
from marl_sched.errors import UserError
from marl_sched.evaluation import simulate as simulate_module
from marl_sched.evaluation.metrics import JobResults, job_results
from marl_sched.evaluation.simulate import simulate
from marl_sched.schedulers import get_scheduler
from marl_sched.sim import columns as c
from marl_sched.types import Cluster
from tests.sim.worlds import make_workload


def results() -> JobResults:
    """Three jobs on 4 GPUs.

    job 0: arrives 0, starts 0, ends 100, 100 s long, held 2 GPUs for 100 s.
    job 1: arrives 10, starts 50, ends 250, 100 s long, held 1 GPU for 150 s, one preemption.
    job 2: arrives 20, starts 20, ends 60, 80 s long, held 4 GPUs for 40 s, late (deadline 50).
    """
    workload = make_workload(
        [0, 10, 20],
        [100, 100, 80],
        num_gpus=[2, 1, 2],
        deadline_s=np.array([np.inf, 250.0, 50.0]),
    )
    result = np.full((c.NUM_RESULT, 5), np.nan)  # a window larger than the episode
    result[c.FINAL_ARRIVAL_S, :3] = 0, 10, 20
    result[c.FINAL_FIRST_START_S, :3] = 0, 50, 20
    result[c.FINAL_FINISH_S, :3] = 100, 250, 60
    result[c.FINAL_ATTAINED_GPU_S, :3] = 200, 150, 160
    result[c.FINAL_HELD_S, :3] = 100, 150, 40
    result[c.FINAL_PREEMPTIONS, :3] = 0, 1, 0
    result[c.FINAL_RESTARTS, :3] = 0, 2, 1
    result[c.FINAL_RHO, :3] = 1.0, 1.6, 0.4
    result[c.FINAL_STATUS, :3] = c.FINISHED_JOB
    result[c.FINAL_OVERHEAD_GPU_S : c.FINAL_RETRIES + 1, :3] = 0
    return job_results(workload, 4, result, np.array([1000.0, 490.0, 0.25]))


def test_summary_by_hand() -> None:
    # JCTs 100, 240, 40.
    assert results().summary() == pytest.approx(
        {
            "num_jobs": 3,
            "num_finished": 3,
            "num_failed": 0,
            "num_cancelled": 0,
            "avg_jct_s": 380 / 3,
            "p50_jct_s": 100,
            "p99_jct_s": 100 + 0.98 * 140,
            "makespan_s": 250,
            "avg_queueing_delay_s": (0 + 90 + 0) / 3,
            "avg_first_wait_s": (0 + 40 + 0) / 3,
            "avg_slowdown": (1.0 + 2.4 + 0.5) / 3,
            "avg_finish_time_fairness": 1.0,
            "unfair_fraction": 1 / 3,
            "gpu_allocated_fraction": 510 / (4 * 250),
            "num_preemptions": 1,
            "num_restarts": 3,
            "num_retries": 0,
            "overhead_gpu_s": 0,
            "lost_gpu_s": 0,
            "num_deadlines_missed": 1,
            "deadline_missed_fraction": 1 / 3,
            "energy_kwh": 0.25,
        }
    )
    summary = results().summary()
    assert all(type(value) in (int, float) for value in summary.values())  # plain, for JSON
    assert all(type(summary[key]) is int for key in summary if key.startswith("num_"))


def test_unfinished_jobs_are_counted_and_left_out() -> None:
    done = results()
    done.status[1] = c.FAILED_JOB
    summary = done.summary()
    assert summary["num_jobs"] == 3 and summary["num_finished"] == 2
    assert summary["num_failed"] == 1
    assert summary["avg_jct_s"] == pytest.approx(70)
    done.status[:] = c.CANCELLED_JOB
    summary = done.summary()
    assert summary["num_cancelled"] == 3 and summary["num_finished"] == 0
    assert np.isnan(summary["avg_jct_s"]) and np.isnan(summary["makespan_s"])


def test_one_row_a_job(tmp_path: Path) -> None:
    path = tmp_path / "new" / "jobs.csv"
    results().write_csv(path)
    table = pd.read_csv(path)
    assert table["job_id"].tolist() == ["job-0", "job-1", "job-2"]
    assert table["jct_s"].tolist() == [100, 240, 40]
    assert table["queueing_delay_s"].tolist() == [0, 90, 0]
    assert table["slowdown"].tolist() == pytest.approx([1.0, 2.4, 0.5])
    assert table["num_preemptions"].tolist() == [0, 1, 0]
    assert [p.name for p in path.parent.iterdir()] == ["jobs.csv"]


def test_simulate_by_hand() -> None:
    # One GPU: job 0 from 0 to 100, then the shorter job 2, then job 1.
    workload = make_workload([0, 10, 20], [100, 50, 30])
    done = simulate(workload, Cluster.parse("1x1"), get_scheduler("sjf"), SimConfig(), 0.0)
    assert done.finish_s.tolist() == [100, 180, 130]
    assert done.first_start_s.tolist() == [0, 130, 100]
    assert done.held_s.tolist() == [100, 50, 30]
    assert done.summary()["gpu_allocated_fraction"] == 1.0
    assert done.summary()["avg_queueing_delay_s"] == pytest.approx((0 + 120 + 80) / 3)


def test_the_estimates_error_depends_on_noise_and_seed() -> None:
    rng = np.random.default_rng(0)
    workload = make_workload(np.zeros(40), rng.lognormal(5, 1, 40))

    def finish_s(noise: float, seed: int) -> list[float]:
        done = simulate(workload, Cluster.parse("1x1"), get_scheduler("sjf"), None, noise, seed)
        return done.finish_s.tolist()

    assert finish_s(1.0, 0) == finish_s(1.0, 0) != finish_s(1.0, 1)
    assert finish_s(0.0, 0) == finish_s(0.0, 1)
    # Exact estimates: shortest first is the best order.
    assert sum(finish_s(0.0, 0)) < sum(finish_s(1.0, 0))


def test_a_stuck_scheduler_is_an_error_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate_module, "play", lambda *args: simulate_module.STUCK)
    with pytest.raises(UserError, match="'sjf': .*waiting on an idle cluster"):
        simulate(make_workload([0], [1]), Cluster.parse("1x1"), get_scheduler("sjf"))
