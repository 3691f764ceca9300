"""The event loop, compiled: the only one in the project.

`start` begins an episode, `advance` runs to the next decision epoch, `apply` carries out a
scheduler's target levels, `make_view` is what a scheduler sees. The driver of a simulation
calls advance -> view -> decide -> apply until `advance` says that all jobs have finished.
"""

from __future__ import annotations

import numpy as np

from marl_sched.jit import kernel
from marl_sched.sim import columns as c
from marl_sched.sim.placement import drop_entries, give_back, place
from marl_sched.sim.world import World
from marl_sched.types import ClusterView

FINISHED, EPOCH, STUCK = 0, 1, -1
"""What `advance` returns."""


@kernel
def start(w: World, b: int, first: int, end: int, stretch: float) -> None:
    """Begin an episode over jobs [first, end) with gaps between arrivals times `stretch`."""
    w.env_f[b, :] = 0.0
    w.env_f[b, c.ORIGIN_S] = w.job_f[c.JOB_ARRIVAL_S, first]
    w.env_f[b, c.STRETCH] = stretch
    w.env_f[b, c.ROUND_AT_S] = np.inf
    w.env_k[b, :] = 0
    w.env_k[b, c.FIRST_JOB] = first
    w.env_k[b, c.END_JOB] = end
    w.env_k[b, c.CURSOR] = first
    w.free[b] = w.capacity
    w.cost[b, :] = 0.0
    w.result[b] = np.nan
    for entry in range(w.pool.shape[2]):
        w.pool[b, c.ENTRY_NEXT, entry] = entry + 1


@kernel
def next_arrival_s(w: World, b: int) -> float:
    """Time of the next arrival, +inf after the last."""
    cursor = w.env_k[b, c.CURSOR]
    if cursor >= w.env_k[b, c.END_JOB]:
        return np.inf
    trace_s = w.job_f[c.JOB_ARRIVAL_S, cursor] - w.env_f[b, c.ORIGIN_S]
    return float(trace_s * w.env_f[b, c.STRETCH])


@kernel
def integrate(w: World, b: int, until_s: float) -> None:
    """Move the clock to `until_s`: progress, attained service and the reward's integrals."""
    now = w.env_f[b, c.NOW_S]
    dt = until_s - now
    active = w.env_k[b, c.NUM_ACTIVE]
    w.env_f[b, c.NOW_S] = until_s
    if dt <= 0.0 or active == 0:
        return
    slowdown, held, useful, asked = 0.0, 0.0, 0.0, 0.0
    for i in range(active):
        duration = w.slot_f[b, c.DURATION_S, i]
        slowdown += 1.0 / max(duration, c.SLOWDOWN_FLOOR_S)
        profile = w.slot_k[b, c.PROFILE, i]
        asked += w.sizes[profile, w.request_level[profile]]
        level = w.slot_k[b, c.LEVEL, i]
        if level == 0:
            continue
        size = w.sizes[profile, level]
        held += size
        w.slot_f[b, c.ATTAINED_GPU_S, i] += size * dt
        w.slot_f[b, c.HELD_S, i] += dt
        working = until_s - max(now, w.slot_f[b, c.RESUME_AT_S, i])
        if working > 0.0:
            done = w.slot_f[b, c.RATE, i] * working
            remaining = max(w.slot_f[b, c.REMAINING_S, i] - done, 0.0)
            w.slot_f[b, c.REMAINING_S, i] = remaining
            factor = w.job_f[c.JOB_EST_FACTOR, w.slot_k[b, c.JOB, i]]
            w.slot_f[b, c.EST_REMAINING_S, i] = remaining * factor
            useful += done / w.profile_f[c.PROFILE_BEST_EFFICIENCY, profile]
    gpus = w.total[0]
    w.env_f[b, c.PRESSURE_S] += asked / gpus * dt
    w.cost[b, c.COST_COMPLETION] += active * dt
    w.cost[b, c.COST_SLOWDOWN] += slowdown * dt
    w.cost[b, c.COST_UTILISATION] += gpus * dt - useful
    watts = c.IDLE_WATT * (gpus - held) + c.BUSY_WATT * held
    w.cost[b, c.COST_ENERGY] += watts * dt / 3.6e6


