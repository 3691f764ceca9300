"""Where a job goes: rules that choose a node, and on it the device of a share.

All look at the nodes on which the job fits, take the one with the highest score, and the lowest
index among equals. Sources: Weng et al. (FGD), USENIX ATC 2023, section 6.1, and the authors'
simulator, hkust-adsl/kubernetes-scheduler-simulator, which scores as a Kubernetes plugin does,
in whole numbers from 0 to 100; the many ties that this brings are part of a rule.

| rule | score | device of a share |
|---|---|---|
| first_fit | none: the first node | lowest index |
| best_fit | least CPU and GPU left over | tightest |
| spread | most CPU and GPU left over (worst fit) | freest |
| random | drawn evenly | drawn evenly |
| dot_prod | least product of what is free and what is asked (Tetris, SIGCOMM 2014) | tightest |
| gpu_packing | used devices, then used nodes, then idle nodes | tightest |
| gpu_clustering | nodes with jobs of the same size, the fuller the better | tightest |
| fgd | the steepest fall of the expected fragmentation | the one with that fall |

A job without a GPU has no score under gpu_packing and gpu_clustering: the first node.
"""

from __future__ import annotations

import numpy as np

from marl_sched.compiled.jit import kernel
from marl_sched.sim.devices import (
    MILLI,
    NO_DEVICE,
    Demand,
    drawn_device,
    first_device,
    freest_device,
    is_share,
    tightest_device,
)
from marl_sched.sim.fragmentation import Mix, ScoreCache, cached_fgd_score

RULES = (
    "first_fit",
    "best_fit",
    "spread",
    "random",
    "dot_prod",
    "gpu_packing",
    "gpu_clustering",
    "fgd",
)
"""Names of the rules; a rule's number is its place here."""

FIRST_FIT, BEST_FIT, SPREAD, RANDOM, DOT_PROD, GPU_PACKING, GPU_CLUSTERING, FGD = range(8)

MAX_SCORE = 100


@kernel
def left_over(
    free_cpu: float, device_free: np.ndarray, job: Demand, largest_cpu: float, largest_milli: int
) -> float:
    """Mean over CPU and GPU of (free - asked) / largest node's capacity; in [0, 1]."""
    free_milli = 0
    for g in range(device_free.shape[0]):
        free_milli += device_free[g]
    cpu = (free_cpu - job.cpu) / largest_cpu * 0.5
    return float(cpu + (free_milli - job.gpu_milli * job.num_gpu) / largest_milli * 0.5)


@kernel
def best_fit_score(
    free_cpu: float, device_free: np.ndarray, job: Demand, largest_cpu: float, largest_milli: int
) -> float:
    """floor(100 (1 - left over)).

    The authors' simulator then stretches the scores to span 0..100, which changes no order.
    """
    left = left_over(free_cpu, device_free, job, largest_cpu, largest_milli)
    return float(int((1.0 - left) * MAX_SCORE))


@kernel
def dot_prod_score(
    free_cpu: float, device_free: np.ndarray, job: Demand, largest_cpu: float, largest_milli: int
) -> float:
    """floor(100 (1 - (free . asked) / 2)), CPU and GPU in units of the largest node.

    After Grandl et al., Tetris, SIGCOMM 2014, with the sign of the authors' simulator: the
    smaller the product, the better. The GPUs of a node count as one dimension ("merge").
    """
    free_milli = 0
    for g in range(device_free.shape[0]):
        free_milli += device_free[g]
    product = free_cpu / largest_cpu * (job.cpu / largest_cpu)
    product += free_milli / largest_milli * (job.gpu_milli * job.num_gpu / largest_milli)
    return float(int((1.0 - product / 2.0) * MAX_SCORE))


