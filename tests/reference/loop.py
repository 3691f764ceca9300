"""The loop over instants."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.reference.deciding import apply, place_exactly, repack
from tests.reference.happenings import happen, next_instant
from tests.reference.rates import charge_everybody, refresh
from tests.reference.records import (
    Epoch,
    ReferenceJob,
    ReferenceResult,
    account_of,
    result_of,
)
from tests.reference.rules import INF, Rules
from tests.reference.world import ReferenceWorld

MOST_TIMES_ASKED = 8  # at one instant, after the first time

Decide = Callable[[float, Sequence[ReferenceJob]], Mapping[int, Any]]
"""(now, active jobs) to target levels by job index, or to placements (node to GPUs) of all of
them; under `repack` the answer's order of keys is the order of placing, and who is left out is
not served."""


def simulate(
    workload: Any,
    profiles: Any,
    cluster: Any,
    decide: Decide,
    *,
    round_s: float,
    charge_first_start: bool,
    max_epochs: int = 100_000,
    rules: Rules | None = None,
) -> ReferenceResult:
    """Run every job of `workload` to its end.

    Args:
        workload: arrays `arrival_s` (J,), `duration_s` (J,), `demand` (J, 4); see `Rules`.
        profiles: arrays `sizes` (P, L), `num_levels` (P,), `rates` (P, T, L, 2 or 3),
            `restart_s` (P,) or (P, L), `job_profile` (J,).
        cluster: `capacity` (N, 4), `node_type` (N,), `num_gpus`, `gpu_types`.
        decide: target level of every active job, by job index; called at every epoch with
            the active jobs in workload order.
        max_epochs: give up here, because a `decide` that starts nothing would never end.
        rules: what else goes on; nothing by default.
    """
    rules = Rules() if rules is None else rules
    world = ReferenceWorld(workload, profiles, cluster, charge_first_start, rules)
    epochs: list[Epoch] = []
    round_at = INF
    asked = 0  # decisions at this instant
    while any(job.status == 0 for job in world.jobs):
        t = min([next_instant(world)] + ([round_at] if world.active else []))
        if t == INF:
            raise RuntimeError("jobs wait for one another, or for an event that never comes")
        asked = asked if t == world.now else 0
        world.advance_to(t)
        happen(world)
        refresh(world)
        if not world.active:
            continue
        if rules.decide_on_rounds:
            round_at = next_on_grid(world.now, round_s)
            if not is_on_grid(world.now, round_s):
                continue
        if len(epochs) >= max_epochs:
            raise RuntimeError(f"no end after {max_epochs} epochs: does decide start every job?")
        decided, again = decide(world.now, list(world.active)), False
        if rules.repack:
            repack(world, list(decided))
        elif any(isinstance(wish, Mapping) for wish in decided.values()):
            place_exactly(world, decided)
        else:
            again = apply(world, decided)
        if rules.overhead_each_epoch:
            charge_everybody(world)
        epochs.append(world.snapshot())
        if not rules.decide_on_rounds:
            satisfied = all(job.level == world.num_levels[job.profile] for job in world.active)
            round_at = INF if satisfied else world.now + round_s
        if again and asked < MOST_TIMES_ASKED:
            asked += 1
            round_at = world.now
    return ReferenceResult(
        world.events,
        epochs,
        [result_of(job) for job in world.jobs],
        [account_of(job) for job in world.jobs],
        world.node_events,
        world.capacity_gpu_s,
        world.idle_gpu_s,
    )


def is_on_grid(t: float, round_s: float) -> bool:
    return t == round(t / round_s) * round_s


def next_on_grid(t: float, round_s: float) -> float:
    """The first multiple of `round_s` after t."""
    k = math.floor(t / round_s)
    while k * round_s <= t:
        k += 1
    return k * round_s
