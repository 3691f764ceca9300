"""The published orders of jobs on examples small enough to work out in a comment."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import lognorm

from marl_sched.schedulers.rules.gittins import NUM_QUEUES, gittins_table
from tests.schedulers.views import JobRow, gpus, make_view


def test_srsf_counts_gpus_too() -> None:
    # Remaining service: 2 x 30 = 60, 1 x 50, 1 x 55 GPU-seconds. By time job 0 would be first.
    view = make_view(
        2,
        JobRow(request=2, held=2, total_s=900.0, left_s=30.0),
        JobRow(total_s=50.0),
        JobRow(total_s=70.0, left_s=55.0),
    )
    assert gpus("srsf", view) == [0, 1, 1]
    assert gpus("srtf", view) == [2, 0, 0]
    # An agent that accepts one GPU counts with one: 30 GPU-seconds.
    shy = JobRow(request=2, sizes=(1, 2), limit=1, total_s=30.0)
    assert gpus("srsf", make_view(1, JobRow(total_s=40.0), shy)) == [0, 1]


def test_edf_serves_deadlines_before_everybody_else() -> None:
    # By deadline job 2 (300), job 0 (500); of those without one, job 1 arrived first.
    view = make_view(
        3,
        JobRow(deadline_s=500.0),
        JobRow(),
        JobRow(deadline_s=300.0),
        JobRow(held=1),
    )
    assert gpus("edf", view) == [1, 1, 1, 0]
    # One that is past stays first; who does not fit is passed over.
    late = make_view(2, JobRow(request=3, deadline_s=10.0), JobRow(request=2, deadline_s=20.0),
                     JobRow(request=2, deadline_s=90.0), now_s=50.0)  # fmt: skip
    assert gpus("edf", late) == [0, 2, 0]


def test_rate_monotonic_goes_by_the_window() -> None:
    # Windows 1000 and 200 s; deadlines 1000 and 1100: the two rules disagree.
    view = make_view(
        1,
        JobRow(arrival_s=0.0, deadline_s=1000.0, held=1),
        JobRow(arrival_s=900.0, deadline_s=1100.0),
        JobRow(arrival_s=950.0),
        now_s=960.0,
    )
    assert gpus("rate_monotonic", view) == [0, 1, 0]
    assert gpus("edf", view) == [1, 0, 0]
    # Without a deadline: last, not never.
    assert gpus("rate_monotonic", make_view(1, JobRow())) == [1]


def test_qssf_lets_nobody_pass_and_nobody_be_taken() -> None:
    # GPU time: 4 x 20 = 80, 1 x 90, 1 x 100; job 0 runs. 3 GPUs are free: the head, job 1, needs
    # 4 and blocks the rest.
    view = make_view(
        4,
        JobRow(held=1, total_s=9e9),
        JobRow(request=4, total_s=20.0),
        JobRow(total_s=90.0),
        JobRow(total_s=100.0),
    )
    assert gpus("qssf", view) == [1, 0, 0, 0]
    # 4 x 23 = 92: behind job 2, which starts; then it blocks job 3.
    longer = make_view(
        4,
        JobRow(held=1, total_s=9e9),
        JobRow(request=4, total_s=23.0),
        JobRow(total_s=90.0),
        JobRow(total_s=100.0),
    )
    assert gpus("qssf", longer) == [1, 0, 1, 0]


def test_tiresias_has_three_queues() -> None:
    # Queues end at 3250 and 7200 GPU-seconds, each by arrival: 7200 | 3250, 7199 | 3249, 0.
    attained = (7200.0, 3250.0, 7199.0, 3249.0, 0.0)
    jobs = [JobRow(attained_gpu_s=a) for a in attained]
    for free, served in ((1, [0, 0, 0, 1, 0]), (2, [0, 0, 0, 1, 1]), (3, [0, 1, 0, 1, 1]),
                         (4, [0, 1, 1, 1, 1])):  # fmt: skip
        assert gpus("tiresias", make_view(free, *jobs)) == served
    # Two queues, as in the paper's experiments.
    two = "tiresias:limit_1_gpu_s=7200,limit_2_gpu_s=1e18"
    assert gpus(two, make_view(1, *jobs)) == [0, 1, 0, 0, 0]


def test_tiresias_promotes_who_starves() -> None:
    # Job 0 ran 5000 GPU-seconds on 2 GPUs, that is 2500 s, and waits since 1000.
    starved = JobRow(request=2, attained_gpu_s=5000.0, waiting_since_s=1000.0)
    fresh = JobRow(request=2, arrival_s=10.0)
    rule = "tiresias:promote=2"
    assert gpus(rule, make_view(2, starved, fresh, now_s=5999.0)) == [0, 2]
    assert gpus(rule, make_view(2, starved, fresh, now_s=6000.0)) == [2, 0]
    assert gpus("tiresias", make_view(2, starved, fresh, now_s=6000.0)) == [0, 2]
    # Promoted at 6000, it runs since: at 7624 it has 3248 GPU-seconds there, at 7625 its quantum.
    runs = JobRow(request=2, held=2, attained_gpu_s=5000.0 + 3248.0, waiting_since_s=1000.0,
                  run_since_s=6000.0)  # fmt: skip
    assert gpus(rule, make_view(2, runs, fresh, now_s=7624.0)) == [2, 0]
    spent = JobRow(request=2, held=2, attained_gpu_s=5000.0 + 3250.0, waiting_since_s=1000.0,
                   run_since_s=6000.0)  # fmt: skip
    assert gpus(rule, make_view(2, spent, fresh, now_s=7625.0)) == [0, 2]
    # A short wait promotes nobody, nor does a first one.
    first = JobRow(request=2, held=2, attained_gpu_s=4000.0, waiting_since_s=0.0,
                   run_since_s=90000.0)  # fmt: skip
    assert gpus(rule, make_view(2, first, fresh, now_s=92000.0)) == [0, 2]


@pytest.mark.parametrize(
    ("median", "sigma", "quantum"), [(1667.0, 2.1, 3250.0), (1e5, 0.3, 50.0), (10.0, 1.0, 500.0)]
)
def test_gittins_index_is_the_best_chance_per_second(
    median: float, sigma: float, quantum: float
) -> None:
    edge, index = np.empty(NUM_QUEUES), np.empty(NUM_QUEUES)
    gittins_table(median, sigma, quantum, edge, index)
    alive = lognorm(sigma, scale=median).sf
    np.testing.assert_allclose(edge[:4], quantum * np.array([0, 1, 2, 4]))
    for q in range(12):
        if alive(edge[q]) < 1e-9:
            continue
        # Log-normal tails are long: the best look-ahead is within a few more edges.
        ends = edge[q + 1 : q + 30]
        spent = np.cumsum(
            [quad(alive, *edge[k : k + 2], epsabs=0, epsrel=1e-8)[0] for k in range(q, q + 29)]
        )
        best = ((alive(edge[q]) - alive(ends)) / spent).max()
        assert index[q] == pytest.approx(best, rel=1e-6), q


def test_gittins_prefers_who_is_about_to_end() -> None:
    # Nearly all jobs end at 1000 GPU-seconds: the closer to it or the further past it, the sooner
    # a job will end. LAS would take the new one.
    jobs = [JobRow(attained_gpu_s=a) for a in (2500.0, 0.0, 800.0)]
    rule = "gittins:median_gpu_s=1000,sigma=0.1,quantum_gpu_s=100"
    assert gpus(rule, make_view(1, *jobs)) == [1, 0, 0]
    assert gpus(rule, make_view(2, *jobs)) == [1, 0, 1]
    assert gpus("las:quantum_gpu_s=100", make_view(1, *jobs)) == [0, 1, 0]
    # With a heavy tail the longer one has run, the longer it will: least service first.
    heavy = "gittins:median_gpu_s=1000,sigma=3,quantum_gpu_s=100"
    assert gpus(heavy, make_view(1, *jobs)) == [0, 1, 0]
    assert gpus(heavy, make_view(2, *jobs)) == [0, 1, 1]
