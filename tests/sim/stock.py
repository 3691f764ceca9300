"""A few nodes as the placement kernels see them, with a check that the books balance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from marl_sched.sim.devices import MILLI, Demand, fits
from marl_sched.sim.fragmentation import Mix, ScoreCache
from marl_sched.sim.scoring import RULES, choose


class Stock:
    """N nodes; CPU and memory in whole units."""

    def __init__(
        self,
        cpu: Sequence[int],
        memory: Sequence[int],
        num_gpu: Sequence[int],
        node_type: Sequence[int] | None = None,
    ) -> None:
        self.cpu: np.ndarray = np.array(cpu, np.int64)
        self.memory: np.ndarray = np.array(memory, np.int64)
        self.num_devices = np.array(num_gpu, np.int64)
        width = int(self.num_devices.max())
        there = np.arange(width) < self.num_devices[:, None]
        self.device_free = np.where(there, MILLI, 0).astype(np.int64)
        self.residents = np.zeros((len(self.cpu), width + 1), np.int64)
        self.node_type = np.zeros(len(self.cpu), np.int64)
        if node_type is not None:
            self.node_type[:] = node_type
        self.full = [array.copy() for array in self.written]

    @property
    def written(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """What `devices.take` and `give_back` write."""
        return self.cpu, self.memory, self.device_free, self.residents

    def choose(
        self,
        rule: str,
        job: Demand,
        draw: Sequence[float],
        mix: Mix,
        kind: int,
        cache: ScoreCache,
    ) -> tuple[int, int]:
        """`scoring.choose` on these nodes; the largest has 16 CPUs and 4 GPUs."""
        node, device = choose(
            RULES.index(rule),
            np.array([self.fits(node, job) for node in range(len(self.cpu))]),
            self.cpu,
            self.device_free,
            self.num_devices,
            self.node_type,
            self.residents,
            job,
            16,
            4 * MILLI,
            np.array(draw, np.float64),
            mix,
            kind,
            cache,
        )
        return int(node), int(device)

    def fits(self, node: int, job: Demand) -> bool:
        free = self.cpu[node], self.memory[node], self.device_free[node]
        return bool(fits(*free, self.node_type[node], job))

    def is_empty(self) -> bool:
        return all((a == b).all() for a, b in zip(self.written, self.full, strict=True))

    def check(self, running: Sequence[tuple[int, Demand, int]]) -> None:
        """Free plus held is the capacity, nothing is negative, no device holds a whole and more."""
        cpu, memory, device_free, residents = (array.copy() for array in self.written)
        assert min(cpu.min(), memory.min(), device_free.min()) >= 0
        holders: dict[tuple[int, int], list[int]] = {}
        for node, job, held in running:
            cpu[node] += job.cpu
            memory[node] += job.memory
            for g in range(device_free.shape[1]):
                if held >> g & 1:
                    device_free[node, g] += job.gpu_milli
                    holders.setdefault((node, g), []).append(job.gpu_milli)
            if job.num_gpu > 0:
                residents[node, 0 if job.gpu_milli < MILLI else job.num_gpu] -= 1
        now = (cpu, memory, device_free, residents)
        assert all((a == b).all() for a, b in zip(now, self.full, strict=True))
        for shares in holders.values():
            assert shares == [MILLI] or (max(shares) < MILLI and sum(shares) <= MILLI)
