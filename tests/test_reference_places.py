"""The reference by hand: racks, GPU types, data loading, shares of a GPU, the network."""

from __future__ import annotations

import numpy as np
import pytest

from tests.reference.by_hand import everybody, jobs, nodes, rigid, rigid_sizes, run

ALL = everybody(1)


def placements(result, epoch: int = 0):
    return result.epochs[epoch].placements


def test_a_gang_spans_the_fullest_rack_that_has_room() -> None:
    # Racks 0 and 2 offer 6 GPUs, rack 1 only 4: 4 GPUs go there; 5 GPUs to rack 0 before 2.
    cluster = nodes(3, 3, 2, 2, 3, 3, rack=[0, 0, 1, 1, 2, 2])
    result = run(jobs((0, 10), (1, 10)), rigid_sizes(4, 5), cluster, ALL)
    assert placements(result, 1) == {0: {2: 2, 3: 2}, 1: {0: 3, 1: 2}}


def test_one_node_comes_before_any_rack() -> None:
    cluster = nodes(2, 2, 5, 1, rack=[0, 0, 1, 1])
    assert placements(run(jobs((0, 10)), rigid(4), cluster, ALL)) == {0: {2: 4}}


def test_no_rack_suffices_and_the_gang_pays_for_the_distance() -> None:
    # One rack of 2 + 1, one of 2: 4 GPUs need both, 100 s at a quarter of the speed. Within a
    # rack (3 GPUs) half of it; on one node (2 GPUs) all of it.
    cluster = nodes(2, 1, 2, rack=[0, 0, 1])
    speeds = {"packed": 1.0, "rack": 0.5, "cluster": 0.25}
    ends = {
        gpus: run(jobs((0, 100)), rigid(gpus, **speeds), cluster, ALL).jobs[0].finish
        for gpus in (2, 3, 4)
    }
    assert ends == {2: 100.0, 3: 200.0, 4: 400.0}
    assert placements(run(jobs((0, 1)), rigid(4), cluster, ALL)) == {0: {0: 2, 2: 2}}


def test_a_job_keeps_to_its_gpu_types() -> None:
    # Type 1 is twice as fast. Job 0 may not use it; job 1 may use it alone and waits for job 2.
    profiles = rigid()
    profiles.rates = np.concatenate([profiles.rates, 2 * profiles.rates], axis=1)
    work = jobs((0, 100), (1, 100), (0, 100), allowed_types=[[1, 0], [0, 1], [1, 1]])
    result = run(work, profiles, nodes(2, 1, kind=[0, 1]), ALL)
    assert placements(result) == {0: {0: 1}, 2: {1: 1}}
    assert [job.finish for job in result.jobs] == [100.0, 100.0, 50.0]


def test_data_loading_bounds_the_rate_by_the_node_with_fewest_cpus() -> None:
    # 8 CPUs a GPU wanted: 4 on the nodes (half speed), unless the job asks for 6 itself.
    poor = nodes(1, 1, cpus_per_gpu=4.0)
    for gpus in (1, 2):
        result = run(jobs((0, 90), loader_cpus=8.0), rigid(gpus), poor, ALL)
        assert result.jobs[0].finish == 180.0
    rich = nodes(2, cpus_per_gpu=6.0)
    result = run(jobs((0, 90), loader_cpus=8.0), rigid(1), rich, ALL)
    assert result.jobs[0].finish == 120.0
    asking = jobs((0, 90), demand=(1, 8, 0, 0), loader_cpus=8.0)
    assert run(asking, rigid(1), nodes(2, cpus_per_gpu=6.0), ALL).jobs[0].finish == 90.0
    mixed = nodes(1, 1, cpus_per_gpu=4.0)
    mixed.capacity[1, 1] = 2.0
    result = run(jobs((0, 90), loader_cpus=8.0), rigid(2), mixed, ALL)
    assert result.jobs[0].finish == 360.0


def test_shares_fill_one_gpu_before_the_next_and_whole_jobs_need_whole_gpus() -> None:
    # 0.5 and 0.3 go to GPU 0; another 0.3 does not fit there any more; 0.2 does. Job 4 wants a
    # whole GPU and waits, beside 0.7 of one, for job 2 to end at 50.
    seen = {}

    def decide(now, active):
        seen[now] = {job.index: job.devices for job in active}
        return ALL(now, active)

    work = jobs((0, 100), (0, 100), (0, 50), (0, 100), (1, 10),
                gpu_milli=[500, 300, 300, 200, 1000])  # fmt: skip
    result = run(work, rigid(), nodes(2), decide)
    assert seen[1.0] == {0: {0: [0]}, 1: {0: [0]}, 2: {0: [1]}, 3: {0: [0]}, 4: {}}
    assert [job.first_start for job in result.jobs] == [0.0, 0.0, 0.0, 0.0, 50.0]
    # A share counts as the part of a GPU that it is.
    assert [job.attained_gpu_s for job in result.jobs] == [50.0, 30.0, 15.0, 20.0, 10.0]
    assert (result.capacity_gpu_s, result.idle_gpu_s) == (200.0, 75.0)


