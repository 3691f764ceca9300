"""The compiled simulator on the setups of `tests.sim.features`, in the reference's terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from marl_sched.config import Placement, SimConfig
from marl_sched.perf.profiles import ProfileTable
from marl_sched.sim import columns as c
from marl_sched.sim import kernels
from marl_sched.sim.apply import apply
from marl_sched.sim.build import build_world
from marl_sched.sim.node_events import KINDS
from marl_sched.sim.relocate import apply_placement, repack
from marl_sched.sim.views import sealed
from marl_sched.sim.world import World
from marl_sched.types import Cluster
from marl_sched.workload import Workload
from marl_sched.workload.parents import Parents
from tests.reference import Account, Epoch, ReferenceJobResult
from tests.sim.features import Features, PlainDecide, Seen
from tests.sim.worlds import results_of, snapshot


@dataclass(frozen=True)
class PlayedFeatures:
    """What the compiled simulator did; fields as in `ReferenceResult`."""

    epochs: list[Epoch]
    jobs: list[ReferenceJobResult]
    accounts: list[Account]
    capacity_gpu_s: float
    idle_gpu_s: float


def workload_of(features: Features) -> Workload:
    """The setup's workload with everything that the features say of single jobs."""
    base, given = features.setup.workload, features.columns
    jobs, cluster = features.jobs, features.setup.cluster
    demand = base.demand.copy()
    demand[:, 0] = np.asarray(given.get("gpu_milli", np.full(jobs, 1000))) / 1000
    profile = features.setup.profiles.job_profile
    request = features.sizes[profile, features.request_level[profile]]
    mask = np.full(jobs, -1)
    if "allowed_types" in given:
        mask = np.asarray(given["allowed_types"]) @ (1 << np.arange(len(cluster.gpu_types)))
    links = [(j, p) for j, parents in enumerate(given.get("parents", ())) for p in parents]
    child, parent = np.array(links, np.int64).reshape(-1, 2).T
    return replace(
        base,
        num_gpus=request,
        demand=demand,
        gpu_type_mask=mask,
        gpu_types=cluster.gpu_types,
        cancel_s=np.asarray(given.get("cancel_at_s", np.full(jobs, np.inf))),
        parents=Parents.from_edges(child, parent, jobs),
        max_retries=np.asarray(given.get("max_retries", np.zeros(jobs, np.int64))),
        failure_rate_per_h=np.asarray(given.get("failures_per_h", np.zeros(jobs))),
        checkpoint_interval_s=np.asarray(given.get("checkpoint_interval_s", np.zeros(jobs))),
        loader_cpus_per_gpu=np.asarray(given.get("loader_cpus", np.zeros(jobs))),
    )


def config_of(features: Features) -> SimConfig:
    rules, tenants = features.rules, features.setup.workload.tenants
    quotas = zip(tenants, rules.tenant_quota, strict=False)
    return SimConfig(
        round_s=features.round_s,
        charge_first_start=features.charge_first_start,
        decide_on="rounds" if rules.decide_on_rounds else "events",
        repack=rules.repack,
        placement=cast(Placement, rules.placement),
        sharing="time_slice" if rules.sharing == "time_slice" else "interference",
        network_contention=rules.network_contention,
        node_mtbf_h=None if rules.node_mtbf_h == np.inf else rules.node_mtbf_h,
        node_mttr_h=rules.node_mttr_h or 1.0,
        tenant_quota={name: quota for name, quota in quotas if quota < np.inf},
        overhead_each_epoch=rules.overhead_each_epoch,
    )


def cluster_of(features: Features) -> Cluster:
    """The setup's cluster with its racks."""
    nodes = zip(features.setup.cluster.nodes, features.rack, strict=True)
    return Cluster(tuple(replace(node, rack=f"rack-{rack}") for node, rack in nodes))


