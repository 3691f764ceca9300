"""Conservative backfilling: by hand, against a plan drawn up slowly, and its promise kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.schedulers.views import JobRow, gpus, make_view, random_view

SEEDS = st.integers(0, 2**32 - 1)
RULE = "conservative_backfill"


def test_nobody_in_the_queue_is_delayed() -> None:
    # 4 GPUs, 2 held until 50. Job 1 needs 3 from 50 to 150, job 2 all 4 from 150 to 160. One GPU
    # is over until 150: for job 3, which ends at 150, not for job 4, which ends at 151. EASY
    # lets job 4 in as well: it delays job 2 alone, and the head has GPUs enough.
    jobs = [
        JobRow(request=2, held=2, left_s=50.0),
        JobRow(request=3, total_s=100.0),
        JobRow(request=4, total_s=10.0),
        JobRow(total_s=150.0),
        JobRow(total_s=151.0),
    ]
    assert gpus(RULE, make_view(4, *jobs)) == [2, 0, 0, 1, 0]
    late = [*jobs[:3], jobs[4]]
    assert gpus(RULE, make_view(4, *late)) == [2, 0, 0, 0]
    assert gpus("fcfs_backfill", make_view(4, *late)) == [2, 0, 0, 1]


def test_reservations_count_restarts_and_speed() -> None:
    # Head: 2 GPUs at 50. Job 2 would end at 40 + 10: in time; with 11 s of restart not.
    head = [JobRow(request=1, held=1, left_s=50.0), JobRow(request=2)]
    assert gpus(RULE, make_view(2, *head, JobRow(total_s=40.0, restart_s=10.0))) == [1, 0, 1]
    assert gpus(RULE, make_view(2, *head, JobRow(total_s=40.0, restart_s=11.0))) == [1, 0, 0]
    # 90 s of work at twice the speed are 45 s.
    assert gpus(RULE, make_view(2, *head, JobRow(total_s=90.0, rates=(2.0,)))) == [1, 0, 1]
    assert gpus(RULE, make_view(2, *head, JobRow(total_s=90.0))) == [1, 0, 0]


def test_other_resources_are_reserved_too() -> None:
    # The head needs all 8 CPUs at 50; job 2 would hold one of them until 60.
    view = make_view(
        4,
        JobRow(held=1, left_s=50.0, demand=(4.0, 0.0, 0.0)),
        JobRow(demand=(8.0, 0.0, 0.0)),
        JobRow(total_s=60.0, demand=(1.0, 0.0, 0.0)),
        JobRow(total_s=60.0),
        capacity=(8.0, 0.0, 0.0),
    )
    assert gpus(RULE, view) == [1, 0, 0, 1]


def test_a_job_that_never_fits_blocks_nobody() -> None:
    assert gpus(RULE, make_view(2, JobRow(request=3), JobRow())) == [0, 1]


def plan(jobs: list[tuple[float, int, bool]], capacity: int) -> list[float]:
    """Start times: jobs (seconds, GPUs, runs now) in order, each at the earliest that fits."""
    booked = [(0.0, seconds, gpus) for seconds, gpus, runs in jobs if runs]
    starts: list[float] = []
    for seconds, wanted, runs in jobs:
        if runs:
            starts.append(0.0)
            continue
        for at in sorted({0.0, *(end for _, end, _ in booked)}):
            moments = [at, *(s for s, _, _ in booked if at < s < at + seconds)]
            busy = max(sum(g for s, e, g in booked if s <= m < e) for m in moments)
            if busy + wanted <= capacity:
                booked.append((at, at + seconds, wanted))
                starts.append(at)
                break
        else:
            starts.append(np.inf)
    return starts


@settings(max_examples=150)
@given(SEEDS)
def test_starts_whose_time_in_a_plain_plan_is_now(seed: int) -> None:
    view = random_view(np.random.default_rng(seed), max_jobs=16)
    view = view._replace(
        capacity=np.array([view.num_gpus, 1e6, 1e6, 1e6], float),
        free=np.array([view.free[0], 1e6, 1e6, 1e6]),
        demand=np.tile([1.0, 0.0, 0.0, 0.0], (view.job.size, 1)),
        restart_s=np.zeros(view.job.size),
    )
    jobs = []
    for i in range(view.job.size):
        level = view.level[i] or min(view.request_level[i], view.limit_level[i])
        if view.level[i] > view.limit_level[i]:
            level = view.limit_level[i]
        seconds = view.est_remaining_s[i] / view.rates[view.profile[i], level]
        jobs.append((float(seconds), int(view.sizes[view.profile[i], level]), view.level[i] > 0))
    starts = plan(jobs, view.num_gpus)
    served = np.array(gpus(RULE, view)) > 0
    np.testing.assert_array_equal(served, np.array(starts) == 0.0)


@settings(max_examples=40)
@given(SEEDS)
def test_with_exact_estimates_every_first_reservation_is_kept(seed: int) -> None:
    """A run event by event: no job starts later than the plan made on its arrival."""
    rng = np.random.default_rng(seed)
    count, cluster = 20, 8
    arrival = np.cumsum(rng.exponential(30.0, count)).round(3)
    seconds = rng.lognormal(4.5, 1.0, count).round(3)
    wanted = rng.choice([1, 2, 3, 5, 8], count)
    start = np.full(count, np.nan)
    promised: dict[int, float] = {}
    now = 0.0
    while np.isnan(start).any():
        ends = (start + seconds)[~np.isnan(start)]
        now = min([t for t in (*arrival, *ends) if t > now])
        rows = [i for i in range(count) if arrival[i] <= now and not start[i] + seconds[i] <= now]
        jobs = []
        for i in rows:
            left = seconds[i] if np.isnan(start[i]) else start[i] + seconds[i] - now
            jobs.append((float(left), int(wanted[i]), not np.isnan(start[i])))
        for i, at in zip(rows, plan(jobs, cluster), strict=True):
            promised.setdefault(i, now + at)
        view = make_view(
            cluster,
            *[JobRow(request=g, held=g if r else 0, total_s=s) for s, g, r in jobs],
            now_s=now,
            job=rows,
        )
        for i, given_gpus in zip(rows, gpus(RULE, view), strict=True):
            if given_gpus > 0 and np.isnan(start[i]):
                start[i] = now
    for i, at in promised.items():
        assert start[i] <= at + 1e-6


@pytest.mark.parametrize("name", [RULE, "fcfs_backfill"])
def test_a_whole_queue_that_fits_starts(name: str) -> None:
    assert gpus(name, make_view(9, *[JobRow(request=3)] * 3)) == [3, 3, 3]
