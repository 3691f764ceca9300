"""What classic rules do with types, quotas, shares, memory and nodes that go, in whole runs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from marl_sched.config import SimConfig
from marl_sched.perf.profiles import ProfileTable
from marl_sched.schedulers import REGISTRY, get_scheduler
from marl_sched.sim import columns as c
from marl_sched.sim import kernels
from marl_sched.sim.apply import apply
from marl_sched.sim.placement import place
from marl_sched.sim.simulation import look
from marl_sched.sim.views import sealed
from marl_sched.sim.world import PER_ENV, World
from marl_sched.types import Cluster, make_node
from tests.sim.compiled import world_of
from tests.sim.features import Features, random_features, with_rules
from tests.sim.worlds import Setup, classic, make_workload, play_compiled

PATIENT = [name for name, rule in REGISTRY.items() if rule.compiled and not rule.preemptive]
PASSING = ("on_demand", "sjf", "random", "srtf", "srsf", "las", "priority",
           "tiresias", "gittins", "edf", "rate_monotonic")  # fmt: skip
"""Rules that pass over whoever does not fit."""


def decisions(features: Features, name: str) -> Iterator[tuple[World, dict[int, int]]]:
    """The world after each decision, and the levels by job before it."""
    world, rule = world_of(features), get_scheduler(name)
    kernels.start(world, 0, 0, features.jobs, 1.0)
    while kernels.advance(world, 0) == kernels.EPOCH:
        view = look(world, 0)
        before = dict(zip(view.job.tolist(), view.level.tolist(), strict=True))
        apply(world, 0, rule.levels(view))
        yield world, before


def levels_of(world: World) -> dict[int, int]:
    active = int(world.env_k[0, c.NUM_ACTIVE])
    jobs, levels = world.slot_k[0, c.JOB, :active], world.slot_k[0, c.LEVEL, :active]
    return dict(zip(jobs.tolist(), levels.tolist(), strict=True))


def left_waiting(world: World) -> list[int]:
    """Jobs that wait though they could be placed as they ask, within their tenant's quota."""
    world = sealed(world._replace(**{name: getattr(world, name).copy() for name in PER_ENV}))
    found = []
    for i in range(int(world.env_k[0, c.NUM_ACTIVE])):
        row = world.slot_k[0, :, i]
        if row[c.LEVEL] > 0:
            continue
        level = int(row[c.REQUEST_LEVEL])
        gpus = world.sizes[row[c.PROFILE], level] * world.slot_demand[0, i, 0]
        if world.tenant_quota.size:
            held = world.tenant_held[0, row[c.TENANT]] / 1000
            if held + gpus > world.tenant_quota[row[c.TENANT]] + 1e-9:
                continue
        if place(world, 0, i, level):
            found.append(int(row[c.JOB]))
    return found


def features_of(seed: int) -> Features:
    """Everything of `tests.sim.features` but what takes decisions away from rules."""
    features = random_features(np.random.default_rng([seed, 11]))
    return with_rules(features, repack=False, overhead_each_epoch=False)


@pytest.mark.parametrize("name", PATIENT)
def test_a_patient_rule_stops_nobody(name: str) -> None:
    for seed in range(8):
        for world, before in decisions(features_of(seed), name):
            after = levels_of(world)
            assert all(after[job] >= level for job, level in before.items()), seed


@pytest.mark.parametrize("name", PASSING)
def test_nobody_who_fits_is_left_waiting(name: str) -> None:
    for seed in range(8):
        for world, _ in decisions(features_of(seed), name):
            if world.env_f[0, c.ROUND_AT_S] > world.env_f[0, c.NOW_S]:  # else asked once more
                assert not left_waiting(world), seed


def rigid_setup(
    cluster: Cluster,
    jobs: list[tuple[float, float, int]],
    sim: SimConfig | None = None,
    **given: object,
) -> Setup:
    """Jobs (arrival, duration, GPUs) that run at speed 1 on every type, and restart for nothing."""
    count, types = len(jobs), len(cluster.gpu_types)
    arrival, duration, wanted = (list(column) for column in zip(*jobs, strict=True))
    rates = np.ones((count, types, 2, 2))
    rates[:, :, 0] = 0.0
    profiles = ProfileTable(
        sizes=np.stack([np.zeros(count, np.int64), np.array(wanted)], axis=1),
        num_levels=np.ones(count, np.int64),
        request_level=np.ones(count, np.int64),
        rates=rates,
        nominal_rates=rates[:, 0, :, 0].copy(),
        restart_s=np.zeros((count, 2)),
        job_profile=np.arange(count),
    )
    workload = make_workload(arrival, duration, num_gpus=wanted, **given)
    sim = SimConfig(round_s=1e9) if sim is None else sim
    return Setup(workload, profiles, cluster, sim, np.ones(count))


