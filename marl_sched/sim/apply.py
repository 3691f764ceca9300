"""Carrying out the levels that a scheduler wants, as far as the cluster allows; compiled."""

from __future__ import annotations

import numpy as np

from marl_sched.allocation import quota
from marl_sched.allocation.room import gpus_in
from marl_sched.compiled.jit import kernel, part
from marl_sched.compiled.order import rows_by, rows_in_order
from marl_sched.sim import columns as c
from marl_sched.sim.holdings import drop_entries, give_back
from marl_sched.sim.lifecycle import mark_spanning, restart_s, run_at, suspend, unplace
from marl_sched.sim.placement import place
from marl_sched.sim.progress import predict, refresh_rates, sync
from marl_sched.sim.world import World
from marl_sched.types import ANYBODY, Ints1


@kernel
def gpus_at(w: World, b: int, i: int, level: int) -> float:
    """`gpus_in` of a world."""
    return gpus_in(w.sizes, w.slot_k[b, c.PROFILE], w.slot_demand[b], i, level)


@kernel
def find_changes(w: World, b: int, target: np.ndarray) -> int:
    """Clip targets to what is legal and list the rows that change; their number."""
    level, limit = w.slot_k[b, c.LEVEL], w.slot_k[b, c.LIMIT_LEVEL]
    count, more = 0, 0.0
    for i in range(w.env_k[b, c.NUM_ACTIVE]):
        if target[i] == level[i] and target[i] <= limit[i]:
            continue
        target[i] = min(max(target[i], 0), limit[i])
        if target[i] != level[i]:
            w.changes[b, count] = i
            count += 1
            more += gpus_at(w, b, i, target[i]) - gpus_at(w, b, i, level[i])
    excess = w.env_f[b, c.HELD_GPUS] + more - w.total[0]
    if w.tenant_quota.size > 0:
        freed = cut_to_quotas(w, b, target, count)
        if excess <= 1e-9 and freed == 0.0:
            return count
        excess -= freed
    elif excess <= 1e-9:
        return count
    cut(w, b, target, -1, excess)
    count = 0
    for i in range(w.env_k[b, c.NUM_ACTIVE]):
        if target[i] != level[i]:
            w.changes[b, count] = i
            count += 1
    return count


@part
def cut_to_quotas(w: World, b: int, target: Ints1, count: int) -> float:
    """Lower the latest jobs of tenants above their quota, by the `count` listed changes; GPUs
    freed."""
    limits, held, tally = w.tenant_quota, w.tenant_held[b], w.tenant_tally
    quota.count_anew(limits, tally, True)
    for k in range(count):
        i = w.changes[b, k]
        profile = w.slot_k[b, c.PROFILE, i]
        more = w.sizes[profile, target[i]] - w.sizes[profile, w.slot_k[b, c.LEVEL, i]]
        milli = quota.thousandths(more, w.slot_demand[b, i, 0])
        quota.add(limits, held, tally, w.slot_k[b, c.TENANT, i], milli)
    freed = 0.0
    for k in range(count):
        tenant = w.slot_k[b, c.TENANT, w.changes[b, k]]
        over = quota.excess(limits, held, tally, tenant, 0)
        if over > 0.0:
            freed += cut(w, b, target, tenant, over)
            quota.add(limits, held, tally, tenant, -quota.FULL)  # once
    return freed


@kernel
def cut(w: World, b: int, target: np.ndarray, tenant: int, excess: float) -> float:
    """Lower targets, the latest job first, until `excess` GPUs are free; GPUs freed.

    Args:
        tenant: whose jobs; -1 for everybody's.
    """
    freed = 0.0
    while excess - freed > 1e-9:
        latest = -1
        for i in range(w.env_k[b, c.NUM_ACTIVE]):
            mine = tenant < 0 or w.slot_k[b, c.TENANT, i] == tenant
            later = latest < 0 or w.slot_k[b, c.JOB, i] > w.slot_k[b, c.JOB, latest]
            if target[i] > 0 and mine and later:
                latest = i
        if latest < 0:
            break
        while excess - freed > 1e-9 and target[latest] > 0:
            before = gpus_at(w, b, latest, target[latest])
            target[latest] -= 1
            freed += before - gpus_at(w, b, latest, target[latest])
    return freed


