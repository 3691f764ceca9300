"""Random small worlds, and one decide function driven through both simulators.

A decide function takes the active jobs as plain data, ordered by job index, and answers a
target level for each job index, so that the compiled simulator and the slow reference get the
same answers from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from marl_sched.config import SimConfig
from marl_sched.perf.profiles import ProfileTable
from marl_sched.schedulers import Scheduler
from marl_sched.sim import columns as c
from marl_sched.sim import kernels
from marl_sched.sim.apply import apply
from marl_sched.sim.build import build_world
from marl_sched.sim.simulation import look
from marl_sched.sim.world import World
from marl_sched.types import Cluster, ClusterView, make_node
from marl_sched.workload import Workload
from tests.reference import Epoch, ReferenceJob, ReferenceJobResult, simulate
from tests.schedulers.views import permuted

Decide = Callable[[ClusterView], Mapping[int, int]]
"""A view, its rows ordered by job, to target levels by job index."""

CLUSTERS = ("1x1", "1x3", "2x4", "3x2+1x5", "2x4:slow+3x2:fast", "1x2:a+1x4:b+2x3:a")


def make_workload(arrival_s: Any, duration_s: Any, demand: Any = None, **given: Any) -> Workload:
    """A workload by hand; what is not given is one tenant, no deadline, one GPU a job."""
    arrival_s = np.asarray(arrival_s, float)
    jobs = len(arrival_s)
    num_gpus = np.asarray(given.pop("num_gpus", np.ones(jobs)), np.int64)
    tenant = np.asarray(given.pop("tenant", np.zeros(jobs)), np.int64)
    plain = np.tile([1.0, 0.0, 0.0, 0.0], (jobs, 1))
    fields: dict[str, Any] = {
        "job_id": np.array([f"job-{j}" for j in range(jobs)], object),
        "model": np.zeros(jobs, np.int64),
        "models": ("resnet18",),
        "elastic": np.zeros(jobs, bool),
        "min_gpus": num_gpus,
        "max_gpus": num_gpus,
        "demand": plain if demand is None else np.asarray(demand, float),
        "priority": np.zeros(jobs),
        "deadline_s": np.full(jobs, np.inf),
        "tenants": tuple(f"tenant-{t}" for t in range(int(tenant.max(initial=0)) + 1)),
    } | given
    return Workload(
        arrival_s=arrival_s,
        duration_s=np.asarray(duration_s, float),
        num_gpus=num_gpus,
        tenant=tenant,
        **fields,
    )


def one_profile(
    jobs: int,
    sizes: list[int],
    rates: list[tuple[float, float]],
    restart_s: float = 10.0,
    num_types: int = 1,
    request_level: int = 1,
) -> ProfileTable:
    """Every job has one profile; rates per level: (packed, spanning), on every GPU type."""
    table = np.tile(np.array(rates, float), (1, num_types, 1, 1))
    return ProfileTable(
        sizes=np.array([sizes], np.int64),
        num_levels=np.array([len(sizes) - 1]),
        request_level=np.array([request_level]),
        rates=table,
        nominal_rates=table[:, 0, :, 0].copy(),
        restart_s=np.full((1, len(sizes)), restart_s),
        job_profile=np.zeros(jobs, np.int64),
    )


@dataclass(frozen=True)
class Setup:
    """One random simulation."""

    workload: Workload
    profiles: ProfileTable
    cluster: Cluster
    sim: SimConfig
    est_factor: np.ndarray

    def world(self, num_envs: int = 1, window: int | None = None) -> World:
        return build_world(
            self.workload, self.profiles, self.cluster, self.sim, self.est_factor, num_envs, window
        )


def random_setup(
    rng: np.random.Generator, max_jobs: int = 24, clusters: Sequence[str] = CLUSTERS
) -> Setup:
    """A small world that a scheduler can serve: every request fits some empty GPU type."""
    cluster = Cluster.parse(str(rng.choice(clusters)))
    if rng.random() < 0.3:  # scarce CPUs and memory on some nodes
        cluster = Cluster(
            tuple(
                make_node(n.name, n.num_gpus, n.gpu_type, num_cpus=4.0 * n.num_gpus,
                          memory_gb=float(rng.integers(20, 60) * n.num_gpus))
                for n in cluster.nodes
            )
        )  # fmt: skip
    jobs = int(rng.integers(1, max_jobs))
    profiles = random_profiles(rng, cluster, jobs)
    requests = profiles.sizes[np.arange(len(profiles.sizes)), profiles.request_level]
    gaps_s = rng.exponential(rng.choice([20.0, 200.0]), jobs)
    gaps_s[rng.random(jobs) < 0.2] = 0.0  # several jobs at one instant
    gaps_s[0] = 0.0
    workload = make_workload(
        np.cumsum(gaps_s),
        rng.lognormal(5.0, 1.5, jobs),
        random_demand(rng, jobs),
        num_gpus=requests[profiles.job_profile],
        tenant=rng.integers(0, rng.integers(1, 4), jobs),
        priority=rng.integers(0, 3, jobs).astype(float),
        deadline_s=np.cumsum(gaps_s) + rng.exponential(2000.0, jobs),
    )
    sim = SimConfig(
        round_s=float(rng.choice([60.0, 177.5, 1000.0])),
        charge_first_start=bool(rng.random() < 0.5),
    )
    return Setup(workload, profiles, cluster, sim, rng.lognormal(0.0, 1.0, jobs))


def random_profiles(rng: np.random.Generator, cluster: Cluster, jobs: int) -> ProfileTable:
    """Rigid and elastic profiles, whose largest size fits the largest GPU type."""
    pool = max(cluster.gpus_of_type(kind) for kind in cluster.gpu_types)
    types, count = len(cluster.gpu_types), int(rng.integers(1, 5))
    rows = []
    for _ in range(count):
        most = int(rng.integers(1, 5)) if rng.random() < 0.7 else 1
        sizes = np.unique(rng.integers(1, pool + 1, most))
        rows.append(np.concatenate([[0], sizes]))
    num_levels = np.array([len(row) - 1 for row in rows])
    level = np.minimum(np.arange(num_levels.max() + 1), num_levels[:, None])
    sizes = np.array([row[pick] for row, pick in zip(rows, level, strict=True)])
    # A different concave curve for each profile and type; spanning is never faster.
    speed = rng.uniform(0.3, 2.0, (count, types, 1))
    packed = speed * sizes[:, None, :] ** rng.uniform(0.2, 1.0, (count, types, 1))
    rates = np.stack([packed, packed * rng.uniform(0.4, 1.0, (count, types, 1))], axis=-1)
    return ProfileTable(
        sizes=sizes,
        num_levels=num_levels,
        request_level=rng.integers(1, num_levels + 1),
        rates=rates,
        nominal_rates=packed.mean(axis=1),
        restart_s=rng.choice([0.0, 15.0, 90.0], count)[:, None] * (1 + level % 2),
        job_profile=rng.integers(0, count, jobs),
    )


def random_demand(rng: np.random.Generator, jobs: int) -> np.ndarray:
    """(J, 4) per GPU; small enough that a whole node of GPUs fits an empty node."""
    demand = np.zeros((jobs, 4))
    demand[:, 0] = 1.0
    if rng.random() < 0.6:
        # Fractions that binary floats cannot hold: free resources pick up rounding errors.
        demand[:, 1] = rng.choice([0.0, 0.1, 1.0, 1.3, 3.9], jobs)
        demand[:, 2] = rng.choice([0.0, 7.7, 19.0], jobs)
        demand[:, 3] = rng.choice([0.0, 24.9], jobs)
    return demand


def sorted_view(view: ClusterView) -> ClusterView:
    """The view in order of the jobs."""
    return permuted(view, np.argsort(view.job))


def classic(scheduler: Scheduler) -> Decide:
    """A registered scheduler as a decide function."""

    def decide(view: ClusterView) -> dict[int, int]:
        target = scheduler.levels(view)
        return dict(zip(view.job.tolist(), target.tolist(), strict=True))

    return decide


def erratic(seed: int) -> Decide:
    """Levels without sense, many outside of what is legal; depends on time and job alone."""

    def decide(view: ClusterView) -> dict[int, int]:
        rng = np.random.default_rng([seed, int(view.now_s * 1000)])
        mode = rng.integers(0, 4)
        levels = {}
        for row, job in enumerate(view.job.tolist()):
            most = int(view.num_levels[view.profile[row]])
            if mode == 0:  # everybody wants everything
                levels[job] = most + int(rng.integers(0, 3))
            elif mode == 1:  # nobody moves, but for a few
                levels[job] = int(view.level[row] if rng.random() < 0.8 else rng.integers(0, 2))
            else:
                levels[job] = int(rng.integers(-1, most + 2))
        return levels

    return decide


@dataclass(frozen=True)
class Played:
    """What a simulation did, in the reference's terms."""

    epochs: list[Epoch]
    jobs: list[ReferenceJobResult]