def starts(setup: Setup, name: str) -> tuple[list[float], list[int]]:
    """First start and preemptions of each job."""
    played = play_compiled(setup.world(), classic(get_scheduler(name)))
    return [j.first_start for j in played.jobs], [j.num_preemptions for j in played.jobs]


FR5 = [(0.0, 1e5, 5), (0.0, 1e5, 4), (10.0, 100.0, 6), (20.0, 50.0, 2)]
"""Two low jobs of 5 and 4 GPUs, one of 6 at 10 s with priority, a small one of 2 at 20 s."""


@pytest.mark.parametrize("name", ["on_demand", "fcfs_backfill", "conservative_backfill", "sjf"])
def test_a_gang_that_fits_no_type_holds_nobody_up(name: str) -> None:
    # 3 GPUs of one type and 4 of the other are free: 7 together, but none for a gang of 6.
    setup = rigid_setup(Cluster.parse("2x4:A100+2x4:T4"), FR5)
    assert starts(setup, name) == ([0.0, 0.0, 1e5, 20.0], [0, 0, 0, 0])


@pytest.mark.parametrize("name", ["priority", "srtf"])
def test_a_gang_that_fits_no_type_displaces(name: str) -> None:
    setup = rigid_setup(
        Cluster.parse("2x4:A100+2x4:T4"), FR5, priority=np.array([0.0, 0.0, 9.0, 0.0])
    )
    assert starts(setup, name)[0][2:] == [10.0, 20.0]


def test_a_displaced_job_goes_on_at_once_where_another_type_has_room() -> None:
    # Job 0 (3 GPUs) is on type a. Job 1 may use a alone and comes first: job 0 goes on on b.
    cluster = Cluster.parse("1x4:a+1x4:b")
    setup = rigid_setup(
        cluster, [(0.0, 100.0, 3), (10.0, 50.0, 4)],
        gpu_type_mask=np.array([3, 1]), gpu_types=cluster.gpu_types,
    )  # fmt: skip
    played = play_compiled(setup.world(), classic(get_scheduler("srtf")))
    assert [job.finish for job in played.jobs] == [100.0, 60.0]
    assert [job.num_preemptions for job in played.jobs] == [1, 0]


QUOTA_SIM = SimConfig(round_s=1e9, tenant_quota={"tenant-1": 6})
QUOTA = [(0.0, 1000.0, 4), (1.0, 1000.0, 5), (2.0, 5000.0, 2)]
"""Another tenant's job of 4 GPUs, then a head of 5 and a late one of 2 of a tenant with a quota."""


@pytest.mark.parametrize("name", ["on_demand", "fcfs_backfill", "conservative_backfill", "sjf"])
def test_a_quota_holds_the_head_back_and_stops_nobody(name: str) -> None:
    # `late` starts at 2 on free GPUs. When the GPUs for `head` are there, its quota is not.
    setup = rigid_setup(Cluster.parse("1x8"), QUOTA, QUOTA_SIM, tenant=[0, 1, 1])
    assert starts(setup, name) == ([0.0, 5002.0, 2.0], [0, 0, 0])


def test_in_a_strict_queue_nobody_passes_the_head_of_a_tenant() -> None:
    setup = rigid_setup(Cluster.parse("1x8"), QUOTA, QUOTA_SIM, tenant=[0, 1, 1])
    assert starts(setup, "fcfs") == ([0.0, 1000.0, 2000.0], [0, 0, 0])


@pytest.mark.parametrize("name", ["on_demand", "sjf", "fcfs_backfill", "conservative_backfill"])
def test_a_job_that_no_node_has_memory_for_holds_nobody_up(name: str) -> None:
    # Two nodes with 100 GB. 60 GB are taken on each, so that 80 are free, but nowhere 50.
    nodes = tuple(make_node(f"n{k}", 4, memory_gb=100.0) for k in range(2))
    memory = np.array([60.0, 60.0, 50.0, 20.0])
    demand = np.stack([np.ones(4), np.zeros(4), memory, np.zeros(4)], axis=1)
    jobs = [(0.0, 1e4, 1), (0.0, 1e4, 1), (10.0, 100.0, 1), (20.0, 50.0, 3)]
    setup = rigid_setup(Cluster(nodes), jobs, demand=demand)
    # Job 3 asks for 3 GPUs with 20 GB each: together with job 2 the sum would not suffice.
    assert starts(setup, name) == ([0.0, 0.0, 1e4, 20.0], [0, 0, 0, 0])
