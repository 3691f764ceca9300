"""The event loop, compiled: the only one in the project.

`start` begins an episode, `advance` runs to the next decision epoch, `apply` carries out a
scheduler's target levels, `make_view` is what a scheduler sees. The driver of a simulation
calls advance -> view -> decide -> apply until `advance` says that all jobs have ended.
"""

from __future__ import annotations

import numpy as np

from marl_sched.compiled.jit import kernel, part
from marl_sched.sim import columns as c
from marl_sched.sim.lifecycle import arrival_of, arrive, end_job, fail
from marl_sched.sim.nodes import open_all
from marl_sched.sim.outages import node_events, plan_failures
from marl_sched.sim.progress import end_phase, refresh_rates, show_running, sync
from marl_sched.sim.views import (
    LENGTHS,
    NOW_WORD,
    RELEASES_WORD,
    RUNNING_WORD,
    WAITING_WORD,
    cluster_view,
)
from marl_sched.sim.world import World
from marl_sched.types import ClusterView

FINISHED, EPOCH, STUCK, FULL = 0, 1, -1, 2
"""What `advance` returns; FULL: the table of active jobs or the event log needs room first."""


@part
def start(w: World, b: int, first: int, end: int, stretch: float) -> None:
    """Begin an episode over jobs [first, end) with gaps between arrivals times `stretch`."""
    w.env_f[b, :] = 0.0
    w.env_f[b, c.ORIGIN_S] = w.job_f[c.JOB_ARRIVAL_S, first]
    w.env_f[b, c.STRETCH] = stretch
    w.env_f[b, c.RESTART_SCALE] = 1.0
    w.env_f[b, c.ESTIMATE_POWER] = 1.0
    w.env_f[b, c.ROUND_AT_S] = np.inf
    w.env_k[b, :] = 0
    w.env_k[b, c.FIRST_JOB] = first
    w.env_k[b, c.END_JOB] = end
    w.env_k[b, c.CURSOR] = first
    w.cost[b, :] = 0.0
    w.account[b, :] = 0.0
    w.result[b] = np.nan
    for entry in range(w.pool.shape[2]):
        w.pool[b, c.ENTRY_NEXT, entry] = entry + 1
    w.tenant_held[b] = 0
    open_all(w, b)
    plan_failures(w, b)
    if w.blocked.shape[1] > 0:
        count_parents(w, b)


@kernel
def count_parents(w: World, b: int) -> None:
    """How many parents inside the window each of its jobs has."""
    first, end = w.env_k[b, c.FIRST_JOB], w.env_k[b, c.END_JOB]
    w.doomed[b, :] = False
    for job in range(first, end):
        w.blocked[b, job - first] = 0
        for at in range(w.parents_at[job], w.parents_at[job + 1]):
            if first <= w.parents[at] < end:
                w.blocked[b, job - first] += 1


@kernel
def next_arrival_s(w: World, b: int) -> float:
    """Time of the next arrival, +inf after the last."""
    cursor = w.env_k[b, c.CURSOR]
    if cursor >= w.env_k[b, c.END_JOB]:
        return np.inf
    return arrival_of(w, b, cursor)


@kernel
def next_own_event_s(w: World, b: int) -> float:
    """Time of the next finish, failure or cancellation of an active job, +inf without."""
    if w.env_k[b, c.HEAP_SIZE] == 0:
        return np.inf
    return float(w.slot_f[b, c.NEXT_AT_S, w.heap[b, 0]])


@kernel
def move_clock(w: World, b: int, until_s: float) -> None:
    """Move the clock to `until_s`, and the integrals of the reward with it."""
    dt = until_s - w.env_f[b, c.NOW_S]
    if dt <= 0.0:
        return
    w.env_f[b, c.NOW_S] = until_s
    w.env_k[b, c.TIMES_ASKED] = 0
    held, up = w.env_f[b, c.HELD_GPUS], w.env_f[b, c.UP_GPUS]
    w.account[b, c.UP_GPU_S] += up * dt
    w.account[b, c.IDLE_GPU_S] += (up - held) * dt
    # Also while no job is there: nodes that wait for the next arrival draw power.
    energy_kwh = (w.env_f[b, c.UP_WATTS] + w.env_f[b, c.HELD_WATTS]) * dt / 3.6e6
    w.account[b, c.ENERGY_KWH] += energy_kwh
    w.cost[b, c.COST_ENERGY] += energy_kwh
    active = w.env_k[b, c.NUM_ACTIVE]
    if active == 0:
        return
    gpus = w.total[0]
    w.env_f[b, c.PRESSURE_S] += w.env_f[b, c.ASKED_GPUS] / gpus * dt
    w.cost[b, c.COST_COMPLETION] += active * dt
    w.cost[b, c.COST_SLOWDOWN] += w.env_f[b, c.SLOWDOWN_PER_S] * dt
    w.cost[b, c.COST_UTILISATION] += gpus * dt


@kernel
def own_events(w: World, b: int) -> None:
    """Carry out the own events of active jobs that are due."""
    now = w.env_f[b, c.NOW_S]
    while next_own_event_s(w, b) <= now:
        i = w.heap[b, 0]
        if w.slot_f[b, c.FINISH_AT_S, i] <= now:
            sync(w, b, i)
            if not end_phase(w, b, i):
                w.slot_f[b, c.REMAINING_S, i] = 0.0
                end_job(w, b, i, c.FINISHED_JOB)
        elif w.slot_f[b, c.FAIL_AT_S, i] <= now:
            fail(w, b, i)
        else:
            end_job(w, b, i, c.CANCELLED_JOB)


