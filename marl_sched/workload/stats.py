"""What a trace holds: counts, run times, GPU time, offered load."""

from __future__ import annotations

from typing import Any

import numpy as np

from marl_sched.types import Cluster
from marl_sched.workload.assignment import CLASS_LIMITS_GPU_S, CLASSES, allowed_by_cluster, codes
from marl_sched.workload.formats.raw import RawTrace
from marl_sched.workload.jobs import fits

PERCENTILES = (5, 25, 50, 75, 95, 99)


def trace_stats(raw: RawTrace, cluster: Cluster | None = None) -> dict[str, Any]:
    """Plain data about the usable jobs of a trace; keys carry their units.

    With `cluster` also the offered load on it, over the arrivals (None where all jobs arrive at
    once), and how many jobs no pool of one GPU type can hold.
    """
    gpu_s = raw.gpu_s
    counts, jobs = np.unique(raw.num_gpus, return_counts=True)
    span_s = float(raw.arrival_s[-1] - raw.arrival_s[0])
    stats: dict[str, Any] = {
        "trace": raw.where,
        "num_jobs": len(raw),
        "skipped": dict(raw.skipped),
        "num_tenants": len(codes(raw.tenant)[1]),
        "span_s": span_s,
        "duration_s": _spread(raw.duration_s),
        "interarrival_s": _spread(np.diff(raw.arrival_s)) if len(raw) > 1 else None,
        "num_gpus": {
            "mean": float(raw.num_gpus.mean()),
            "max": int(raw.num_gpus.max()),
            "jobs": {str(gpus): int(n) for gpus, n in zip(counts, jobs, strict=True)},
        },
        "gpu_hours": float(gpu_s.sum() / 3600.0),
        "classes": _classes(gpu_s),
        "mean_gpus_busy": float(gpu_s.sum() / span_s) if span_s > 0 else None,
    }
    if cluster is not None:
        stats["cluster"] = str(cluster)
        stats["cluster_gpus"] = cluster.num_gpus
        busy = stats["mean_gpus_busy"]
        stats["offered_load"] = None if busy is None else busy / cluster.num_gpus
        held = fits(raw.num_gpus, raw.demand, cluster, allowed_by_cluster(raw, cluster))
        stats["num_jobs_that_do_not_fit"] = int((~held).sum())
    return stats


def _spread(values: np.ndarray) -> dict[str, float]:
    percentiles = np.percentile(values, PERCENTILES)
    spread = {f"p{p}": float(v) for p, v in zip(PERCENTILES, percentiles, strict=True)}
    return {
        "mean": float(values.mean()),
        "min": float(values.min()),
        **spread,
        "max": float(values.max()),
    }


def _classes(gpu_s: np.ndarray) -> dict[str, dict[str, float]]:
    """Shares of jobs and of GPU time by class of GPU time."""
    index = np.searchsorted(CLASS_LIMITS_GPU_S, gpu_s, side="right")
    return {
        name: {
            "jobs_share": float((index == kind).mean()),
            "gpu_time_share": float(gpu_s[index == kind].sum() / gpu_s.sum()),
        }
        for kind, name in enumerate(CLASSES)
    }