@kernel
def complete(w: World, b: int, i: int) -> None:
    """Finish the job in slot `i`: free its GPUs, write its row, close the gap in the table."""
    now = w.env_f[b, c.NOW_S]
    give_back(w, b, i, 1.0)
    drop_entries(w, b, w.slot_k[b, c.PLACEMENT, i])
    jct = now - w.slot_f[b, c.ARRIVAL_S, i]
    mean_pressure = 1.0
    if jct > 0.0:
        pressure = w.env_f[b, c.PRESSURE_S] - w.slot_f[b, c.PRESSURE_AT_ARRIVAL_S, i]
        mean_pressure = max(pressure / jct, 1.0)
    # Themis (NSDI 2020): run time shared over run time on a 1/n share of the cluster.
    rho = jct / (w.slot_f[b, c.DURATION_S, i] * mean_pressure)
    w.cost[b, c.COST_FAIRNESS] += max(rho - 1.0, 0.0)
    if now > w.slot_f[b, c.DEADLINE_S, i]:
        w.cost[b, c.COST_DEADLINE] += 1.0
    row = w.slot_k[b, c.JOB, i] - w.env_k[b, c.FIRST_JOB]
    w.result[b, c.FINAL_FIRST_START_S, row] = w.slot_f[b, c.FIRST_START_S, i]
    w.result[b, c.FINAL_FINISH_S, row] = now
    w.result[b, c.FINAL_ATTAINED_GPU_S, row] = w.slot_f[b, c.ATTAINED_GPU_S, i]
    w.result[b, c.FINAL_HELD_S, row] = w.slot_f[b, c.HELD_S, i]
    w.result[b, c.FINAL_PREEMPTIONS, row] = w.slot_k[b, c.PREEMPTIONS, i]
    w.result[b, c.FINAL_RESTARTS, row] = w.slot_k[b, c.RESTARTS, i]
    w.result[b, c.FINAL_RHO, row] = rho
    w.result[b, c.FINAL_ARRIVAL_S, row] = w.slot_f[b, c.ARRIVAL_S, i]
    w.env_k[b, c.NUM_FINISHED] += 1
    w.env_k[b, c.NUM_ACTIVE] -= 1
    last = w.env_k[b, c.NUM_ACTIVE]
    if last != i:
        for row in range(c.NUM_SLOT_F):
            w.slot_f[b, row, i] = w.slot_f[b, row, last]
        for row in range(c.NUM_SLOT_K):
            w.slot_k[b, row, i] = w.slot_k[b, row, last]
        for r in range(4):
            w.slot_demand[b, i, r] = w.slot_demand[b, last, r]


@kernel
def arrive(w: World, b: int) -> None:
    """Put the next job of the workload into the table of active jobs."""
    job = w.env_k[b, c.CURSOR]
    i = w.env_k[b, c.NUM_ACTIVE]
    arrival = next_arrival_s(w, b)
    profile = w.job_k[c.JOB_PROFILE, job]
    duration = w.job_f[c.JOB_DURATION_S, job]
    estimate = duration * w.job_f[c.JOB_EST_FACTOR, job]
    f = w.slot_f[b, :, i]
    f[c.ARRIVAL_S] = arrival
    f[c.DURATION_S] = duration
    f[c.REMAINING_S] = duration
    f[c.ATTAINED_GPU_S] = 0.0
    f[c.HELD_S] = 0.0
    f[c.RUN_SINCE_S] = np.nan
    f[c.WAITING_SINCE_S] = arrival
    f[c.RESUME_AT_S] = np.inf
    f[c.FINISH_AT_S] = np.inf
    f[c.RATE] = 0.0
    f[c.FIRST_START_S] = np.nan
    f[c.EST_TOTAL_S] = estimate
    f[c.EST_REMAINING_S] = estimate
    f[c.RESTART_S] = w.profile_f[c.PROFILE_RESTART_S, profile] if w.charge_first_start else 0.0
    f[c.PRIORITY] = w.job_f[c.JOB_PRIORITY, job]
    f[c.DEADLINE_S] = arrival + w.job_f[c.JOB_DEADLINE_S, job]
    f[c.PRESSURE_AT_ARRIVAL_S] = w.env_f[b, c.PRESSURE_S]
    k = w.slot_k[b, :, i]
    k[c.JOB] = job
    k[c.PROFILE] = profile
    k[c.LEVEL] = 0
    k[c.TENANT] = w.job_k[c.JOB_TENANT, job]
    k[c.REQUEST_LEVEL] = w.request_level[profile]
    k[c.LIMIT_LEVEL] = w.num_levels[profile]
    k[c.PLACEMENT] = -1
    k[c.PREEMPTIONS] = 0
    k[c.RESTARTS] = 0
    for r in range(4):
        w.slot_demand[b, i, r] = w.job_demand[job, r]
    w.env_k[b, c.NUM_ACTIVE] = i + 1
    w.env_k[b, c.CURSOR] = job + 1


