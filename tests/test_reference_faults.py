"""The reference by hand: failures, cancellations, dependencies, nodes that go and come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from tests.reference import FAILED, FINISHED, NodeEvent, ReferenceJob
from tests.reference.by_hand import (
    events_of,
    everybody,
    jobs,
    nodes,
    one_profile,
    rigid,
    run,
    waits,
)
from tests.reference.draws import exponential, finalise, uniform
from tests.reference.rules import INF

ALL = everybody(1)


@pytest.fixture
def failures_after(monkeypatch: pytest.MonkeyPatch):
    """failures_after(250): every job that can fail does so after 250 s of held time, once."""

    def given(*seconds: float) -> None:
        monkeypatch.setattr("tests.reference.world.exponential", waits(*seconds))

    return given


@pytest.fixture
def node_waits(monkeypatch: pytest.MonkeyPatch):
    """node_waits(100, 20): every node is up for 100 s, down for 20 s, and then up."""

    def given(*seconds: float) -> None:
        monkeypatch.setattr("tests.reference.nodes.exponential", waits(*seconds))

    return given


def test_the_finaliser_is_splitmix64s() -> None:
    # The generator's published first outputs from the state 1234567.
    golden, mask = 0x9E3779B97F4A7C15, 2**64 - 1
    states = [(1234567 + k * golden) & mask for k in (1, 2, 3)]
    assert [finalise(z) for z in states] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


def test_draws_are_uniform_and_differ_in_every_argument() -> None:
    draws = [uniform(3, 1, i, k) for i in range(100) for k in range(100)]
    assert 0 <= min(draws) and max(draws) < 1 and len(set(draws)) == 10_000
    assert sum(draws) / len(draws) == pytest.approx(0.5, abs=0.01)
    assert len({uniform(a, b, 2, 2) for a in range(9) for b in range(9)}) == 81
    waits_s = [exponential(20.0, 3, 2, i, 0) for i in range(10_000)]
    assert sum(waits_s) / 10_000 == pytest.approx(20.0, rel=0.03)


def test_a_failed_job_redoes_the_work_since_its_checkpoint(failures_after) -> None:
    # Checkpoints at 100 and 200; fails at 250 and redoes 50 s: 10 pause + 100 left = 360.
    failures_after(250.0)
    work = jobs((0, 300), failures_per_h=1.0, max_retries=1, checkpoint_interval_s=100.0)
    result = run(work, rigid(gpus=2), nodes(2), ALL)
    assert events_of(result, 0)[1:] == [
        (0.0, "start"),
        (250.0, "fail"),
        (250.0, "start"),
        (360.0, "finish"),
    ]
    account, job = result.accounts[0], result.jobs[0]
    assert (account.status, account.retries) == (FINISHED, 1)
    assert (account.productive_gpu_s, account.overhead_gpu_s) == (600.0, 20.0)
    assert (account.lost_gpu_s, job.attained_gpu_s) == (100.0, 720.0)
    assert (job.num_preemptions, job.num_restarts) == (0, 1)
    assert (result.capacity_gpu_s, result.idle_gpu_s) == (720.0, 0.0)


def test_continuous_checkpoints_lose_nothing(failures_after) -> None:
    failures_after(250.0)
    work = jobs((0, 300), failures_per_h=1.0, max_retries=1, checkpoint_interval_s=0.0)
    result = run(work, rigid(), nodes(1), ALL)
    assert result.jobs[0].finish == 310.0
    assert result.accounts[0].lost_gpu_s == 0.0


def test_a_failure_in_the_restart_pause_loses_no_work(failures_after) -> None:
    # Runs 0-50, fails; pause 50-60 cut at 55; pause 55-65; 100 left: nothing was kept of 50.
    failures_after(50.0, 5.0)
    work = jobs((0, 100), failures_per_h=1.0, max_retries=2, checkpoint_interval_s=80.0)
    result = run(work, rigid(), nodes(1), ALL)
    assert result.jobs[0].finish == 165.0
    account = result.accounts[0]
    assert (account.lost_gpu_s, account.overhead_gpu_s, account.productive_gpu_s) == (50, 15, 100)


def test_held_time_until_a_failure_spans_preemptions_which_are_checkpoints(
    failures_after,
) -> None:
    # Job 0 holds 0-40 and again from 60, so it fails at 120 after 100 s held; of those, 50 s
    # were worked since the pause of 60-70, all of it lost; 160 of 200 are left. 130 + 160 = 290.
    failures_after(100.0)
    work = jobs(
        (0, 200),
        (40, 20),
        failures_per_h=[1.0, 0.0],
        max_retries=1,
        checkpoint_interval_s=1000.0,
    )

    def newest(now: float, active: Sequence[ReferenceJob]) -> Mapping[int, int]:
        return {job.index: int(job is active[-1]) for job in active}

    result = run(work, rigid(), nodes(1), newest)
    assert events_of(result, 0)[1:] == [
        (0.0, "start"),
        (40.0, "preempt"),
        (60.0, "start"),
        (120.0, "fail"),
        (120.0, "start"),
        (290.0, "finish"),
    ]
    assert result.accounts[0].lost_gpu_s == 50.0


def test_a_resize_is_a_checkpoint(failures_after) -> None:
    # 2 GPUs at rate 2 for 30 s: 60 of 200 done; from 30 on 1 GPU, working from 40, fails at
    # 100: 60 s lost. Again 10 s of pause, 140 s of work: ends at 250.
    failures_after(100.0)
    profile = one_profile([0, 1, 2], [[0, 0], [1, 1], [2, 2]])
    work = jobs((0, 200), (30, 500), failures_per_h=[1.0, 0.0], max_retries=1,
                checkpoint_interval_s=1000.0)  # fmt: skip
    result = run(work, profile, nodes(2), lambda now, active: {j.index: 3 - len(active)
                                                               for j in active})  # fmt: skip
    assert result.jobs[0].finish == 250.0
    assert result.accounts[0].lost_gpu_s == 60.0
    assert result.accounts[0].overhead_gpu_s == 20.0
    assert result.accounts[0].productive_gpu_s == 60.0 + 140.0


def test_too_many_failures_end_a_job(failures_after) -> None:
    # Fails at 50 and 100, after two more: 100 s of nothing, and the GPU is free for job 1.
    failures_after(50.0, 50.0)
    work = jobs((0, 200), (0, 10), failures_per_h=[1.0, 0.0], max_retries=1,
                checkpoint_interval_s=1000.0)  # fmt: skip
    result = run(work, rigid(), nodes(1), ALL)
    assert events_of(result, 0)[-1] == (100.0, "failed")
    assert result.accounts[0].status == FAILED and result.accounts[0].retries == 2
    assert result.accounts[0].productive_gpu_s == 0.0
    assert events_of(result, 1)[1:] == [(100.0, "start"), (110.0, "finish")]


def test_cancellations_of_waiting_and_running_jobs() -> None:
    # Job 0 is cancelled at 30 as it runs, job 1 at 20 as it waits; job 2 starts at 30.
    work = jobs((0, 100), (0, 100), (0, 5), cancel_at_s=[30.0, 20.0, INF])
    result = run(work, rigid(), nodes(1), ALL)
    assert result.cancelled == [0, 1]
    assert [job.finish for job in result.jobs] == [30.0, 20.0, 35.0]
    assert [job.attained_gpu_s for job in result.jobs] == [30.0, 0.0, 5.0]


def test_a_job_that_finishes_as_it_would_fail_or_be_cancelled_has_finished(
    failures_after,
) -> None:
    failures_after(100.0)
    work = jobs((0, 100), failures_per_h=1.0, cancel_at_s=100.0)
    result = run(work, rigid(), nodes(1), ALL)
    assert result.accounts[0].status == FINISHED


def test_a_child_waits_for_all_parents() -> None:
    # Job 2 arrives at 5; its parents end at 10 and 30. Job 3's parent ends before it arrives.
    work = jobs((0, 10), (0, 30), (5, 7), (50, 1), parents=[[], [], [0, 1], [0]])
    result = run(work, rigid(), nodes(4), ALL)
    assert events_of(result, 2) == [(30.0, "arrive"), (30.0, "start"), (37.0, "finish")]
    assert events_of(result, 3) == [(50.0, "arrive"), (50.0, "start"), (51.0, "finish")]


def test_the_children_of_a_cancelled_job_are_cancelled_with_it() -> None:
    # 0 is cancelled at 10, and 1 with it; 2 when its other parent ends, at 40; its child 4
    # with it; 5, a child of 1, when it arrives.
    work = jobs((0, 50), (0, 1), (0, 1), (0, 40), (20, 1), (25, 1),
                cancel_at_s=[10.0] + [INF] * 5,
                parents=[[], [0], [1, 3], [], [2], [1]])  # fmt: skip
    result = run(work, rigid(), nodes(4), ALL)
    assert [job.finish for job in result.jobs] == [10.0, 10.0, 40.0, 40.0, 40.0, 25.0]
    assert result.cancelled == [0, 1, 2, 4, 5]


def test_a_blocked_job_is_cancelled_when_it_would_have_become_active() -> None:
    work = jobs((0, 50), (0, 10), (60, 10), parents=[[], [0], []], cancel_at_s=[INF, 20.0, INF])
    result = run(work, rigid(), nodes(1), ALL)
    assert events_of(result, 1) == [(50.0, "cancelled")]


def test_a_node_that_fails_stops_its_jobs_until_it_is_repaired(node_waits) -> None:
    # 4 GPUs from 0; the node fails at 100 and is back at 120: 40 s past the checkpoint at 60
    # are done again. 120 + 10 + 140 = 270. Up for 250 s, idle for none.
    node_waits(100.0, 20.0)
    work = jobs((0, 200), checkpoint_interval_s=60.0)
    result = run(work, rigid(4), nodes(4), ALL, node_mtbf_h=1.0, node_mttr_h=1.0)
    assert result.node_events == [(100.0, "down", 0), (120.0, "up", 0)]
    assert events_of(result, 0)[1:] == [
        (0.0, "start"),
        (100.0, "evict"),
        (120.0, "start"),
        (270.0, "finish"),
    ]
    assert result.accounts[0].retries == 0
    assert result.accounts[0].lost_gpu_s == 160.0
    assert (result.capacity_gpu_s, result.idle_gpu_s) == (1000.0, 0.0)


def test_a_gang_stops_when_any_of_its_nodes_fails() -> None:
    # Both need 3 GPUs, over both nodes. At 20, 2 GPUs are left; at 30 job 0 begins again.
    work = jobs((0, 100), (5, 50), checkpoint_interval_s=1e6)
    events = [NodeEvent(20.0, 1, "down"), NodeEvent(30.0, 1, "up")]
    result = run(work, rigid(3), nodes(2, 2), ALL, node_events=events)
    assert events_of(result, 0)[1:] == [
        (0.0, "start"), (20.0, "evict"), (30.0, "start"), (140.0, "finish")
    ]  # fmt: skip
    assert events_of(result, 1)[1:] == [(140.0, "start"), (190.0, "finish")]
    assert result.capacity_gpu_s == 4 * 190 - 2 * 10


def test_a_reclaim_announces_itself() -> None:
    # Node 0 is announced at 10 and goes at 40; job 1, from 10, takes node 1 though node 0 is
    # the tighter one. Job 0 stops at 40 with nothing lost, and goes on beside job 1: 50 + 60.
    work = jobs((0, 100), (10, 100), checkpoint_interval_s=1e6)
    events = [NodeEvent(10.0, 0, "reclaim", notice=30.0)]
    result = run(work, rigid(), nodes(2, 3), ALL, node_events=events)
    assert result.epochs[1].placements == {0: {0: 1}, 1: {1: 1}}
    assert result.node_events == [(10.0, "closed", 0), (40.0, "gone", 0)]
    assert [job.finish for job in result.jobs] == [110.0, 110.0]
    assert result.accounts[0].lost_gpu_s == 0.0
    assert (result.capacity_gpu_s, result.idle_gpu_s) == (2 * 40 + 3 * 110, 80 + 330 - 210)


def test_a_reclaim_without_notice_loses_work_and_a_given_up_brings_the_node_back() -> None:
    work = jobs((0, 100), checkpoint_interval_s=1e6)
    events = [NodeEvent(40.0, 0, "reclaim"), NodeEvent(60.0, 0, "up")]
    result = run(work, rigid(), nodes(1), ALL, node_events=events)
    assert result.jobs[0].finish == 60 + 10 + 100
    assert result.accounts[0].lost_gpu_s == 40.0


def test_given_events_and_a_nodes_own_process_share_one_state(node_waits) -> None:
    # Own: down 100, up 300, down 400, up 410. Given: up at 150 (so 300 changes nothing), down
    # at 390 (so 400 changes nothing, and the repair at 410 counts).
    node_waits(100.0, 200.0, 100.0, 10.0)
    events = [NodeEvent(150.0, 0, "up"), NodeEvent(390.0, 0, "down")]
    result = run(jobs((0, 500)), rigid(), nodes(1), ALL, node_events=events, node_mtbf_h=1.0)
    assert result.node_events == [
        (100.0, "down", 0), (150.0, "up", 0), (390.0, "down", 0), (410.0, "up", 0)
    ]  # fmt: skip
    assert result.jobs[0].finish == 500 + 50 + 20 + 2 * 10