@kernel
def has_room(w: World, b: int) -> bool:
    """Whether the tables take another arrival and all that one epoch may log."""
    active = w.env_k[b, c.NUM_ACTIVE]
    if active == w.target.shape[1] and w.env_k[b, c.NUM_ENDED] + active < w.result.shape[2]:
        return False
    rows = w.log.shape[0]
    if b != 0 or rows == 0:
        return True
    return w.env_k[b, c.NUM_LOGGED] + 8 * (active + 8) + 4 * w.capacity.shape[0] <= rows


@kernel
def arrivals(w: World, b: int) -> bool:
    """Take up jobs whose time has come or whose parents have ended; False when room ran out."""
    now = w.env_f[b, c.NOW_S]
    while w.env_k[b, c.NUM_READY] > 0:
        if not has_room(w, b):
            return False
        w.env_k[b, c.NUM_READY] -= 1
        arrive(w, b, w.ready[b, w.env_k[b, c.NUM_READY]])
    while next_arrival_s(w, b) <= now:
        if not has_room(w, b):
            return False
        job = w.env_k[b, c.CURSOR]
        w.env_k[b, c.CURSOR] = job + 1
        arrive(w, b, job)
        while w.env_k[b, c.NUM_READY] > 0 and has_room(w, b):
            w.env_k[b, c.NUM_READY] -= 1
            arrive(w, b, w.ready[b, w.env_k[b, c.NUM_READY]])
    return w.env_k[b, c.NUM_READY] == 0


@kernel
def next_epoch_s(w: World, b: int) -> float:
    """When something happens next; +inf when nothing ever does."""
    until = min(next_arrival_s(w, b), next_own_event_s(w, b))
    if w.env_k[b, c.NUM_READY] > 0:
        until = w.env_f[b, c.NOW_S]
    if w.env_k[b, c.NUM_ACTIVE] > 0:
        until = min(until, w.env_f[b, c.ROUND_AT_S])
    if until < np.inf or w.env_k[b, c.NUM_ACTIVE] > 0:
        until = min(until, w.env_f[b, c.NODE_EVENT_S])
    return max(until, w.env_f[b, c.NOW_S])


@kernel
def is_stuck(w: World, b: int) -> bool:
    """Whether jobs wait and nothing else can happen for many rounds, or none survives its stops."""
    if w.env_k[b, c.SETBACKS] > c.MAX_SETBACKS:
        return True
    waits = w.env_k[b, c.NUM_ACTIVE] > 0 and w.env_k[b, c.HEAP_SIZE] == 0
    if waits and next_arrival_s(w, b) == np.inf and w.env_f[b, c.NODE_EVENT_S] == np.inf:
        w.env_k[b, c.IDLE_ROUNDS] += 1
        return w.env_k[b, c.IDLE_ROUNDS] > c.MAX_IDLE_ROUNDS
    w.env_k[b, c.IDLE_ROUNDS] = 0
    return False


@kernel
def is_epoch(w: World, b: int) -> bool:
    """Whether a scheduler decides now; sets the timer of the next round."""
    if w.env_k[b, c.NUM_ACTIVE] == 0:
        return False
    now, round_s = w.env_f[b, c.NOW_S], w.round_s
    if not w.decide_on_rounds:
        w.env_f[b, c.ROUND_AT_S] = now + round_s
        return True
    number = np.ceil(now / round_s)
    if number * round_s == now:
        w.env_f[b, c.ROUND_AT_S] = (number + 1.0) * round_s
        return True
    w.env_f[b, c.ROUND_AT_S] = number * round_s
    return False


@part
def advance(w: World, b: int) -> int:
    """Run to the next decision epoch: something happened, or a round came without.

    A round comes `round_s` after the last epoch, while some active job could use more.

    Returns:
        EPOCH when active jobs wait for a decision, FINISHED when no job is left, STUCK when
        jobs waited on an idle cluster for MAX_IDLE_ROUNDS rounds or failures let
        none of them end, FULL when a table needs room.
    """
    while True:
        until = next_epoch_s(w, b)
        if until == np.inf:
            return FINISHED
        if not has_room(w, b):
            return FULL
        if is_stuck(w, b):
            return STUCK
        move_clock(w, b, until)
        own_events(w, b)
        if w.env_f[b, c.NODE_EVENT_S] <= until:
            node_events(w, b)
        if not arrivals(w, b):
            return FULL
        if w.co_runners:
            refresh_rates(w, b)
        if is_epoch(w, b):
            return EPOCH


@kernel
def is_plain_world(w: World) -> bool:
    """`room.is_plain` of a world's views, of which none has to be made."""
    return w.spare_by_type.shape[1] == 0 and w.tenant_quota.size == 0


@kernel
def plain_view(w: World, b: int) -> ClusterView:
    """What a scheduler sees that does not look at progress: running jobs' may be out of date."""
    words = w.view_table[b]
    words[NOW_WORD] = np.float64(w.env_f[b, c.NOW_S]).view(np.int64)
    words[RELEASES_WORD] = w.env_k[b, c.RELEASES]
    for at in LENGTHS:
        words[at] = w.env_k[b, c.NUM_ACTIVE]
    words[WAITING_WORD] = w.waiting[b, w.env_k[b, c.WAITING_HEAD] :].ctypes.data
    words[WAITING_WORD + 1] = w.env_k[b, c.NUM_WAITING]
    words[RUNNING_WORD + 1] = w.env_k[b, c.NUM_RUNNING]
    return cluster_view(words)


@kernel
def make_view(w: World, b: int) -> ClusterView:
    """What a scheduler sees now: windows into the table of active jobs, no copies."""
    show_running(w, b)
    return plain_view(w, b)
