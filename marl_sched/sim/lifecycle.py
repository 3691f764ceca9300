"""What happens to one job: it arrives, runs, is preempted, fails, ends."""

from __future__ import annotations

import numpy as np

from marl_sched.allocation import quota
from marl_sched.compiled.jit import kernel
from marl_sched.sim import columns as c
from marl_sched.sim.draws import JOB_FAILURES, exponential_s
from marl_sched.sim.holdings import drop_entries, give_back
from marl_sched.sim.progress import book_useful, enter_phase, predict, set_rate, set_remaining, sync
from marl_sched.sim.queues import (
    join_running,
    join_waiting,
    leave_heap,
    leave_running,
    leave_waiting,
    move_row,
    schedule,
)
from marl_sched.sim.world import World


@kernel
def log(w: World, b: int, kind: int, job: int, gpus: float, node: int, extra: float) -> None:
    """Add a row to the event log, where environment 0 keeps one."""
    if b != 0 or w.log.shape[0] == 0:
        return
    row = w.log[w.env_k[b, c.NUM_LOGGED]]
    row[c.LOG_TIME_S] = w.env_f[b, c.NOW_S]
    row[c.LOG_KIND] = kind
    row[c.LOG_JOB] = job
    row[c.LOG_GPUS] = gpus
    row[c.LOG_NODE] = node
    row[c.LOG_EXTRA] = extra
    w.env_k[b, c.NUM_LOGGED] += 1


@kernel
def log_placement(w: World, b: int, i: int) -> None:
    """One row for each node that the job in row `i` holds GPUs of."""
    if b != 0 or w.log.shape[0] == 0:
        return
    entry = w.slot_k[b, c.PLACEMENT, i]
    while entry >= 0:
        node, gpus = w.pool[b, c.ENTRY_NODE, entry], w.pool[b, c.ENTRY_GPUS, entry]
        log(w, b, c.PLACE, w.slot_k[b, c.JOB, i], gpus * w.slot_demand[b, i, 0], node, 0.0)
        entry = w.pool[b, c.ENTRY_NEXT, entry]


@kernel
def arrival_of(w: World, b: int, job: int) -> float:
    """Time at which a job of the window arrives."""
    trace_s = w.job_f[c.JOB_ARRIVAL_S, job] - w.env_f[b, c.ORIGIN_S]
    return float(trace_s * w.env_f[b, c.STRETCH])


@kernel
def restart_s(w: World, b: int, profile: int, level: int) -> float:
    """Seconds that a start at `level` costs in this episode."""
    return float(w.restart[profile, level] * w.env_f[b, c.RESTART_SCALE])


