"""How large a share of one GPU a job should ask for.

A job's step of T_step seconds keeps the GPU busy for T_busy of them and holds some of its memory. A
share has to cover both, as the two limits of a container on a shared GPU do (Yeh et al., KubeShare,
HPDC 2020); ours is one number, hence the larger:

    utilisation = T_busy / T_step
    share = max(utilisation, memory held / memory of the GPU)

rounded up to the next 50/1000, since shares of one device are summed, and at least that.

From the catalogue: T_step on one GPU at local batch m is a_c + b_c m. Its second term is work that
grows with the data and keeps the GPU busy; a_c is what a step costs however little data there is
(launching kernels, the input pipeline), during which the GPU idles. The memory grows with the
data of one step: m of the `max_local_batch` samples that fit. Both terms are our own reading of
the catalogue, not measured utilisations.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from marl_sched.errors import UserError
from marl_sched.perf.catalogue import Catalogue

GRAIN_MILLI = 50
"""Shares are multiples of this; chosen so that up to 20 jobs share a GPU."""


def share_milli(
    busy_s: ArrayLike, step_s: ArrayLike, memory_gb: ArrayLike, gpu_memory_gb: ArrayLike
) -> np.ndarray:
    """Share of one GPU in 1/1000, int64 in [GRAIN_MILLI, 1000]; arguments broadcast.

    Args:
        busy_s: seconds of one step in which the GPU computes, >= 0.
        step_s: seconds of one step alone on the GPU, > 0.
        memory_gb: held on the GPU, >= 0.
        gpu_memory_gb: of the GPU, > 0.

    Raises:
        UserError: where a job does not fit one GPU's memory.
    """
    utilisation = np.asarray(busy_s, float) / np.asarray(step_s, float)
    memory = np.asarray(memory_gb, float) / np.asarray(gpu_memory_gb, float)
    if (memory > 1).any():
        raise UserError(
            f"a share of one GPU cannot hold {float(np.max(memory)):.3g} times its memory; take a "
            "smaller batch or a GPU type with more memory"
        )
    share = np.maximum(np.minimum(utilisation, 1.0), memory)
    # Less the rounding of a share that is a whole number of grains.
    grains = np.ceil(share * 1000 / GRAIN_MILLI - 1e-9)
    return np.asarray(np.maximum(grains, 1) * GRAIN_MILLI).astype(np.int64)


def model_share_milli(
    catalogue: Catalogue, model: str, gpu_type: str, local_batch: ArrayLike
) -> np.ndarray:
    """Share in 1/1000 for one job of `model` with `local_batch` samples a step on one GPU.

    Raises:
        UserError: for an unknown model or GPU type, or a batch that does not fit the GPU.
    """
    speed = catalogue.speed(model, gpu_type)
    batch = np.asarray(local_batch, float)
    busy_s = speed.throughput.b_c * batch
    step_s = speed.throughput.a_c + busy_s
    return share_milli(busy_s, step_s, batch, speed.max_local_batch)
