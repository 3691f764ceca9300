"""Expected fragmentation of a node, and its gradient under a placement.

Source: Weng et al., Beware of Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation
Gradient Descent (FGD), USENIX ATC 2023, and the authors' simulator, hkust-adsl/
kubernetes-scheduler-simulator. A node's free GPU share is a fragment for a job m of the usual
mix when m cannot use it; the mix gives each m a weight p_m, sum p_m = 1:

    F = sum_m p_m f(m)
    f(m) = sum of free_g over the devices with free_g < gpu_milli_m   when m would fit on the node
         = sum of free_g over all devices                             otherwise

with "fit" by CPU, GPU type and devices, not by memory. A job without a GPU can use no GPU share:
all of it is a fragment. FGD places a job where F falls most (or rises least).

A placement changes one node, so scores are kept per node and kind of job, together with the
node's version at the time: only what changed since a kind was last asked for is evaluated anew.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from marl_sched.compiled.jit import kernel
from marl_sched.sim.devices import MILLI, NO_DEVICE, Demand, is_share


class Mix(NamedTuple):
    """The usual jobs against which fragments are judged; M kinds of job."""

    cpu: np.ndarray  # (M,), the nodes' unit
    num_gpu: np.ndarray  # (M,) int64
    gpu_milli: np.ndarray  # (M,) int64, of each device; 0 without a GPU
    type_mask: np.ndarray  # (M,) int64
    weight: np.ndarray  # (M,) float64, sums to 1


class ScoreCache(NamedTuple):
    """FGD's scores so far; C kinds of arriving job, those of equal CPU and GPU demand.

    An entry holds while its version is that of the node. Whoever changes a node adds one to
    the node's version (`touch`).
    """

    node_version: np.ndarray  # (N,) int32, starts at 1
    version: np.ndarray  # (C, N) int32, 0: never scored
    score: np.ndarray  # (C, N) int8, 0..100
    device: np.ndarray  # (C, N) int8, for a share; else NO_DEVICE


def empty_cache(num_kinds: int, num_nodes: int) -> ScoreCache:
    """A cache in which nothing is scored yet."""
    return ScoreCache(
        np.ones(num_nodes, np.int32),
        np.zeros((num_kinds, num_nodes), np.int32),
        np.zeros((num_kinds, num_nodes), np.int8),
        np.full((num_kinds, num_nodes), NO_DEVICE, np.int8),
    )


@kernel
def no_cache() -> ScoreCache:
    """A cache that holds nothing, for kinds below 0."""
    none = np.empty((0, 0), np.int8)
    return ScoreCache(np.empty(0, np.int32), np.empty((0, 0), np.int32), none, none)


def job_kinds(cpu: np.ndarray, num_gpu: np.ndarray, gpu_milli: np.ndarray) -> np.ndarray:
    """(J,) int64 from 0, equal for jobs of equal CPU and GPU demand: the kinds of `ScoreCache`."""
    rows = np.stack([cpu, num_gpu, gpu_milli], axis=1)
    return np.asarray(np.unique(rows, axis=0, return_inverse=True)[1], np.int64).reshape(-1)


def usual_mix(
    cpu: np.ndarray,
    num_gpu: np.ndarray,
    gpu_milli: np.ndarray,
    type_mask: np.ndarray,
    type_rank: np.ndarray | None = None,
    coverage: float = 0.95,
) -> Mix:
    """The mix of a workload of J jobs: its kinds by falling count, until enough jobs are covered.

    Equal counts: the larger request (CPU, then share, then GPUs, then types) first, as in the
    authors' simulator. Weights are scaled to sum 1.

    Args:
        cpu, num_gpu, gpu_milli, type_mask: (J,), demand of each job.
        type_rank: (J,) int64, tells apart and orders what jobs say about GPU types; default
            `type_mask`.
        coverage: share of the jobs that the mix covers at least.
    """
    rank = type_mask if type_rank is None else type_rank
    rows = np.stack([cpu, gpu_milli, num_gpu, rank], axis=1)
    _, first, counts = np.unique(rows, axis=0, return_index=True, return_counts=True)
    # `np.unique` sorts rows; a stable sort by count, read backwards, keeps larger ones first.
    order = np.argsort(counts, kind="stable")[::-1]
    covered = np.cumsum(counts[order])
    size = int(np.searchsorted(covered, coverage * len(rows), side="left")) + 1
    top = first[order[:size]]
    weight = counts[order[:size]].astype(np.float64)
    return Mix(cpu[top], num_gpu[top], gpu_milli[top], type_mask[top], weight / weight.sum())


@kernel
def touch(cache: ScoreCache, node: int) -> None:
    """Note that a node's free resources have changed."""
    cache.node_version[node] += 1