@kernel
def take_up(w: World, b: int, job: int) -> None:
    """Put a job into the table of active jobs, waiting from now."""
    i = w.env_k[b, c.NUM_ACTIVE]
    now, arrival = w.env_f[b, c.NOW_S], arrival_of(w, b, job)
    profile = w.job_k[c.JOB_PROFILE, job]
    duration = w.job_f[c.JOB_DURATION_S, job]
    off_by = w.job_f[c.JOB_EST_FACTOR, job] ** w.env_f[b, c.ESTIMATE_POWER]
    estimate = duration * off_by
    f = w.slot_f[b, :, i]
    f[c.ARRIVAL_S] = arrival
    f[c.DURATION_S] = duration
    f[c.REMAINING_S] = duration
    f[c.ATTAINED_GPU_S] = 0.0
    f[c.SHOWN_GPU_S] = 0.0
    f[c.HELD_S] = 0.0
    f[c.RUN_SINCE_S] = np.nan
    f[c.WAITING_SINCE_S] = now
    f[c.RESUME_AT_S] = np.inf
    f[c.FINISH_AT_S] = np.inf
    f[c.RATE] = 0.0
    f[c.FIRST_START_S] = np.nan
    f[c.EST_TOTAL_S] = estimate
    f[c.EST_REMAINING_S] = estimate
    f[c.EST_FACTOR] = off_by
    f[c.RESTART_S] = 0.0
    if w.charge_first_start:
        f[c.RESTART_S] = restart_s(w, b, profile, w.request_level[profile])
    f[c.PRIORITY] = w.job_f[c.JOB_PRIORITY, job]
    f[c.DEADLINE_S] = arrival + w.job_f[c.JOB_DEADLINE_S, job]
    f[c.PRESSURE_AT_ARRIVAL_S] = w.env_f[b, c.PRESSURE_S]
    f[c.SYNCED_S] = now
    f[c.FAIL_AT_S] = np.inf
    f[c.FAIL_BUDGET_S] = failure_budget_s(w, b, job, 0)
    f[c.CANCEL_AT_S] = arrival + w.job_f[c.JOB_CANCEL_S, job]
    f[c.OVERHEAD_GPU_S] = 0.0
    f[c.LOST_GPU_S] = 0.0
    f[c.FULL_RATE] = 0.0
    f[c.GPUS_HELD] = 0.0
    f[c.WATTS_HELD] = 0.0
    f[c.SAFE_REMAINING_S] = duration
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
    k[c.HEAP_AT] = -1
    k[c.PHASE] = 0
    k[c.RETRIES] = 0
    k[c.SPAN] = 0
    k[c.GPU_TYPE] = 0
    k[c.TYPES] = w.job_k[c.JOB_TYPES, job]
    k[c.LEAVING] = 0
    k[c.REFUSED_AT] = -1
    for r in range(4):
        w.slot_demand[b, i, r] = w.job_demand[job, r]
    w.target[b, i] = 0
    w.env_k[b, c.NUM_ACTIVE] = i + 1
    w.env_k[b, c.BELOW_MOST] += 1
    w.env_k[b, c.SETBACKS] = 0
    count_in(w, b, i, 1.0)
    join_waiting(w, b, i)
    if f[c.CANCEL_AT_S] < np.inf:
        schedule(w, b, i)
    log(w, b, c.ARRIVE, job, asked_gpus(w, b, i), -1, 0.0)


@kernel
def asked_gpus(w: World, b: int, i: int) -> float:
    """GPUs of the request of row `i`; a share counts as a fraction."""
    profile = w.slot_k[b, c.PROFILE, i]
    return w.sizes[profile, w.request_level[profile]] * w.slot_demand[b, i, 0]


@kernel
def count_in(w: World, b: int, i: int, sign: float) -> None:
    """Add row `i` to the running sums over active jobs, or take it out again (`sign` -1)."""
    if w.env_k[b, c.NUM_ACTIVE] == 0:
        # Nobody left: start the sums anew rather than carry rounding errors along.
        w.env_f[b, c.SLOWDOWN_PER_S] = 0.0
        w.env_f[b, c.ASKED_GPUS] = 0.0
        return
    duration = max(w.slot_f[b, c.DURATION_S, i], c.SLOWDOWN_FLOOR_S)
    w.env_f[b, c.SLOWDOWN_PER_S] += sign / duration
    w.env_f[b, c.ASKED_GPUS] += sign * asked_gpus(w, b, i)


@kernel
def failure_budget_s(w: World, b: int, job: int, count: int) -> float:
    """Held time until the job's next failure, after `count` of them; +inf where it cannot fail."""
    rate = w.job_f[c.JOB_FAILURE_RATE_PER_S, job]
    if rate <= 0.0:
        return np.inf
    return exponential_s(w.seed, JOB_FAILURES, job, count) / rate