@kernel
def gpu_packing_score(device_free: np.ndarray, num_devices: int, job: Demand) -> float:
    """Packs shared devices first, then idle devices of used nodes, then idle nodes.

    On an idle node: max(33 - idle devices, idle devices). Else the job takes its devices from
    the least free that suffice. If that needs wholly free ones: max(50 - their number, 33).
    Else: max(100 - (sum of floor(free / 10)) / 10, 50), in whole numbers.
    """
    if job.num_gpu == 0:
        return 0.0
    idle = 0
    for g in range(num_devices):
        if device_free[g] == MILLI:
            idle += 1
    if idle == num_devices:
        return float(max(MAX_SCORE // 3 - idle, idle))
    if not is_share(job):
        return float(max(MAX_SCORE // 2 - job.num_gpu, MAX_SCORE // 3))
    tightest = device_free[tightest_device(device_free, job.gpu_milli)]
    if tightest == MILLI:
        return float(max(MAX_SCORE // 2 - 1, MAX_SCORE // 3))
    return float(max(MAX_SCORE - tightest * 100 // MILLI // 10, MAX_SCORE // 2))


@kernel
def gpu_clustering_score(
    device_free: np.ndarray, residents: np.ndarray, job: Demand, largest_milli: int
) -> float:
    """Keeps jobs of the same size together: floor(25 (1 - free / largest)) plus a class's bonus.

    75 for a node on which all jobs are of this job's size, 50 where some are, 25 for a node
    without GPU jobs, 0 where all are of other sizes. A share of a GPU is one size, k whole GPUs
    another for each k. residents (G + 1,) as in `devices.take`.
    """
    if job.num_gpu == 0:
        return 0.0
    free_milli = 0
    for g in range(device_free.shape[0]):
        free_milli += device_free[g]
    sizes = 0
    for size in range(residents.shape[0]):
        if residents[size] > 0:
            sizes += 1
    if residents[0 if is_share(job) else job.num_gpu] > 0:
        bonus = 75 if sizes == 1 else 50
    else:
        bonus = 25 if sizes == 0 else 0
    return float(25 * (largest_milli - free_milli) // largest_milli + bonus)


@kernel
def device_for(rule: int, device_free: np.ndarray, job: Demand, u: float) -> int:
    """Device of a node for a share under every rule but fgd; `NO_DEVICE` for any other job."""
    if not is_share(job):
        return NO_DEVICE
    if rule == FIRST_FIT:
        return first_device(device_free, job.gpu_milli)
    if rule == SPREAD:
        return freest_device(device_free, job.gpu_milli)
    if rule == RANDOM:
        return drawn_device(device_free, job.gpu_milli, u)
    return tightest_device(device_free, job.gpu_milli)


@kernel
def drawn_node(able: np.ndarray, u: float) -> int:
    """One of the nodes that are able (N,) bool, drawn evenly by u in [0, 1); -1 for none."""
    skip = int(u * able.sum())
    for n in range(able.shape[0]):
        if able[n]:
            if skip == 0:
                return n
            skip -= 1
    return -1


@kernel
def choose(
    rule: int,
    able: np.ndarray,
    free_cpu: np.ndarray,
    device_free: np.ndarray,
    num_devices: np.ndarray,
    node_type: np.ndarray,
    residents: np.ndarray,
    job: Demand,
    largest_cpu: float,
    largest_milli: int,
    draw: np.ndarray,
    mix: Mix,
    kind: int,
    cache: ScoreCache,
) -> tuple[int, int]:
    """The node for a job, and the device for a share.

    Args:
        rule: number of the rule in `RULES`.
        able: (N,) bool, the nodes on which the job fits.
        free_cpu: (N,), in the unit of the job's.
        device_free: (N, G) int64, free thousandths of each device, 0 past a node's last one.
        num_devices: (N,) int64.
        node_type: (N,) int64, GPU type in [0, 63).
        residents: (N, G + 1) int64, jobs by size as `devices.take` counts them.
        largest_cpu, largest_milli: CPU and GPU thousandths of the largest node, > 0.
        draw: (2,) float64 in [0, 1), for the node and the device under `random`.
        mix, kind, cache: for `fgd`; kind < 0 leaves the cache alone.

    Returns:
        (node, device): node -1 when the job fits nowhere; device `NO_DEVICE` unless a share.
    """
    if rule == RANDOM:
        node = drawn_node(able, draw[0])
        return node, NO_DEVICE if node < 0 else device_for(rule, device_free[node], job, draw[1])
    best, best_node, best_device = 0.0, -1, NO_DEVICE
    for n in range(free_cpu.shape[0]):
        if not able[n]:
            continue
        row = device_free[n]
        score, device = 0.0, NO_DEVICE
        if rule == BEST_FIT:
            score = best_fit_score(free_cpu[n], row, job, largest_cpu, largest_milli)
        elif rule == SPREAD:
            score = left_over(free_cpu[n], row, job, largest_cpu, largest_milli)
        elif rule == DOT_PROD:
            score = dot_prod_score(free_cpu[n], row, job, largest_cpu, largest_milli)
        elif rule == GPU_PACKING:
            score = gpu_packing_score(row, num_devices[n], job)
        elif rule == GPU_CLUSTERING:
            score = gpu_clustering_score(row, residents[n], job, largest_milli)
        elif rule == FGD:
            gain, device = cached_fgd_score(
                n, free_cpu[n], row, node_type[n], job, mix, kind, cache
            )
            score = float(gain)
        if best_node < 0 or score > best:
            best, best_node, best_device = score, n, device
            if rule == FIRST_FIT:
                break
    if best_node >= 0 and rule != FGD:
        best_device = device_for(rule, device_free[best_node], job, draw[1])
    return best_node, best_device
