"""What must hold in any simulation, whatever a scheduler says; and the costs by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marl_sched.config import SimConfig
from marl_sched.sim import columns as c
from marl_sched.sim import kernels
from marl_sched.sim.apply import apply
from marl_sched.sim.world import World
from marl_sched.types import Cluster, ClusterView
from tests.sim.worlds import (
    Setup,
    decide_and_apply,
    erratic,
    make_workload,
    one_profile,
    play_compiled,
    random_setup,
    snapshot,
)

SEEDS = st.integers(0, 2**32 - 1)

IDLE_W, BUSY_W = 45.0, 237.0
"""Of a GPU that is not named: 0.15 and 0.79 of a V100's 300 W."""


def check_resources(world: World) -> None:
    """Free resources are what the placements leave, and never negative."""
    used = np.zeros_like(world.free[0])
    for slot in range(world.env_k[0, c.NUM_ACTIVE]):
        entry, gpus = int(world.slot_k[0, c.PLACEMENT, slot]), 0
        while entry >= 0:
            node, here, entry, _ = world.pool[0, :, entry].tolist()
            used[node] += here * world.slot_demand[0, slot]
            gpus += here
        level = world.slot_k[0, c.LEVEL, slot]
        assert gpus == world.sizes[world.slot_k[0, c.PROFILE, slot], level]
        assert 0 <= level <= world.num_levels[world.slot_k[0, c.PROFILE, slot]]
    assert world.free[0].min() > -1e-6
    np.testing.assert_allclose(world.free[0] + used, world.capacity, atol=1e-6)


@settings(max_examples=60)
@given(SEEDS)
def test_resources_are_neither_lost_nor_made(seed: int) -> None:
    setup = random_setup(np.random.default_rng(seed))
    world = setup.world()
    kernels.start(world, 0, 0, len(setup.workload), 1.0)
    while kernels.advance(world, 0) == kernels.EPOCH:
        decide_and_apply(world, 0, erratic(seed))
        check_resources(world)
    check_resources(world)
    np.testing.assert_allclose(world.free[0], world.capacity, atol=1e-6)
    free, entry = set(), int(world.env_k[0, c.POOL_FREE])
    while entry < world.pool.shape[2]:
        assert entry not in free
        free.add(entry)
        entry = int(world.pool[0, c.ENTRY_NEXT, entry])
    assert len(free) == world.pool.shape[2], "placement entries leaked"


@settings(max_examples=60)
@given(SEEDS)
def test_every_job_ends_and_the_books_balance(seed: int) -> None:
    setup = random_setup(np.random.default_rng(seed))
    world = setup.world()
    played = play_compiled(world, erratic(seed))
    jobs = played.jobs
    arrival_s = setup.workload.arrival_s
    finish_s = np.array([job.finish for job in jobs])
    first_start_s = np.array([job.first_start for job in jobs])
    assert (arrival_s <= first_start_s).all() and (first_start_s < finish_s).all()
    assert world.env_k[0, c.NUM_ENDED] == len(jobs)
    # GPU-seconds: what the jobs attained is the integral of the GPUs that they held.
    held_gpu_s = 0.0
    ends = [epoch.t for epoch in played.epochs[1:]] + [np.inf]
    for epoch, end_s in zip(played.epochs, ends, strict=True):
        for job, nodes in epoch.placements.items():
            if nodes:
                until_s = min(end_s, epoch.finish_at[job])
                held_gpu_s += sum(nodes.values()) * (until_s - epoch.t)
    assert sum(job.attained_gpu_s for job in jobs) == pytest.approx(held_gpu_s)
    assert world.cost[0, c.COST_COMPLETION] == pytest.approx((finish_s - arrival_s).sum())
    slowdown = (finish_s - arrival_s) / np.maximum(setup.workload.duration_s, 60.0)
    assert world.cost[0, c.COST_SLOWDOWN] == pytest.approx(slowdown.sum())
    late = finish_s > setup.workload.deadline_s
    assert world.cost[0, c.COST_DEADLINE] == late.sum()
    rho = world.result[0, c.FINAL_RHO, : len(jobs)]
    assert world.cost[0, c.COST_FAIRNESS] == pytest.approx(np.maximum(rho - 1, 0).sum())


@settings(max_examples=60)
@given(SEEDS)
def test_views_show_estimates_and_not_the_truth(seed: int) -> None:
    setup = random_setup(np.random.default_rng(seed))
    world = setup.world()
    kernels.start(world, 0, 0, len(setup.workload), 1.0)
    while kernels.advance(world, 0) == kernels.EPOCH:
        view = decide_and_apply(world, 0, erratic(seed))
        factor = setup.est_factor[view.job]
        total_s = setup.workload.duration_s[view.job] * factor
        np.testing.assert_allclose(view.est_total_s, total_s)
        assert (view.est_remaining_s <= total_s * (1 + 1e-12)).all()
        assert (np.isnan(view.run_since_s) == (view.level == 0)).all()
        assert (view.waiting_since_s >= view.arrival_s).all()