@kernel
def set_level(w: World, b: int, i: int, level: int) -> None:
    """Book that row `i` holds `level` from now on."""
    profile, before = w.slot_k[b, c.PROFILE, i], w.slot_k[b, c.LEVEL, i]
    most = w.num_levels[profile]
    w.env_k[b, c.BELOW_MOST] += (level < most) * 1 - (before < most) * 1
    gpus = w.sizes[profile, level] * w.slot_demand[b, i, 0]
    w.env_f[b, c.HELD_GPUS] += gpus - w.slot_f[b, c.GPUS_HELD, i]
    count_held(w, b, i, w.sizes[profile, level] - w.sizes[profile, before])
    w.slot_f[b, c.GPUS_HELD, i] = gpus
    idle_and_busy = w.type_watts[w.slot_k[b, c.GPU_TYPE, i]]
    watts = gpus * (idle_and_busy[1] - idle_and_busy[0])
    w.env_f[b, c.HELD_WATTS] += watts - w.slot_f[b, c.WATTS_HELD, i]
    w.slot_f[b, c.WATTS_HELD, i] = watts
    w.slot_k[b, c.LEVEL, i] = level
    w.slot_k[b, c.LEAVING, i] = 0
    w.target[b, i] = level
    if before == 0 and level > 0:
        leave_waiting(w, b, i)
        join_running(w, b, i)
    elif before > 0 and level == 0:
        leave_running(w, b, i)
        join_waiting(w, b, i)
        if w.env_k[b, c.NUM_RUNNING] == 0:
            w.env_f[b, c.HELD_GPUS] = 0.0
            w.env_f[b, c.HELD_WATTS] = 0.0


@kernel
def count_held(w: World, b: int, i: int, more: int) -> None:
    """Count `more` GPUs of row `i` for its tenant, where tenants have quotas."""
    if w.tenant_held.shape[1] > 0:
        more = quota.thousandths(more, w.slot_demand[b, i, 0])
        w.tenant_held[b, w.slot_k[b, c.TENANT, i]] += more


@kernel
def mark_spanning(w: World, b: int, i: int, more: int) -> None:
    """Count the gang in row `i` on its nodes, where it spans several."""
    if w.slot_k[b, c.SPAN, i] == 0:
        return
    entry = w.slot_k[b, c.PLACEMENT, i]
    while entry >= 0:
        w.node_k[b, c.NODE_SPANNING, w.pool[b, c.ENTRY_NODE, entry]] += more
        entry = w.pool[b, c.ENTRY_NEXT, entry]


@kernel
def run_at(w: World, b: int, i: int, level: int) -> None:
    """Book the job in row `i`, which is placed already, as running at `level` from now.

    The (re)start costs what it costs; its rate follows from its placement.
    """
    now = w.env_f[b, c.NOW_S]
    profile, before = w.slot_k[b, c.PROFILE, i], w.slot_k[b, c.LEVEL, i]
    f = w.slot_f[b]
    cost = restart_s(w, b, profile, level)
    if np.isnan(f[c.FIRST_START_S, i]):
        f[c.FIRST_START_S, i] = now
        f[c.RESTART_S, i] = restart_s(w, b, profile, w.request_level[profile])
        if not w.charge_first_start:
            cost = 0.0
    else:
        w.slot_k[b, c.RESTARTS, i] += 1
    if before == 0:
        f[c.RUN_SINCE_S, i] = now
        f[c.FAIL_AT_S, i] = now + f[c.FAIL_BUDGET_S, i]
    f[c.SYNCED_S, i] = now
    f[c.RESUME_AT_S, i] = now + cost
    f[c.SAFE_REMAINING_S, i] = f[c.REMAINING_S, i]
    set_level(w, b, i, level)
    set_rate(w, b, i)
    mark_spanning(w, b, i, 1)
    enter_phase(w, b, i)
    predict(w, b, i)
    w.cost[b, c.COST_PREEMPTION] += cost * f[c.GPUS_HELD, i]
    kind = c.START
    if before > 0:
        kind = c.MOVE if level == before else (c.GROW if level > before else c.SHRINK)
    log(w, b, kind, w.slot_k[b, c.JOB, i], f[c.GPUS_HELD, i], -1, cost)
    log_placement(w, b, i)


@kernel
def unplace(w: World, b: int, i: int) -> None:
    """Free the GPUs of row `i`, and forget where they were."""
    mark_spanning(w, b, i, -1)
    give_back(w, b, i, 1)
    drop_entries(w, b, w.slot_k[b, c.PLACEMENT, i])
    w.slot_k[b, c.PLACEMENT, i] = -1
    w.env_k[b, c.RELEASES] += 1


@kernel
def suspend(w: World, b: int, i: int) -> None:
    """Book the job in row `i`, whose GPUs are free already, as preempted; nothing is lost."""
    w.slot_k[b, c.PREEMPTIONS, i] += 1
    hold_nothing(w, b, i)
    log(w, b, c.PREEMPT, w.slot_k[b, c.JOB, i], 0.0, -1, 0.0)