@kernel
def find_first_changes(w: World, b: int, target: np.ndarray, reach: int) -> int:
    """`find_changes` where only the first `reach` jobs that wait may have been given a level."""
    level, head = w.slot_k[b, c.LEVEL], w.env_k[b, c.WAITING_HEAD]
    count, more = 0, 0.0
    for at in range(head, head + reach):
        i = w.waiting[b, at]
        if target[i] != level[i]:
            w.changes[b, count] = i
            count += 1
            more += gpus_at(w, b, i, target[i])
    if w.tenant_quota.size > 0 or w.env_f[b, c.HELD_GPUS] + more - w.total[0] > 1e-9:
        return find_changes(w, b, target)
    return count


@kernel
def apply(w: World, b: int, target: np.ndarray) -> None:
    """Bring every active job to its target level, as far as the nodes allow.

    Feasible for any input: levels are clipped, the sum is cut to the cluster, and a gang that
    finds no room keeps what it has, takes a smaller size, or waits. Preemptions first, then
    shrinks, then growth and starts, larger gangs first.

    Args:
        target: (A,) int64 level of each active job; may be `World.target` itself.
    """
    apply_first(w, b, target, ANYBODY)


@part
def apply_first(w: World, b: int, target: Ints1, reach: int) -> None:
    """`apply` of legal levels, where only the first `reach` jobs that wait may have got one.

    Costs nothing for the other active jobs, of which there may be very many.

    Args:
        reach: `ANYBODY` for `apply` itself: of any levels, which anybody may have got.
    """
    if reach == ANYBODY:
        count = find_changes(w, b, target)
    else:
        count = find_first_changes(w, b, target, reach)
    changes = w.changes[b]
    level = w.slot_k[b, c.LEVEL]
    raised, lowered = 0, 0
    for k in range(count):
        i = changes[k]
        wanted = target[i]
        if wanted == 0:
            sync(w, b, i)
            unplace(w, b, i)
            suspend(w, b, i)
        elif wanted > level[i]:
            raised += 1
        else:
            lowered += 1
    if lowered > 0:
        lower_levels(w, b, target, count, lowered)
    if raised > 0:
        raise_levels(w, b, target, count, raised)
    settle(w, b)
    ask_again(w, b, target, count)
    for k in range(count):
        target[changes[k]] = level[changes[k]]


@kernel
def ask_again(w: World, b: int, target: np.ndarray, count: int) -> None:
    """Let the scheduler decide once more at this instant where the nodes told it something new.

    A start found no node, which shows in `REFUSED_AT`; or a job was stopped on one GPU type
    whose smallest size another would hold.
    """
    again = w.env_k[b, c.ASKS_AGAIN] > 0
    w.env_k[b, c.ASKS_AGAIN] = 0
    if w.spare_by_type.shape[1] > 0:
        for k in range(count):
            i = w.changes[b, k]
            again |= target[i] == 0 and w.slot_k[b, c.LEVEL, i] == 0 and could_move(w, b, i)
    if again and w.env_k[b, c.TIMES_ASKED] < c.MOST_TIMES_ASKED:
        w.env_k[b, c.TIMES_ASKED] += 1
        w.env_f[b, c.ROUND_AT_S] = w.env_f[b, c.NOW_S]


@kernel
def could_move(w: World, b: int, i: int) -> bool:
    """Whether one of the types of row `i` has GPUs free for its smallest size."""
    least = gpus_at(w, b, i, 1)
    for gpu_type in range(w.spare_by_type.shape[1]):
        allowed = w.slot_k[b, c.TYPES, i] >> gpu_type & 1 > 0
        if allowed and w.spare_by_type[b, gpu_type, 0] >= least - 1e-9:
            return True
    return False


@kernel
def lower_levels(w: World, b: int, target: np.ndarray, count: int, lowered: int) -> None:
    """Shrink the jobs whose target is below their level, in order of arrival."""
    changes, level = w.changes[b], w.slot_k[b, c.LEVEL]
    rows, jobs = np.empty(lowered, dtype=np.int64), np.empty(lowered, dtype=np.int64)
    n = 0
    for k in range(count):
        i = changes[k]
        if 0 < target[i] < level[i]:
            rows[n], jobs[n] = i, w.slot_k[b, c.JOB, i]
            n += 1
    for j in rows_in_order(jobs[:n]):
        i = rows[j]
        wanted = target[i]
        sync(w, b, i)
        unplace(w, b, i)
        start_at_most(w, b, i, wanted)
        target[i] = level[i]


