"""Tiresias-L with real queues, as Muri's artifact runs it.

A job enters at the tail of the first queue and drops to the tail of the next one when its
attained service reaches the queue's limit. Queues are served in order, each from its head,
passing over jobs that do not fit; after that, those that wait move behind those that run.
Source: Gu et al., "Tiresias", NSDI 2019; the order within queues is the artifact's.
"""

from __future__ import annotations

import math

import numpy as np

from marl_sched.types import Allocation, ClusterView, NodeView


class QueuedTiresias:
    """A planner that remembers the order within its queues.

    Args:
        limits_gpu_s: service at which a job leaves each queue but the last.
        num_gpus: (J,) int64, request of each job of the workload.
    """

    def __init__(self, limits_gpu_s: tuple[float, ...], num_gpus: np.ndarray) -> None:
        self._limits = limits_gpu_s
        self._gpus = num_gpus
        self._queues: list[list[int]] = [[] for _ in range(len(limits_gpu_s) + 1)]
        self._queue: dict[int, int] = {}
        self._executed_s: dict[int, float] = {}
        self._running: set[int] = set()
        self._checked_s = 0.0

    def allocate(self, view: ClusterView, nodes: NodeView) -> Allocation:
        """Requests of the jobs served, and when the next running job reaches its limit."""
        rows = {int(job): row for row, job in enumerate(view.job)}
        self._drop(set(self._queue) - set(rows))
        for job in sorted(set(rows) - set(self._queue)):
            self._queue[job] = 0
            self._executed_s[job] = 0.0
            self._queues[0].append(job)
        # In order of arrival, as the artifact goes through its jobs.
        for job in sorted(self._running):
            # From left to right, as there: otherwise a job may end up short of its limit by less
            # than the clock can tell apart, and the time of its wake-up is now for ever.
            self._executed_s[job] = self._executed_s[job] + view.now_s - self._checked_s
            self._demote(job)
        self._checked_s = view.now_s
        self._serve(view.num_gpus)
        gpus = np.zeros(len(rows), dtype=np.int64)
        for job in self._running:
            gpus[rows[job]] = self._gpus[job]
        return Allocation(gpus=gpus, wake_s=self._next_limit_s(view.now_s))

    def _drop(self, gone: set[int]) -> None:
        for job in gone:
            self._queues[self._queue.pop(job)].remove(job)
            self._running.discard(job)

    def _demote(self, job: int) -> None:
        queue = self._queue[job]
        if queue < len(self._limits):
            if self._executed_s[job] * self._gpus[job] >= self._limits[queue]:
                self._queues[queue].remove(job)
                self._queues[queue + 1].append(job)
                self._queue[job] = queue + 1

    def _serve(self, free: int) -> None:
        running = set()
        for queue in self._queues:
            for job in queue:
                if self._gpus[job] <= free:
                    running.add(job)
                    free -= int(self._gpus[job])
        self._running = running
        for queue in self._queues:
            queue.sort(key=lambda job: job not in running)

    def _next_limit_s(self, now_s: float) -> float:
        wake_s = math.inf
        for job in self._running:
            if self._queue[job] < len(self._limits):
                limit_s = math.ceil(self._limits[self._queue[job]] / self._gpus[job])
                wake_s = min(wake_s, limit_s - self._executed_s[job] + now_s)
        return wake_s
