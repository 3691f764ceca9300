"""The reference by hand: quotas, decisions on a grid, repacking, overhead at every event."""

from __future__ import annotations

import numpy as np
import pytest

from tests.reference import NodeEvent
from tests.reference.by_hand import (
    events_of,
    everybody,
    jobs,
    nodes,
    one_profile,
    rigid,
    rigid_sizes,
    run,
)

ALL = everybody(1)


def in_order(*indices: int):
    """Under `repack`: these jobs, as far as they are active, in this order."""

    def decide(now, active):
        present = {job.index for job in active}
        return {index: 1 for index in indices if index in present}

    return decide


def test_a_quota_lowers_the_tenants_latest_jobs_first() -> None:
    # Tenant 0 may hold 5 GPUs: 4 + 4 become 4 + 1. Tenant 1 has no quota and takes 2 of the
    # 3 GPUs that are left (the cluster's cut comes second).
    profiles = one_profile([0, 1, 2, 4], [[0, 0], [1, 1], [1, 1], [1, 1]])
    work = jobs((0, 10), (0, 10), (0, 10), tenant=[0, 0, 1])
    result = run(work, profiles, nodes(8), everybody(3), tenant_quota=[5.0, np.inf])
    assert result.epochs[0].levels == {0: 3, 1: 1, 2: 2}


def test_shares_count_as_shares_in_quotas() -> None:
    work = jobs((0, 10), (0, 10), (0, 10), gpu_milli=400, tenant=0)
    result = run(work, rigid(), nodes(4), ALL, tenant_quota=[0.8])
    assert result.epochs[0].levels == {0: 1, 1: 1, 2: 0}


def test_decisions_on_the_grid() -> None:
    # Job 0 arrives on the grid, at 0; job 1 at 5 starts at 60; job 0 ends at 70, and job 2
    # (which arrived at 50) starts at 120.
    work = jobs((0, 70), (5, 100), (50, 10))
    result = run(work, rigid(), nodes(2), ALL, decide_on_rounds=True, round_s=60.0)
    assert [job.first_start for job in result.jobs] == [0.0, 60.0, 120.0]
    assert [job.finish for job in result.jobs] == [70.0, 160.0, 130.0]
    assert [epoch.t for epoch in result.epochs] == [0.0, 60.0, 120.0]


def test_an_event_between_two_decisions_changes_rates_at_once() -> None:
    # Two share a GPU until 20; job 1 has it alone from then on, without any decision.
    work = jobs((0, 10), (0, 40), gpu_milli=500)
    given = {"sharing": "time_slice", "decide_on_rounds": True, "round_s": 1000.0}
    result = run(work, rigid(), nodes(1), ALL, **given)
    assert [job.finish for job in result.jobs] == [20.0, 50.0]
    assert len(result.epochs) == 1


def test_repacking_skips_who_finds_no_room() -> None:
    # 4 GPUs, order 0, 1, 2 with requests of 3, 2 and 1: 1 is skipped.
    result = run(
        jobs((0, 10), (0, 10), (0, 10)), rigid_sizes(3, 2, 1), nodes(4), in_order(0, 1, 2),
        repack=True,
    )  # fmt: skip
    assert result.epochs[0].levels == {0: 1, 1: 0, 2: 1}


def test_repacking_disturbs_only_those_who_move() -> None:
    # Two nodes of 2. Job 0 (1 GPU) takes node 0. At 10 job 1 (2 GPUs) comes first, takes node
    # 0, and job 0 moves to node 1 for 10 s of pause. Job 2 (1 GPU), placed last at 20, disturbs
    # nobody.
    result = run(
        jobs((0, 100), (10, 30), (20, 100)), rigid_sizes(1, 2, 1), nodes(2, 2), in_order(1, 0, 2),
        repack=True,
    )  # fmt: skip
    assert result.epochs[1].placements == {0: {1: 1}, 1: {0: 2}}
    assert result.epochs[2].placements == {0: {1: 1}, 1: {0: 2}, 2: {1: 1}}
    # At 40 the cluster is filled anew from node 0: both move.
    assert result.epochs[3].placements == {0: {0: 1}, 2: {0: 1}}
    assert events_of(result, 0)[1:] == [
        (0.0, "start"),
        (10.0, "move"),
        (40.0, "move"),
        (120.0, "finish"),
    ]
    assert events_of(result, 1)[1:] == [(10.0, "start"), (40.0, "finish")]
    assert [job.num_restarts for job in result.jobs] == [2, 0, 1]


