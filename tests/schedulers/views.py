"""Cluster views by hand, and at random."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from marl_sched.schedulers import get_scheduler
from marl_sched.types import ClusterView


@dataclass(frozen=True)
class JobRow:
    """One active job; GPUs instead of levels. Left out: a rigid, waiting job of 100 s."""

    request: int = 1
    sizes: tuple[int, ...] = ()
    """Allowed sizes without 0; none: the request alone."""
    rates: tuple[float, ...] = ()
    """Speed at each size; none: proportional, 1 at the request."""
    held: int = 0
    limit: int = 0
    """Most GPUs that its agent accepts; 0: the largest size."""
    arrival_s: float = 0.0
    total_s: float = 100.0
    left_s: float | None = None
    attained_gpu_s: float = 0.0
    run_since_s: float = float("nan")
    waiting_since_s: float | None = None
    restart_s: float = 0.0
    demand: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """CPUs, GB, Gbit/s per GPU."""
    priority: float = 0.0
    tenant: int = 0
    deadline_s: float = float("inf")
    types: tuple[int, ...] = ()
    """GPU types that it may run on, the fastest first; none: all, as they come."""
    kind: int = 0
    """GPU type that it holds."""
    leaving: int = 0
    """GPUs that it holds on nodes which take nobody any more."""
    refused: bool = False
    """Whether its start found no node since GPUs last came back."""


def make_view(
    num_gpus: int,
    *jobs: JobRow,
    now_s: float = 0.0,
    capacity: tuple[float, float, float] = (1e6, 1e6, 1e6),
    job: Any = None,
    by_type: tuple[int, ...] = (),
    quota: Mapping[int, float] | None = None,
) -> ClusterView:
    """A view of `jobs`, given in order of arrival unless `job` names their indices.

    Args:
        by_type: GPUs of each type; none: all are of one. Everything else is shared by GPUs.
        quota: GPUs by tenant; none: nobody has one.
    """
    parts = np.array(by_type or (num_gpus,), float)
    allowed = [(0, *(row.sizes or (row.request,))) for row in jobs]
    most = max((len(sizes) for sizes in allowed), default=2)
    sizes = np.array([s + (s[-1],) * (most - len(s)) for s in allowed], np.int64)
    rates = np.zeros(sizes.shape)
    for i, row in enumerate(jobs):
        given = row.rates or tuple(size / row.request for size in allowed[i][1:])
        rates[i, 1:] = given + (given[-1],) * (most - 1 - len(given))

    def column(values: list[Any]) -> np.ndarray:
        return np.array(values, float)

    def levels(gpus: list[int]) -> np.ndarray:
        return np.array([s.index(g) for s, g in zip(allowed, gpus, strict=True)], np.int64)

    demand = np.array([(1.0, *row.demand) for row in jobs], float).reshape(len(jobs), 4)
    held = np.array([row.held for row in jobs], float)
    total = np.array([num_gpus, *capacity], float)
    kind = np.array([row.kind for row in jobs], np.int64)
    free = np.outer(parts / num_gpus, total)
    np.subtract.at(free, kind, held[:, None] * demand)
    types = [(*row.types, *sorted(set(range(parts.size)) - set(row.types))) for row in jobs]
    tenants = 1 + max((row.tenant for row in jobs), default=0)
    limits = np.full(tenants if quota else 0, np.inf)
    for tenant, limit in (quota or {}).items():
        limits[tenant] = limit
    held_by = np.zeros(limits.size, np.int64)
    if quota:
        milli = np.rint(1000 * held * demand[:, 0]).astype(np.int64)
        np.add.at(held_by, [row.tenant for row in jobs], milli)
    number = np.arange(len(jobs)) if job is None else np.asarray(job, np.int64)
    order = np.argsort(number)
    return ClusterView(
        now_s=float(now_s),
        num_gpus=num_gpus,
        capacity=total,
        free=total - held @ demand,
        free_by_type=free,
        releases=0,
        sizes=sizes.reshape(len(jobs), most),
        num_levels=np.array([len(s) - 1 for s in allowed], np.int64),
        rates=rates.reshape(len(jobs), most),
        type_order=np.tile(
            np.array(types, np.int64).reshape(len(jobs), 1, parts.size), (1, most, 1)
        ),
        job=number,
        profile=np.arange(len(jobs)),
        level=levels([row.held for row in jobs]),
        gpus=held * demand[:, 0],
        request_level=levels([row.request for row in jobs]),
        limit_level=levels([row.limit or s[-1] for row, s in zip(jobs, allowed, strict=True)]),
        arrival_s=column([row.arrival_s for row in jobs]),
        attained_gpu_s=column([row.attained_gpu_s for row in jobs]),
        run_since_s=column([row.run_since_s for row in jobs]),
        waiting_since_s=column(
            [row.arrival_s if row.waiting_since_s is None else row.waiting_since_s for row in jobs]
        ),
        est_total_s=column([row.total_s for row in jobs]),
        est_remaining_s=column([row.total_s if row.left_s is None else row.left_s for row in jobs]),
        restart_s=column([row.restart_s for row in jobs]),
        demand=demand,
        priority=column([row.priority for row in jobs]),
        tenant=np.array([row.tenant for row in jobs], np.int64),
        deadline_s=column([row.deadline_s for row in jobs]),
        types=np.array([sum(1 << t for t in row.types) or -1 for row in jobs], np.int64),
        gpu_type=kind,
        leaving=np.array([row.leaving for row in jobs], np.int64),
        refused_at=np.array([0 if row.refused else -1 for row in jobs], np.int64),
        waiting=order[held[order] == 0],
        running=np.flatnonzero(held),
        tenant_quota=limits,
        tenant_held=held_by,
        tenant_tally=np.zeros((2, limits.size + 1), np.int64),
    )


def gpus(name: str, view: ClusterView) -> list[int]:
    """What scheduler `name` gives to each job of `view`."""
    return get_scheduler(name).allocate(view).gpus.tolist()


def random_view(rng: np.random.Generator, max_jobs: int = 30) -> ClusterView:
    """Any state that a cluster may be in: what is held fits, all else is arbitrary."""
    num_gpus = int(rng.integers(1, 40))
    per_gpu = (0.9, 4.0, 3.0) if rng.random() < 0.5 else (1e6, 1e6, 1e6)
    capacity = tuple(num_gpus * r for r in per_gpu)
    left = np.array([num_gpus, *capacity], float)
    now_s = float(rng.uniform(0, 1e5))
    jobs: list[JobRow] = []
    for _ in range(int(rng.integers(1, max_jobs))):
        sizes = tuple(np.unique(rng.integers(1, num_gpus + 1, rng.integers(1, 5))).tolist())
        demand = (float(rng.uniform(0, 1.0)), float(rng.choice([0.0, 3.3])), 0.0)
        per = np.array([1.0, *demand])
        held = int(rng.choice((0, *sizes)))
        if (held * per > left).any():
            held = 0
        left -= held * per
        arrival_s = float(rng.uniform(0, now_s))
        total_s = float(rng.lognormal(6, 2))
        jobs.append(
            JobRow(
                request=int(rng.choice(sizes)),
                sizes=sizes,
                rates=tuple(np.maximum.accumulate(rng.uniform(0.1, 3.0, len(sizes))).tolist()),
                held=held,
                limit=int(rng.choice(sizes)),
                arrival_s=arrival_s,
                total_s=total_s,
                left_s=float(rng.uniform(0, total_s)),
                attained_gpu_s=float(rng.lognormal(8, 3)),
                run_since_s=float(rng.uniform(arrival_s, now_s)) if held else float("nan"),
                waiting_since_s=float(rng.uniform(arrival_s, now_s)),
                restart_s=float(rng.choice([0.0, 30.0, 600.0])),
                demand=demand,
                priority=float(rng.integers(0, 3)),
                tenant=int(rng.integers(0, 4)),
                deadline_s=float(rng.choice([np.inf, now_s + rng.normal(0, 5 * total_s)])),
            )
        )
    jobs.sort(key=lambda row: row.arrival_s)
    return make_view(num_gpus, *jobs, now_s=now_s, capacity=capacity)  # type: ignore[arg-type]


def permuted(view: ClusterView, order: np.ndarray) -> ClusterView:
    """The same jobs in other rows."""
    fields = ClusterView._fields[ClusterView._fields.index("job") :]
    rows = {name: getattr(view, name)[order] for name in fields[: fields.index("waiting")]}
    to = np.argsort(order)
    return view._replace(**rows, waiting=to[view.waiting], running=to[view.running])
