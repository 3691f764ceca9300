"""A slow simulator that is easy to check by eye; the compiled one must agree with it.

Everything is a list, a dict or a dataclass, and everything that can be computed afresh is
computed afresh (free resources, for one), so that no update can be forgotten. It shares no
code with `marl_sched.sim` or `marl_sched.schedulers`.

The rules, in the order in which `simulate` applies them:

1. t is the earliest of the next arrival, the next finish and, while jobs are active, the
   round timer (`round_s` after the last decision epoch, unless every active job then held
   its highest level).
2. Everybody who has finished by t releases; then everybody who has arrived by t is active.
3. If a job is active, `decide` names a target level for each, and `apply` carries it out:
   preemptions, then shrinks, then growers and starters by decreasing target size.
4. A start after a preemption and every resize costs `restart_s` without progress.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

EPSILON = 1e-9  # slack when free resources are divided by a demand
INF = math.inf


@dataclass
class ReferenceJob:
    """One job, from its arrival to its finish; `decide` sees these objects."""

    index: int
    profile: int
    arrival: float  # s
    demand: list[float]  # per GPU, order of types.RESOURCES
    remaining: float  # isolated seconds of work left
    level: int = 0
    attained: float = 0.0  # GPU-seconds held
    waiting_since: float = 0.0  # s, arrival or last preemption
    run_since: float = math.nan  # s, start of the current hold; NaN while waiting
    placement: dict[int, int] = field(default_factory=dict)  # node -> GPUs on it
    rate: float = 0.0  # isolated seconds per second, once past resume_at
    resume_at: float = 0.0  # s, end of the restart pause
    finish_at: float = INF  # s, set whenever the placement changes
    first_start: float = math.nan  # s
    finish: float = math.nan  # s
    held: float = 0.0  # s holding at least one GPU
    num_preemptions: int = 0
    num_restarts: int = 0


@dataclass(frozen=True)
class ReferenceJobResult:
    """What became of one job."""

    first_start: float
    finish: float
    attained_gpu_s: float
    num_preemptions: int
    num_restarts: int
    held_s: float


@dataclass(frozen=True)
class Epoch:
    """The state right after one decision epoch, for the jobs that are active then."""

    t: float
    levels: dict[int, int]
    placements: dict[int, dict[int, int]]
    finish_at: dict[int, float]


@dataclass(frozen=True)
class ReferenceResult:
    """`events` holds (t, kind, job); kinds: arrive, start, grow, shrink, preempt, finish."""

    events: list[tuple[float, str, int]]
    epochs: list[Epoch]
    jobs: list[ReferenceJobResult]

    @property
    def makespan(self) -> float:
        return max(job.finish for job in self.jobs)


Decide = Callable[[float, Sequence[ReferenceJob]], Mapping[int, int]]


def simulate(
    workload: Any,
    profiles: Any,
    cluster: Any,
    decide: Decide,
    *,
    round_s: float,
    charge_first_start: bool,
    max_epochs: int = 100_000,
) -> ReferenceResult:
    """Run every job of `workload` to its end.

    Args:
        workload: arrays `arrival_s` (J,), `duration_s` (J,), `demand` (J, 4).
        profiles: arrays `sizes` (P, L), `num_levels` (P,), `rates` (P, T, L, 2),
            `restart_s` (P,), `job_profile` (J,).
        cluster: `capacity` (N, 4), `node_type` (N,), `num_gpus`, `gpu_types`.
        decide: target level of every active job, by job index; called at every epoch with
            the active jobs in workload order.
        max_epochs: give up here, because a `decide` that starts nothing would never end.
    """
    world = _World(workload, profiles, cluster, charge_first_start)
    future = list(world.jobs)
    epochs: list[Epoch] = []
    round_at = INF
    while future or world.active:
        times = [job.finish_at for job in world.active]
        if future:
            times.append(future[0].arrival)
        if world.active:
            times.append(round_at)
        world.advance_to(min(times))
        world.complete()
        while future and future[0].arrival <= world.now:
            world.arrive(future.pop(0))
        if not world.active:
            continue
        if len(epochs) >= max_epochs:
            raise RuntimeError(f"no end after {max_epochs} epochs: does decide start every job?")
        world.apply(decide(world.now, list(world.active)))
        epochs.append(world.snapshot())
        satisfied = all(job.level == world.num_levels[job.profile] for job in world.active)
        round_at = INF if satisfied else world.now + round_s
    return ReferenceResult(world.events, epochs, [_result(job) for job in world.jobs])


class _World:
    """Jobs and nodes at one instant."""

    def __init__(
        self, workload: Any, profiles: Any, cluster: Any, charge_first_start: bool
    ) -> None:
        self.charge_first_start = charge_first_start
        self.sizes = [[int(k) for k in row] for row in profiles.sizes]
        self.num_levels = [int(n) for n in profiles.num_levels]
        self.rates = profiles.rates
        self.restart_s = [float(s) for s in profiles.restart_s]
        self.capacity = [[float(c) for c in row] for row in cluster.capacity]
        self.node_type = [int(t) for t in cluster.node_type]
        self.num_types = len(cluster.gpu_types)
        self.num_gpus = int(cluster.num_gpus)
        self.now = 0.0
        self.active: list[ReferenceJob] = []  # in workload order
        self.events: list[tuple[float, str, int]] = []
        self.jobs = [
            ReferenceJob(
                index=j,
                profile=int(profiles.job_profile[j]),
                arrival=float(workload.arrival_s[j]),
                demand=[float(d) for d in workload.demand[j]],
                remaining=float(workload.duration_s[j]),
            )
            for j in range(len(workload.arrival_s))
        ]

    # Time

    def advance_to(self, t: float) -> None:
        """Let every running job hold its GPUs, and work, until t."""
        for job in self.active:
            if job.level > 0:
                held = t - self.now
                worked = max(0.0, t - max(self.now, job.resume_at))
                job.held += held
                job.attained += held * self.size(job, job.level)
                job.remaining = max(0.0, job.remaining - job.rate * worked)
        self.now = t

    def complete(self) -> None:
        for job in [job for job in self.active if job.finish_at <= self.now]:
            job.finish = self.now
            job.remaining = 0.0
            job.finish_at = INF
            job.placement = {}
            job.level = 0
            self.active.remove(job)
            self.log("finish", job)

    def arrive(self, job: ReferenceJob) -> None:
        job.waiting_since = job.arrival
        self.active.append(job)
        self.log("arrive", job)

    # One decision

    def apply(self, decided: Mapping[int, int]) -> None:
        targets = self.affordable(decided)
        for job in self.active:
            if targets[job.index] == 0 and job.level > 0:
                self.preempt(job)
        for job in self.active:
            if 0 < targets[job.index] < job.level:
                self.shrink(job, targets[job.index])
        rising = [job for job in self.active if targets[job.index] > job.level]
        rising.sort(key=lambda job: (-self.size(job, targets[job.index]), job.index))
        for job in rising:
            if job.level > 0:
                self.grow(job, targets[job.index])
            else:
                self.start(job, targets[job.index])

    def affordable(self, decided: Mapping[int, int]) -> dict[int, int]:
        """Targets within the profile and, together, within the cluster's GPUs."""
        targets = {
            job.index: min(max(int(decided[job.index]), 0), self.num_levels[job.profile])
            for job in self.active
        }
        for job in reversed(self.active):
            while targets[job.index] > 0 and self.total(targets) > self.num_gpus:
                targets[job.index] -= 1
        return targets

    def preempt(self, job: ReferenceJob) -> None:
        job.level = 0
        job.placement = {}
        job.rate = 0.0
        job.finish_at = INF
        job.waiting_since = self.now
        job.run_since = math.nan
        job.num_preemptions += 1
        self.log("preempt", job)

    def shrink(self, job: ReferenceJob, target: int) -> None:
        job.placement = {}
        for level in range(target, 0, -1):
            placement = self.place(job, level)
            if placement is not None:
                self.hold(job, level, placement, pays=True)
                self.log("shrink", job)
                return
        self.preempt(job)

    def grow(self, job: ReferenceJob, target: int) -> None:
        before = job.placement
        job.placement = {}
        placement = self.place(job, target)
        if placement is None:
            job.placement = before
            return
        self.hold(job, target, placement, pays=True)
        self.log("grow", job)

    def start(self, job: ReferenceJob, target: int) -> None:
        for level in range(target, 0, -1):
            placement = self.place(job, level)
            if placement is not None:
                first = math.isnan(job.first_start)
                if first:
                    job.first_start = self.now
                job.run_since = self.now
                self.hold(job, level, placement, pays=not first)
                self.log("start", job)
                return

    def hold(self, job: ReferenceJob, level: int, placement: dict[int, int], pays: bool) -> None:
        """Run at `level` on `placement` from now on; `pays`: a restart, not the first start."""
        job.level = level
        job.placement = placement
        if pays:
            job.num_restarts += 1
        costs = pays or self.charge_first_start
        job.resume_at = self.now + (self.restart_s[job.profile] if costs else 0.0)
        kind = self.node_type[next(iter(placement))]
        spans = int(len(placement) > 1)
        job.rate = float(self.rates[job.profile][kind][level][spans])
        job.finish_at = max(self.now, job.resume_at) + job.remaining / job.rate

    # Placement

    def place(self, job: ReferenceJob, level: int) -> dict[int, int] | None:
        """GPUs per node for the job at `level`, all on one GPU type, or None."""
        gpus = self.size(job, level)
        packed = [float(self.rates[job.profile][t][level][0]) for t in range(self.num_types)]
        for kind in sorted(range(self.num_types), key=lambda t: (-packed[t], t)):
            nodes = [n for n in range(len(self.capacity)) if self.node_type[n] == kind]
            fits = {n: self.fit(n, job) for n in nodes}
            if sum(fits.values()) >= gpus:
                return self.spread(gpus, fits)
        return None

    def spread(self, gpus: int, fits: dict[int, int]) -> dict[int, int]:
        """Take `gpus` from nodes that offer `fits`: as few nodes, then as tight, as it can."""
        free = {n: self.free(n)[0] for n in fits}
        placement: dict[int, int] = {}
        left = gpus
        while left > 0:
            rest = [n for n in fits if n not in placement]
            holding = [n for n in rest if fits[n] >= left]
            if holding:
                node = min(holding, key=lambda n: (free[n], n))
                placement[node] = left
            else:
                node = min(rest, key=lambda n: (-fits[n], n))
                placement[node] = fits[node]
            left -= placement[node]
        return placement

    def fit(self, node: int, job: ReferenceJob) -> int:
        """How many GPUs of the job the node could still carry."""
        free = self.free(node)
        return min(
            math.floor((free[r] + EPSILON) / job.demand[r])
            for r in range(len(free))
            if job.demand[r] > 0
        )

    def free(self, node: int) -> list[float]:
        left = list(self.capacity[node])
        for job in self.active:
            gpus = job.placement.get(node, 0)
            for r in range(len(left)):
                left[r] -= gpus * job.demand[r]
        return left

    # Small helpers

    def size(self, job: ReferenceJob, level: int) -> int:
        return self.sizes[job.profile][level]

    def total(self, levels: Mapping[int, int]) -> int:
        return sum(self.size(job, levels[job.index]) for job in self.active)

    def log(self, kind: str, job: ReferenceJob) -> None:
        self.events.append((self.now, kind, job.index))

    def snapshot(self) -> Epoch:
        return Epoch(
            self.now,
            {job.index: job.level for job in self.active},
            {job.index: dict(job.placement) for job in self.active},
            {job.index: job.finish_at for job in self.active},
        )


def _result(job: ReferenceJob) -> ReferenceJobResult:
    return ReferenceJobResult(
        job.first_start,
        job.finish,
        job.attained,
        job.num_preemptions,
        job.num_restarts,
        job.held,
    )
