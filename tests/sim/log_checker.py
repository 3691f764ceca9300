"""An independent judge of event logs: every rule of `docs/model.md` that a log alone can break.

It reads the jobs, the cluster, the settings, the node events and the rows of the log, and shares
no code with the simulator. What happens at one instant counts when the instant is over, for a
decision takes and gives back at once.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from marl_sched.config import SimConfig
from marl_sched.perf.profiles import ProfileTable
from marl_sched.types import Cluster
from marl_sched.workload import Workload

KINDS = (
    "arrive", "start", "grow", "shrink", "preempt", "finish", "fail", "cancel", "node_down",
    "node_up", "place", "move",
)  # fmt: skip
"""By number, as `evaluation/events.py` documents the log."""
STARTS = ("start", "grow", "shrink", "move")
GIVEN = ("down", "up", "reclaim")
"""Kinds of the given node events by number."""

SLACK = 1e-6
"""Of resources, and relative of work and times."""

RESOURCES = ("GPUs", "CPUs", "GB of memory", "Gbit/s")


@dataclass(frozen=True)
class Case:
    """One run as it was asked for. Shapes as in `Workload` and `ProfileTable`."""

    workload: Workload
    profiles: ProfileTable
    cluster: Cluster
    sim: SimConfig
    node_events: np.ndarray  # (G, 4): time, node, kind, notice in seconds
    preemptive: bool = True  # whether the scheduler may take GPUs from a running job


@dataclass
class JobState:
    """What the log has said of a job so far."""

    arrived: bool = False
    ended: str = ""
    nodes: dict[int, int] = field(default_factory=dict)  # GPUs (or shares) by node
    before: dict[int, int] = field(default_factory=dict)  # where it was before its last row
    runs: bool = False
    starts: int = 0
    failures: int = 0
    resume_s: float = 0.0
    rate: float = 0.0
    done: float = 0.0  # isolated seconds
    pieces: list[tuple[float, float]] = field(default_factory=list)  # seconds, rate of this run
    expected: float = 0.0  # GPUs that the rows `place` still have to name


def violations(log: np.ndarray, case: Case) -> list[str]:
    """What is wrong in `log` (E, 6): a line for each finding, the first ones of a run first."""
    judge = Judge(case)
    times = log[:, 0]
    if (np.diff(times) < 0).any():
        return ["the rows are not in order of time"]
    rows = [(float(t), KINDS[int(k)], int(j), g, int(n), x) for t, k, j, g, n, x in log.tolist()]
    for at, row in enumerate(rows):
        if row[0] > judge.now:
            judge.end_instant()
            judge.move_to(row[0])
        judge.read(*row[1:])
        if at + 1 == len(rows) or rows[at + 1][1] != "place":
            judge.end_places()
    judge.end_instant()
    judge.end_log()
    return judge.found


class Judge:
    """Reads a log row by row and notes what breaks a rule."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.found: list[str] = []
        self.now = -1.0
        self.jobs = [JobState() for _ in range(len(case.workload))]
        self.down: set[int] = set()
        self.going: tuple[int, bool] | None = None  # node whose jobs are stopping, and abruptly
        self.placing = -1
        self.arrival_s = case.workload.arrival_s - case.workload.arrival_s[0]
        self.notices = notices_of(case)
        self.types = case.cluster.node_type
        self.racks = case.cluster.node_rack
        self.capacity = case.cluster.capacity
        quota = case.sim.tenant_quota
        self.quota = [quota.get(name, np.inf) for name in case.workload.tenants]
        self.counted = not case.sim.overhead_each_epoch  # work can be told from the log

    def wrong(self, text: str, job: int | None = None) -> None:
        who = "" if job is None else f"job {job}: "
        self.found.append(f"at {self.now:.9g} s: {who}{text}")

    # -- time

    def move_to(self, t: float) -> None:
        """Let every running job work until `t`."""
        for job, state in enumerate(self.jobs):
            if not state.runs:
                continue
            seconds = max(0.0, t - max(self.now, state.resume_s))
            state.done += seconds * state.rate
            state.pieces.append((seconds, state.rate))
            if self.tells_work(job) and state.done > self.work(job) + self.slack(job):
                self.wrong("runs on after its work is done", job)
        self.now = t

    def end_instant(self) -> None:
        """All that must hold whenever nothing happens."""
        self.going = None
        self.check_nodes()
        self.check_quotas()
        spanning: dict[int, int] = defaultdict(int)
        for state in self.jobs:
            if state.runs and len(state.nodes) > 1:
                for node in state.nodes:
                    spanning[node] += 1
        for job, state in enumerate(self.jobs):
            if state.runs:
                state.rate = self.rate(job, spanning)

    def end_log(self) -> None:
        for job, state in enumerate(self.jobs):
            if not state.ended:
                self.wrong("never ends", job)

    # -- rows

    def read(self, kind: str, job: int, gpus: float, node: int, extra: float) -> None:
        if kind == "node_down":
            self.node_down(node, extra)
        elif kind == "node_up":
            if node not in self.down:
                self.wrong(f"node {node} comes up and was not down")
            self.down.discard(node)
        elif kind == "place":
            self.place(job, gpus, node)
        else:
            self.own_row(kind, job, gpus, extra)

    def node_down(self, node: int, extra: float) -> None:
        if node in self.down:
            self.wrong(f"node {node} goes down and was down")
        self.down.add(node)
        self.going = (node, extra == 0.0)

    def own_row(self, kind: str, job: int, gpus: float, extra: float) -> None:
        state = self.jobs[job]
        if state.ended:
            self.wrong(f"{kind} after its {state.ended}", job)
        if kind == "arrive":
            self.arrive(job, gpus)
        elif kind == "cancel":
            self.cancel(job)
        elif not state.arrived:
            self.wrong(f"{kind} before it arrives", job)
        elif kind in STARTS:
            self.start(kind, job, gpus, extra)
        elif not state.runs:
            self.wrong(f"{kind} while it holds nothing", job)
        elif kind == "preempt":
            self.preempt(job, extra)
        elif kind == "fail":
            self.fail(job, extra)
        else:
            self.finish(job)

    def arrive(self, job: int, gpus: float) -> None:
        state, work = self.jobs[job], self.case.workload
        if state.arrived:
            self.wrong("arrives twice", job)
        state.arrived = True
        due_s = self.arrival_s[job]
        for parent in work.parents.of(job).tolist():
            if self.jobs[parent].ended != "finish":
                self.wrong(f"arrives before its parent {parent} has finished", job)
        if not len(work.parents.of(job)) and not self.near(self.now, due_s):
            self.wrong(f"arrives, due at {due_s:.9g} s", job)
        if self.now < due_s - SLACK:
            self.wrong(f"arrives early, due at {due_s:.9g} s", job)
        asked = work.num_gpus[job] * work.demand[job, 0]
        if not self.near(gpus, asked):
            self.wrong(f"asks for {gpus:g} GPUs in place of {asked:g}", job)

    def cancel(self, job: int) -> None:
        work = self.case.workload
        due_s = work.cancel_s[job] - work.arrival_s[0]
        parents = [self.jobs[p].ended for p in work.parents.of(job).tolist()]
        orphan = "fail" in parents or "cancel" in parents
        if not orphan and self.now < due_s - SLACK * max(1.0, due_s):
            self.wrong(f"is cancelled, due at {due_s:.9g} s", job)
        self.release(job)
        self.jobs[job].ended = "cancel"

    def start(self, kind: str, job: int, gpus: float, extra: float) -> None:
        state, sizes = self.jobs[job], self.sizes(job)
        self.end_places()
        held = sum(state.nodes.values()) if state.runs else 0
        count = round(gpus / self.case.workload.demand[job, 0])
        if count not in sizes[1:]:
            self.wrong(f"{kind} on {gpus:g} GPUs, no size of it", job)
        right = {"start": not state.runs, "grow": 0 < held < count, "shrink": count < held}
        if not right.get(kind, held == count):
            self.wrong(f"{kind} from {held} to {count} GPUs", job)
        if not self.case.preemptive and kind != "start":
            self.wrong(f"{kind} under a rule that leaves running jobs alone", job)
        self.check_round(kind, job)
        cost = self.restart_s(job, count) if count in sizes[1:] else 0.0
        if state.starts == 0 and not self.case.sim.charge_first_start:
            cost = 0.0
        if not self.near(extra, cost):
            self.wrong(f"{kind} costs {extra:g} s in place of {cost:g}", job)
        state.starts += 1
        state.before, state.nodes, state.pieces = state.nodes, {}, []
        state.runs, state.resume_s, state.expected = True, self.now + extra, gpus
        self.placing = job

    def place(self, job: int, gpus: float, node: int) -> None:
        if job != self.placing:
            self.wrong("a place without a start right before it", job)
            return
        state = self.jobs[job]
        share = self.case.workload.demand[job, 0]
        count = round(gpus / share)
        if count < 1 or not self.near(count * share, gpus) or node in state.nodes:
            self.wrong(f"holds {gpus:g} GPUs of node {node}, no number of its shares", job)
        state.nodes[node] = state.nodes.get(node, 0) + count
        state.expected -= gpus
        if node in self.down:
            self.wrong(f"is placed on node {node}, which is down", job)
        for begin_s, end_s in self.notices[node]:
            if begin_s <= self.now < end_s:
                self.wrong(f"is placed on node {node}, under notice until {end_s:.9g} s", job)
        allowed = int(self.case.workload.gpu_type_mask[job])
        if not allowed >> int(self.types[node]) & 1:
            self.wrong(f"is placed on node {node}, of a GPU type it must not have", job)

    def end_places(self) -> None:
        """The rows `place` of a start are over: the gang is whole, on one GPU type."""
        if self.placing < 0:
            return
        job, self.placing = self.placing, -1
        state = self.jobs[job]
        if abs(state.expected) > SLACK:
            self.wrong(f"holds {state.expected:g} GPUs less than it is said to", job)
        if len({int(self.types[node]) for node in state.nodes}) > 1:
            self.wrong("holds GPUs of two types", job)
        if state.nodes == state.before and state.starts > 1:
            self.wrong("restarts where it is", job)

    def preempt(self, job: int, extra: float) -> None:
        state = self.jobs[job]
        if extra == 1.0:
            if self.going is None or self.going[0] not in state.nodes:
                self.wrong("stops with a node that it is not on", job)
            elif self.going[1]:
                self.lose(job)
        else:
            self.check_round("preempt", job)
            if not self.case.preemptive:
                self.wrong("preempt under a rule that leaves running jobs alone", job)
        self.release(job)

    def fail(self, job: int, extra: float) -> None:
        state = self.jobs[job]
        self.lose(job)
        state.failures += 1
        most = self.case.workload.max_retries[job]
        if self.case.sim.max_retries is not None:
            most = min(most, self.case.sim.max_retries)
        if (state.failures > most) != (extra == 1.0):
            self.wrong(f"fails for the {state.failures}th time, may try again {most} times", job)
        self.release(job)
        if extra == 1.0:
            state.ended = "fail"

    def finish(self, job: int) -> None:
        state = self.jobs[job]
        if self.tells_work(job) and abs(state.done - self.work(job)) > self.slack(job):
            self.wrong(f"finishes with {state.done:.9g} of {self.work(job):.9g} s done", job)
        self.release(job)
        state.ended = "finish"

    def release(self, job: int) -> None:
        state = self.jobs[job]
        state.nodes, state.before, state.runs, state.pieces = {}, {}, False, []

    def lose(self, job: int) -> None:
        """Undo the work since the last checkpoint of this run."""
        state = self.jobs[job]
        interval = self.case.workload.checkpoint_interval_s[job]
        interval = self.case.sim.checkpoint_interval_s if np.isnan(interval) else interval
        if interval <= 0.0:
            return
        worked = sum(seconds for seconds, _ in state.pieces)
        undone = worked - np.floor(worked / interval + 1e-12) * interval
        for seconds, rate in reversed(state.pieces):
            state.done -= rate * min(seconds, undone)
            undone -= min(seconds, undone)

    # -- what holds at every moment

    def check_nodes(self) -> None:
        used = np.zeros_like(self.capacity)
        shares: dict[int, list[int]] = defaultdict(list)
        whole: dict[int, int] = defaultdict(int)
        for job, state in enumerate(self.jobs):
            demand = self.case.workload.demand[job]
            for node, count in state.nodes.items():
                used[node] += count * demand
                if demand[0] < 1.0:
                    shares[node] += [round(1000 * demand[0])] * count
                else:
                    whole[node] += count
                if node in self.down:
                    self.wrong(f"holds GPUs of node {node}, which is down", job)
        for node, r in np.argwhere(used > self.capacity + SLACK).tolist():
            have, most = used[node, r], self.capacity[node, r]
            self.wrong(f"node {node}: {have:g} of {most:g} {RESOURCES[r]} are held")
        for node, sizes in shares.items():
            devices = int(self.capacity[node, 0]) - whole[node]
            if not packs(sorted(sizes, reverse=True), [1000] * devices):
                self.wrong(f"node {node}: shares of {sizes} do not fit {devices} devices")

    def check_quotas(self) -> None:
        held = np.zeros(len(self.quota))
        work = self.case.workload
        for job, state in enumerate(self.jobs):
            held[work.tenant[job]] += sum(state.nodes.values()) * work.demand[job, 0]
        for tenant, quota in enumerate(self.quota):
            if held[tenant] > quota + SLACK:
                self.wrong(f"tenant {tenant} holds {held[tenant]:g} GPUs, its quota is {quota:g}")

    def check_round(self, kind: str, job: int) -> None:
        sim = self.case.sim
        rounds = self.now / sim.round_s
        if sim.decide_on == "rounds" and abs(rounds - round(rounds)) > SLACK:
            self.wrong(f"{kind} between two rounds", job)

    # -- what a job is

    def sizes(self, job: int) -> list[int]:
        profile = self.case.profiles.job_profile[job]
        most = self.case.profiles.num_levels[profile]
        return [int(size) for size in self.case.profiles.sizes[profile, : most + 1]]

    def restart_s(self, job: int, count: int) -> float:
        profile = self.case.profiles.job_profile[job]
        return float(self.case.profiles.restart_s[profile, self.sizes(job).index(count)])

    def work(self, job: int) -> float:
        return float(self.case.workload.duration_s[job])

    def slack(self, job: int) -> float:
        return SLACK * max(1.0, self.work(job)) * 10.0

    def tells_work(self, job: int) -> bool:
        """Whether the log tells how fast the job is: of a share it does not, naming no device."""
        return self.counted and self.case.workload.demand[job, 0] == 1.0

    def rate(self, job: int, spanning: dict[int, int]) -> float:
        """Progress of a running job; spanning: gangs that span nodes, by node."""
        state, profiles = self.jobs[job], self.case.profiles
        count = sum(state.nodes.values())
        if count not in self.sizes(job)[1:]:
            return 0.0
        nodes = list(state.nodes)
        row = profiles.rates[
            profiles.job_profile[job], self.types[nodes[0]], self.sizes(job).index(count)
        ]
        span = min(len(nodes) > 1, 1) + (len({int(self.racks[n]) for n in nodes}) > 1)
        rate = float(row[min(span, len(row) - 1)])
        loader = self.case.workload.loader_cpus_per_gpu[job]
        if loader > 0.0:
            per_gpu = [
                max(self.case.workload.demand[job, 1], self.capacity[n, 1] / self.capacity[n, 0])
                for n in nodes
            ]
            rate *= min(1.0, min(per_gpu) / loader)
        if span and self.case.sim.network_contention:
            network = 1.0 / row[min(span, len(row) - 1)] - 1.0 / row[0]
            step = 1.0 / row[0]
            most = max(spanning[n] for n in nodes)
            rate *= (step + network) / (step + network * most)
        return rate

    def near(self, one: float, other: float) -> bool:
        return abs(one - other) <= SLACK * max(1.0, abs(other))


def notices_of(case: Case) -> dict[int, list[tuple[float, float]]]:
    """From when to when each node is under notice: whatever happens to it in between."""
    notices: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for time_s, node, kind, notice_s in case.node_events.tolist():
        if GIVEN[int(kind)] == "reclaim":
            notices[int(node)].append((time_s, time_s + notice_s))
    return notices


def packs(sizes: list[int], devices: list[int]) -> bool:
    """Whether shares, the largest first, fit devices with so many thousandths free."""
    if not sizes:
        return True
    tried: set[int] = set()
    for at in range(len(devices)):
        if devices[at] >= sizes[0] and devices[at] not in tried:
            tried.add(devices[at])
            less = [*devices[:at], devices[at] - sizes[0], *devices[at + 1 :]]
            if packs(sizes[1:], less):
                return True
    return False


def columns_of(log: np.ndarray) -> dict[str, Any]:
    """How often each kind of row occurs: tests assert that what they check does happen."""
    names, counts = np.unique(log[:, 1].astype(int), return_counts=True)
    return {KINDS[name]: int(count) for name, count in zip(names, counts, strict=True)}
