"""How jobs progress: booked lazily, one row at a time, when somebody needs to know.

A running job's state is exact at `SYNCED_S` and linear from there; `sync` moves it to now.
"""

from __future__ import annotations

import numpy as np

from marl_sched.compiled.jit import kernel, part
from marl_sched.sim import columns as c
from marl_sched.sim.devices import MILLI
from marl_sched.sim.holdings import span_of
from marl_sched.sim.queues import schedule
from marl_sched.sim.rules import TIME_SLICE
from marl_sched.sim.world import World

AFTER_DECISION_S = 1e-6
"""What keeps an event behind a decision at the same whole second."""


@kernel
def sync(w: World, b: int, i: int) -> None:
    """Book the running row `i` up to now: held time, service, overhead, progress."""
    f = w.slot_f[b]
    now, since = w.env_f[b, c.NOW_S], f[c.SYNCED_S, i]
    dt = now - since
    if dt <= 0.0:
        return
    f[c.SYNCED_S, i] = now
    gpus = f[c.GPUS_HELD, i]
    f[c.ATTAINED_GPU_S, i] += gpus * dt
    f[c.SHOWN_GPU_S, i] = f[c.ATTAINED_GPU_S, i]
    f[c.HELD_S, i] += dt
    f[c.FAIL_BUDGET_S, i] -= dt
    working = now - max(since, f[c.RESUME_AT_S, i])
    if working <= 0.0:
        f[c.OVERHEAD_GPU_S, i] += gpus * dt
        return
    f[c.OVERHEAD_GPU_S, i] += gpus * (dt - working)
    if w.abrupt:
        pass_checkpoint(w, b, i, now - working)
    done = min(f[c.RATE, i] * working, f[c.REMAINING_S, i])
    set_remaining(w, b, i, f[c.REMAINING_S, i] - done)
    book_useful(w, b, i, done)


@kernel
def pass_checkpoint(w: World, b: int, i: int, since_s: float) -> None:
    """Note the work left at the last checkpoint, if one came since `since_s`; before booking."""
    f = w.slot_f[b]
    now, resumed = w.env_f[b, c.NOW_S], f[c.RESUME_AT_S, i]
    interval = w.job_f[c.JOB_CHECKPOINT_S, w.slot_k[b, c.JOB, i]]
    at_s = now
    if interval > 0.0:
        at_s = resumed + np.floor((now - resumed) / interval) * interval
    if at_s > since_s:
        left = f[c.REMAINING_S, i] - f[c.RATE, i] * (at_s - since_s)
        f[c.SAFE_REMAINING_S, i] = max(left, 0.0)


@kernel
def set_remaining(w: World, b: int, i: int, left: float) -> None:
    w.slot_f[b, c.REMAINING_S, i] = left
    w.slot_f[b, c.EST_REMAINING_S, i] = left * w.slot_f[b, c.EST_FACTOR, i]


@kernel
def book_useful(w: World, b: int, i: int, done: float) -> None:
    """GPU-seconds at the job's best efficiency that `done` work is worth count as useful."""
    best = w.best_efficiency[w.slot_k[b, c.PROFILE, i]]
    w.cost[b, c.COST_UTILISATION] -= done / best


@kernel
def sync_running(w: World, b: int) -> None:
    """Book all running rows up to now."""
    for k in range(w.env_k[b, c.NUM_RUNNING]):
        sync(w, b, w.running[b, k])


@kernel
def show_running(w: World, b: int) -> None:
    """Bring up to now what schedulers see of the progress of running rows, and book nothing."""
    now = w.env_f[b, c.NOW_S]
    f = w.slot_f[b]
    for k in range(w.env_k[b, c.NUM_RUNNING]):
        i = w.running[b, k]
        since = f[c.SYNCED_S, i]
        f[c.SHOWN_GPU_S, i] = f[c.ATTAINED_GPU_S, i] + f[c.GPUS_HELD, i] * (now - since)
        working = max(now - max(since, f[c.RESUME_AT_S, i]), 0.0)
        left = max(f[c.REMAINING_S, i] - f[c.RATE, i] * working, 0.0)
        f[c.EST_REMAINING_S, i] = left * f[c.EST_FACTOR, i]


@kernel
def predict(w: World, b: int, i: int) -> None:
    """Set when the job, or its phase, ends at the present rate; the row is synced."""
    f = w.slot_f[b]
    start = max(w.env_f[b, c.NOW_S], f[c.RESUME_AT_S, i])
    left = f[c.REMAINING_S, i]
    if w.phase_left.shape[1] > 1:
        left -= w.phase_left[w.slot_k[b, c.PROFILE, i], w.slot_k[b, c.PHASE, i]]
    seconds = left / f[c.RATE, i]
    f[c.FINISH_AT_S, i] = start + seconds
    if w.whole_second_phases:
        whole = np.rint(seconds)
        # Rounded down, the end comes just after a decision at that very second.
        late = AFTER_DECISION_S if whole < seconds else 0.0
        f[c.FINISH_AT_S, i] = np.rint(start) + whole + late
    schedule(w, b, i)


@kernel
def enter_phase(w: World, b: int, i: int) -> None:
    """Find the phase that the remaining work falls into, and its rate."""
    profile, phase = w.slot_k[b, c.PROFILE, i], 0
    last = w.phase_left.shape[1] - 1
    while phase < last and w.slot_f[b, c.REMAINING_S, i] <= w.phase_left[profile, phase]:
        phase += 1
    w.slot_k[b, c.PHASE, i] = phase
    w.slot_f[b, c.FULL_RATE, i] = w.slot_rate[b, i, phase]
    w.slot_f[b, c.RATE, i] = w.slot_rate[b, i, phase] * co_runner_factor(w, b, i)


