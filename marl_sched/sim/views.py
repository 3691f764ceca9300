"""What a scheduler sees of an environment: windows into the state, no copies.

Kernels get a `ClusterView` whose table lies beside the state: addresses are written once, and
`make_view` only moves what changes, the numbers of jobs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from marl_sched.compiled.records import at_address, build_table, fields_of, record
from marl_sched.sim import columns as c
from marl_sched.types import ClusterView

if TYPE_CHECKING:
    from marl_sched.sim.world import World

record(ClusterView)
cluster_view = at_address(ClusterView)
"""For kernels: the view whose table begins in a row of `World.view_table`."""


def _words(names: tuple[str, ...], offset: int) -> tuple[int, ...]:
    """Words of the view's table, `offset` behind the first word of each field."""
    at, words = 0, {}
    for name, _, ndim in fields_of(ClusterView):
        words[name] = at + offset
        at += 1 if ndim < 0 else 1 + ndim
    return tuple(words[name] for name in names)


_PER_JOB = (
    "job", "profile", "level", "gpus", "request_level", "limit_level", "arrival_s",
    "attained_gpu_s", "run_since_s", "waiting_since_s", "est_total_s", "est_remaining_s",
    "restart_s", "demand", "priority", "tenant", "deadline_s", "types", "gpu_type", "leaving",
    "refused_at",
)  # fmt: skip
LENGTHS = np.array(_words(_PER_JOB, 1))
"""Words that hold the number of active jobs."""
(NOW_WORD,) = _words(("now_s",), 0)
(RELEASES_WORD,) = _words(("releases",), 0)
(WAITING_WORD,) = _words(("waiting",), 0)
(RUNNING_WORD,) = _words(("running",), 0)


def view_of(world: World, b: int) -> ClusterView:
    """The view of environment `b` for Python; progress is as far as it has been booked."""
    n = int(world.env_k[b, c.NUM_ACTIVE])
    f, k = world.slot_f[b], world.slot_k[b]
    head = int(world.env_k[b, c.WAITING_HEAD])
    return ClusterView(
        now_s=float(world.env_f[b, c.NOW_S]),
        num_gpus=int(world.total[0]),
        capacity=world.usable[b],
        free=world.spare[b],
        free_by_type=free_by_type(world, b),
        releases=int(world.env_k[b, c.RELEASES]),
        sizes=world.sizes,
        num_levels=world.num_levels,
        rates=world.nominal_rates,
        type_order=world.type_order,
        job=k[c.JOB, :n],
        profile=k[c.PROFILE, :n],
        level=k[c.LEVEL, :n],
        gpus=f[c.GPUS_HELD, :n],
        request_level=k[c.REQUEST_LEVEL, :n],
        limit_level=k[c.LIMIT_LEVEL, :n],
        arrival_s=f[c.ARRIVAL_S, :n],
        attained_gpu_s=f[c.SHOWN_GPU_S, :n],
        run_since_s=f[c.RUN_SINCE_S, :n],
        waiting_since_s=f[c.WAITING_SINCE_S, :n],
        est_total_s=f[c.EST_TOTAL_S, :n],
        est_remaining_s=f[c.EST_REMAINING_S, :n],
        restart_s=f[c.RESTART_S, :n],
        demand=world.slot_demand[b, :n],
        priority=f[c.PRIORITY, :n],
        tenant=k[c.TENANT, :n],
        deadline_s=f[c.DEADLINE_S, :n],
        types=k[c.TYPES, :n],
        gpu_type=k[c.GPU_TYPE, :n],
        leaving=k[c.LEAVING, :n],
        refused_at=k[c.REFUSED_AT, :n],
        waiting=world.waiting[b, head : head + int(world.env_k[b, c.NUM_WAITING])],
        running=world.running[b, : int(world.env_k[b, c.NUM_RUNNING])],
        tenant_quota=world.tenant_quota,
        tenant_held=world.tenant_held[b],
        tenant_tally=world.tenant_tally,
    )


def free_by_type(world: World, b: int) -> np.ndarray:
    """(T, 4) float64, free on the open nodes of each GPU type."""
    several = world.spare_by_type.shape[1] > 0
    return world.spare_by_type[b] if several else world.spare[b : b + 1]


def sealed(world: World) -> World:
    """The same arrays with the tables that kernels read, after any array was replaced."""
    tables = [build_table(view_of(world, b)) for b in range(len(world.env_k))]
    world = world._replace(view_table=np.stack(tables))
    return world._replace(table=build_table(world))