def placement_of(world: World, b: int, slot: int) -> dict[int, int]:
    """GPUs by node of the job in `slot`."""
    nodes: dict[int, int] = {}
    entry = int(world.slot_k[b, c.PLACEMENT, slot])
    while entry >= 0:
        node, gpus, entry, _ = world.pool[b, :, entry].tolist()
        assert node not in nodes and gpus > 0
        nodes[node] = gpus
    return nodes


def snapshot(world: World, b: int) -> Epoch:
    jobs = world.slot_k[b, c.JOB, : world.env_k[b, c.NUM_ACTIVE]] - world.env_k[b, c.FIRST_JOB]
    slots = [int(slot) for slot in np.argsort(jobs)]
    return Epoch(
        float(world.env_f[b, c.NOW_S]),
        {int(jobs[i]): int(world.slot_k[b, c.LEVEL, i]) for i in slots},
        {int(jobs[i]): placement_of(world, b, i) for i in slots},
        {int(jobs[i]): float(world.slot_f[b, c.FINISH_AT_S, i]) for i in slots},
    )


def decide_and_apply(world: World, b: int, decide: Decide) -> ClusterView:
    """One decision epoch; the view before it."""
    view = sorted_view(look(world, b))
    first = world.env_k[b, c.FIRST_JOB]
    levels = decide(view._replace(job=view.job - first))
    active = world.slot_k[b, c.JOB, : view.job.size] - first
    apply(world, b, np.array([levels[j] for j in active.tolist()], np.int64))
    return view


