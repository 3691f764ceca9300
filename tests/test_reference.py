"""The reference simulator against schedules worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from marl_sched.types import Cluster
from tests.reference import ReferenceJob, ReferenceResult, by_hand
from tests.reference.by_hand import everybody, jobs, one_profile


def run(workload: Any, profiles: Any, cluster: str, decide: Any, **options: Any) -> ReferenceResult:
    return by_hand.run(workload, profiles, Cluster.parse(cluster), decide, **options)


def test_two_rigid_jobs_take_turns_on_one_node() -> None:
    # 2 GPUs; both jobs need both: the second waits for the first.
    result = run(
        jobs((0, 100), (30, 50)), one_profile([0, 2], [[0, 0], [1, 1]]), "1x2", everybody(1)
    )
    assert result.events == [
        (0.0, "arrive", 0),
        (0.0, "start", 0),
        (30.0, "arrive", 1),
        (100.0, "finish", 0),
        (100.0, "start", 1),
        (150.0, "finish", 1),
    ]
    assert [epoch.t for epoch in result.epochs] == [0.0, 30.0, 100.0]
    assert [job.attained_gpu_s for job in result.jobs] == [200.0, 100.0]
    assert [job.num_restarts for job in result.jobs] == [0, 0]


def test_a_preempted_job_pays_its_restart() -> None:
    # Job 1 takes the GPU at 30 with 70 of job 0 left; back at 50, + 10 restart + 70 work = 130.
    def newest_first(now: float, active: Sequence[ReferenceJob]) -> Mapping[int, int]:
        return {job.index: int(job is active[-1]) for job in active}

    profiles = one_profile([0, 1], [[0, 0], [1, 1]])
    result = run(jobs((0, 100), (30, 20)), profiles, "1x1", newest_first)
    assert result.events[3:] == [
        (30.0, "preempt", 0),
        (30.0, "start", 1),
        (50.0, "finish", 1),
        (50.0, "start", 0),
        (130.0, "finish", 0),
    ]
    first = result.jobs[0]
    assert (first.num_preemptions, first.num_restarts) == (1, 1)
    assert (first.held_s, first.attained_gpu_s) == (110.0, 110.0)


def test_shrink_and_grow_at_measured_rates() -> None:
    # Alone on 4 GPUs at rate 3; both on 2 GPUs at rate 2; restart 10 s.
    # t=20: job 0 has 120 - 60 = 60 left, resumes at 30, ends at 60; job 1 starts on 2 GPUs.
    # t=60: job 1 has 180 - 2 * 40 = 100 left, grows to 4 GPUs, resumes at 70, ends at 70 + 100/3.
    def share(now: float, active: Sequence[ReferenceJob]) -> Mapping[int, int]:
        return {job.index: 3 - len(active) for job in active}

    profiles = one_profile([0, 2, 4], [[0, 0], [2, 2], [3, 3]])
    result = run(jobs((0, 120), (20, 180)), profiles, "1x4", share)
    assert result.events == [
        (0.0, "arrive", 0),
        (0.0, "start", 0),
        (20.0, "arrive", 1),
        (20.0, "shrink", 0),
        (20.0, "start", 1),
        (60.0, "finish", 0),
        (60.0, "grow", 1),
        (pytest.approx(70 + 100 / 3), "finish", 1),
    ]
    assert result.jobs[0].attained_gpu_s == pytest.approx(4 * 20 + 2 * 40)
    assert result.jobs[1].attained_gpu_s == pytest.approx(2 * 40 + 4 * (10 + 100 / 3))


def test_a_gang_spans_nodes_only_when_it_must_and_runs_slower_there() -> None:
    # 2x4: job 0 (4 GPUs) sits on node 0; job 1 (6 GPUs) cannot start; alone it spans 4 + 2.
    profiles = one_profile([0, 4], [[0, 0], [1, 0.5]])
    profiles.sizes = np.array([[0, 4], [0, 6]])
    profiles.num_levels = np.array([1, 1])
    profiles.rates = np.repeat(profiles.rates, 2, axis=0)
    profiles.restart_s = np.array([10.0, 10.0])
    profiles.job_profile = np.array([0, 1])
    result = run(jobs((0, 100), (10, 100)), profiles, "2x4", everybody(1))
    assert result.epochs[1].placements == {0: {0: 4}, 1: {}}
    assert result.epochs[2].placements == {1: {0: 4, 1: 2}}
    assert result.jobs[1].finish == 100 + 100 / 0.5


def test_best_fit_and_the_faster_gpu_type() -> None:
    # The faster type is the second one; its tighter node is taken first.
    profiles = one_profile([0, 1], [[0, 0], [1, 1]])
    rates = np.array([[[0, 0], [1, 1]], [[0, 0], [2, 2]]], float)
    profiles.rates = rates[None]
    result = run(jobs(*[(0, 10)] * 4), profiles, "1x4:slow+1x2:fast+1x1:fast", everybody(1))
    assert result.epochs[0].placements == {0: {2: 1}, 1: {1: 1}, 2: {1: 1}, 3: {0: 1}}


def test_other_resources_bind_too() -> None:
    # 1x4 has 64 CPUs; 40 CPUs a GPU leave room for one GPU only, on each of the two nodes.
    profiles = one_profile([0, 1], [[0, 0], [1, 1]])
    workload = jobs(*[(0, 10)] * 3, demand=(1, 40, 0, 0))
    result = run(workload, profiles, "2x4", everybody(1))
    assert result.epochs[0].levels == {0: 1, 1: 1, 2: 0}


def test_too_many_gpus_asked_lowers_the_last_jobs() -> None:
    profiles = one_profile([0, 1, 2, 4], [[0, 0], [1, 1], [1, 1], [1, 1]])
    result = run(jobs(*[(0, 10)] * 3), profiles, "1x7", everybody(9))
    # 4 + 4 + 4 > 7: job 2 falls to 0, then job 1 to 2.
    assert result.epochs[0].levels == {0: 3, 1: 2, 2: 0}


def test_a_failed_growth_changes_nothing() -> None:
    # Job 1 would grow to 2 GPUs, but CPUs hold it: it keeps its GPU and pays nothing.
    profiles = one_profile([0, 1, 2], [[0, 0], [1, 1], [2, 2]])
    workload = jobs((0, 100), (10, 10), demand=(1, 16, 0, 0))
    workload.demand[0, 1] = 48.0

    def second_wants_two(now: float, active: Sequence[ReferenceJob]) -> Mapping[int, int]:
        return {job.index: 2 if now > 12 and job.index == 1 else 1 for job in active}

    result = run(workload, profiles, "1x4", second_wants_two, round_s=5.0)
    assert [event for event in result.events if event[2] == 1] == [
        (10.0, "arrive", 1),
        (10.0, "start", 1),
        (20.0, "finish", 1),
    ]
    assert result.jobs[1].num_restarts == 0


def test_the_first_start_can_cost_and_the_round_timer_fires() -> None:
    profiles = one_profile([0, 1, 2], [[0, 0], [1, 1], [2, 2]])
    result = run(
        jobs((0, 25)), profiles, "1x2", everybody(1), round_s=10.0, charge_first_start=True
    )
    assert result.jobs[0].finish == 35.0
    assert result.jobs[0].num_restarts == 0
    assert [epoch.t for epoch in result.epochs] == [0.0, 10.0, 20.0, 30.0]


def test_no_round_comes_when_everybody_has_the_most() -> None:
    profiles = one_profile([0, 1], [[0, 0], [1, 1]])
    result = run(jobs((0, 25)), profiles, "1x1", everybody(1), round_s=10.0)
    assert [epoch.t for epoch in result.epochs] == [0.0]


def test_a_scheduler_that_starts_nothing_is_reported() -> None:
    profiles = one_profile([0, 1], [[0, 0], [1, 1]])
    with pytest.raises(RuntimeError, match="no end after 50 epochs"):
        run(jobs((0, 25)), profiles, "1x1", everybody(0), max_epochs=50)
