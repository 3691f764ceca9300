"""The rules of the scheduling game, compiled: rounds, declarations, sub-steps, rewards.

One round: agents declare their demand, the scheduler edits the base schedule or takes an
algorithm's until it commits, the simulator runs to the next epoch with something to decide.
"""

from __future__ import annotations

import numpy as np

from marl_sched.envs.game import COMMIT, GREEDY, LEARNED, NUM_TERMS, YIELDING, Game
from marl_sched.envs.observe import (
    bid_down,
    bid_up,
    choose_slots,
    proposed_gpus,
    write_observation,
)
from marl_sched.jit import kernel
from marl_sched.schedulers.dispatch import decide
from marl_sched.schedulers.elastic_index import level_scores
from marl_sched.sim import columns as c
from marl_sched.sim.apply import apply
from marl_sched.sim.kernels import EPOCH, STUCK, advance, make_view, start
from marl_sched.sim.world import World

PERCENT = 100.0


@kernel
def copy_env(w: World, source: int, target: int) -> None:
    """Copy the running state of one environment onto another; results stay behind."""
    n = w.env_k[source, c.NUM_ACTIVE]
    w.env_f[target] = w.env_f[source]
    w.env_k[target] = w.env_k[source]
    w.free[target] = w.free[source]
    w.usable[target] = w.usable[source]
    w.spare[target] = w.spare[source]
    w.node_f[target] = w.node_f[source]
    w.node_k[target] = w.node_k[source]
    w.device_free[target] = w.device_free[source]
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


@kernel
def play_base(w: World, g: Game, b: int, at: int) -> int:
    """Run the base schedule to the end in world `at`, with the agents of environment `b`."""
    # Whoever left the jobs waiting before: the base schedule is not stuck yet.
    w.env_k[at, c.IDLE_ROUNDS] = 0
    while True:
        status = advance(w, at)
        if status != EPOCH:
            return status
        behave(w, g, b, at)
        target = w.target[at, : w.env_k[at, c.NUM_ACTIVE]]
        decide(g.base, make_view(w, at), g.base_params, target)
        apply(w, at, target)


@kernel
def spare(w: World) -> int:
    """The last environment of the world: room for looking ahead."""
    return w.env_f.shape[0] - 1


@kernel
def begin(w: World, g: Game, b: int, first: int, end: int, stretch: float) -> bool:
    """Start an episode and run to its first decision; False if it never needs one."""
    start(w, b, first, end, stretch)
    g.declared_s[b, :] = np.nan
    g.redeclared[b] = False
    copy_env(w, b, spare(w))
    if play_base(w, g, b, spare(w)) == STUCK:
        return False
    g.shadow_cost[b] = w.cost[spare(w)]
    g.expected_cost[b] = g.shadow_cost[b]
    for term in range(NUM_TERMS):
        # Counts may be zero for the shadow: then one event weighs as one job in the episode.
        floor = 1.0 if term in (c.COST_FAIRNESS, c.COST_DEADLINE) else 1e-9
        if term == c.COST_PREEMPTION:
            floor = w.total[0]
        g.norm[b, term] = max(g.shadow_cost[b, term], floor)
    g.last_s[b] = 0.0
    g.elapsed_s[b] = 0.0
    g.decisions[b] = 0
    g.episode_return[b] = 0.0
    return run_to_decision(w, g, b)


@kernel
def behave(w: World, g: Game, b: int, at: int) -> None:
    """Declare every active job's demand by the rule of the agents' behaviour.

    Args:
        b: environment whose agents have declared.
        at: world to write to: `b`, or the one that looks ahead for it.
    """
    n = w.env_k[at, c.NUM_ACTIVE]
    share = w.total[0] / max(n, 1)
    crowded = False
    for i in range(n):
        crowded = crowded or w.slot_k[at, c.LEVEL, i] == 0
    for i in range(n):
        profile = w.slot_k[at, c.PROFILE, i]
        most = w.num_levels[profile]
        request, limit = w.request_level[profile], most
        if g.behaviour == GREEDY:
            request = most
        elif g.behaviour == YIELDING and crowded:
            while limit > 1 and w.sizes[profile, limit] > share:
                limit -= 1
        elif g.behaviour == LEARNED:
            row = w.slot_k[at, c.JOB, i] - w.env_k[at, c.FIRST_JOB]
            if not np.isnan(g.declared_s[b, row]):
                limit = g.declared_level[b, row]
                request = limit
        w.slot_k[at, c.REQUEST_LEVEL, i] = min(request, limit)
        w.slot_k[at, c.LIMIT_LEVEL, i] = limit