def by_hand(
    cluster: str,
    sizes: list[int],
    rates: list[tuple[float, float]],
    arrival_s: list[float],
    duration_s: list[float],
    **given: object,
) -> Setup:
    return Setup(
        make_workload(arrival_s, duration_s, **given),
        one_profile(len(arrival_s), sizes, rates),
        Cluster.parse(cluster),
        SimConfig(round_s=1e6),
        np.ones(len(arrival_s)),
    )


def test_costs_by_hand() -> None:
    # Alone a job takes both GPUs (speed 1.5), two share (speed 1); a resize costs 10 s.
    # t=30: job 0 has 100 - 45 = 55 left, shrinks, resumes at 40. Job 1 runs 30 to 90.
    # t=90: job 0 has 55 - 50 = 5 left, grows, resumes at 100, ends at 100 + 5/1.5.
    setup = by_hand(
        "1x2", [0, 1, 2], [(0, 0), (1, 1), (1.5, 1.5)], [0, 30], [100, 60], num_gpus=[1, 1]
    )
    world = setup.world()
    played = play_compiled(world, lambda view: {int(j): 3 - view.job.size for j in view.job})
    end_s = 100 + 5 / 1.5
    assert [job.finish for job in played.jobs] == pytest.approx([end_s, 90])
    cost = world.cost[0]
    assert cost[c.COST_COMPLETION] == pytest.approx(end_s + 60)
    assert cost[c.COST_SLOWDOWN] == pytest.approx(end_s / 100 + 60 / 60)
    # The best speed per GPU is 1, so the 160 s of work were worth 160 of 2 * end_s GPU-seconds.
    assert cost[c.COST_UTILISATION] == pytest.approx(2 * end_s - 160)
    assert cost[c.COST_PREEMPTION] == pytest.approx(10 * 1 + 10 * 2)
    assert cost[c.COST_ENERGY] == pytest.approx(2 * BUSY_W * end_s / 3.6e6)
    # Never more GPUs asked than there are: rho is JCT over duration; 1/30 too long for job 0.
    assert cost[c.COST_FAIRNESS] == pytest.approx(end_s / 100 - 1)


def test_finish_time_fairness_and_deadlines_by_hand() -> None:
    # One GPU, one job after the other. Pressure is 2 until 100, then 1: on a fair share job 0
    # would have taken 200 s (rho 1/2), job 1 100 * (2*100 + 1*100) / 200 = 150 s (rho 4/3).
    setup = by_hand(
        "1x1", [0, 1], [(0, 0), (1, 1)], [0, 0], [100, 100], deadline_s=np.array([99.0, 200.0])
    )
    world = setup.world()
    play_compiled(world, lambda view: dict.fromkeys(view.job.tolist(), 1))
    assert world.result[0, c.FINAL_RHO] == pytest.approx([0.5, 4 / 3])
    assert world.cost[0, c.COST_FAIRNESS] == pytest.approx(1 / 3)
    assert world.cost[0, c.COST_DEADLINE] == 1  # job 1 ends on its deadline: not missed
    idle_free = 1 * 200 * BUSY_W / 3.6e6
    assert world.cost[0, c.COST_ENERGY] == pytest.approx(idle_free)


def test_an_idle_gpu_draws_idle_power() -> None:
    setup = by_hand("1x3", [0, 1], [(0, 0), (1, 1)], [0], [100])
    world = setup.world()
    play_compiled(world, lambda view: {0: 1})
    assert world.cost[0, c.COST_ENERGY] == pytest.approx((BUSY_W + 2 * IDLE_W) * 100 / 3.6e6)


def test_a_scheduler_that_starts_nothing_is_stuck() -> None:
    world = by_hand("1x1", [0, 1], [(0, 0), (1, 1)], [0], [100]).world()
    kernels.start(world, 0, 0, 1, 1.0)
    for _ in range(c.MAX_IDLE_ROUNDS + 2):
        status = kernels.advance(world, 0)
        if status != kernels.EPOCH:
            break
        apply(world, 0, np.zeros(1, np.int64))
    assert status == kernels.STUCK


def test_a_declared_limit_binds() -> None:
    setup = by_hand("1x4", [0, 1, 2, 4], [(0, 0), (1, 1), (2, 2), (3, 3)], [0], [100])
    world = setup.world()
    kernels.start(world, 0, 0, 1, 1.0)
    assert kernels.advance(world, 0) == kernels.EPOCH
    world.slot_k[0, c.LIMIT_LEVEL, 0] = 2
    apply(world, 0, np.array([3]))
    assert snapshot(world, 0).levels == {0: 2}


def test_the_first_start_costs_only_when_charged() -> None:
    def finish_s(charged: bool) -> float:
        setup = by_hand("1x1", [0, 1], [(0, 0), (1, 1)], [0], [100])
        sim = SimConfig(round_s=1e6, charge_first_start=charged)
        world = Setup(setup.workload, setup.profiles, setup.cluster, sim, np.ones(1)).world()
        costs: list[float] = []

        def decide(view: ClusterView) -> dict[int, int]:
            costs.append(float(view.restart_s[0]))
            return {0: 1}

        played = play_compiled(world, decide)
        assert costs == [10.0 if charged else 0.0]  # a scheduler sees what a start would cost
        assert world.cost[0, c.COST_PREEMPTION] == costs[0]
        return played.jobs[0].finish

    assert finish_s(False) == 100.0
    assert finish_s(True) == 110.0
