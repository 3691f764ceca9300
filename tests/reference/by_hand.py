"""Small inputs of the reference, for schedules worked out by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.reference.loop import Decide, simulate
from tests.reference.records import ReferenceResult
from tests.reference.rules import INF, Rules

ROUND_S = 1e6  # no round timer inside these small schedules


def one_profile(sizes: list[int], rates: list[list[float]], restart_s: float = 10.0) -> Any:
    """Every job has one profile; rates per level: [packed, spanning], on every GPU type."""
    return SimpleNamespace(
        sizes=np.array([sizes]),
        num_levels=np.array([len(sizes) - 1]),
        request_level=np.array([len(sizes) - 1]),
        rates=np.array([[rates]], float),
        restart_s=np.array([restart_s]),
        job_profile=np.zeros(100, np.int64),
    )


def rigid(gpus: int = 1, restart_s: float = 10.0, packed: float = 1.0, **rates: float) -> Any:
    """Everybody runs on `gpus` GPUs; `rack` and `cluster` are the rates of gangs that span."""
    rack = rates.get("rack", packed)
    speeds = [packed, rack, rates.get("cluster", rack)]
    return one_profile([0, gpus], [[0, 0, 0], speeds], restart_s)


def rigid_sizes(*gpus: int, restart_s: float = 10.0) -> Any:
    """Job j runs on gpus[j] GPUs at rate 1."""
    count = len(gpus)
    return SimpleNamespace(
        sizes=np.array([[0, size] for size in gpus]),
        num_levels=np.ones(count, np.int64),
        request_level=np.ones(count, np.int64),
        rates=np.tile(np.array([[[0.0, 0.0], [1.0, 1.0]]]), (count, 1, 1, 1)),
        restart_s=np.full(count, restart_s),
        job_profile=np.arange(count),
    )


def jobs(
    *arrival_and_duration: tuple[float, float],
    demand: Sequence[float] = (1, 0, 0, 0),
    **given: Any,
) -> Any:
    """`given`: the optional attributes of `Rules`; a single value holds for every job."""
    arrival, duration = zip(*arrival_and_duration, strict=True)
    count = len(arrival)
    columns = {k: v if isinstance(v, Sequence) else [v] * count for k, v in given.items()}
    return SimpleNamespace(
        arrival_s=np.array(arrival, float),
        duration_s=np.array(duration, float),
        demand=np.tile(np.array(demand, float), (count, 1)),
        **columns,
    )


def nodes(*gpus: int, cpus_per_gpu: float = 16.0, **given: Any) -> Any:
    """A cluster; `given` may hold `rack` and `kind`, one of each for every node."""
    kind = given.pop("kind", [0] * len(gpus))
    return SimpleNamespace(
        capacity=np.array([[g, cpus_per_gpu * g, 1e3, 1e3] for g in gpus], float),
        node_type=np.array(kind),
        num_gpus=sum(gpus),
        gpu_types=tuple(f"type-{k}" for k in range(max(kind) + 1)),
        **given,
    )


def run(
    workload: Any, profiles: Any, cluster: Any, decide: Decide, **options: Any
) -> ReferenceResult:
    """`options` are `simulate`'s own, and the fields of `Rules`."""
    own: dict[str, Any] = {"round_s": ROUND_S, "charge_first_start": False}
    own |= {
        k: options.pop(k) for k in ("round_s", "charge_first_start", "max_epochs") & options.keys()
    }
    return simulate(workload, profiles, cluster, decide, rules=Rules(**options), **own)


def everybody(level: int) -> Decide:
    return lambda now, active: {job.index: level for job in active}


def events_of(result: ReferenceResult, job: int) -> list[tuple[float, str]]:
    return [(t, kind) for t, kind, j in result.events if j == job]


def waits(*seconds: float) -> Callable[..., float]:
    """In place of the exponential draws: the k-th wait of every job or node; then none ends."""
    return lambda mean, seed, stream, i, k: seconds[k] if k < len(seconds) else INF