@kernel
def expected_fragment(free_cpu: float, device_free: np.ndarray, gpu_type: int, mix: Mix) -> float:
    """F of one node, in thousandths of a GPU (formula above); device_free (G,) int64."""
    total = 0
    for g in range(device_free.shape[0]):
        total += device_free[g]
    fragment = 0.0
    for m in range(mix.weight.shape[0]):
        lost = total
        milli = mix.gpu_milli[m]
        if milli > 0 and free_cpu >= mix.cpu[m] and (mix.type_mask[m] >> gpu_type) & 1:
            able, too_small = 0, 0
            for g in range(device_free.shape[0]):
                if device_free[g] >= milli:
                    able += 1
                else:
                    too_small += device_free[g]
            if able >= mix.num_gpu[m]:
                lost = too_small
        fragment += mix.weight[m] * lost
    return fragment


@kernel
def gradient_score(before: float, after: float) -> int:
    """floor(100 / (1 + exp(-(before - after) / 1000))): 0..100, 50 for no change."""
    return int(100.0 / (1.0 + math.exp(-(before - after) / 1000.0)))


@kernel
def fgd_score(
    free_cpu: float, device_free: np.ndarray, gpu_type: int, job: Demand, mix: Mix
) -> tuple[int, int]:
    """(score, device) of FGD for a job on a node that it fits on.

    A share is tried on each device with room; the best score wins, the lowest index among
    equals. `device_free` (G,) is changed for the trials and restored.
    """
    before = expected_fragment(free_cpu, device_free, gpu_type, mix)
    left_cpu = free_cpu - job.cpu
    if is_share(job):
        best, device = -1, NO_DEVICE
        for g in range(device_free.shape[0]):
            if device_free[g] < job.gpu_milli:
                continue
            seen = False  # devices with equal shares free give equal fragments
            for other in range(g):
                seen = seen or device_free[other] == device_free[g]
            if seen:
                continue
            device_free[g] -= job.gpu_milli
            after = expected_fragment(left_cpu, device_free, gpu_type, mix)
            device_free[g] += job.gpu_milli
            score = gradient_score(before, after)
            if score > best:
                best, device = score, g
        return best, device
    taken = 0
    missing = job.num_gpu
    for g in range(device_free.shape[0]):
        if missing > 0 and device_free[g] == MILLI:
            device_free[g] = 0
            taken |= 1 << g
            missing -= 1
    after = expected_fragment(left_cpu, device_free, gpu_type, mix)
    for g in range(device_free.shape[0]):
        if (taken >> g) & 1:
            device_free[g] = MILLI
    return gradient_score(before, after), NO_DEVICE


@kernel
def cached_fgd_score(
    node: int,
    free_cpu: float,
    device_free: np.ndarray,
    gpu_type: int,
    job: Demand,
    mix: Mix,
    kind: int,
    cache: ScoreCache,
) -> tuple[int, int]:
    """`fgd_score`, from the cache where that still holds; kind < 0: never cached."""
    if kind < 0:
        return fgd_score(free_cpu, device_free, gpu_type, job, mix)
    if cache.version[kind, node] != cache.node_version[node]:
        score, device = fgd_score(free_cpu, device_free, gpu_type, job, mix)
        cache.score[kind, node] = score
        cache.device[kind, node] = device
        cache.version[kind, node] = cache.node_version[node]
    return int(cache.score[kind, node]), int(cache.device[kind, node])