@kernel
def hold_nothing(w: World, b: int, i: int) -> None:
    """Let the unplaced job in row `i` wait from now on."""
    f = w.slot_f[b]
    set_level(w, b, i, 0)
    f[c.RUN_SINCE_S, i] = np.nan
    f[c.WAITING_SINCE_S, i] = w.env_f[b, c.NOW_S]
    f[c.RESUME_AT_S, i] = np.inf
    f[c.FINISH_AT_S, i] = np.inf
    f[c.FAIL_AT_S, i] = np.inf
    f[c.RATE, i] = 0.0
    schedule(w, b, i)


@kernel
def lose_work(w: World, b: int, i: int) -> None:
    """Undo what the running job in row `i` has done since its last checkpoint; it is synced."""
    f = w.slot_f[b]
    interval = w.job_f[c.JOB_CHECKPOINT_S, w.slot_k[b, c.JOB, i]]
    worked = w.env_f[b, c.NOW_S] - f[c.RESUME_AT_S, i]
    if interval <= 0.0 or worked <= 0.0:
        return
    undone_s = worked - np.floor(worked / interval) * interval
    f[c.LOST_GPU_S, i] += undone_s * f[c.GPUS_HELD, i]
    book_useful(w, b, i, f[c.REMAINING_S, i] - f[c.SAFE_REMAINING_S, i])
    set_remaining(w, b, i, f[c.SAFE_REMAINING_S, i])


@kernel
def stop(w: World, b: int, i: int, abruptly: bool) -> None:
    """Take its GPUs from the running job in row `i` from outside: it waits."""
    sync(w, b, i)
    if abruptly:
        lose_work(w, b, i)
        w.env_k[b, c.SETBACKS] += c.STOP_WEIGHT
    unplace(w, b, i)
    hold_nothing(w, b, i)
    log(w, b, c.PREEMPT, w.slot_k[b, c.JOB, i], 0.0, -1, 1.0)


@kernel
def fail(w: World, b: int, i: int) -> None:
    """The running job in row `i` crashes: it tries again, or has done so too often."""
    sync(w, b, i)
    lose_work(w, b, i)
    w.env_k[b, c.SETBACKS] += c.STOP_WEIGHT
    job = w.slot_k[b, c.JOB, i]
    w.slot_k[b, c.RETRIES, i] += 1
    retries = w.slot_k[b, c.RETRIES, i]
    if retries > w.job_k[c.JOB_MAX_RETRIES, job]:
        end_job(w, b, i, c.FAILED_JOB)
        return
    unplace(w, b, i)
    hold_nothing(w, b, i)
    w.slot_f[b, c.FAIL_BUDGET_S, i] = failure_budget_s(w, b, job, retries)
    log(w, b, c.FAIL, job, 0.0, -1, 0.0)


