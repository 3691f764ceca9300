"""The two baselines of Pollux' simulator, which keep running jobs where they are.

Both see a job as (index, request, batch size, model) and answer with nodes, one entry a GPU, in the
order in which they were taken. Source: Qiao et al., "Pollux", OSDI 2021, artifact; Gu et al.,
"Tiresias", NSDI 2019; Peng et al., "Optimus", EuroSys 2018.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from marl_sched.reproduce.replay import ReplayedModel

QUEUE_LIMIT_GPU_S = 16 * 3600.0
"""Executed time x GPUs at which a job drops to the second queue."""

NODE_GPUS = 4
"""GPUs of a node in Optimus' estimate of a job's speed."""

Places = dict[int, list[int]]


@dataclass
class ReplayedJob:
    """A job as the rules see it."""

    index: int
    model: ReplayedModel
    num_gpus: int
    batch: int
    arrival_s: float = 0.0
    epoch: int = 0
    remaining: float = 0.0
    """True work left, in iterations at the initial batch size; no rule may look ahead by it."""
    nodes: list[int] = field(default_factory=list)
    """Node of each GPU that it holds."""


def ring(nodes: list[int]) -> tuple[int, ...]:
    """GPUs on each node, in the order in which the nodes were taken."""
    digits: list[int] = []
    for i, node in enumerate(nodes):
        if i and node == nodes[i - 1]:
            digits[-1] += 1
        else:
            digits.append(1)
    return tuple(digits)


def take_greedily(free: np.ndarray, gpus: int) -> list[int]:
    """Nodes with most GPUs free first; lowers `free` (N,)."""
    taken: list[int] = []
    while len(taken) < gpus:
        node = int(np.argmax(free))
        part = min(int(free[node]), gpus - len(taken))
        taken += [node] * part
        free[node] -= part
    return taken


def left_by(held: Places, capacity: np.ndarray) -> np.ndarray:
    free = capacity.copy()
    for nodes in held.values():
        np.subtract.at(free, nodes, 1)
    return free


class Rule(Protocol):
    """One scheduler's run."""

    def decide(self, now_s: float, jobs: list[ReplayedJob], capacity: np.ndarray) -> Places:
        """Nodes of each job that runs from now on.

        Args:
            jobs: the active ones.
            capacity: (N,) GPUs of each node.
        """

    def rates(self, now_s: float, job: ReplayedJob, moved: bool) -> np.ndarray:
        """(F,) progress per second in each epoch of a job that runs, until the next round."""


class FixedBatch:
    """Jobs train with the batch size that the workload gives."""

    def __init__(self) -> None:
        self._rates: dict[int, np.ndarray] = {}

    def rates(self, now_s: float, job: ReplayedJob, moved: bool) -> np.ndarray:
        """(F,) progress per second in each epoch, on the nodes that the job has."""
        if moved:
            self._rates[job.index] = job.model.progress_per_s(ring(job.nodes), job.batch)
        return self._rates[job.index]


class TwoQueues(FixedBatch):
    """Tiresias with two queues, no promotion; requests in order, passing over who does not fit."""

    def __init__(self) -> None:
        super().__init__()
        self._queues: tuple[list[int], list[int]] = ([], [])
        self._runs: dict[int, bool] = {}
        self._executed_s: dict[int, float] = {}
        self._seen_s: dict[int, float] = {}

    def decide(self, now_s: float, jobs: list[ReplayedJob], capacity: np.ndarray) -> Places:
        """Nodes of each job that runs from now on."""
        by_index = {job.index: job for job in jobs}
        for queue in self._queues:
            queue[:] = [job for job in queue if job in by_index]
        for job in jobs:
            self._account(now_s, job)
        order = self._queues[0] + self._queues[1]
        left = int(capacity.sum())
        held = {job.index: job.nodes for job in jobs if job.nodes}
        for index in order:
            self._runs[index] = by_index[index].num_gpus <= left
            if self._runs[index]:
                left -= by_index[index].num_gpus
            else:
                held.pop(index, None)
        free = left_by(held, capacity)
        for index in order:
            if self._runs[index] and index not in held:
                held[index] = take_greedily(free, by_index[index].num_gpus)
        return held

    def _account(self, now_s: float, job: ReplayedJob) -> None:
        first, second = self._queues
        if job.index not in self._runs:
            self._runs[job.index] = False
            self._executed_s[job.index] = 0.0
            first.append(job.index)
        if self._runs[job.index]:
            self._executed_s[job.index] += now_s - self._seen_s[job.index]
            spent = self._executed_s[job.index] * job.num_gpus
            if job.index in first and spent >= QUEUE_LIMIT_GPU_S:
                first.remove(job.index)
                second.append(job.index)
        self._seen_s[job.index] = now_s


class OptimusOracle(FixedBatch):
    """One more GPU for whom it shortens the rest most, given the true iterations left."""

    def decide(self, now_s: float, jobs: list[ReplayedJob], capacity: np.ndarray) -> Places:
        """Nodes of each job that runs from now on."""
        count = self._counts(jobs, int(capacity.sum()))
        held = {
            job.index: job.nodes for job in jobs if job.nodes and len(job.nodes) == count[job.index]
        }
        free = left_by(held, capacity)
        for job in sorted(jobs, key=lambda job: count[job.index]):
            if count[job.index] and job.index not in held:
                held[job.index] = take_greedily(free, count[job.index])
        return held

    def _counts(self, jobs: list[ReplayedJob], left: int) -> dict[int, int]:
        count, gain = {}, {}
        for job in jobs:
            count[job.index] = min(left, 1)
            left -= count[job.index]
            gain[job.index] = self._gain(job, count[job.index], left)
        by_index = {job.index: job for job in jobs}
        while left > 0 and max(gain.values()) > 0:
            best = max(gain, key=gain.__getitem__)
            count[best] += 1
            # Its next gain is judged before the GPU is taken, as in the artifact.
            gain[best] = self._gain(by_index[best], count[best], left)
            left -= 1
        return count

    def _gain(self, job: ReplayedJob, gpus: int, left: int) -> float:
        most = 1 if job.model.name == "ncf" else job.batch // job.model.min_local_batch
        if gpus == 0 or gpus + 1 > most or left < 1:
            return 0.0
        return (_seconds(job, gpus) - _seconds(job, gpus + 1)) * _iterations_left(job)


def _seconds(job: ReplayedJob, gpus: int) -> float:
    """Of one iteration on GPUs packed on nodes of `NODE_GPUS`."""
    full, rest = divmod(gpus, NODE_GPUS)
    digits = (NODE_GPUS,) * full + ((rest,) if rest else ())
    return job.model.iteration_s(digits, *job.model.split(job.batch, gpus, accumulate=True))


def _iterations_left(job: ReplayedJob) -> float:
    last = job.model.max_epochs - 1
    if last <= job.epoch:
        return 1.0
    done = job.model.iterations(job.batch)
    return float(done[last] - done[job.epoch])
