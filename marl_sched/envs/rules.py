"""The rules of the scheduling game, compiled: rounds, declarations, sub-steps, rewards.

One round: agents declare their demand, the scheduler edits the base schedule or takes an
algorithm's until it commits, the simulator runs to the next epoch with something to decide.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from marl_sched.envs.game import COMMIT, GREEDY, LEARNED, NUM_TERMS, YIELDING, Game
from marl_sched.envs.observe import (
    bid_down,
    bid_up,
    choose_slots,
    proposed_gpus,
    write_observation,
)
from marl_sched.envs.play import play
from marl_sched.schedulers.dispatch import decide
from marl_sched.schedulers.elastic_index import level_scores
from marl_sched.sim import columns as c
from marl_sched.sim.kernels import EPOCH, STUCK, advance, apply, make_view, start
from marl_sched.sim.world import World

PERCENT = 100.0


@njit(cache=True)
def record(w: World, g: Game, b: int, stride: int) -> int:
    """Append the costs so far to the shadow's curve; halve it and double the stride when full."""
    n = g.curve_len[b]
    if n == g.curve.shape[1] - 1:
        for i in range(n // 2):
            g.curve[b, i] = g.curve[b, 2 * i]
        n = n // 2
        stride *= 2
    g.curve[b, n, 0] = w.env_f[b, c.NOW_S]
    g.curve[b, n, 1:] = w.cost[b]
    g.curve_len[b] = n + 1
    return stride


@njit(cache=True)
def play_shadow(w: World, g: Game, b: int) -> int:
    """Run the base schedule through the episode and keep its cumulative costs over time."""
    g.curve_len[b] = 0
    stride, epoch = record(w, g, b, 1), 0
    status = EPOCH
    while True:
        status = advance(w, b)
        if status != EPOCH:
            break
        epoch += 1
        if epoch % stride == 0:
            stride = record(w, g, b, stride)
        target = np.zeros(w.env_k[b, c.NUM_ACTIVE], dtype=np.int64)
        decide(g.base, make_view(w, b), g.base_params, target)
        apply(w, b, target)
    record(w, g, b, stride)
    return status


@njit(cache=True)
def shadow_costs(g: Game, b: int, now_s: float, out: np.ndarray) -> None:
    """Costs (7,) of the shadow at `now_s`, linear between recorded points; time only grows."""
    last = g.curve_len[b] - 1
    at = g.curve_at[b]
    while at < last and g.curve[b, at + 1, 0] <= now_s:
        at += 1
    g.curve_at[b] = at
    if at == last:
        out[:] = g.curve[b, last, 1:]
        return
    t0, t1 = g.curve[b, at, 0], g.curve[b, at + 1, 0]
    share = (now_s - t0) / (t1 - t0)
    for term in range(NUM_TERMS):
        low, high = g.curve[b, at, 1 + term], g.curve[b, at + 1, 1 + term]
        out[term] = low + share * (high - low)


@njit(cache=True)
def begin(w: World, g: Game, b: int, first: int, end: int, stretch: float) -> bool:
    """Start an episode and run to its first decision; False if it never needs one."""
    start(w, b, first, end, stretch)
    if play_shadow(w, g, b) == STUCK:
        return False
    for term in range(NUM_TERMS):
        total = w.cost[b, term]
        # Counts may be zero for the shadow: then one event weighs as one job in the episode.
        floor = 1.0 if term in (c.COST_FAIRNESS, c.COST_DEADLINE) else 1e-9
        g.norm[b, term] = max(total, floor)
    if w.cost[b, c.COST_PREEMPTION] < w.total[0]:
        g.norm[b, c.COST_PREEMPTION] = w.total[0]
    start(w, b, first, end, stretch)
    g.curve_at[b] = 0
    g.last_cost[b, :] = 0.0
    g.last_shadow[b, :] = 0.0
    g.last_s[b] = 0.0
    g.elapsed_s[b] = 0.0
    g.decisions[b] = 0
    g.episode_return[b] = 0.0
    g.declared_s[b, :] = np.nan
    return run_to_decision(w, g, b)


@njit(cache=True)
def behave(w: World, g: Game, b: int) -> None:
    """Declare every active job's demand by the rule of the agents' behaviour."""
    n = w.env_k[b, c.NUM_ACTIVE]
    share = w.total[0] / max(n, 1)
    crowded = False
    for i in range(n):
        crowded = crowded or w.slot_k[b, c.LEVEL, i] == 0
    for i in range(n):
        profile = w.slot_k[b, c.PROFILE, i]
        most = w.num_levels[profile]
        request, limit = w.request_level[profile], most
        if g.behaviour == GREEDY:
            request = most
        elif g.behaviour == YIELDING and crowded:
            while limit > 1 and w.sizes[profile, limit] > share:
                limit -= 1
        elif g.behaviour == LEARNED:
            row = w.slot_k[b, c.JOB, i] - w.env_k[b, c.FIRST_JOB]
            if not np.isnan(g.declared_s[b, row]):
                limit = g.declared_level[b, row]
                request = limit
        w.slot_k[b, c.REQUEST_LEVEL, i] = min(request, limit)
        w.slot_k[b, c.LIMIT_LEVEL, i] = limit


@njit(cache=True)
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


@njit(cache=True)
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
    behave(w, g, b)
    open_round(w, g, b)
    write_observation(w, g, b)


@njit(cache=True)
def propose(w: World, g: Game, b: int, number: int, params: np.ndarray) -> None:
    """Make scheduler `number`'s levels the proposal, within what the agents accept."""
    n = w.env_k[b, c.NUM_ACTIVE]
    decide(number, make_view(w, b), params, g.proposal[b, :n])


@njit(cache=True)
def all_satisfied(w: World, g: Game, b: int) -> bool:
    """Whether the proposal gives every job the most that it accepts: nothing to decide."""
    for i in range(w.env_k[b, c.NUM_ACTIVE]):
        if g.proposal[b, i] < w.slot_k[b, c.LIMIT_LEVEL, i]:
            return False
    return True


@njit(cache=True)
def open_round(w: World, g: Game, b: int) -> None:
    """Make the base schedule the proposal of the round that begins now."""
    n = w.env_k[b, c.NUM_ACTIVE]
    propose(w, g, b, g.base, g.base_params)
    level_scores(make_view(w, b), g.index_params, g.score[b, :n])
    g.pinned[b, :n] = False
    g.edits[b] = 0
    g.fresh[b] = True


@njit(cache=True)
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


@njit(cache=True)
def run_to_decision(w: World, g: Game, b: int) -> bool:
    """Advance to the next epoch that leaves a choice; False when the episode has ended."""
    while True:
        status = advance(w, b)
        if status == STUCK:
            # Every edit so far has starved the jobs left: the base schedule serves them.
            status = play(w, b, g.base, g.base_params)
        if status != EPOCH:
            return False
        behave(w, g, b)
        open_round(w, g, b)
        if all_satisfied(w, g, b) and g.behaviour != LEARNED:
            apply(w, b, g.proposal[b, : w.env_k[b, c.NUM_ACTIVE]])
            continue
        g.elapsed_s[b] = w.env_f[b, c.NOW_S] - g.last_s[b]
        g.last_s[b] = w.env_f[b, c.NOW_S]
        choose_slots(w, g, b)
        write_observation(w, g, b)
        return True


@njit(cache=True)
def book_reward(w: World, g: Game, b: int, ended: bool) -> float:
    """Reward since the last one, percent: sum_j w_j (shadow's cost - own cost) / shadow's total.

    At the end of an episode the shadow's remaining cost is booked too, so that the rewards of
    an episode add up to "percent better than the shadow" in the weighted terms.
    """
    shadow = np.empty(NUM_TERMS)
    shadow_costs(g, b, np.inf if ended else w.env_f[b, c.NOW_S], shadow)
    reward = 0.0
    for term in range(NUM_TERMS):
        own = w.cost[b, term] - g.last_cost[b, term]
        saved = shadow[term] - g.last_shadow[b, term] - own
        reward += PERCENT * g.weights[b, term] * saved / g.norm[b, term]
        g.last_cost[b, term] = w.cost[b, term]
        g.last_shadow[b, term] = shadow[term]
    g.episode_return[b] += reward
    return reward


@njit(cache=True)
def step(w: World, g: Game, b: int, action: int) -> tuple[float, float, bool]:
    """One sub-step of the scheduler. An illegal action counts as commit.

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
    elif action > num_algorithms:
        k = action - 1 - num_algorithms
        up = k < shown
        edit(w, g, b, g.slot[b, k if up else k - shown], up)
        g.edits[b] += 1
        commits = g.edits[b] >= g.max_edits
    if not commits:
        g.fresh[b] = False
        write_observation(w, g, b)
        return 0.0, 0.0, False
    before = w.env_f[b, c.NOW_S]
    apply(w, b, g.proposal[b, : w.env_k[b, c.NUM_ACTIVE]])
    ended = not run_to_decision(w, g, b)
    reward = book_reward(w, g, b, ended)
    return reward, w.env_f[b, c.NOW_S] - before, ended


@njit(cache=True)
def step_all(
    w: World, g: Game, actions: np.ndarray, reward: np.ndarray, dt_s: np.ndarray, done: np.ndarray
) -> None:
    """`step` in every environment; all arrays (B,)."""
    for b in range(actions.size):
        reward[b], dt_s[b], done[b] = step(w, g, b, actions[b])