@kernel
def advance(w: World, b: int) -> int:
    """Run to the next decision epoch: arrivals and completions, or a round with neither.

    A round comes `round_s` after the last epoch, while some active job could use more.

    Returns:
        EPOCH when active jobs wait for a decision, FINISHED when no job is left, STUCK when
        jobs waited on an idle cluster for MAX_IDLE_ROUNDS rounds.
    """
    while True:
        active = w.env_k[b, c.NUM_ACTIVE]
        arrival = next_arrival_s(w, b)
        until, running = arrival, False
        for i in range(active):
            finish = w.slot_f[b, c.FINISH_AT_S, i]
            if finish < np.inf:
                running = True
                until = min(until, finish)
        if active > 0:
            until = min(until, w.env_f[b, c.ROUND_AT_S])
        if until == np.inf:
            return FINISHED
        if active > 0 and not running and arrival == np.inf:
            w.env_k[b, c.IDLE_ROUNDS] += 1
            if w.env_k[b, c.IDLE_ROUNDS] > c.MAX_IDLE_ROUNDS:
                return STUCK
        else:
            w.env_k[b, c.IDLE_ROUNDS] = 0
        integrate(w, b, until)
        i = 0
        while i < w.env_k[b, c.NUM_ACTIVE]:
            if w.slot_f[b, c.FINISH_AT_S, i] <= until:
                complete(w, b, i)
            else:
                i += 1
        while next_arrival_s(w, b) <= until:
            arrive(w, b)
        if w.env_k[b, c.NUM_ACTIVE] > 0:
            w.env_f[b, c.ROUND_AT_S] = until + w.round_s
            return EPOCH


@kernel
def make_view(w: World, b: int) -> ClusterView:
    """What a scheduler sees now: windows into the table of active jobs, no copies."""
    n = w.env_k[b, c.NUM_ACTIVE]
    f = w.slot_f[b]
    k = w.slot_k[b]
    return ClusterView(
        w.env_f[b, c.NOW_S],
        int(w.total[0]),
        w.total,
        w.sizes,
        w.num_levels,
        w.nominal_rates,
        k[c.JOB, :n],
        k[c.PROFILE, :n],
        k[c.LEVEL, :n],
        k[c.REQUEST_LEVEL, :n],
        k[c.LIMIT_LEVEL, :n],
        f[c.ARRIVAL_S, :n],
        f[c.ATTAINED_GPU_S, :n],
        f[c.RUN_SINCE_S, :n],
        f[c.WAITING_SINCE_S, :n],
        f[c.EST_TOTAL_S, :n],
        f[c.EST_REMAINING_S, :n],
        f[c.RESTART_S, :n],
        w.slot_demand[b, :n],
        f[c.PRIORITY, :n],
        k[c.TENANT, :n],
        f[c.DEADLINE_S, :n],
    )


@kernel
def fit_to_cluster(w: World, b: int, target: np.ndarray) -> None:
    """Clip levels to what the agents accept, then lower the latest jobs until the GPUs suffice."""
    active = w.env_k[b, c.NUM_ACTIVE]
    asked = 0
    for i in range(active):
        profile = w.slot_k[b, c.PROFILE, i]
        target[i] = min(max(target[i], 0), w.slot_k[b, c.LIMIT_LEVEL, i])
        asked += w.sizes[profile, target[i]]
    while asked > w.total[0]:
        latest = -1
        for i in range(active):
            later = latest < 0 or w.slot_k[b, c.JOB, i] > w.slot_k[b, c.JOB, latest]
            if target[i] > 0 and later:
                latest = i
        profile = w.slot_k[b, c.PROFILE, latest]
        while asked > w.total[0] and target[latest] > 0:
            asked -= w.sizes[profile, target[latest]]
            target[latest] -= 1
            asked += w.sizes[profile, target[latest]]


@kernel
def run_at(w: World, b: int, i: int, level: int, rate: float) -> None:
    """Book the job in slot `i` as running at `level` from now, with its (re)start cost."""
    now = w.env_f[b, c.NOW_S]
    profile = w.slot_k[b, c.PROFILE, i]
    cost = w.slot_f[b, c.RESTART_S, i]
    if np.isnan(w.slot_f[b, c.FIRST_START_S, i]):
        w.slot_f[b, c.FIRST_START_S, i] = now
        w.slot_f[b, c.RESTART_S, i] = w.profile_f[c.PROFILE_RESTART_S, profile]
    else:
        w.slot_k[b, c.RESTARTS, i] += 1
    if w.slot_k[b, c.LEVEL, i] == 0:
        w.slot_f[b, c.RUN_SINCE_S, i] = now
    w.slot_k[b, c.LEVEL, i] = level
    w.slot_f[b, c.RATE, i] = rate
    w.slot_f[b, c.RESUME_AT_S, i] = now + cost
    w.slot_f[b, c.FINISH_AT_S, i] = now + cost + w.slot_f[b, c.REMAINING_S, i] / rate
    w.cost[b, c.COST_PREEMPTION] += cost * w.sizes[profile, level]


