"""What decisions earn: percent of the base schedule's cost, credited in one of two ways.

Either way the rewards of an episode add up to "percent better than the base schedule on the same
arrivals", and committing the base schedule throughout earns exactly 0.
"""

from __future__ import annotations

import numpy as np

from marl_sched.compiled.jit import kernel, part
from marl_sched.envs.base_schedule import nothing_to_do, write_base
from marl_sched.envs.behaviours import behave
from marl_sched.envs.state import NUM_TERMS, Game
from marl_sched.sim import columns as c
from marl_sched.sim.apply import apply, settle
from marl_sched.sim.kernels import EPOCH, FULL, advance
from marl_sched.sim.world import World
from marl_sched.terms import TERMS

PERCENT = 100.0

FLOOR = np.array([term.floor for term in TERMS])
FLOOR_PER_GPU = np.array([term.floor_per_gpu for term in TERMS])
"""Least costs of the terms, of the whole cluster and for each GPU."""


@part
def play_base(w: World, g: Game, b: int, at: int, record: bool) -> int:
    """Run the base schedule to the end in world `at`, with the agents of environment `b`.

    Args:
        record: write the shadow's curve on the way.

    Returns:
        as `advance`; FULL when the curve needs room.
    """
    # Whoever left the jobs waiting before: the base schedule is not stuck yet.
    w.env_k[at, c.IDLE_ROUNDS] = 0
    while True:
        status = advance(w, at)
        if status != EPOCH:
            return status
        target = w.target[at, : w.env_k[at, c.NUM_ACTIVE]]
        changes = not nothing_to_do(w, g, at)
        if changes:
            behave(w, g, b, at)
            write_base(w, g, b, at, target)
        if record and not record_epoch(w, g, b, at):
            return FULL
        if changes:
            apply(w, at, target)
        else:
            settle(w, at)


@kernel
def record_epoch(w: World, g: Game, b: int, at: int) -> bool:
    """Write time and cost of the world `at` as the next row of the curve."""
    k = g.curve_end[b]
    if k == g.curve.shape[1]:
        return False
    row = g.curve[b, k]
    row[0] = w.env_f[at, c.NOW_S]
    unbooked = unbooked_useful(w, at) if g.weights[b, c.COST_UTILISATION] > 0.0 else 0.0
    for term in range(NUM_TERMS):
        row[1 + term] = w.cost[at, term] - (unbooked if term == c.COST_UTILISATION else 0.0)
    g.curve_end[b] = k + 1
    return True


@kernel
def unbooked_useful(w: World, at: int) -> float:
    """Useful GPU-seconds of running jobs since their progress was last booked."""
    f, now, useful = w.slot_f[at], w.env_f[at, c.NOW_S], 0.0
    for k in range(w.env_k[at, c.NUM_RUNNING]):
        i = w.running[at, k]
        working = now - max(f[c.SYNCED_S, i], f[c.RESUME_AT_S, i])
        if working > 0.0:
            best = w.best_efficiency[w.slot_k[at, c.PROFILE, i]]
            useful += min(f[c.RATE, i] * working, f[c.REMAINING_S, i]) / best
    return useful


@kernel
def play_shadow(w: World, g: Game, b: int) -> int:
    """Play the episode that has just been started in `b` with the base schedule; its costs.

    Returns:
        as `play_base`.
    """
    g.curve_end[b] = 0
    g.curve_at[b] = 0
    g.ordered[b] = 0
    status = play_base(w, g, b, b, not g.look_ahead)
    for term in range(NUM_TERMS):
        cost = w.cost[b, term]
        g.shadow_cost[b, term] = cost
        g.expected_cost[b, term] = cost
        g.ahead[b, term] = 0.0
        g.norm[b, term] = max(cost, cost_floor(term, w.total[0]))
    return status


@kernel
def cost_floor(term: int, num_gpus: float) -> float:
    """Least cost of a term that costs are divided by, as `terms.TERMS` says."""
    return float(max(FLOOR[term], FLOOR_PER_GPU[term] * num_gpus))


@kernel
def find_epoch(g: Game, b: int, now: float) -> float:
    """Move `curve_at` to the shadow's last epoch up to `now`; the way gone to the one after it.

    0 at an epoch, below 1 before the next.
    """
    curve, at = g.curve[b], g.curve_at[b]
    while at + 1 < g.curve_end[b] and curve[at + 1, 0] <= now:
        at += 1
    g.curve_at[b] = at
    if at + 1 == g.curve_end[b] or curve[at, 0] >= now:
        return 0.0
    return float((now - curve[at, 0]) / (curve[at + 1, 0] - curve[at, 0]))


