"""The published elastic rules on examples small enough to work out in a comment."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marl_sched.schedulers.rules.elastic_index import MIN_REMAINING_S
from marl_sched.types import ClusterView
from tests.schedulers.views import JobRow, gpus, make_view, random_view

SEEDS = st.integers(0, 2**32 - 1)


def square_root(total_s: float, most: int, **given: Any) -> JobRow:
    sizes = tuple(range(1, most + 1))
    rates = tuple(np.sqrt(sizes).tolist())
    return JobRow(request=1, sizes=sizes, rates=rates, total_s=total_s, **given)


@pytest.mark.parametrize(("jobs", "each"), [(2, 4), (3, 4), (5, 3)])
def test_hesrpt_gives_the_optimal_shares(jobs: int, each: int) -> None:
    # p = 0.5: theta_i = N (2i - 1) / m^2, jobs by work descending; N = each m^2 makes it whole.
    total = each * jobs**2
    rows = [square_root(1000.0 / (i + 1), total) for i in range(jobs)]
    shares = [each * (2 * i - 1) for i in range(1, jobs + 1)]
    assert gpus("hesrpt:p=0.5", make_view(total, *rows)) == shares
    assert gpus("hesrpt:p=0.5", make_view(total, *rows[::-1])) == shares[::-1]


def test_hesrpt_weighs_slowdown() -> None:
    # Work 9 and 4 on one GPU, weights 1/9 and 1/4: z = 4/36, 13/36, c = 2: shares of 169 GPUs
    # 169 (4/13)^2 = 16 and 153. With equal weights they are 42 and 126, and 1 GPU over, which
    # goes to the larger of 1 / (2 sqrt(42.5)) and sqrt(3) / (2 sqrt(126.5)): job 1.
    jobs = [square_root(9.0, 169), square_root(4.0, 169)]
    assert gpus("hesrpt:p=0.5,slowdown=1", make_view(169, *jobs)) == [16, 153]
    assert gpus("hesrpt:p=0.5", make_view(169, *jobs)) == [42, 127]
    # The weight is by all the work, done or not: 1/9 and 1/4 still, though job 1 has 8 left.
    half = square_root(16.0, 169, left_s=8.0)
    # z = 1/9, 1/9 + 1/16 = 25/144: 169 (16/25)^2 = 69.2 and 99.8; one is over: indices
    # sqrt(z_1^2) / (2 sqrt(69.5)) = 0.00666, sqrt(z_2^2 - z_1^2) / (2 sqrt(99.5)) = 0.00669.
    assert gpus("hesrpt:p=0.5,slowdown=1", make_view(169, jobs[0], half)) == [69, 100]


def test_hesrpt_rounds_to_allowed_sizes() -> None:
    # 8 GPUs, 3 jobs: shares 8/9, 24/9, 40/9, so 0, 2 and 4 of the sizes 1 2 4 8. Over: 2. Worths
    # per GPU: job 0 (a = 1) its first GPU 1, its second 0.41; job 1 (sqrt 3) from 2 to 4 0.51, but
    # after job 0's first only one GPU is over; job 2 would need 4.
    jobs = [
        JobRow(request=1, sizes=(1, 2, 4, 8), rates=(1.0, 2**0.5, 2.0, 8**0.5), total_s=t)
        for t in (300.0, 200.0, 100.0)
    ]
    assert gpus("hesrpt:p=0.5", make_view(8, *jobs)) == [2, 2, 4]
    # A size that is no faster is not given.
    flat = JobRow(request=1, sizes=(1, 2), rates=(1.0, 1.0))
    assert gpus("hesrpt:p=0.5", make_view(4, flat)) == [1]
    # Sizes count on one GPU: 10 s on 4 GPUs are 20 s on one, more than 15.
    wide = JobRow(request=4, sizes=(1, 4), rates=(0.5, 1.0), total_s=10.0)
    assert gpus("hesrpt:p=0.5", make_view(1, wide, JobRow(total_s=15.0))) == [0, 1]


def test_afs_weighs_the_two_jobs_by_turns() -> None:
    # 3 GPUs; job 0 is the shorter. It gets the first GPU; then job 1, which has none, gains
    # (1 - 0) / 1 = 1 > 0.5 = (1.5 - 1) / 1. The third: job 1 gains 0.9 / 1.9 = 0.474 < 0.5.
    short = JobRow(sizes=(1, 2), rates=(1.0, 1.5), total_s=100.0)
    long = JobRow(sizes=(1, 2), rates=(1.0, 1.9), total_s=300.0)
    assert gpus("afs", make_view(1, long, short)) == [0, 1]
    assert gpus("afs", make_view(2, short, long)) == [1, 1]
    assert gpus("afs", make_view(3, short, long)) == [2, 1]
    # 0.4 < 0.474: now the longer one.
    worse = JobRow(sizes=(1, 2), rates=(1.0, 1.4), total_s=100.0)
    assert gpus("afs", make_view(3, worse, long)) == [1, 2]
    # Were it the shorter, its own gain of 0.9 would be held against 0.4 / 1.4.
    assert gpus("afs", make_view(3, worse, JobRow(sizes=(1, 2), rates=(1.0, 1.9)))) == [1, 2]


@settings(max_examples=100)
@given(SEEDS)
def test_afs_chooses_the_less_sum_of_two_completion_times(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(1.05, 2.0, 2)
    work_a = rng.uniform(50, 100)
    work_b = work_a * rng.uniform(2.1, 5)  # the longer one even on twice the speed

    def total(extra_to_a: bool) -> float:
        ends = work_a / (a if extra_to_a else 1.0)
        return float(ends + ends + (work_b - ends * (1.0 if extra_to_a else b)) / b)

    jobs = [
        JobRow(sizes=(1, 2), rates=(1.0, float(a)), total_s=float(work_a)),
        JobRow(sizes=(1, 2), rates=(1.0, float(b)), total_s=float(work_b)),
    ]
    chosen = gpus("afs", make_view(3, *jobs))
    assert sorted(chosen) == [1, 2]
    assert total(chosen[0] == 2) <= total(chosen[0] == 1) + 1e-9


def afs_by_passes(view: ClusterView) -> list[int]:
    """The rule with a pass over all jobs for every step."""
    rate = view.rates[view.profile]
    size = view.sizes[view.profile]
    length = np.maximum(view.est_remaining_s, MIN_REMAINING_S) / rate[:, 1]
    order = np.lexsort((view.job, length)).tolist()
    level = np.zeros(view.job.size, int)
    left = view.capacity.copy()
    open_to = set(order)

    def gain(i: int, after: bool) -> float:
        slow, fast = rate[i, level[i]], rate[i, level[i] + 1]
        per = (size[i, level[i] + 1] - size[i, level[i]]) * (fast if after else slow)
        return float((fast - slow) / per) if per > 0 else np.inf

    while left[0] >= 1:
        for i in list(open_to):
            at = level[i]
            if at >= view.limit_level[i] or rate[i, at + 1] <= rate[i, at]:
                open_to.discard(i)
        best = -1
        for i in order:
            if i in open_to and (best < 0 or gain(i, True) > gain(best, False)):
                best = i
        if best < 0:
            break
        need = (size[best, level[best] + 1] - size[best, level[best]]) * view.demand[best]
        if (need <= left + 1e-9).all():
            left -= need
            level[best] += 1
        else:
            open_to.discard(best)
    return [int(g) for g in size[np.arange(len(level)), level]]


@settings(max_examples=100)
@given(SEEDS)
def test_afs_finds_the_winner_of_every_pass(seed: int) -> None:
    view = random_view(np.random.default_rng(seed))
    assert gpus("afs", view) == afs_by_passes(view)


def test_optimus_gives_everybody_one_then_by_time_saved() -> None:
    jobs = [
        JobRow(sizes=(1, 2, 3), rates=(1.0, 1.5, 1.75), total_s=90.0),
        JobRow(sizes=(1, 2, 3), rates=(1.0, 2.0, 3.0), total_s=50.0),
    ]
    # Too few: by arrival. Then saved per step: job 0 90 - 60 = 30, 60 - 51.4 = 8.6; job 1
    # 50 - 25 = 25, 25 - 16.7 = 8.3.
    for free, given_gpus in ((1, [1, 0]), (2, [1, 1]), (3, [2, 1]), (4, [2, 2]), (5, [3, 2]),
                             (6, [3, 3]), (9, [3, 3])):  # fmt: skip
        assert gpus("optimus", make_view(free, *jobs)) == given_gpus
    # Per GPU: from 1 to 4 saves 90 - 30 = 60 on 3 GPUs, less than 25 on one.
    wide = JobRow(sizes=(1, 4), rates=(1.0, 3.0), total_s=90.0)
    assert gpus("optimus", make_view(5, wide, jobs[1])) == [1, 3]
    assert gpus("optimus", make_view(4, wide, jobs[1])) == [1, 3]
    # Per dominant share: job 1's GPUs take 4 of 16 CPUs each, a quarter, job 0's a sixth of the
    # GPUs: 30 / (1/6) = 180 against 25 / (1/4) = 100, and 8.6 x 6 = 51.
    hungry = JobRow(sizes=(1, 2, 3), rates=(1.0, 2.0, 3.0), total_s=50.0, demand=(4.0, 0.0, 0.0))
    view = make_view(6, jobs[0], hungry, capacity=(16.0, 0.0, 0.0))
    assert gpus("optimus", view) == [3, 3]


def test_pollux_raises_the_harmonic_mean_of_speedups() -> None:
    # Fair shares of 2 GPUs run at 2 and 1.2. Speedups 1/2, 1, 2 and 5/6, 1, 1.08 cost their
    # reciprocals: job 0's second GPU saves 1, its next two 1/4 each, job 1's second 1/5.
    jobs = [
        JobRow(sizes=(1, 2, 4), rates=(1.0, 2.0, 4.0)),
        JobRow(sizes=(1, 2, 4), rates=(1.0, 1.2, 1.3)),
    ]
    for free, given_gpus in ((4, [2, 2]), (5, [4, 1])):
        assert gpus("pollux", make_view(free, *jobs, now_s=100.0)) == given_gpus
    # After 100 s a restart of 100 s halves what another size is worth: 1/2 instead of 5/6.
    held = JobRow(sizes=(1, 2, 4), rates=(1.0, 1.2, 1.3), held=1, restart_s=100.0)
    assert gpus("pollux", make_view(4, jobs[0], held, now_s=100.0)) == [2, 1]
    free_of_charge = replace(held, restart_s=0.0)
    assert gpus("pollux", make_view(4, jobs[0], free_of_charge, now_s=100.0)) == [2, 2]


def test_themis_keeps_leases() -> None:
    # Leases of 1200 s; job 0 holds since 0.
    jobs = [JobRow(held=1, run_since_s=0.0), JobRow(arrival_s=10.0)]
    assert gpus("themis", make_view(1, *jobs, now_s=1199.0)) == [1, 0]
    assert gpus("themis", make_view(1, *jobs, now_s=1200.0)) == [0, 1]
    assert gpus("themis:lease_s=1300", make_view(1, *jobs, now_s=1200.0)) == [1, 0]
    # Nobody waits: it goes on.
    assert gpus("themis", make_view(1, jobs[0], now_s=9e4)) == [1]


def test_themis_serves_the_worst_off_first() -> None:
    # t = 1000. rho ~ (waited + run time) / run time: (1000 + 100) / 100 = 11, (500 + 10) / 10 = 51,
    # (900 + 1000) / 1000 = 1.9.
    jobs = [
        JobRow(arrival_s=0.0, total_s=100.0),
        JobRow(arrival_s=500.0, total_s=10.0),
        JobRow(arrival_s=100.0, total_s=1000.0),
    ]
    assert gpus("themis", make_view(1, *jobs, now_s=1000.0)) == [0, 1, 0]
    assert gpus("themis", make_view(2, *jobs, now_s=1000.0)) == [1, 1, 0]


def test_themis_offers_to_a_fraction() -> None:
    # As above with jobs that can use 2 GPUs: the invited third takes both; when all are invited
    # the product of 1 / rho is largest if two hold one each.
    jobs = [
        JobRow(sizes=(1, 2), rates=(1.0, 2.0), arrival_s=0.0, total_s=100.0),
        JobRow(sizes=(1, 2), rates=(1.0, 2.0), arrival_s=500.0, total_s=10.0),
        JobRow(sizes=(1, 2), rates=(1.0, 2.0), arrival_s=100.0, total_s=1000.0),
    ]
    view = make_view(2, *jobs, now_s=1000.0)
    assert gpus("themis:fairness=0.67", view) == [0, 2, 0]
    assert gpus("themis:fairness=0", view) == [1, 1, 0]
    # All three hold one; the fourth GPU: rho falls from 11 to 10.5 (5 %), from 51 to 50.5 (1 %),
    # from 1.9 to 1.4 (31 %).
    assert gpus("themis:fairness=0", make_view(4, *jobs, now_s=1000.0)) == [1, 1, 2]
    # What the invited leave over goes to the others, worst off first.
    assert gpus("themis:fairness=0.67", make_view(3, *jobs, now_s=1000.0)) == [1, 2, 0]


def test_themis_invites_who_waits_before_who_runs() -> None:
    # Job 0 ran out its lease, and its rho is huge; job 1 has nothing, which is worse.
    view = make_view(
        1,
        JobRow(held=1, run_since_s=0.0, total_s=1.0),
        JobRow(arrival_s=4999.0, total_s=1e6),
        now_s=5000.0,
    )
    assert gpus("themis:fairness=0.5", view) == [0, 1]
    # When all bid for it, the first GPU goes to the larger rho.
    assert gpus("themis:fairness=0", view) == [1, 0]