@kernel
def raise_levels(w: World, b: int, target: np.ndarray, count: int, raised: int) -> None:
    """Start and grow the jobs whose target is above their level, larger gangs first."""
    changes, level = w.changes[b], w.slot_k[b, c.LEVEL]
    rows, jobs = np.empty(raised, dtype=np.int64), np.empty(raised, dtype=np.int64)
    keys = np.empty(raised)
    n = 0
    for k in range(count):
        i = changes[k]
        if target[i] > level[i]:
            rows[n] = i
            size = w.sizes[w.slot_k[b, c.PROFILE, i], target[i]]
            jobs[n], keys[n] = w.slot_k[b, c.JOB, i], -float(size)
            n += 1
    if n == 1:
        raise_level(w, b, rows[0], target[rows[0]])
        return
    for j in rows_by(keys[:n], jobs[:n]):
        raise_level(w, b, rows[j], target[rows[j]])


@kernel
def raise_level(w: World, b: int, i: int, wanted: int) -> None:
    if w.slot_k[b, c.LEVEL, i] > 0:
        grow(w, b, i, wanted)
    else:
        start_at_most(w, b, i, wanted)


@kernel
def start_at_most(w: World, b: int, i: int, level: int) -> None:
    """Run the unplaced job in row `i` at the highest level up to `level` that finds room."""
    for lower in range(level, 0, -1):
        if place(w, b, i, lower):
            run_at(w, b, i, lower)
            return
    if w.slot_k[b, c.LEVEL, i] > 0:
        suspend(w, b, i)
    elif w.slot_k[b, c.REFUSED_AT, i] != w.env_k[b, c.RELEASES]:
        w.slot_k[b, c.REFUSED_AT, i] = w.env_k[b, c.RELEASES]
        w.env_k[b, c.ASKS_AGAIN] = 1


@kernel
def grow(w: World, b: int, i: int, level: int) -> None:
    """Move the running job in row `i` up to `level`, or leave it as it is."""
    old, kind = w.slot_k[b, c.PLACEMENT, i], w.slot_k[b, c.GPU_TYPE, i]
    give_back(w, b, i, 1)
    w.slot_k[b, c.PLACEMENT, i] = -1
    if not place(w, b, i, level):
        w.slot_k[b, c.PLACEMENT, i] = old
        w.slot_k[b, c.GPU_TYPE, i] = kind
        give_back(w, b, i, -1)
        return
    if w.slot_k[b, c.SPAN, i] > 0:
        new = w.slot_k[b, c.PLACEMENT, i]
        w.slot_k[b, c.PLACEMENT, i] = old
        mark_spanning(w, b, i, -1)
        w.slot_k[b, c.PLACEMENT, i] = new
    drop_entries(w, b, old)
    w.env_k[b, c.RELEASES] += 1
    sync(w, b, i)
    run_at(w, b, i, level)


@kernel
def settle(w: World, b: int) -> None:
    """After all placements: rates by co-runners, the next round, repeated overheads."""
    if w.co_runners:
        refresh_rates(w, b)
    if w.env_k[b, c.BELOW_MOST] == 0 and not w.decide_on_rounds:
        # Everybody has the most it can use: nothing to decide before the next event.
        w.env_f[b, c.ROUND_AT_S] = np.inf
    if w.overhead_each_epoch:
        charge_everybody(w, b)


@part
def charge_everybody(w: World, b: int) -> None:
    """Each running job pauses for its restart cost now, while its predicted end ignores that.

    A quirk of Muri's simulator (Zhao et al., SIGCOMM 2022, artifact), kept to compare with it.
    The pause is a restart, and so a checkpoint.
    """
    now = w.env_f[b, c.NOW_S]
    for k in range(w.env_k[b, c.NUM_RUNNING]):
        i = w.running[b, k]
        sync(w, b, i)
        w.slot_f[b, c.SAFE_REMAINING_S, i] = w.slot_f[b, c.REMAINING_S, i]
        w.slot_f[b, c.RESUME_AT_S, i] = now
        predict(w, b, i)
        cost = restart_s(w, b, w.slot_k[b, c.PROFILE, i], w.slot_k[b, c.LEVEL, i])
        w.slot_f[b, c.RESUME_AT_S, i] = now + cost