@kernel
def agents_due(w: World, g: Game, b: int, due: np.ndarray) -> int:
    """Mark the slots (K,) whose agents have to declare a demand now; their number."""
    count = 0
    for k in range(g.slot.shape[1]):
        due[k] = False
        i = g.slot[b, k]
        if i < 0 or not g.fresh[b]:
            continue
        row = w.slot_k[b, c.JOB, i] - w.env_k[b, c.FIRST_JOB]
        last = g.declared_s[b, row]
        due[k] = np.isnan(last) or w.env_f[b, c.NOW_S] - last >= g.demand_period_s
        count += due[k]
    return count


@kernel
def declare(w: World, g: Game, b: int, due: np.ndarray, levels: np.ndarray) -> None:
    """Book the demands of the agents that are due and open the round anew with them.

    Args:
        due: (K,) bool.
        levels: (K,) int64 demanded levels, clipped to [1, highest of the job].
    """
    for k in range(g.slot.shape[1]):
        if not due[k]:
            continue
        i = g.slot[b, k]
        row = w.slot_k[b, c.JOB, i] - w.env_k[b, c.FIRST_JOB]
        most = w.num_levels[w.slot_k[b, c.PROFILE, i]]
        g.declared_s[b, row] = w.env_f[b, c.NOW_S]
        g.declared_level[b, row] = min(max(levels[k], 1), most)
        g.redeclared[b] = True
    behave(w, g, b, b)
    open_round(w, g, b)
    write_observation(w, g, b)


@kernel
def propose(w: World, g: Game, b: int, number: int, params: np.ndarray) -> None:
    """Make scheduler `number`'s levels the proposal, within what the agents accept."""
    n = w.env_k[b, c.NUM_ACTIVE]
    g.proposal[b, :n] = np.minimum(w.slot_k[b, c.LEVEL, :n], w.slot_k[b, c.LIMIT_LEVEL, :n])
    decide(number, make_view(w, b), params, g.proposal[b, :n])


@kernel
def all_satisfied(w: World, g: Game, b: int) -> bool:
    """Whether the proposal gives every job the most that it accepts: nothing to decide."""
    for i in range(w.env_k[b, c.NUM_ACTIVE]):
        if g.proposal[b, i] < w.slot_k[b, c.LIMIT_LEVEL, i]:
            return False
    return True


@kernel
def open_round(w: World, g: Game, b: int) -> None:
    """Make the base schedule the proposal of the round that begins now."""
    n = w.env_k[b, c.NUM_ACTIVE]
    propose(w, g, b, g.base, g.base_params)
    level_scores(make_view(w, b), g.index_params, g.score[b, :n])
    g.pinned[b, :n] = False
    g.edits[b] = 0
    g.changed[b] = False
    g.fresh[b] = True


@kernel
def edit(w: World, g: Game, b: int, i: int, up: bool) -> None:
    """Move row `i` of the proposal one level and let the others make room, or take it.

    GPUs change hands at the margin, by the index score: who values its last level least gives
    first, who values one more most gets first. Rows edited before in this round stay.
    """
    n = w.env_k[b, c.NUM_ACTIVE]
    free = w.total[0] - proposed_gpus(w, g, b)
    sizes = w.sizes[w.slot_k[b, c.PROFILE, i]]
    level = g.proposal[b, i] + (1 if up else -1)
    free -= sizes[level] - sizes[g.proposal[b, i]]
    g.proposal[b, i] = level
    g.pinned[b, i] = True
    while free < 0:
        giver = -1
        for j in range(n):
            if g.pinned[b, j] or g.proposal[b, j] == 0:
                continue
            if giver < 0 or bid_down(g, b, j) < bid_down(g, b, giver):
                giver = j
        profile = w.slot_k[b, c.PROFILE, giver]
        free += w.sizes[profile, g.proposal[b, giver]]
        g.proposal[b, giver] -= 1
        free -= w.sizes[profile, g.proposal[b, giver]]
    while free > 0:
        taker = -1
        for j in range(n):
            if g.pinned[b, j] or bid_up(w, g, b, j) == -np.inf:
                continue
            profile, at = w.slot_k[b, c.PROFILE, j], g.proposal[b, j]
            if w.sizes[profile, at + 1] - w.sizes[profile, at] > free:
                continue
            if taker < 0 or bid_up(w, g, b, j) > bid_up(w, g, b, taker):
                taker = j
        if taker < 0:
            return
        profile, at = w.slot_k[b, c.PROFILE, taker], g.proposal[b, taker]
        free -= w.sizes[profile, at + 1] - w.sizes[profile, at]
        g.proposal[b, taker] += 1