def results_of(world: World, b: int) -> list[ReferenceJobResult]:
    jobs = int(world.env_k[b, c.END_JOB] - world.env_k[b, c.FIRST_JOB])
    rows = world.result[b, :, :jobs].T.tolist()
    return [
        ReferenceJobResult(
            first_start=row[c.FINAL_FIRST_START_S],
            finish=row[c.FINAL_FINISH_S],
            attained_gpu_s=row[c.FINAL_ATTAINED_GPU_S],
            num_preemptions=int(row[c.FINAL_PREEMPTIONS]),
            num_restarts=int(row[c.FINAL_RESTARTS]),
            held_s=row[c.FINAL_HELD_S],
        )
        for row in rows
    ]


def play_compiled(
    world: World,
    decide: Decide,
    b: int = 0,
    first: int = 0,
    end: int | None = None,
    stretch: float = 1.0,
) -> Played:
    """Drive the compiled simulator from Python to the end of the episode."""
    kernels.start(world, b, first, world.job_f.shape[1] if end is None else end, stretch)
    epochs = []
    while (status := kernels.advance(world, b)) == kernels.EPOCH:
        decide_and_apply(world, b, decide)
        epochs.append(snapshot(world, b))
    assert status == kernels.FINISHED
    return Played(epochs, results_of(world, b))