@kernel
def end_phase(w: World, b: int, i: int) -> bool:
    """Go on to the next phase at its end; False when that was the last one: the job is done."""
    phases = w.phase_left.shape[1]
    if phases == 1:
        return False
    profile, phase = w.slot_k[b, c.PROFILE, i], w.slot_k[b, c.PHASE, i]
    # Rounded times miss the boundary by a little: the end of the phase is where it is.
    set_remaining(w, b, i, w.phase_left[profile, phase])
    if w.phase_left[profile, phase] <= 0.0:
        return False
    enter_phase(w, b, i)
    predict(w, b, i)
    return True


@kernel
def set_rate(w: World, b: int, i: int) -> None:
    """Fill the row's rate in each phase from the tables and its placement."""
    profile, level = w.slot_k[b, c.PROFILE, i], w.slot_k[b, c.LEVEL, i]
    span = span_of(w, b, i)
    w.slot_k[b, c.SPAN, i] = span
    column = min(span, w.rates.shape[3] - 1)
    rate = w.rates[profile, w.slot_k[b, c.GPU_TYPE, i], level, column]
    loader = w.job_f[c.JOB_LOADER_CPUS, w.slot_k[b, c.JOB, i]]
    if loader > 0.0:
        rate *= min(1.0, cpus_per_gpu(w, b, i) / loader)
    w.slot_rate[b, i, :] = rate


@kernel
def cpus_per_gpu(w: World, b: int, i: int) -> float:
    """CPUs that each GPU of the job gets, on the worst of its nodes: its demand or a share."""
    least = np.inf
    entry = w.slot_k[b, c.PLACEMENT, i]
    while entry >= 0:
        node = w.pool[b, c.ENTRY_NODE, entry]
        share = w.capacity[node, 1] / w.capacity[node, 0]
        least = min(least, max(w.slot_demand[b, i, 1], share))
        entry = w.pool[b, c.ENTRY_NEXT, entry]
    return least


@kernel
def co_runner_factor(w: World, b: int, i: int) -> float:
    """What co-runners leave of the job's rate: 1 without any."""
    return shared_factor(w, b, i) if w.co_runners else 1.0


@part
def shared_factor(w: World, b: int, i: int) -> float:
    """The same where somebody may share a GPU or the network."""
    factor = 1.0
    if w.job_k[c.JOB_MILLI, w.slot_k[b, c.JOB, i]] < MILLI:
        factor = sharing_factor(w, b, i)
    if w.network_contention and w.slot_k[b, c.SPAN, i] > 0:
        factor *= network_factor(w, b, i)
    return factor


@kernel
def sharing_factor(w: World, b: int, i: int) -> float:
    """Slowdown by the jobs on the same GPU: as measured for pairs, or by their number."""
    mine = w.slot_k[b, c.PLACEMENT, i]
    node, device = w.pool[b, c.ENTRY_NODE, mine], w.pool[b, c.ENTRY_DEVICES, mine]
    if w.node_k[b, c.NODE_JOBS, node] == 1:
        return 1.0
    factor, users = 1.0, 1
    for k in range(w.env_k[b, c.NUM_RUNNING]):
        j = w.running[b, k]
        entry = w.slot_k[b, c.PLACEMENT, j]
        if j == i or entry < 0 or w.pool[b, c.ENTRY_NODE, entry] != node:
            continue
        if w.pool[b, c.ENTRY_DEVICES, entry] == device:
            users += 1
            factor *= w.interference[w.slot_k[b, c.PROFILE, i], w.slot_k[b, c.PROFILE, j]]
    return 1.0 / users if w.sharing == TIME_SLICE else factor


@kernel
def network_factor(w: World, b: int, i: int) -> float:
    """Slowdown of a gang that spans nodes by the others that span over its nodes.

    A unit of work takes 1/packed seconds of computing and the rest of 1/span on the network; with
    m spanning gangs on the busiest of its nodes the network part takes m times as long.
    """
    most = 1
    entry = w.slot_k[b, c.PLACEMENT, i]
    while entry >= 0:
        node = w.pool[b, c.ENTRY_NODE, entry]
        most = max(most, w.node_k[b, c.NODE_SPANNING, node])
        entry = w.pool[b, c.ENTRY_NEXT, entry]
    profile, level = w.slot_k[b, c.PROFILE, i], w.slot_k[b, c.LEVEL, i]
    rates = w.rates[profile, w.slot_k[b, c.GPU_TYPE, i], level]
    packed, span = rates[0], rates[min(w.slot_k[b, c.SPAN, i], rates.size - 1)]
    return (1.0 / span) / (1.0 / packed + (1.0 / span - 1.0 / packed) * most)


@part
def refresh_rates(w: World, b: int) -> None:
    """Let running jobs feel a change of their co-runners, from now on."""
    for k in range(w.env_k[b, c.NUM_RUNNING]):
        i = w.running[b, k]
        rate = w.slot_f[b, c.FULL_RATE, i] * co_runner_factor(w, b, i)
        if rate != w.slot_f[b, c.RATE, i]:
            sync(w, b, i)
            w.slot_f[b, c.RATE, i] = rate
            predict(w, b, i)
