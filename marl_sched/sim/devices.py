"""Per-device bookkeeping: whole GPUs and shares of one, in thousandths of a GPU.

A node is its free CPU and memory, the free thousandths of each of its GPUs, and a count of its
residents by size. A job asks for `num_gpu` devices and `gpu_milli` thousandths of each: a whole
job (1000) needs wholly free devices, a share (below 1000) asks for one device. Which devices a
job holds is a bit mask, so that one number per job and node is all that needs remembering.

Axes: N nodes, G devices of the largest node (0 free where a node has fewer).
CPU and memory may be in any unit, the same for nodes and jobs; whole units keep the sums exact.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from marl_sched.compiled.jit import kernel

MILLI = 1000
"""Thousandths of a whole GPU."""

ANY_TYPE = (1 << 63) - 1
"""Type mask of a job that runs on every GPU type."""

MAX_TYPES = 63
"""Most GPU types of a cluster: the bits of a type mask."""

NO_DEVICE = -1
"""In place of a device: a whole job, or a job without a GPU."""


class Demand(NamedTuple):
    """What one job asks of the node that it is placed on."""

    cpu: float
    memory: float
    num_gpu: int  # devices; 0 for a job that needs CPU and memory alone
    gpu_milli: int  # of each device: 1000 whole, 1..999 a share of one device, 0 without a GPU
    type_mask: int  # bit t is set when the job runs on GPU type t


@kernel
def is_share(job: Demand) -> bool:
    """Whether a job asks for a part of one GPU."""
    return job.num_gpu == 1 and job.gpu_milli < MILLI


@kernel
def devices_suffice(device_free: np.ndarray, num_gpu: int, gpu_milli: int) -> bool:
    """Whether `num_gpu` devices of a node have `gpu_milli` free each; device_free (G,) int64."""
    missing = num_gpu
    for g in range(device_free.shape[0]):
        if missing <= 0:
            break
        if device_free[g] >= gpu_milli:
            missing -= 1
    return missing <= 0


@kernel
def fits(
    free_cpu: float, free_memory: float, device_free: np.ndarray, gpu_type: int, job: Demand
) -> bool:
    """Whether one node, device_free (G,) int64 milli, has room for a job and a type it runs on."""
    if free_cpu < job.cpu or free_memory < job.memory:
        return False
    if job.num_gpu == 0:
        return True
    if (job.type_mask >> gpu_type) & 1 == 0:
        return False
    return devices_suffice(device_free, job.num_gpu, job.gpu_milli)


@kernel
def first_device(device_free: np.ndarray, gpu_milli: int) -> int:
    """Lowest device with room for a share; -1 for none."""
    for g in range(device_free.shape[0]):
        if device_free[g] >= gpu_milli:
            return g
    return NO_DEVICE


@kernel
def tightest_device(device_free: np.ndarray, gpu_milli: int) -> int:
    """Device with the least free share that suffices, lowest index among equals; -1 for none."""
    best = NO_DEVICE
    for g in range(device_free.shape[0]):
        if device_free[g] >= gpu_milli and (best < 0 or device_free[g] < device_free[best]):
            best = g
    return best


@kernel
def freest_device(device_free: np.ndarray, gpu_milli: int) -> int:
    """Device with the most free share that suffices, lowest index among equals; -1 for none."""
    best = NO_DEVICE
    for g in range(device_free.shape[0]):
        if device_free[g] >= gpu_milli and (best < 0 or device_free[g] > device_free[best]):
            best = g
    return best


@kernel
def whole_devices(device_free: np.ndarray, count: int) -> int:
    """Bits of the `count` wholly free devices of lowest index."""
    held = 0
    for g in range(device_free.shape[0]):
        if count > 0 and device_free[g] == MILLI:
            held |= 1 << g
            count -= 1
    return held


@kernel
def choose_devices(device_free: np.ndarray, count: int, gpu_milli: int) -> int:
    """Bits of the devices that a job gets where no rule names one, which the node has.

    Whole GPUs are those of lowest index, a share is of the fullest with room.
    """
    if gpu_milli == MILLI:
        return whole_devices(device_free, count)
    return 1 << tightest_device(device_free, gpu_milli)


@kernel
def give_devices(device_free: np.ndarray, held: int, gpu_milli: int) -> None:
    """Free `gpu_milli` of each device in the bits `held`; a negative number takes it."""
    for g in range(device_free.size):
        if held >> g & 1:
            device_free[g] += gpu_milli


@kernel
def drawn_device(device_free: np.ndarray, gpu_milli: int, u: float) -> int:
    """A device with room for a share, drawn evenly by u in [0, 1); -1 for none."""
    count = 0
    for g in range(device_free.shape[0]):
        if device_free[g] >= gpu_milli:
            count += 1
    skip = int(u * count)
    for g in range(device_free.shape[0]):
        if device_free[g] >= gpu_milli:
            if skip == 0:
                return g
            skip -= 1
    return NO_DEVICE


@kernel
def take(
    free_cpu: np.ndarray,
    free_memory: np.ndarray,
    device_free: np.ndarray,
    residents: np.ndarray,
    node: int,
    job: Demand,
    device: int,
) -> int:
    """Place a job that fits on a node.

    A whole job takes the wholly free devices of lowest index.

    Args:
        free_cpu, free_memory: (N,), written.
        device_free: (N, G) int64, free thousandths of each device, written.
        residents: (N, G + 1) int64, jobs on the node: column 0 counts shares, column k jobs of k
            whole GPUs; written.
        device: the device of a share; `NO_DEVICE` for any other job.

    Returns:
        Devices taken, bit g for device g.
    """
    free_cpu[node] -= job.cpu
    free_memory[node] -= job.memory
    if job.num_gpu == 0:
        return 0
    if is_share(job):
        device_free[node, device] -= job.gpu_milli
        residents[node, 0] += 1
        return 1 << device
    held = whole_devices(device_free[node], job.num_gpu)
    for g in range(device_free.shape[1]):
        if (held >> g) & 1:
            device_free[node, g] = 0
    residents[node, job.num_gpu] += 1
    return held


@kernel
def give_back(
    free_cpu: np.ndarray,
    free_memory: np.ndarray,
    device_free: np.ndarray,
    residents: np.ndarray,
    node: int,
    job: Demand,
    held: int,
) -> None:
    """Undo `take`; `held` is what it returned, arrays as there."""
    free_cpu[node] += job.cpu
    free_memory[node] += job.memory
    if job.num_gpu == 0:
        return
    for g in range(device_free.shape[1]):
        if (held >> g) & 1:
            device_free[node, g] += job.gpu_milli
    residents[node, 0 if is_share(job) else job.num_gpu] -= 1