@kernel
def end_job(w: World, b: int, i: int, status: int) -> None:
    """End the job in row `i`: free its GPUs, write its result, close the gap in the table."""
    now = w.env_f[b, c.NOW_S]
    f = w.slot_f[b]
    level = w.slot_k[b, c.LEVEL, i]
    w.env_k[b, c.BELOW_MOST] -= level < w.num_levels[w.slot_k[b, c.PROFILE, i]]
    if level > 0:
        sync(w, b, i)
        unplace(w, b, i)
        leave_running(w, b, i)
        w.env_f[b, c.HELD_GPUS] -= f[c.GPUS_HELD, i]
        w.env_f[b, c.HELD_WATTS] -= f[c.WATTS_HELD, i]
        count_held(w, b, i, -w.sizes[w.slot_k[b, c.PROFILE, i], level])
        if w.env_k[b, c.NUM_RUNNING] == 0:
            w.env_f[b, c.HELD_GPUS] = 0.0
            w.env_f[b, c.HELD_WATTS] = 0.0
    else:
        leave_waiting(w, b, i)
    leave_heap(w, b, i)
    jct = now - f[c.ARRIVAL_S, i]
    mean_pressure = 1.0
    if jct > 0.0:
        pressure = w.env_f[b, c.PRESSURE_S] - f[c.PRESSURE_AT_ARRIVAL_S, i]
        mean_pressure = max(pressure / jct, 1.0)
    # Themis (NSDI 2020): run time shared over run time on a 1/n share of the cluster.
    rho = jct / (f[c.DURATION_S, i] * mean_pressure)
    if status == c.FINISHED_JOB:
        w.cost[b, c.COST_FAIRNESS] += max(rho - 1.0, 0.0)
    if now > f[c.DEADLINE_S, i]:
        w.cost[b, c.COST_DEADLINE] += 1.0
    job = w.slot_k[b, c.JOB, i]
    row = w.result[b, :, job - w.env_k[b, c.FIRST_JOB]]
    row[c.FINAL_FIRST_START_S] = f[c.FIRST_START_S, i]
    row[c.FINAL_ATTAINED_GPU_S] = f[c.ATTAINED_GPU_S, i]
    row[c.FINAL_HELD_S] = f[c.HELD_S, i]
    row[c.FINAL_PREEMPTIONS] = w.slot_k[b, c.PREEMPTIONS, i]
    row[c.FINAL_RESTARTS] = w.slot_k[b, c.RESTARTS, i]
    row[c.FINAL_RHO] = rho
    row[c.FINAL_OVERHEAD_GPU_S] = f[c.OVERHEAD_GPU_S, i]
    row[c.FINAL_LOST_GPU_S] = f[c.LOST_GPU_S, i]
    row[c.FINAL_RETRIES] = w.slot_k[b, c.RETRIES, i]
    w.env_k[b, c.NUM_ACTIVE] -= 1
    count_in(w, b, i, -1.0)
    last = w.env_k[b, c.NUM_ACTIVE]
    if last != i:
        move_row(w, b, last, i)
    record_end(w, b, job, status)


@kernel
def record_end(w: World, b: int, job: int, status: int) -> None:
    """Write how and when a job ended, and tell its children."""
    row = w.result[b, :, job - w.env_k[b, c.FIRST_JOB]]
    row[c.FINAL_FINISH_S] = w.env_f[b, c.NOW_S]
    row[c.FINAL_ARRIVAL_S] = arrival_of(w, b, job)
    row[c.FINAL_STATUS] = status
    w.env_k[b, c.NUM_ENDED] += 1
    w.env_k[b, c.SETBACKS] = 0
    kind = c.FINISH
    if status == c.FAILED_JOB:
        kind = c.FAIL
    elif status == c.CANCELLED_JOB:
        kind = c.CANCEL
    log(w, b, kind, job, 0.0, -1, 1.0)
    if w.blocked.shape[1] == 0:
        return
    first, end = w.env_k[b, c.FIRST_JOB], w.env_k[b, c.END_JOB]
    for at in range(w.children_at[job], w.children_at[job + 1]):
        child = w.children[at]
        if not first <= child < end or w.doomed[b, child - first]:
            continue
        w.blocked[b, child - first] -= 1
        if status != c.FINISHED_JOB:
            w.doomed[b, child - first] = True
            w.blocked[b, child - first] = 0
        if w.blocked[b, child - first] == 0 and child < w.env_k[b, c.CURSOR]:
            w.ready[b, w.env_k[b, c.NUM_READY]] = child
            w.env_k[b, c.NUM_READY] += 1


@kernel
def arrive(w: World, b: int, job: int) -> None:
    """Take up a job whose time has come, unless it waits for parents or can never run."""
    if w.blocked.shape[1] > 0:
        row = job - w.env_k[b, c.FIRST_JOB]
        if w.blocked[b, row] > 0:
            return
        late = w.env_f[b, c.NOW_S] >= arrival_of(w, b, job) + w.job_f[c.JOB_CANCEL_S, job]
        if w.doomed[b, row] or late:
            for r in range(c.NUM_RESULT):
                w.result[b, r, row] = 0.0
            w.result[b, c.FINAL_FIRST_START_S, row] = np.nan
            w.result[b, c.FINAL_RHO, row] = np.nan
            record_end(w, b, job, c.CANCELLED_JOB)
            return
    take_up(w, b, job)