@kernel
def run_to_decision(w: World, g: Game, b: int) -> bool:
    """Advance to the next epoch that leaves a choice; False when the episode has ended."""
    while True:
        status = advance(w, b)
        if status == STUCK:
            # Every edit so far has starved the jobs left: the base schedule serves them.
            status = play_base(w, g, b, b)
        if status != EPOCH:
            return False
        behave(w, g, b, b)
        open_round(w, g, b)
        if all_satisfied(w, g, b) and g.behaviour != LEARNED:
            apply(w, b, g.proposal[b, : w.env_k[b, c.NUM_ACTIVE]])
            continue
        g.elapsed_s[b] = w.env_f[b, c.NOW_S] - g.last_s[b]
        g.last_s[b] = w.env_f[b, c.NOW_S]
        choose_slots(w, g, b)
        write_observation(w, g, b)
        return True


@kernel
def is_base(w: World, g: Game, b: int) -> bool:
    """Whether the proposal is the base schedule's, level by level."""
    n = w.env_k[b, c.NUM_ACTIVE]
    base = np.minimum(w.slot_k[b, c.LEVEL, :n], w.slot_k[b, c.LIMIT_LEVEL, :n])
    decide(g.base, make_view(w, b), g.base_params, base)
    for i in range(base.size):
        if base[i] != g.proposal[b, i]:
            return False
    return True


@kernel
def expect_anew(w: World, g: Game, b: int) -> None:
    """Book what the episode costs under the base schedule from this epoch on, as declared.

    Agents that declare change that cost; the scheduler neither earns nor pays for it.
    """
    copy_env(w, b, spare(w))
    target = w.target[spare(w), : w.env_k[b, c.NUM_ACTIVE]]
    decide(g.base, make_view(w, spare(w)), g.base_params, target)
    apply(w, spare(w), target)
    play_base(w, g, b, spare(w))
    g.expected_cost[b] = w.cost[spare(w)]
    g.redeclared[b] = False


@kernel
def book_reward(w: World, g: Game, b: int) -> float:
    """Reward of the allocation just applied, percent of the shadow's total cost.

    sum_j w_j (expected cost before - expected cost after) / shadow's total, where the expected
    cost is that of the whole episode if the base schedule takes over from now on, on the very
    arrivals to come. The rewards of an episode add up to "percent better than the base", but
    each decision is credited at once with what it changes: potential-based shaping (Ng,
    Harada and Russell, ICML 1999) with an input-dependent potential (Mao et al., "Variance
    reduction for reinforcement learning in input-driven environments", ICLR 2019).
    Committing the base schedule earns exactly 0. With learned agents the rewards add up to
    what the scheduler's own decisions saved: see `expect_anew`.
    """
    copy_env(w, b, spare(w))
    play_base(w, g, b, spare(w))
    reward = 0.0
    for term in range(NUM_TERMS):
        cost = w.cost[spare(w), term]
        saved = g.expected_cost[b, term] - cost
        reward += PERCENT * g.weights[b, term] * saved / g.norm[b, term]
        g.expected_cost[b, term] = cost
    g.episode_return[b] += reward
    return reward


@kernel
def step(w: World, g: Game, b: int, action: int, with_reward: bool) -> tuple[float, float, bool]:
    """One sub-step of the scheduler. An illegal action counts as commit.

    Args:
        with_reward: look ahead to find the reward; False answers 0 and saves the time.

    Returns:
        reward in percent, simulated seconds passed (0 within a round), whether the episode
        has ended.
    """
    g.decisions[b] += 1
    num_algorithms = g.algorithms.size
    shown = g.slot.shape[1]
    if action < 0 or action >= g.mask.shape[1] or g.mask[b, action] == 0:
        action = COMMIT
    commits = action == COMMIT
    if 0 < action <= num_algorithms:
        propose(w, g, b, g.algorithms[action - 1], g.algorithm_params[action - 1])
        commits = not g.allow_edits
        g.changed[b] = True
    elif action > num_algorithms:
        k = action - 1 - num_algorithms
        up = k < shown
        edit(w, g, b, g.slot[b, k if up else k - shown], up)
        g.edits[b] += 1
        g.changed[b] = True
        commits = g.edits[b] >= g.max_edits
    if not commits:
        g.fresh[b] = False
        write_observation(w, g, b)
        return 0.0, 0.0, False
    before = w.env_f[b, c.NOW_S]
    # Another algorithm often gives just what the base schedule does: no need to look ahead.
    differs = with_reward and g.changed[b] and not is_base(w, g, b)
    if differs and g.redeclared[b]:
        expect_anew(w, g, b)
    apply(w, b, g.proposal[b, : w.env_k[b, c.NUM_ACTIVE]])
    reward = book_reward(w, g, b) if differs else 0.0
    ended = not run_to_decision(w, g, b)
    return reward, w.env_f[b, c.NOW_S] - before, ended


@kernel
def step_all(
    w: World, g: Game, actions: np.ndarray, reward: np.ndarray, dt_s: np.ndarray, done: np.ndarray
) -> None:
    """`step` in every environment; all arrays (B,)."""
    for b in range(actions.size):
        reward[b], dt_s[b], done[b] = step(w, g, b, actions[b], True)
