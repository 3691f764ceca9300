"""Jobs that arrive one by one and never leave: how full a placement rule gets a cluster."""

from __future__ import annotations

import numpy as np

from marl_sched.compiled.jit import kernel
from marl_sched.sim.devices import Demand, fits, take
from marl_sched.sim.fragmentation import Mix, ScoreCache, touch
from marl_sched.sim.scoring import choose


@kernel
def fill(
    rule: int,
    free_cpu: np.ndarray,
    free_memory: np.ndarray,
    device_free: np.ndarray,
    num_devices: np.ndarray,
    node_type: np.ndarray,
    residents: np.ndarray,
    cpu: np.ndarray,
    memory: np.ndarray,
    num_gpu: np.ndarray,
    gpu_milli: np.ndarray,
    type_mask: np.ndarray,
    kind: np.ndarray,
    arrivals: np.ndarray,
    draws: np.ndarray,
    mix: Mix,
    cache: ScoreCache,
) -> np.ndarray:
    """Place each arrival by a rule, or turn it away for good where it fits nowhere.

    Args:
        rule, free_cpu .. residents, mix, cache: as `scoring.choose`; the free resources are
            those of an empty cluster and are written.
        cpu, memory, num_gpu, gpu_milli, type_mask, kind: (J,), demand of each job.
        arrivals: (M,) int64 in [0, J), the jobs in order of arrival.
        draws: (M, 2) float64 in [0, 1).

    Returns:
        (M,) int64, the node of each arrival, -1 for those turned away.
    """
    largest_cpu = free_cpu.max()
    largest_milli = device_free.sum(axis=1).max()
    nodes = np.empty(arrivals.shape[0], np.int64)
    able = np.empty(free_cpu.shape[0], np.bool_)
    for i in range(arrivals.shape[0]):
        j = arrivals[i]
        job = Demand(cpu[j], memory[j], num_gpu[j], gpu_milli[j], type_mask[j])
        for n in range(able.shape[0]):
            able[n] = fits(free_cpu[n], free_memory[n], device_free[n], node_type[n], job)
        node, device = choose(
            rule,
            able,
            free_cpu,
            device_free,
            num_devices,
            node_type,
            residents,
            job,
            largest_cpu,
            largest_milli,
            draws[i],
            mix,
            kind[j],
            cache,
        )
        nodes[i] = node
        if node >= 0:
            take(free_cpu, free_memory, device_free, residents, node, job, device)
            touch(cache, node)
    return nodes
