"""The compiled simulator does what the slow reference does, event by event."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from marl_sched.schedulers import REGISTRY
from marl_sched.sim import kernels
from tests.sim.worlds import (
    Played,
    Setup,
    classic,
    decide_and_apply,
    erratic,
    play_compiled,
    play_reference,
    random_setup,
    results_of,
    snapshot,
)


def assert_same(ours: Played, reference: Played) -> None:
    assert [e.t for e in ours.epochs] == pytest.approx([e.t for e in reference.epochs], abs=1e-6)
    for mine, theirs in zip(ours.epochs, reference.epochs, strict=True):
        assert mine.levels == theirs.levels, f"levels at {theirs.t}"
        assert mine.placements == theirs.placements, f"placements at {theirs.t}"
        assert mine.finish_at == pytest.approx(theirs.finish_at, rel=1e-9, abs=1e-6)
    assert len(ours.jobs) == len(reference.jobs)
    for job, (mine_, theirs_) in enumerate(zip(ours.jobs, reference.jobs, strict=True)):
        assert vars(mine_) == pytest.approx(vars(theirs_), rel=1e-9, abs=1e-6), f"job {job}"


@pytest.mark.parametrize("seed", range(60))
def test_levels_without_sense(seed: int) -> None:
    setup = random_setup(np.random.default_rng(seed))
    reference = play_reference(setup, erratic(seed))
    assert_same(play_compiled(setup.world(), erratic(seed)), reference)


def test_the_random_worlds_exercise_every_rule() -> None:
    """Guards the test above: without these events it would compare nothing."""
    preemptions = restarts = spans = waits = 0
    for seed in range(60):
        setup = random_setup(np.random.default_rng(seed))
        played = play_compiled(setup.world(), erratic(seed))
        preemptions += sum(job.num_preemptions for job in played.jobs)
        restarts += sum(job.num_restarts for job in played.jobs)
        for epoch in played.epochs:
            spans += sum(len(nodes) > 1 for nodes in epoch.placements.values())
            waits += sum(level == 0 for level in epoch.levels.values())
    assert min(preemptions, spans, waits) > 100
    assert restarts > preemptions + 100  # resizes too


@pytest.mark.parametrize("name", [name for name, rule in REGISTRY.items() if rule.compiled])
def test_classic_schedulers(name: str) -> None:
    decide = classic(REGISTRY[name])
    for seed in range(100, 108):
        setup = random_setup(np.random.default_rng(seed))
        assert_same(play_compiled(setup.world(), decide), play_reference(setup, decide))


@pytest.mark.parametrize("seed", range(200, 206))
def test_a_stretched_window_is_a_workload_of_its_own(seed: int) -> None:
    rng = np.random.default_rng(seed)
    setup = random_setup(rng)
    jobs = len(setup.workload)
    first = int(rng.integers(0, jobs))
    end, stretch = int(rng.integers(first + 1, jobs + 1)), float(rng.uniform(0.3, 3.0))
    ours = play_compiled(setup.world(), erratic(seed), first=first, end=end, stretch=stretch)
    part = setup.workload.slice(first, end)
    arrival_s = (part.arrival_s - part.arrival_s[0]) * stretch
    alone = Setup(
        replace(part, arrival_s=arrival_s),
        replace(setup.profiles, job_profile=setup.profiles.job_profile[first:end]),
        setup.cluster,
        setup.sim,
        setup.est_factor[first:end],
    )
    assert_same(ours, play_reference(alone, erratic(seed)))


def test_environments_of_a_batch_do_not_touch_each_other() -> None:
    setup = random_setup(np.random.default_rng(7), max_jobs=30)
    jobs = len(setup.workload)
    windows = [(0, jobs), (jobs // 3, jobs), (0, 1 + jobs // 2)]
    alone = [
        play_compiled(setup.world(), erratic(b), first=first, end=end)
        for b, (first, end) in enumerate(windows)
    ]
    world = setup.world(num_envs=3)
    for b, (first, end) in enumerate(windows):
        kernels.start(world, b, first, end, 1.0)
    epochs: list[list] = [[], [], []]
    running = {0, 1, 2}
    while running:  # one epoch of each in turn
        for b in sorted(running):
            if kernels.advance(world, b) != kernels.EPOCH:
                running.discard(b)
                continue
            decide_and_apply(world, b, erratic(b))
            epochs[b].append(snapshot(world, b))
    for b in range(3):
        assert epochs[b] == alone[b].epochs
        assert results_of(world, b) == alone[b].jobs


def test_a_world_can_be_started_again() -> None:
    setup = random_setup(np.random.default_rng(11))
    world = setup.world()
    first = play_compiled(world, erratic(1))
    play_compiled(world, erratic(2))
    assert play_compiled(world, erratic(1)) == first