def profiles_of(features: Features) -> ProfileTable:
    return replace(
        features.setup.profiles,
        sizes=features.sizes,
        num_levels=features.num_levels,
        request_level=features.request_level,
        rates=features.rates,
        restart_s=features.restart_s,
    )


def node_events_of(features: Features) -> np.ndarray:
    """(G, 4) float64, the given node events as the simulator reads them."""
    events = [(e.time, e.node, KINDS.index(e.kind), e.notice) for e in features.rules.node_events]
    return np.array(events, float).reshape(-1, 4)


def world_of(features: Features, num_envs: int = 1, log_rows: int = 0) -> World:
    profiles = profiles_of(features)
    world = build_world(
        workload_of(features),
        profiles,
        cluster_of(features),
        config_of(features),
        features.setup.est_factor,
        num_envs,
        seed=features.rules.seed,
        log_rows=log_rows,
        node_events=node_events_of(features),
    )
    pairs = len(profiles.num_levels)
    slowdown = np.ones((pairs, pairs)) if world.device_free.shape[2] else np.empty((0, 0))
    if features.rules.sharing == "interference" and slowdown.size:
        slowdown = np.array(features.rules.interference, float).reshape(pairs, pairs)
    return sealed(world._replace(interference=slowdown))


def decide_plainly(world: World, b: int, features: Features, decide: PlainDecide) -> None:
    """One decision: levels, or a placing order under `repack`, or given placements."""
    count = int(world.env_k[b, c.NUM_ACTIVE])
    job = world.slot_k[b, c.JOB, :count] - world.env_k[b, c.FIRST_JOB]
    level, profile = world.slot_k[b, c.LEVEL], world.slot_k[b, c.PROFILE]
    rows = {int(job[i]): int(i) for i in np.argsort(job)}
    seen = [Seen(j, int(level[i]), int(features.num_levels[profile[i]])) for j, i in rows.items()]
    decided = decide(float(world.env_f[b, c.NOW_S]), seen)
    if features.rules.repack:
        repack(world, b, np.array([rows[j] for j in decided], np.int64))
        return
    wanted = [decided[int(j)] for j in job]
    if isinstance(wanted[0], Mapping):
        placement = np.zeros((count, len(world.capacity)), np.int64)
        for i, nodes in enumerate(wanted):
            assert isinstance(nodes, Mapping)
            placement[i, list(nodes)] = list(nodes.values())
        assert apply_placement(world, b, placement, np.zeros((count, 1)), False) == -1
    else:
        apply(world, b, np.array(wanted, np.int64))


def accounts_of(world: World, b: int) -> list[Account]:
    jobs = int(world.env_k[b, c.END_JOB] - world.env_k[b, c.FIRST_JOB])
    accounts = []
    for row in world.result[b, :, :jobs].T.tolist():
        overhead, lost = row[c.FINAL_OVERHEAD_GPU_S], row[c.FINAL_LOST_GPU_S]
        productive = row[c.FINAL_ATTAINED_GPU_S] - overhead - lost
        status, retries = int(row[c.FINAL_STATUS]), int(row[c.FINAL_RETRIES])
        accounts.append(Account(status, retries, productive, overhead, lost))
    return accounts


def play_compiled_features(
    features: Features,
    decide: PlainDecide,
    world: World | None = None,
    b: int = 0,
) -> PlayedFeatures:
    """From start to end, on environment `b` of `world` (default: a new one)."""
    world = world_of(features) if world is None else world
    kernels.start(world, b, 0, features.jobs, 1.0)
    epochs = []
    while (status := kernels.advance(world, b)) == kernels.EPOCH:
        decide_plainly(world, b, features, decide)
        epochs.append(snapshot(world, b))
    assert status == kernels.FINISHED
    return PlayedFeatures(
        epochs,
        results_of(world, b),
        accounts_of(world, b),
        float(world.account[b, c.UP_GPU_S]),
        float(world.account[b, c.IDLE_GPU_S]),
    )