@kernel
def credit_by_shadow(w: World, g: Game, b: int, ended: bool) -> float:
    """Reward since the last decision: sum_j w_j (shadow's cost - own cost) / shadow's total.

    The shadow is the base schedule on the same arrivals, a control variate that takes out what
    the arrivals do (Mao et al., "Variance reduction for reinforcement learning in input-driven
    environments", ICLR 2019). Between its epochs its cost counts as linear in time.
    """
    way = find_epoch(g, b, w.env_f[b, c.NOW_S])
    at = g.curve_at[b]
    unbooked = unbooked_useful(w, b) if g.weights[b, c.COST_UTILISATION] > 0.0 else 0.0
    reward = 0.0
    for term in range(NUM_TERMS):
        shadow = g.shadow_cost[b, term]
        if not ended:
            shadow = g.curve[b, at, 1 + term]
            if way > 0.0:
                shadow += way * (g.curve[b, at + 1, 1 + term] - shadow)
        own = w.cost[b, term] - (unbooked if term == c.COST_UTILISATION else 0.0)
        ahead = shadow - own
        reward += PERCENT * g.weights[b, term] * (ahead - g.ahead[b, term]) / g.norm[b, term]
        g.ahead[b, term] = ahead
    return reward


@kernel
def spare(w: World) -> int:
    """The last environment of the world: room for looking ahead."""
    return w.env_f.shape[0] - 1


@part
def copy_env(w: World, source: int, target: int) -> None:
    """Copy the running state of one environment onto another; results stay behind."""
    n = w.env_k[source, c.NUM_ACTIVE]
    w.env_f[target] = w.env_f[source]
    w.env_k[target] = w.env_k[source]
    w.free[target] = w.free[source]
    w.usable[target] = w.usable[source]
    w.spare[target] = w.spare[source]
    w.spare_by_type[target] = w.spare_by_type[source]
    w.tenant_held[target] = w.tenant_held[source]
    w.node_f[target] = w.node_f[source]
    w.node_k[target] = w.node_k[source]
    w.device_free[target] = w.device_free[source]
    w.residents[target] = w.residents[source]
    w.index_bits[target] = w.index_bits[source]
    w.index_count[target] = w.index_count[source]
    w.slot_f[target, :, :n] = w.slot_f[source, :, :n]
    w.slot_k[target, :, :n] = w.slot_k[source, :, :n]
    w.slot_demand[target, :n] = w.slot_demand[source, :n]
    w.slot_rate[target, :n] = w.slot_rate[source, :n]
    w.target[target, :n] = w.target[source, :n]
    w.heap[target, :n] = w.heap[source, :n]
    w.running[target, :n] = w.running[source, :n]
    head = w.env_k[source, c.WAITING_HEAD]
    last = head + w.env_k[source, c.NUM_WAITING]
    w.waiting[target, head:last] = w.waiting[source, head:last]
    w.pool[target] = w.pool[source]
    w.cost[target] = w.cost[source]
    w.account[target] = w.account[source]
    w.blocked[target] = w.blocked[source]
    w.doomed[target] = w.doomed[source]
    w.ready[target] = w.ready[source]


@part
def apply_looking_ahead(w: World, g: Game, b: int) -> float:
    """Carry out the proposal; its reward is what the whole rest of the episode saves by it.

    sum_j w_j (expected cost before - expected cost after) / shadow's total, where the expected
    cost is that of the whole episode if the base schedule takes over from now on, on the very
    arrivals to come: each decision is credited at once with what it changes. Potential-based
    shaping (Ng, Harada and Russell, ICML 1999) with an input-dependent potential (Mao et al.,
    ICLR 2019). With learned agents the rewards add up to what the scheduler's own decisions
    saved: see `expect_anew`.
    """
    proposal = g.proposal[b, : w.env_k[b, c.NUM_ACTIVE]]
    # Another algorithm often gives just what the base schedule does: no need to look ahead.
    if not g.changed[b] or is_base(w, g, b):
        apply(w, b, proposal)
        return 0.0
    if g.redeclared[b]:
        expect_anew(w, g, b)
    apply(w, b, proposal)
    copy_env(w, b, spare(w))
    play_base(w, g, b, spare(w), False)
    reward = 0.0
    for term in range(NUM_TERMS):
        cost = w.cost[spare(w), term]
        saved = g.expected_cost[b, term] - cost
        reward += PERCENT * g.weights[b, term] * saved / g.norm[b, term]
        g.expected_cost[b, term] = cost
    return reward


@kernel
def is_base(w: World, g: Game, b: int) -> bool:
    """Whether the proposal is the base schedule's, level by level."""
    base = w.changes[b, : w.env_k[b, c.NUM_ACTIVE]]
    write_base(w, g, b, b, base)
    for i in range(base.size):
        if base[i] != g.proposal[b, i]:
            return False
    return True


@kernel
def expect_anew(w: World, g: Game, b: int) -> None:
    """Book what the episode costs under the base schedule from this epoch on, as declared.

    Agents that declare change that cost; the scheduler neither earns nor pays for it.
    """
    at = spare(w)
    copy_env(w, b, at)
    target = w.target[at, : w.env_k[b, c.NUM_ACTIVE]]
    write_base(w, g, b, at, target)
    apply(w, at, target)
    play_base(w, g, b, at, False)
    for term in range(NUM_TERMS):
        g.expected_cost[b, term] = w.cost[at, term]
    g.redeclared[b] = False