def test_repacking_preempts_those_left_out_and_takes_requests_alone() -> None:
    # The request is level 1, 2 GPUs, though 4 would be free. Job 1 comes first from 10 to 20.
    profiles = one_profile([0, 2, 4], [[0, 0], [1, 1], [2, 2]])
    profiles.request_level[0] = 1
    work = jobs((0, 30), (10, 10))
    result = run(work, profiles, nodes(3), in_order(1, 0), repack=True)
    assert events_of(result, 0)[1:] == [
        (0.0, "start"),
        (10.0, "preempt"),
        (20.0, "start"),
        (50.0, "finish"),
    ]
    assert result.epochs[0].levels == {0: 1}


def test_repacking_heeds_quotas_in_its_order() -> None:
    work = jobs((0, 10), (0, 10), (0, 10), tenant=[0, 0, 1])
    result = run(work, rigid(2), nodes(6), in_order(1, 0, 2), repack=True, tenant_quota=[2.0])
    assert result.epochs[0].levels == {0: 0, 1: 1, 2: 1}


def test_repacking_moves_jobs_off_a_node_under_notice() -> None:
    events = [NodeEvent(20.0, 0, "reclaim", notice=1000.0)]
    result = run(jobs((0, 50)), rigid(), nodes(1, 1), in_order(0), repack=True, node_events=events)
    assert events_of(result, 0)[2:] == [(20.0, "move"), (60.0, "finish")]


def test_given_placements_are_carried_out_exactly() -> None:
    # Job 0 on node 0 moves to node 1 at 10 for a pause of 10 s, and goes on there at 30, when
    # job 1 (10 to 30 on both nodes, at half speed) ends.
    plan = {0.0: {0: {0: 1}}, 10.0: {0: {1: 1}, 1: {0: 1, 1: 1}}}
    profiles = one_profile([0, 1, 2], [[0, 0], [1, 1], [1, 0.5]])
    result = run(
        jobs((0, 50), (10, 10)), profiles, nodes(2, 2),
        lambda now, active: plan.get(now, {job.index: dict(job.placement) for job in active}),
    )  # fmt: skip
    assert result.epochs[1].placements == {0: {1: 1}, 1: {0: 1, 1: 1}}
    assert events_of(result, 0)[1:] == [(0.0, "start"), (10.0, "move"), (60.0, "finish")]
    assert events_of(result, 1)[1:] == [(10.0, "start"), (30.0, "finish")]


def test_overhead_at_every_event() -> None:
    # Job 0 (100 s, overhead 10) is charged at 30 (20 done, predicted end 110), at 35 (5 < 10:
    # nothing done, 115) and when job 1 (5 s, from 30) ends, which is that event at 35.
    # It then ends as predicted at 115. Job 2 waits for it, arriving at 100: charged again, 35
    # + 65 = 100 with 55 done, 25 left, ends at 125.
    work = jobs((0, 100), (30, 5), (100, 1))
    result = run(work, rigid(), nodes(2), ALL, overhead_each_epoch=True)
    ends = [epoch.finish_at[0] for epoch in result.epochs]
    assert ends[:4] == [100.0, 110.0, 115.0, 125.0]
    # Job 2 ends at 101: 1 s, nothing done by job 0; 126.
    assert [job.finish for job in result.jobs] == [126.0, 35.0, 101.0]
    # The last 25 s are charged as well, though the job ends as if they were not.
    account = result.accounts[0]
    assert account.overhead_gpu_s == pytest.approx(10 + 5 + 10 + 1 + 10)
    assert account.productive_gpu_s == pytest.approx(90.0)


def test_restarts_do_not_pause_when_overhead_is_charged_at_events() -> None:
    # Preempted at 10 (10 - 10 = 0 done), back at 20 and predicted to end 100 s later.
    def newest(now, active):
        return {job.index: int(job is active[-1]) for job in active}

    work = jobs((0, 100), (10, 10))
    result = run(work, rigid(), nodes(1), newest, overhead_each_epoch=True)
    assert [job.finish for job in result.jobs] == [120.0, 20.0]