@kernel
def suspend(w: World, b: int, i: int) -> None:
    """Book the job in slot `i`, whose GPUs are free already, as preempted."""
    w.slot_k[b, c.LEVEL, i] = 0
    w.slot_k[b, c.PREEMPTIONS, i] += 1
    w.slot_f[b, c.RUN_SINCE_S, i] = np.nan
    w.slot_f[b, c.WAITING_SINCE_S, i] = w.env_f[b, c.NOW_S]
    w.slot_f[b, c.RESUME_AT_S, i] = np.inf
    w.slot_f[b, c.FINISH_AT_S, i] = np.inf
    w.slot_f[b, c.RATE, i] = 0.0


@kernel
def release(w: World, b: int, i: int) -> None:
    """Free the placement of the job in slot `i`."""
    give_back(w, b, i, 1.0)
    drop_entries(w, b, w.slot_k[b, c.PLACEMENT, i])
    w.slot_k[b, c.PLACEMENT, i] = -1


@kernel
def apply(w: World, b: int, target: np.ndarray) -> None:
    """Bring every active job to its target level, as far as the nodes allow.

    Feasible for any input: levels are clipped, the sum is cut to the cluster, and a gang that
    finds no room keeps what it has, takes a smaller size, or waits. Preemptions first, then
    shrinks, then growth and starts, larger gangs first.

    Args:
        target: (A,) int64 level of each active job; overwritten with the clipped levels.
    """
    fit_to_cluster(w, b, target)
    active = w.env_k[b, c.NUM_ACTIVE]
    raised = 0
    for i in range(active):
        if target[i] > w.slot_k[b, c.LEVEL, i]:
            raised += 1
        elif target[i] == 0 and w.slot_k[b, c.LEVEL, i] > 0:
            release(w, b, i)
            suspend(w, b, i)
    for i in range(active):
        if 0 < target[i] < w.slot_k[b, c.LEVEL, i]:
            release(w, b, i)
            start_at_most(w, b, i, target[i])
            target[i] = w.slot_k[b, c.LEVEL, i]
    if raised > 0:
        raise_levels(w, b, target, raised)
    for i in range(active):
        if w.slot_k[b, c.LEVEL, i] < w.num_levels[w.slot_k[b, c.PROFILE, i]]:
            return
    # Everybody has the most it can use: nothing to decide before the next event.
    w.env_f[b, c.ROUND_AT_S] = np.inf


@kernel
def raise_levels(w: World, b: int, target: np.ndarray, raised: int) -> None:
    """Start and grow the jobs whose target is above their level, larger gangs first.

    Args:
        raised: upper bound of their number.
    """
    active = w.env_k[b, c.NUM_ACTIVE]
    slots = np.empty(raised, dtype=np.int64)
    keys = np.empty(raised)
    n = 0
    for i in range(active):
        if target[i] > w.slot_k[b, c.LEVEL, i]:
            slots[n] = i
            size = w.sizes[w.slot_k[b, c.PROFILE, i], target[i]]
            keys[n] = w.slot_k[b, c.JOB, i] - size * 1e9
            n += 1
    for j in np.argsort(keys[:n]):
        i = slots[j]
        if w.slot_k[b, c.LEVEL, i] > 0:
            grow(w, b, i, target[i])
        else:
            start_at_most(w, b, i, target[i])


@kernel
def start_at_most(w: World, b: int, i: int, level: int) -> None:
    """Run the unplaced job in slot `i` at the highest level up to `level` that finds room."""
    for lower in range(level, 0, -1):
        rate = place(w, b, i, lower)
        if rate > 0.0:
            run_at(w, b, i, lower, rate)
            return
    if w.slot_k[b, c.LEVEL, i] > 0:
        suspend(w, b, i)


@kernel
def grow(w: World, b: int, i: int, level: int) -> None:
    """Move the running job in slot `i` up to `level`, or leave it as it is."""
    old = w.slot_k[b, c.PLACEMENT, i]
    give_back(w, b, i, 1.0)
    w.slot_k[b, c.PLACEMENT, i] = -1
    rate = place(w, b, i, level)
    if rate > 0.0:
        drop_entries(w, b, old)
        run_at(w, b, i, level, rate)
    else:
        w.slot_k[b, c.PLACEMENT, i] = old
        give_back(w, b, i, -1.0)
