"""Each scheduler on an example small enough to work out in a comment."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from marl_sched.schedulers.rules.elastic_index import surprise
from tests.schedulers.views import JobRow, gpus, make_view

ELASTIC: dict[str, Any] = {"sizes": (1, 2, 4), "rates": (1.0, 1.8, 3.0)}


def test_two_agents_and_three_gpus() -> None:
    # The design's first example: 2 and 1 of 3 GPUs. On demand both get what they ask for.
    # Equal shares of 1.5 are 1 whole GPU each; a rigid gang of 2 cannot live on that, so the
    # rule falls back to one member, and the second agent waits.
    rigid = make_view(3, JobRow(request=2), JobRow(request=1))
    elastic = make_view(3, JobRow(request=2, sizes=(1, 2)), JobRow(request=1))
    assert gpus("on_demand", rigid) == [2, 1]
    assert gpus("equal", rigid) == [2, 0]
    assert gpus("equal", elastic) == [1, 1]


def test_fcfs_lets_nobody_pass() -> None:
    # 4 GPUs, 2 held by job 0. Job 1 asks for 3 and blocks the queue; job 2 would fit.
    view = make_view(4, JobRow(request=2, held=2), JobRow(request=3), JobRow(request=1))
    assert gpus("fcfs", view) == [2, 0, 0]
    assert gpus("on_demand", view) == [2, 0, 1]
    # Arrival decides, not the row: job 2 came before job 1.
    late = [JobRow(arrival_s=5.0), JobRow(arrival_s=9.0), JobRow(arrival_s=7.0)]
    assert gpus("fcfs", make_view(2, *late, job=[0, 2, 1])) == [1, 0, 1]


def test_backfilling_ends_before_the_head_starts() -> None:
    # t=100. Job 0 holds 2 of 4 GPUs until 150; the head, job 1, needs all 4 and starts then.
    # Job 2 would end at 160: no. Jobs 3 and 4 end at 140 and 150: they pass.
    view = make_view(
        4,
        JobRow(request=2, held=2, left_s=50.0),
        JobRow(request=4),
        JobRow(total_s=60.0),
        JobRow(total_s=40.0),
        JobRow(total_s=50.0),
        now_s=100.0,
    )
    assert gpus("fcfs_backfill", view) == [2, 0, 0, 1, 1]
    assert gpus("fcfs", view) == [2, 0, 0, 0, 0]


def test_backfilling_uses_what_the_head_leaves_over() -> None:
    # The head needs 3 of the 4 GPUs at 150, so one GPU is spare for ever: the long job 2
    # takes it, the long job 3 would delay the head.
    view = make_view(
        4,
        JobRow(request=2, held=2, left_s=50.0),
        JobRow(request=3),
        JobRow(total_s=1e6),
        JobRow(total_s=1e6),
        now_s=100.0,
    )
    assert gpus("fcfs_backfill", view) == [2, 0, 1, 0]


def test_backfilling_waits_for_as_many_ends_as_the_head_needs() -> None:
    # 1 GPU free; the head needs 3. Ends: job 1 at 20 (2 free), job 0 at 60 (4 free).
    # So the head starts at 60, not 20: job 3, which ends at 50, passes.
    view = make_view(
        4,
        JobRow(request=2, held=2, left_s=60.0),
        JobRow(held=1, left_s=20.0),
        JobRow(request=3),
        JobRow(total_s=50.0),
    )
    assert gpus("fcfs_backfill", view) == [2, 1, 0, 1]
    # Running twice as fast (rate 2), job 0 ends at 30: job 3 would be late, and 1 GPU is
    # spare at 30 (4 free, 3 taken): it may take that one.
    fast = JobRow(request=2, held=2, left_s=60.0, rates=(2.0,))
    others = [JobRow(held=1, left_s=20.0), JobRow(request=4), JobRow(total_s=50.0)]
    assert gpus("fcfs_backfill", make_view(4, fast, *others)) == [2, 1, 0, 0]


def test_sjf_takes_the_shortest_estimate() -> None:
    # 2 GPUs free. Job 2 (10 s) gets one; job 3 (20 s, 2 GPUs) no longer fits; job 1 (50 s)
    # is passed over likewise; job 4 (60 s, 1 GPU) fits. Job 0 runs on, though longest.
    view = make_view(
        4,
        JobRow(request=2, held=2, total_s=900.0),
        JobRow(request=2, total_s=50.0),
        JobRow(total_s=10.0),
        JobRow(request=2, total_s=20.0),
        JobRow(total_s=60.0),
    )
    assert gpus("sjf", view) == [2, 0, 1, 0, 1]


def test_srtf_preempts_for_less_remaining() -> None:
    # By remaining time: job 1 (10), job 2 (20), then job 0 (100), whose 2 GPUs are gone.
    # Totals are the other way round and must not matter.
    view = make_view(
        2,
        JobRow(request=2, held=2, total_s=100.0, left_s=100.0),
        JobRow(total_s=500.0, left_s=10.0),
        JobRow(total_s=400.0, left_s=20.0),
    )
    assert gpus("srtf", view) == [0, 1, 1]


def test_round_robin_ends_a_slice() -> None:
    # t=5000, slices of 3600 s. Job 0 has run 3000 s and keeps its GPU. Job 1 has run 4000 s:
    # it queues behind job 2, which waits. With nobody waiting it runs on.
    young = JobRow(held=1, run_since_s=2000.0)
    old = JobRow(held=1, run_since_s=1000.0)
    waiting = JobRow(arrival_s=4500.0)
    assert gpus("round_robin", make_view(2, young, old, waiting, now_s=5000.0)) == [1, 0, 1]
    assert gpus("round_robin", make_view(2, young, old, now_s=5000.0)) == [1, 1]
    # Longer slices keep job 1 too.
    view = make_view(2, young, old, waiting, now_s=5000.0)
    assert gpus("round_robin:slice_s=4001", view) == [1, 1, 0]
    # The queue is by time of waiting, not by arrival: job 3 was preempted at 4000.
    preempted = JobRow(waiting_since_s=4600.0)
    assert gpus("round_robin", make_view(1, preempted, waiting, now_s=5000.0)) == [0, 1]
    # Of two whose slices are over, the one that ran longer goes last.
    older = JobRow(held=1, run_since_s=500.0)
    assert gpus("round_robin", make_view(2, older, old, waiting, now_s=5000.0)) == [0, 1, 1]


def test_las_serves_the_lowest_queue() -> None:
    # Queues end at 3600, 7200, 14400.. GPU-seconds. Job 0 has 3600: queue 1. Jobs 1 and 2
    # are in queue 0, however much they differ there: by arrival.
    view = make_view(
        1,
        JobRow(arrival_s=0.0, attained_gpu_s=3600.0, held=1),
        JobRow(arrival_s=10.0, attained_gpu_s=3599.0),
        JobRow(arrival_s=20.0, attained_gpu_s=0.0),
    )
    assert gpus("las", view) == [0, 1, 0]
    # 7199 is queue 1 and goes first; 7200 is queue 2.
    second = make_view(1, JobRow(attained_gpu_s=7200.0), JobRow(attained_gpu_s=7199.0))
    assert gpus("las", second) == [0, 1]
    # Queue 2 reaches to 14400, twice the end of queue 1: both are in it, so by arrival.
    third = make_view(
        1, JobRow(attained_gpu_s=14_399.0), JobRow(arrival_s=1.0, attained_gpu_s=7200.0)
    )
    assert gpus("las", third) == [1, 0]
    # With a larger quantum all are in queue 0: by arrival.
    assert gpus("las:quantum_gpu_s=1e4", view) == [1, 0, 0]


def test_drf_reproduces_the_papers_example() -> None:
    # Ghodsi et al., section 4.1: 9 CPUs, 18 GB; tenant A's tasks need 1 CPU and 4 GB (dominant:
    # memory, 2/9), B's 3 CPUs and 1 GB (dominant: CPU, 1/3). A B A B A: 3 tasks of A, 2 of B.
    a = [JobRow(demand=(1.0, 4.0, 0.0), tenant=0) for _ in range(5)]
    b = [JobRow(demand=(3.0, 1.0, 0.0), tenant=1) for _ in range(5)]
    assert gpus("drf", make_view(100, *a, *b, capacity=(9.0, 18.0, 0.0))) == [
        1, 1, 1, 0, 0, 1, 1, 0, 0, 0
    ]  # fmt: skip
    # B already holds 4 of 10 GPUs, so A gets both its jobs, 2 GPUs each, before B's next.
    view = make_view(
        8,
        JobRow(request=4, held=4, tenant=1),
        JobRow(request=2, tenant=1),
        JobRow(request=2, tenant=0),
        JobRow(request=2, tenant=0),
    )
    assert gpus("drf", view) == [4, 0, 2, 2]


def test_drf_of_one_tenant_serves_small_demands_first() -> None:
    # 4 GPUs, 8 CPUs. Dominant shares: job 0 2/4 GPUs, job 1 6/8 CPUs, job 2 1/4 GPUs.
    # Job 2, then job 0; job 1 needs 6 CPUs: 8 are free, 1 GPU is free: it fits too.
    jobs = [JobRow(request=2), JobRow(demand=(6.0, 0.0, 0.0)), JobRow()]
    assert gpus("drf", make_view(4, *jobs, capacity=(8.0, 0.0, 0.0))) == [2, 1, 1]
    assert gpus("drf", make_view(3, *jobs, capacity=(8.0, 0.0, 0.0))) == [2, 0, 1]


def test_equal_rounds_down_to_allowed_sizes() -> None:
    # 7 GPUs, 2 jobs: 3 each, rounded down to the sizes 2 and 1; the rest idles.
    first = JobRow(request=4, sizes=(1, 2, 4))
    second = JobRow(request=4, sizes=(1, 4))
    assert gpus("equal", make_view(7, first, second)) == [2, 1]
    # Never above the request: alone, a request of 2 stays at 2.
    assert gpus("equal", make_view(7, JobRow(request=2, sizes=(1, 2, 4)))) == [2]
    # 3 GPUs, 4 jobs: the three earliest get one each.
    assert gpus("equal", make_view(3, *[JobRow()] * 4)) == [1, 1, 1, 0]


def test_priority_preempts() -> None:
    # Job 1 first; job 2 (2 GPUs) no longer fits and is passed over; job 3 gets the last GPU
    # before job 0, which runs at priority 0 and is preempted.
    view = make_view(
        2,
        JobRow(held=1, priority=0.0),
        JobRow(priority=5.0),
        JobRow(request=2, priority=3.0),
        JobRow(priority=1.0),
    )
    assert gpus("priority", view) == [0, 1, 0, 1]
    # Equals by arrival.
    assert gpus("priority", make_view(1, JobRow(priority=2.0), JobRow(priority=2.0))) == [1, 0]


def test_random_is_a_fair_draw_among_the_waiting() -> None:
    # One of two GPUs is free for three waiting jobs; the running one keeps its own.
    jobs = [JobRow(held=1), JobRow(), JobRow(), JobRow()]
    chosen = np.zeros(4)
    for now_s in range(600):
        chosen += gpus("random", make_view(2, *jobs, now_s=now_s))
    assert chosen[0] == 600
    # 200 each, standard deviation 11.5.
    assert chosen[1:].sum() == 600 and (abs(chosen[1:] - 200) < 60).all()


def test_random_depends_on_seed_and_time_alone() -> None:
    jobs = [JobRow() for _ in range(12)]
    view = make_view(6, *jobs, now_s=50.0)
    assert gpus("random", view) == gpus("random", view)
    assert gpus("random:seed=1", view) != gpus("random:seed=2", view)
    assert gpus("random", view) != gpus("random", make_view(6, *jobs, now_s=51.0))


def test_equi_fills_up_evenly() -> None:
    # 4 GPUs: 1, 1, 1, and the one left raises the earliest to 2.
    jobs = [JobRow(request=1, **ELASTIC) for _ in range(3)]
    assert gpus("equi", make_view(4, *jobs)) == [2, 1, 1]
    # 12 GPUs: everybody reaches the largest size, beyond the request.
    assert gpus("equi", make_view(13, *jobs)) == [4, 4, 4]
    # A rigid 2 and an elastic one on 5 GPUs: 1, then 2 and 2; the step to 4 does not fit.
    assert gpus("equi", make_view(5, jobs[0], JobRow(request=2))) == [2, 2]
    # A size that does not speed a job up is not given.
    flat = JobRow(request=1, sizes=(1, 2), rates=(1.0, 1.0))
    assert gpus("equi", make_view(4, flat)) == [1]
    # What is held now does not matter.
    held = JobRow(request=1, held=4, **ELASTIC)
    assert gpus("equi", make_view(4, held, jobs[0], jobs[1])) == [2, 1, 1]


PLAIN = "elastic_index:p=0.5,h=0,g=0,b=0"


def test_elastic_index_weighs_gain_by_rank() -> None:
    # Speeds 1, 1.8, 3 at 1, 2, 4 GPUs: gains per GPU 1, 0.8, 0.6. p=0.5: the job with more
    # work has weight 1, the one with less sqrt(3) = 1.73. Scores: 1.73 1.39 1.04 and 1 0.8 0.6:
    # on 4 GPUs job 1 takes 1, 2 (1.39), then the step to 4 (1.04) comes before job 0's first
    # (1.00): 4 and 0. On 5 GPUs job 0 gets one.
    jobs = [JobRow(total_s=200.0, **ELASTIC), JobRow(total_s=100.0, **ELASTIC)]
    assert gpus(PLAIN, make_view(4, *jobs)) == [0, 4]
    assert gpus(PLAIN, make_view(5, *jobs)) == [1, 4]
    # Work, not time, ranks: job 1's 100 s were measured at 10 times the speed of one GPU.
    more = JobRow(total_s=100.0, sizes=(1, 2, 4), rates=(0.1, 0.18, 0.3))
    assert gpus(PLAIN, make_view(4, jobs[0], more)) == [4, 0]


def test_elastic_index_keeps_what_is_nearly_done() -> None:
    # One GPU. Job 1 has less work (rank weight (2^2.5 - 1)^0.4 = 1.85 at p=0.6) but job 0 holds
    # the GPU: 1 + 0.5 + 42 * 10/100 = 5.7 times its weight of 1.
    jobs = [JobRow(held=1, left_s=100.0, restart_s=10.0), JobRow(total_s=99.0)]
    assert gpus("elastic_index", make_view(1, *jobs)) == [1, 0]
    assert gpus("elastic_index:h=0,g=0", make_view(1, *jobs)) == [0, 1]
    # Without restart cost hysteresis is 1.5 < 1.85: it is preempted.
    free = JobRow(held=1, left_s=100.0)
    assert gpus("elastic_index", make_view(1, free, jobs[1])) == [0, 1]
    assert gpus("elastic_index:h=0.9", make_view(1, free, jobs[1])) == [1, 0]


def test_elastic_index_corrects_an_estimate_by_what_was_done() -> None:
    # Both are half done by their estimates; the first took ten times as long for its half.
    late = JobRow(total_s=100.0, left_s=50.0, attained_gpu_s=500.0)
    true = JobRow(total_s=110.0, left_s=55.0, attained_gpu_s=55.0)
    view = make_view(1, late, true, now_s=600.0)
    assert gpus("elastic_index", view) == [1, 0]
    assert gpus("elastic_index:trust=1", view) == [0, 1]  # 500 s left against 55
    assert gpus("elastic_index:trust=0.03", view) == [1, 0]  # 50 s times 10^0.03 = 53.6
    assert gpus("elastic_index:trust=0.05", view) == [0, 1]  # 56.1
    # On two GPUs at 1.5 times the speed of one, 60 GPU-seconds are 45 s of the job's work.
    held = JobRow(
        sizes=(1, 2), rates=(1.0, 1.5), held=2, total_s=90.0, left_s=45.0, attained_gpu_s=60.0
    )
    assert surprise(make_view(2, held), 0) == pytest.approx(0.0)
    assert surprise(make_view(2, replace(held, attained_gpu_s=120.0)), 0) == pytest.approx(
        -math.log(2)
    )
    # Nothing is concluded from too little.
    assert surprise(make_view(2, replace(held, left_s=89.5)), 0) == 0.0
    assert surprise(make_view(2, replace(held, attained_gpu_s=1e-6)), 0) == 3.0


def test_elastic_index_grows_whom_a_restart_costs_least() -> None:
    # Both hold one of 3 GPUs. Job 1 has less work and would grow, but a restart costs it half
    # of what is left: (1 + 0.5)^-4 = 0.2 times its score.
    jobs = [
        JobRow(held=1, left_s=100.0, sizes=(1, 2)),
        JobRow(held=1, left_s=90.0, restart_s=45.0, sizes=(1, 2)),
    ]
    assert gpus("elastic_index", make_view(3, *jobs)) == [2, 1]
    assert gpus("elastic_index:b=0", make_view(3, *jobs)) == [1, 2]


@pytest.mark.parametrize("name", ["fcfs", "fcfs_backfill", "sjf", "srtf", "round_robin", "las",
                                  "drf", "equal", "on_demand", "priority", "random", "equi",
                                  "elastic_index"])  # fmt: skip
def test_nobody_gets_more_than_its_agent_accepts(name: str) -> None:
    # A demand of 1 declared for a job that holds 2 of its largest size 4.
    asks_less = JobRow(request=4, held=2, limit=1, run_since_s=0.0, **ELASTIC)
    assert gpus(name, make_view(8, asks_less)) == [1]
