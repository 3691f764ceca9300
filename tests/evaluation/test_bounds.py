"""Lower bounds: tight by hand, and below every scheduler."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marl_sched.evaluation.bounds import (
    FluidJobs,
    alone_bound,
    concave_levels,
    fluid_jobs,
    lower_bound,
    lp_bound,
    srpt_bound,
)
from marl_sched.evaluation.simulate import play_episode
from marl_sched.schedulers import REGISTRY
from marl_sched.sim import columns as c
from tests.sim.worlds import Setup, random_setup

COMPILED = [name for name, scheduler in REGISTRY.items() if scheduler.compiled]


def jobs_of(
    arrival_s: list[float], work_s: list[float], gpus: list[float], rates: list[float]
) -> FluidJobs:
    """Jobs that share their sizes and speeds."""
    ones = np.ones((len(work_s), 1))
    return FluidJobs(np.array(arrival_s), np.array(work_s), ones * gpus, ones * rates)


def test_a_job_alone_takes_its_fastest_size() -> None:
    jobs = jobs_of([5.0], [100.0], [1, 2, 4], [1.0, 1.6, 2.0])
    assert alone_bound(jobs) == 50.0
    assert lower_bound(jobs, 4) == 50.0
    # On 1 GPU work is done at 50 s on average, and then half of the fastest run: 50 + 25.
    assert lp_bound(jobs, 1, 400) == pytest.approx(75.0, rel=0.02)


def test_srpt_by_hand() -> None:
    """On 2 GPUs: 10 s of work from 0, 2 s from 1, 2 s from 9.

    The first runs 0-1, gives way 1-3, runs 3-12 (1 s of it from 9 is less than 2), then the last.
    """
    jobs = jobs_of([0.0, 1.0, 9.0], [20.0, 4.0, 8.0], [1, 2], [1.0, 2.0])
    assert jobs.least_gpu_s.tolist() == [20.0, 4.0, 8.0]
    assert srpt_bound(jobs, 2) == 12.0 + 2.0 + (16.0 - 9.0)
    # Speed in proportion to GPUs: that schedule is real, so the bound is tight.
    assert lower_bound(jobs, 2) == srpt_bound(jobs, 2)


def test_the_program_is_tight_where_one_job_runs_after_the_other() -> None:
    """Two jobs of 10 s on 1 GPU: 10 + 20, less what the width of the slots costs."""
    jobs = jobs_of([0.0, 0.0], [10.0, 10.0], [1], [1.0])
    assert srpt_bound(jobs, 1) == 30.0
    assert lp_bound(jobs, 1, 200) == pytest.approx(30.0, rel=0.05)


def test_the_program_beats_both_others_where_they_meet() -> None:
    """Badly scaling jobs that queue: neither speed nor capacity alone is what binds."""
    work = [100.0, 120.0, 140.0, 160.0, 180.0, 200.0]
    jobs = jobs_of([0.0] * 6, work, [1, 2, 4], [1.0, 1.5, 2.0])
    others = max(alone_bound(jobs), srpt_bound(jobs, 4))
    assert lp_bound(jobs, 4, 100) > 1.05 * others


@pytest.mark.parametrize("slots", [3, 10, 60])
def test_wide_slots_lower_the_program(slots: int) -> None:
    work = [50.0, 80.0, 30.0, 400.0]
    jobs = jobs_of([0.0, 10.0, 15.0, 20.0], work, [1, 2, 4], [1.0, 1.5, 2.0])
    fine = lp_bound(jobs, 4, 400)
    assert 0.5 * alone_bound(jobs) <= lp_bound(jobs, 4, slots) <= fine * (1 + 1e-9)


def test_levels_below_the_hull_are_left_out() -> None:
    gpus, rates = np.array([1.0, 2.0, 3.0, 4.0, 8.0]), np.array([1.0, 1.2, 1.9, 2.4, 2.4])
    assert concave_levels(gpus, rates).tolist() == [0, 3]
    # A smallest size that is slow per GPU is none of a mix of nothing and a larger one.
    assert concave_levels(np.array([1.0, 2.0]), np.array([0.2, 1.0])).tolist() == [1]


def sum_of_jcts(name: str, setup: Setup) -> float:
    world, jobs = setup.world(), len(setup.workload)
    play_episode(world, 0, 0, jobs, 1.0, REGISTRY[name])
    result = world.result[0, :, :jobs]
    return float((result[c.FINAL_FINISH_S] - result[c.FINAL_ARRIVAL_S]).sum())


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_no_scheduler_goes_below(seed: int) -> None:
    rng = np.random.default_rng(seed)
    setup = random_setup(rng)
    jobs = fluid_jobs(setup.workload, setup.profiles, setup.cluster)
    gpus = setup.cluster.num_gpus
    bounds = {
        "alone": alone_bound(jobs),
        "srpt": srpt_bound(jobs, gpus),
        "lp": lp_bound(jobs, gpus, 30),
        "largest": lower_bound(jobs, gpus, 30),
    }
    for name in rng.choice(COMPILED, 5, replace=False).tolist():
        outcome = sum_of_jcts(name, setup)
        for kind, bound in bounds.items():
            assert outcome >= bound * (1 - 1e-9), (name, kind)