def test_a_share_takes_the_tightest_node_and_gangs_the_lowest_free_gpus() -> None:
    # Node 1 has 3.5 GPUs free, node 0 has 4: the second share goes there; the gang of 3 then
    # finds 3 whole ones on it, GPUs 1 to 3.
    seen = {}

    def decide(now, active):
        seen[now] = {job.index: job.devices for job in active}
        return ALL(now, active)

    profiles = rigid_sizes(4, 1, 1, 3)
    work = jobs((0, 10), (1, 100), (11, 100), (12, 100), gpu_milli=[1000, 500, 500, 1000])
    run(work, profiles, nodes(4, 4), decide)
    assert seen[12.0] == {1: {1: [0]}, 2: {1: [0]}, 3: {}}
    assert seen[101.0][3] == {1: [1, 2, 3]}


def test_interference_slows_by_the_product_over_co_runners() -> None:
    # Profile 0 keeps 0.5 beside a 1 and 0.8 beside a 2: all three share GPU 0. Profile 1 keeps
    # 0.5 beside either; profile 2 is not disturbed.
    # Job 2 leaves at 10. Job 0: 10 * 0.4 = 4 done, then 0.5 a second: 46 left, 92 s. Job 1:
    # 10 * 0.25 = 2.5, then 0.5: 47.5 left at 10, 1.5 left at 102, alone: 103.5.
    table = [[1, 0.5, 0.8], [0.5, 1, 0.5], [1, 1, 1]]
    work = jobs((0, 50), (0, 50), (0, 10), gpu_milli=300)
    given = {"sharing": "interference", "interference": table}
    result = run(work, rigid_sizes(1, 1, 1), nodes(1), ALL, **given)
    assert [job.finish for job in result.jobs] == [102.0, 103.5, 10.0]
    assert [job.num_restarts for job in result.jobs] == [0, 0, 0]
    undisturbed = run(work, rigid_sizes(1, 1, 1), nodes(1), ALL)
    assert [job.finish for job in undisturbed.jobs] == [50.0, 50.0, 10.0]


def test_time_slices_are_equal() -> None:
    # Three jobs on one GPU until 30: 10 s done each; two until 30 + 2 * 20 = 70.
    work = jobs((0, 10), (0, 30), (0, 40), gpu_milli=300)
    result = run(work, rigid(), nodes(1), ALL, sharing="time_slice")
    assert [job.finish for job in result.jobs] == [30.0, 70.0, 80.0]


def test_a_lost_share_of_the_work_counts_at_the_rates_it_was_done(monkeypatch) -> None:
    # Two share until 20 (10 s done each), then job 1 has the GPU alone and fails at 30, with
    # 10 + 10 done since the start: all 100 are left. 30 + 10 + 100.
    monkeypatch.setattr("tests.reference.world.exponential", lambda *of: [30.0, 1e9][of[4]])
    work = jobs((0, 10), (0, 100), gpu_milli=500, failures_per_h=[0.0, 1.0], max_retries=1,
                checkpoint_interval_s=1e6)  # fmt: skip
    result = run(work, rigid(), nodes(1), ALL, sharing="time_slice")
    assert result.jobs[0].finish == 20.0
    assert result.jobs[1].finish == 140.0
    assert result.accounts[1].lost_gpu_s == 15.0


def test_gangs_that_span_the_same_node_share_its_network() -> None:
    # Packed 1, spanning 0.5: 1 + (2 - 1) m seconds a unit of work for m gangs on a node.
    # Nodes 0 and 1 hold 3 of 4 GPUs of job 0, nodes 1 and 2 those of job 1 (m = 2 on node 1).
    # Job 0: 3 s a unit until it ends at 90; job 1 has 30 done, 20 left at 2 s a unit: 130.
    profiles = rigid_sizes(3, 3)
    profiles.rates[:, :, 1, 1] = 0.5
    work = jobs((0, 30), (0, 50))
    cluster = nodes(2, 2, 2)
    result = run(work, profiles, cluster, ALL, network_contention=True)
    assert placements(result) == {0: {0: 2, 1: 1}, 1: {1: 1, 2: 2}}
    assert [job.finish for job in result.jobs] == pytest.approx([90.0, 130.0])
    calm = run(work, profiles, cluster, ALL)
    assert [job.finish for job in calm.jobs] == [60.0, 100.0]