def play_reference(setup: Setup, decide: Decide) -> Played:
    """Drive the slow simulator with views built from its own jobs."""
    profiles, sim = setup.profiles, setup.sim

    def answer(now_s: float, active: Any) -> Mapping[int, int]:
        return decide(view_of(setup, now_s, list(active)))

    # The judge reads plain columns and knows nothing of our types.
    jobs = SimpleNamespace(
        **{name: getattr(setup.workload, name) for name in ("arrival_s", "duration_s", "demand")}
    )
    done = simulate(
        jobs, profiles, setup.cluster, answer,
        round_s=sim.round_s, charge_first_start=sim.charge_first_start,
    )  # fmt: skip
    return Played(done.epochs, done.jobs)


def view_of(setup: Setup, now_s: float, active: list[ReferenceJob]) -> ClusterView:
    """What a scheduler may see of the reference's jobs."""
    profiles, work = setup.profiles, setup.workload
    job = np.array([j.index for j in active])
    profile = profiles.job_profile[job]
    factor = setup.est_factor[job]

    def column(name: str) -> np.ndarray:
        return np.array([getattr(j, name) for j in active], dtype=np.float64)

    started = ~np.isnan(column("first_start"))
    level = column("level").astype(np.int64)
    used = profiles.sizes[profile, level][:, None] * work.demand[job]
    node_type = setup.cluster.node_type
    kind = np.array([node_type[min(j.placement, default=0)] for j in active], np.int64)
    free = np.zeros((len(setup.cluster.gpu_types), 4))
    np.add.at(free, node_type, setup.cluster.capacity)
    np.subtract.at(free, kind, used)
    return ClusterView(
        now_s=now_s,
        num_gpus=setup.cluster.num_gpus,
        capacity=setup.cluster.capacity.sum(axis=0),
        sizes=profiles.sizes,
        num_levels=profiles.num_levels,
        rates=profiles.nominal_rates,
        type_order=types_by_speed(profiles),
        job=job,
        profile=profile,
        level=level,
        gpus=profiles.sizes[profile, level] * work.demand[job, 0],
        request_level=profiles.request_level[profile],
        limit_level=profiles.num_levels[profile],
        arrival_s=column("arrival").astype(float),
        attained_gpu_s=column("attained"),
        run_since_s=column("run_since"),
        waiting_since_s=column("waiting_since"),
        est_total_s=work.duration_s[job] * factor,
        est_remaining_s=column("remaining") * factor,
        restart_s=np.where(
            started | setup.sim.charge_first_start,
            profiles.restart_s[profile, profiles.request_level[profile]],
            0.0,
        ),
        demand=work.demand[job],
        priority=work.priority[job],
        tenant=work.tenant[job],
        deadline_s=work.deadline_s[job],
        free=free.sum(axis=0),
        free_by_type=free,
        releases=0,
        types=np.full(len(active), -1),
        gpu_type=kind,
        leaving=np.zeros(len(active), np.int64),
        refused_at=np.array([0 if j.refused else -1 for j in active]),
        waiting=np.flatnonzero(level == 0),
        running=np.flatnonzero(level),
        tenant_quota=np.empty(0),
        tenant_held=np.empty(0, np.int64),
        tenant_tally=np.zeros((2, 1), np.int64),
    )


def types_by_speed(profiles: ProfileTable) -> np.ndarray:
    """(P, L, T) GPU types by falling speed on one node, equal ones as they come."""
    shape = profiles.rates.shape
    order = np.empty((shape[0], shape[2], shape[1]), np.int64)
    for p, level in np.ndindex(shape[0], shape[2]):
        packed = profiles.rates[p, :, level, 0].tolist()
        order[p, level] = sorted(range(shape[1]), key=lambda t: (-packed[t], t))
    return order
