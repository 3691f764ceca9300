"""Job profiles: the sizes a job may run on, and how fast it progresses on each.

Axes: J jobs, P profiles (distinct kinds of job), T GPU types of the cluster, L levels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from marl_sched.perf.catalogue import Catalogue
from marl_sched.types import Cluster

if TYPE_CHECKING:
    from marl_sched.workload.trace import Workload


@dataclass(frozen=True)
class ProfileTable:
    """What the simulator needs to know about every kind of job.

    A level indexes the allowed sizes of a profile; level 0 holds no GPU. Rows shorter than L are
    padded by repeating their last level.
    """

    sizes: np.ndarray
    """(P, L) int64, GPUs, strictly increasing up to `num_levels`; sizes[:, 0] == 0."""
    num_levels: np.ndarray
    """(P,) int64, highest legal level, >= 1."""
    request_level: np.ndarray
    """(P,) int64, level whose size is the request."""
    rates: np.ndarray
    """(P, T, L, 2) float64, progress in isolated seconds per second, on one node [..., 0] and
    spanning nodes [..., 1], in a cluster of several racks also across racks [..., 2]; 1 for the
    request packed on the cluster's first GPU type."""
    nominal_rates: np.ndarray
    """(P, L) float64, packed rate, averaged over the GPU types by their GPUs."""
    restart_s: np.ndarray
    """(P, L) float64, cost of a restart or a resize to each level."""
    job_profile: np.ndarray
    """(J,) int64 in [0, P), the profile of each job."""
    phase_left: np.ndarray = field(default_factory=lambda: np.zeros((1, 1)))
    """(P, F) float64, work left at the end of each of a job's phases, falling, the last one 0;
    the rate may differ from phase to phase. (1, 1) of 0 where jobs have one phase."""


def build_profiles(
    workload: Workload,
    cluster: Cluster,
    catalogue: Catalogue | None = None,
    restart_scale: float = 1.0,
    cross_rack_rate: float = 1.0,
) -> ProfileTable:
    """Profiles of all jobs of `workload` on `cluster`.

    An elastic job may run on its request and on the powers of two between its minimum and its
    maximum, up to the size where its goodput is highest and no further than its request unless it
    gains; a rigid one on its request alone. Sizes no pool of one GPU type can hold are left out.
    A job never runs slower on more GPUs of the same kind: it may leave some of them idle.

    Args:
        restart_scale: multiplies the catalogue's restart costs.
        cross_rack_rate: speed of a gang across racks relative to one across nodes of a rack;
            rates then have a third column.

    Raises:
        UserError: for a GPU type that the catalogue lacks.
    """
    catalogue = catalogue or Catalogue.load()
    kinds, job_profile = np.unique(
        np.stack(
            [
                workload.model,
                workload.num_gpus,
                workload.min_gpus,
                workload.max_gpus,
                workload.elastic.astype(np.int64),
            ],
            axis=1,
        ),
        axis=0,
        return_inverse=True,
    )
    pool = max(cluster.gpus_of_type(kind) for kind in cluster.gpu_types)
    speeds = _Speeds(catalogue, cluster)
    rows = [
        _profile(speeds, workload.models[model], request, low, min(high, pool), bool(elastic))
        for model, request, low, high, elastic in kinds.tolist()
    ]
    num_levels = np.array([len(sizes) - 1 for sizes, _ in rows], dtype=np.int64)
    # Level l of a profile, repeating its last one.
    level = np.minimum(np.arange(num_levels.max(initial=1) + 1)[None, :], num_levels[:, None])
    sizes = np.array([row[pick] for (row, _), pick in zip(rows, level, strict=True)], np.int64)
    rates = np.array([row[:, pick] for (_, row), pick in zip(rows, level, strict=True)], float)
    sizes = sizes.reshape(level.shape)
    rates = rates.reshape(len(rows), len(cluster.gpu_types), level.shape[1], 2)
    if len(cluster.racks) > 1:
        rates = np.concatenate([rates, cross_rack_rate * rates[..., 1:]], axis=3)
    restart_s = [
        catalogue.restart_overhead_s(workload.models[model], np.maximum(row, 1))
        for model, row in zip(kinds[:, 0].tolist(), sizes, strict=True)
    ]
    return ProfileTable(
        sizes=sizes,
        num_levels=num_levels,
        request_level=np.argmax(sizes == kinds[:, 1:2], axis=1).astype(np.int64, copy=False),
        rates=rates,
        nominal_rates=np.einsum("t,ptl->pl", speeds.type_share, rates[..., 0]),
        restart_s=restart_scale * np.array(restart_s, float).reshape(sizes.shape),
        job_profile=job_profile.reshape(-1).astype(np.int64),
        phase_left=np.zeros((len(rows), 1)),
    )


class _Speeds:
    """Goodput of a model on each GPU type of a cluster, packed and spanning."""

    def __init__(self, catalogue: Catalogue, cluster: Cluster) -> None:
        self.catalogue = catalogue
        self.gpu_types = cluster.gpu_types
        self.node_gpus = [largest_node(cluster, kind) for kind in self.gpu_types]
        share = np.array([cluster.gpus_of_type(kind) for kind in self.gpu_types], float)
        self.type_share = share / share.sum()

    def goodput(self, model: str, sizes: np.ndarray) -> np.ndarray:
        """(T, L, 2) samples/s of `sizes` (L,) GPUs, non-decreasing along L; 0 GPUs give 0."""
        table = np.zeros((len(self.gpu_types), len(sizes), 2))
        gpus = np.maximum(sizes, 1)
        for t, kind in enumerate(self.gpu_types):
            packed = self.catalogue.goodput(model, kind, gpus, 1)
            # More GPUs than nodes hold must span, and spanning never beats one node.
            span = np.minimum(self.catalogue.goodput(model, kind, gpus, 2), packed)
            table[t, :, 0] = np.where(gpus > self.node_gpus[t], span, packed)
            table[t, :, 1] = span
        table[:, sizes == 0] = 0.0
        result = np.maximum.accumulate(table, axis=1)
        # Idle GPUs lift a spanning size to a smaller one's rate, never above the packed rate.
        result[..., 1] = np.minimum(result[..., 1], result[..., 0])
        return result


def largest_node(cluster: Cluster, gpu_type: str) -> int:
    """GPUs of the largest node of `gpu_type`."""
    return max(node.num_gpus for node in cluster.nodes if node.gpu_type == gpu_type)


def allowed_sizes(request: int, low: int, high: int, elastic: bool) -> np.ndarray:
    """Ascending sizes of a job, 0 first: the request, and powers of two if elastic."""
    sizes = {0, request}
    if elastic:
        sizes |= {1 << bit for bit in range(high.bit_length()) if low <= 1 << bit <= high}
    return np.array(sorted(sizes), dtype=np.int64)


def _profile(
    speeds: _Speeds, model: str, request: int, low: int, high: int, elastic: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Sizes (L,) and rates (T, L, 2) of one profile."""
    sizes = allowed_sizes(request, low, high, elastic)
    goodput = speeds.goodput(model, sizes)
    at_request = int(np.searchsorted(sizes, request))
    rates = goodput / goodput[0, at_request, 0]
    nominal = np.einsum("t,tl->l", speeds.type_share, rates[..., 0])
    # Rates are non-decreasing, so the first maximum is the peak.
    last = max(int(np.argmax(nominal >= nominal[-1] * (1 - 1e-9))), at_request)
    return sizes[: last + 1], rates[:, : last + 1]
