"""Closed form of data-parallel training speed: iteration time, throughput and goodput.

    T_grad(m)      = a_c + b_c m
    T_sync(K, N)   = 0 for K = 1, a_r + b_r (K - 2) on one node, a_n + b_n (K - 2) on several
    T_iter         = s T_grad + (T_grad^g + T_sync^g)^(1/g)
    M              = K m (s + 1)
    throughput     = M / T_iter
    efficiency(M)  = (phi + M0) / (phi + M)
    goodput        = max over M of throughput x efficiency

K GPUs on N nodes, m samples per GPU, s accumulation steps, M samples in a step, phi the gradient
noise scale, M0 the smallest batch. g = 1: no overlap of computation and synchronisation; large g:
full overlap. Source: Qiao et al., Pollux, OSDI 2021.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

GRID_POINTS = 96
"""Batch sizes tried between the smallest and the largest; goodput moves < 0.1 % with more."""


@dataclass(frozen=True)
class Throughput:
    """Constants of one model on one GPU type; times in seconds."""

    a_c: float
    """Fixed part of computing a gradient."""
    b_c: float
    """Seconds per sample of the GPU's own batch."""
    a_r: float
    """Synchronisation of two GPUs on one node."""
    b_r: float
    """Each GPU more on one node."""
    a_n: float
    """Synchronisation of two GPUs on different nodes."""
    b_n: float
    """Each GPU more across nodes."""
    gamma: float
    """Overlap of computation and synchronisation, 1 (none) to 10 (full)."""

    def grad_s(self, local_batch: ArrayLike) -> np.ndarray:
        """Seconds to compute a gradient of `local_batch` samples on each GPU."""
        return self.a_c + self.b_c * np.asarray(local_batch, float)

    def sync_s(self, gpus: ArrayLike, nodes: ArrayLike) -> np.ndarray:
        """Seconds to synchronise `gpus` GPUs on `nodes` nodes."""
        gpus, nodes = np.asarray(gpus), np.asarray(nodes)
        more = np.maximum(gpus - 2, 0)
        within, across = self.a_r + self.b_r * more, self.a_n + self.b_n * more
        return np.where(gpus <= 1, 0.0, np.where(nodes <= 1, within, across))

    def iteration_s(
        self, gpus: ArrayLike, nodes: ArrayLike, local_batch: ArrayLike, accumulation: ArrayLike = 0
    ) -> np.ndarray:
        """Seconds of one step; all arguments broadcast together."""
        grad = self.grad_s(local_batch)
        sync = self.sync_s(gpus, nodes)
        # Scaled by the larger of the two: powers up to 10 of small times would underflow.
        high, low = np.maximum(grad, sync), np.minimum(grad, sync)
        overlapped = high * (1.0 + (low / high) ** self.gamma) ** (1.0 / self.gamma)
        return np.asarray(accumulation) * grad + overlapped


@dataclass(frozen=True)
class BatchRange:
    """Batch sizes that a model may train with, and what a sample is worth at each."""

    min_batch: float
    """M0, where a sample is worth 1."""
    max_batch: float
    """Largest batch known to converge; equal to `min_batch` for a fixed batch."""
    noise_scale: float
    """phi, samples; +inf makes every sample worth the same."""

    def efficiency(self, batch: ArrayLike) -> np.ndarray:
        """Progress per sample in (0, 1], relative to the smallest batch."""
        batch = np.asarray(batch, float)
        if np.isinf(self.noise_scale):
            return np.ones_like(batch)
        return (self.noise_scale + self.min_batch) / (self.noise_scale + batch)


def best_goodput(
    speed: Throughput,
    batches: BatchRange,
    max_local_batch: float,
    gpus: ArrayLike,
    nodes: ArrayLike,
) -> np.ndarray:
    """Samples/s x efficiency at the best batch size, for GPUs on nodes; both broadcast.

    At a given M the fewest accumulation steps that fit the GPU's memory are best, so only M is
    searched, on a geometric grid. A GPU needs one sample at least: GPUs beyond the largest batch
    stay idle.
    """
    gpus, nodes = np.broadcast_arrays(np.asarray(gpus, float), np.asarray(nodes))
    used = np.minimum(gpus, max(batches.max_batch, 1.0))[..., None]
    low = np.maximum(batches.min_batch, used)
    high = np.maximum(batches.max_batch, low)
    batch = low * (high / low) ** np.linspace(0.0, 1.0, GRID_POINTS)
    steps = np.maximum(np.ceil(batch / (used * max_local_batch) - 1e-9), 1.0)
    seconds = speed.iteration_s(used, nodes[..., None], batch / (used * steps), steps - 1.0)
    goodput: np.ndarray = (batch / seconds * batches.efficiency(batch)).max(axis=-1)
    return goodput
