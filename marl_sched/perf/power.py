"""Electrical power of GPUs by type: what the energy of a schedule is computed from.

    P = idle (GPUs that hold no job) + busy (GPUs that hold one)

summed over the GPUs of nodes that are up; a share of a GPU counts as that fraction. A job that
pauses for a restart counts as busy. `power.yaml` has the watts and where they are from.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from marl_sched.types import ANY_GPU, Cluster

DATA = Path(__file__).with_name("power.yaml")


@lru_cache(maxsize=1)
def _watts() -> dict[str, tuple[float, float]]:
    import yaml

    data = yaml.safe_load(DATA.read_text(encoding="utf-8"))
    return {
        kind.lower(): (data["idle"] * limit, data["busy"] * limit)
        for kind, limit in data["limit_w"].items()
    }


def gpu_watts(gpu_type: str) -> tuple[float, float]:
    """Watts of one GPU of a type, idle and busy; of `any` for a type that nobody has described."""
    known = _watts()
    return known.get(gpu_type.lower(), known[ANY_GPU])


def type_watts(cluster: Cluster) -> np.ndarray:
    """(T, 2) float64, watts of one GPU of each of `cluster.gpu_types`, idle and busy."""
    return np.array([gpu_watts(kind) for kind in cluster.gpu_types])


def node_watts(cluster: Cluster) -> np.ndarray:
    """(N, 2) float64, watts of one GPU of each node, idle and busy."""
    watts: np.ndarray = type_watts(cluster)[cluster.node_type]
    return watts
