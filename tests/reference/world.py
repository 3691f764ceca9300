"""Jobs and nodes at one instant, and how they move to a later one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.reference.draws import JOB_FAILURES, exponential
from tests.reference.nodes import ReferenceNode, given_to
from tests.reference.records import Epoch, ReferenceJob
from tests.reference.rules import HOUR, INF, WHOLE, Rules


class ReferenceWorld:
    """Everything that has a state; what follows from it is computed when asked for."""

    def __init__(
        self, workload: Any, profiles: Any, cluster: Any, charge_first_start: bool, rules: Rules
    ) -> None:
        self.rules = rules
        self.charge_first_start = charge_first_start
        self.sizes = [[int(k) for k in row] for row in profiles.sizes]
        self.num_levels = [int(n) for n in profiles.num_levels]
        self.request_level = [int(n) for n in getattr(profiles, "request_level", [])]
        self.rates = profiles.rates
        self.restart_s = profiles.restart_s
        self.num_types = len(cluster.gpu_types)
        self.num_gpus = int(cluster.num_gpus)
        self.now = 0.0
        self.capacity_gpu_s = 0.0
        self.idle_gpu_s = 0.0
        self.active: list[ReferenceJob] = []  # in workload order
        self.events: list[tuple[float, str, int]] = []
        self.node_events: list[tuple[float, str, int]] = []
        self.nodes = read_nodes(cluster, rules)
        self.jobs = read_jobs(workload, profiles, self.num_types)
        for job in self.jobs:
            job.fail_budget = self.time_to_failure(job)

    @property
    def running(self) -> list[ReferenceJob]:
        return [job for job in self.active if job.level > 0]

    def size(self, job: ReferenceJob, level: int) -> int:
        return self.sizes[job.profile][level]

    def gpus(self, job: ReferenceJob, level: int) -> float:
        """GPUs held at `level`; a share counts as the part that it is."""
        return self.size(job, level) * job.milli / WHOLE

    def restart(self, job: ReferenceJob, level: int) -> float:
        """Seconds that a start at `level` takes."""
        cost = self.restart_s[job.profile]
        return float(cost[level] if hasattr(cost, "__len__") else cost)

    def free_milli(self, node: int) -> list[int]:
        """Free thousandths of each GPU of the node."""
        free = [WHOLE] * int(self.nodes[node].capacity[0])
        for job in self.active:
            for device in job.devices.get(node, []):
                free[device] -= job.milli
        return free

    def free_resources(self, node: int) -> list[float]:
        """Free CPUs, memory and bandwidth; the first entry, GPUs, is `free_milli`'s matter.

        To nine decimals, so that equal nodes are equal.
        """
        left = list(self.nodes[node].capacity)
        for job in self.active:
            gpus = job.placement.get(node, 0)
            for r in range(len(left)):
                left[r] -= gpus * job.demand[r]
        return [round(amount, 9) for amount in left]

    def free_gpus(self, kind: int) -> float:
        """GPUs of one type that are free on nodes which take jobs."""
        nodes = [node.index for node in self.nodes if node.kind == kind and node.is_open]
        return sum(sum(self.free_milli(node)) for node in nodes) / WHOLE

    def release(self) -> None:
        """GPUs have come back: whoever was refused may be lucky now."""
        for job in self.active:
            job.refused = False

    def time_to_failure(self, job: ReferenceJob) -> float:
        """Held seconds between the job's last failure, or its first start, and the next one."""
        if job.failures_per_h == 0.0:
            return INF
        mean = HOUR / job.failures_per_h
        number = self.rules.first_job + job.index
        return exponential(mean, self.rules.seed, JOB_FAILURES, number, job.retries)

    def advance_to(self, t: float) -> None:
        """Let every running job hold its GPUs, and work, until t."""
        dt = t - self.now
        up = sum(node.capacity[0] for node in self.nodes if node.is_up)
        held = 0.0
        for job in self.running:
            gpus = self.gpus(job, job.level)
            seconds = max(0.0, t - max(self.now, job.resume_at))
            job.held += dt
            job.attained += dt * gpus
            job.productive += seconds * gpus
            job.overhead += (dt - seconds) * gpus
            job.worked.append((seconds, job.rate))
            job.remaining = max(0.0, job.remaining - job.rate * seconds)
            held += gpus
        self.capacity_gpu_s += up * dt
        self.idle_gpu_s += (up - held) * dt
        self.now = t

    def log(self, kind: str, job: ReferenceJob) -> None:
        self.events.append((self.now, kind, job.index))

    def snapshot(self) -> Epoch:
        return Epoch(
            self.now,
            {job.index: job.level for job in self.active},
            {job.index: dict(job.placement) for job in self.active},
            {job.index: job.finish_at for job in self.active},
        )

    def total(self, levels: Mapping[int, int], tenant: int | None = None) -> float:
        """GPUs at these levels, of all active jobs or of one tenant's."""
        return sum(
            self.size(job, levels[job.index]) * job.milli
            for job in self.active
            if tenant is None or job.tenant == tenant
        ) / WHOLE  # fmt: skip


def read_nodes(cluster: Any, rules: Rules) -> list[ReferenceNode]:
    racks = getattr(cluster, "rack", None)
    nodes = []
    for n, (row, kind) in enumerate(zip(cluster.capacity, cluster.node_type, strict=True)):
        node = ReferenceNode(n, [float(c) for c in row], int(kind))
        node.rack = 0 if racks is None else int(racks[n])
        node.given = given_to(rules.node_events, n)
        node.draw(rules)
        nodes.append(node)
    return nodes


def read_jobs(workload: Any, profiles: Any, num_types: int) -> list[ReferenceJob]:
    count = len(workload.arrival_s)

    def column(name: str, default: Any) -> Any:
        given = getattr(workload, name, None)
        if given is not None and hasattr(given, "of"):  # parents in compressed rows
            return [given.of(j) for j in range(count)]
        return [default] * count if given is None or callable(given) else given

    everywhere = [True] * num_types
    return [
        ReferenceJob(
            index=j,
            profile=int(profiles.job_profile[j]),
            arrival=float(workload.arrival_s[j]),
            demand=[float(d) for d in workload.demand[j]],
            remaining=float(workload.duration_s[j]),
            tenant=int(column("tenant", 0)[j]),
            cancel_at=float(column("cancel_at_s", INF)[j]),
            failures_per_h=float(column("failures_per_h", 0.0)[j]),
            max_retries=int(column("max_retries", 0)[j]),
            checkpoint_interval=float(column("checkpoint_interval_s", 0.0)[j]),
            parents=[int(p) for p in column("parents", ())[j]],
            allowed=[bool(a) for a in column("allowed_types", everywhere)[j]],
            loader_cpus=float(column("loader_cpus", 0.0)[j]),
            milli=int(column("gpu_milli", WHOLE)[j]),
        )
        for j in range(count)
    ]
