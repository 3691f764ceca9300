"""The rules of the scheduling game, compiled: rounds, declarations, sub-steps.

One round: agents declare their demand, the scheduler edits the base schedule or takes an
algorithm's until it commits, the simulator runs to the next epoch with something to decide.
"""

from __future__ import annotations

import numpy as np

from marl_sched.allocation.feasibility import exceeds, placeable
from marl_sched.compiled.jit import kernel, part
from marl_sched.compiled.records import at_address
from marl_sched.envs.base_schedule import nothing_to_do, score_levels, write_base
from marl_sched.envs.behaviours import behave
from marl_sched.envs.credit import apply_looking_ahead, credit_by_shadow, play_base, play_shadow
from marl_sched.envs.observe import (
    choose_slots,
    set_bids,
    take_stock,
    write_anew,
    write_counts,
    write_level,
    write_mask,
    write_observation,
)
from marl_sched.envs.state import COMMIT, LEARNED, Game
from marl_sched.schedulers.dispatch import decide
from marl_sched.sim import columns as c
from marl_sched.sim.apply import apply, gpus_at, settle
from marl_sched.sim.kernels import (
    EPOCH,
    FULL,
    STUCK,
    advance,
    is_plain_world,
    make_view,
    plain_view,
    start,
)
from marl_sched.sim.world import World
from marl_sched.types import ClusterView, Flags1, Floats1, Ints1

world_at, game_at = at_address(World), at_address(Game)

ENDED, DECIDES, NO_ROOM = 0, 1, 2
"""What `begin` returns; NO_ROOM: give the shadow's curve room first."""


@kernel
def start_under(
    w: World, b: int, first: int, end: int, stretch: float, restart_scale: float, power: float
) -> None:
    """Start an episode under given conditions, see `envs.episodes.Episode`."""
    start(w, b, first, end, stretch)
    w.env_f[b, c.RESTART_SCALE] = restart_scale
    w.env_f[b, c.ESTIMATE_POWER] = power


@kernel
def begin(
    w: World, g: Game, b: int, first: int, end: int, stretch: float, restart_scale: float,
    power: float,
) -> int:  # fmt: skip
    """Start an episode and run to its first decision; ENDED if it never needs one."""
    g.declared_s[b, :] = np.nan
    g.redeclared[b] = False
    start_under(w, b, first, end, stretch, restart_scale, power)
    status = play_shadow(w, g, b)
    if status == FULL:
        return NO_ROOM
    if status == STUCK:
        return ENDED
    start_under(w, b, first, end, stretch, restart_scale, power)
    g.last_s[b] = 0.0
    g.elapsed_s[b] = 0.0
    g.decisions[b] = 0
    g.episode_return[b] = 0.0
    return DECIDES if run_to_decision(w, g, b) else ENDED


@kernel
def agents_due(w: World, g: Game, due: np.ndarray) -> None:
    """Mark in due (B, K) the slots whose agents have to declare a demand now."""
    for b in range(due.shape[0]):
        for k in range(due.shape[1]):
            due[b, k] = False
            i = g.slot[b, k]
            if i < 0 or not g.fresh[b]:
                continue
            row = w.slot_k[b, c.JOB, i] - w.env_k[b, c.FIRST_JOB]
            last = g.declared_s[b, row]
            due[b, k] = np.isnan(last) or w.env_f[b, c.NOW_S] - last >= g.demand_period_s


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
    show_round(w, g, b, False)


@kernel
def all_satisfied(w: World, g: Game, b: int) -> bool:
    """Whether the proposal gives every job the most that it accepts: nothing to decide."""
    for i in range(w.env_k[b, c.NUM_ACTIVE]):
        if g.proposal[b, i] < w.slot_k[b, c.LIMIT_LEVEL, i]:
            return False
    return True


@part
def show_round(w: World, g: Game, b: int, choose: bool) -> None:
    """Score what has not been scored for the proposal, and write the round's observation.

    Args:
        choose: who gets a slot anew.
    """
    if not g.scored[b]:
        score_levels(w, g, b, b, make_view(w, b))
    take_stock(w, g, b)
    if choose:
        choose_slots(w, g, b)
    write_observation(w, g, b)


@part
def open_round(w: World, g: Game, b: int) -> None:
    """Make the base schedule the proposal of the round that begins now."""
    n = w.env_k[b, c.NUM_ACTIVE]
    g.scored[b] = write_base(w, g, b, b, g.proposal[b, :n])
    g.pinned[b, :n] = False
    g.room[b] = w.usable[b, 0]
    g.edits[b] = 0
    g.changed[b] = False
    g.fresh[b] = True


@part
def run_to_decision(w: World, g: Game, b: int) -> bool:
    """Advance to the next epoch that leaves a choice; False when the episode has ended."""
    while True:
        status = advance(w, b)
        if status == STUCK:
            # Every edit so far has starved the jobs left: the base schedule serves them.
            status = play_base(w, g, b, b, False)
        if status != EPOCH:
            return False
        if nothing_to_do(w, g, b):
            settle(w, b)
            continue
        behave(w, g, b, b)
        open_round(w, g, b)
        if all_satisfied(w, g, b) and g.behaviour != LEARNED:
            apply(w, b, g.proposal[b, : w.env_k[b, c.NUM_ACTIVE]])
            continue
        g.elapsed_s[b] = w.env_f[b, c.NOW_S] - g.last_s[b]
        g.last_s[b] = w.env_f[b, c.NOW_S]
        show_round(w, g, b, True)
        return True


@part
def take_algorithm(w: World, g: Game, b: int, number: int, params: Floats1) -> None:
    """Make scheduler `number`'s levels the proposal, within what the agents accept."""
    proposal = g.proposal[b, : w.env_k[b, c.NUM_ACTIVE]]
    for i in range(proposal.size):
        proposal[i] = min(w.slot_k[b, c.LEVEL, i], w.slot_k[b, c.LIMIT_LEVEL, i])
    decide(number, make_view(w, b), params, proposal)


@kernel
def move(w: World, g: Game, b: int, i: int, more: int) -> None:
    """Change the proposal of row `i` by `more` levels, and what is counted and seen of it."""
    held, level = w.slot_k[b, c.LEVEL, i], g.proposal[b, i]
    g.proposal[b, i] = level + more
    g.free[b] -= gpus_at(w, b, i, level + more) - gpus_at(w, b, i, level)
    g.moved[b] += (level + more != held) * 1 - (level != held) * 1
    set_bids(w, g, b, i)
    k = g.slot_of[b, i]
    if k >= 0:
        write_level(w, g, b, k)


@kernel
def find_giver(w: World, g: Game, b: int) -> int:
    """The job, not edited in this round, that values its last level least; -1 without."""
    giver, lowest = -1, np.inf
    bid, pinned = g.bid_down[b], g.pinned[b]
    for i in range(w.env_k[b, c.NUM_ACTIVE]):
        if bid[i] < lowest and not pinned[i]:
            giver, lowest = i, bid[i]
    return giver


@kernel
def find_taker(w: World, g: Game, b: int) -> int:
    """The job, not edited in this round, that values one level more most, of those that fit."""
    taker, highest = -1, -np.inf
    bid, pinned = g.bid_up[b], g.pinned[b]
    for i in range(w.env_k[b, c.NUM_ACTIVE]):
        if bid[i] > highest and not pinned[i]:
            level = g.proposal[b, i]
            more = gpus_at(w, b, i, level + 1) - gpus_at(w, b, i, level)
            if not exceeds(more, g.free[b]):
                taker, highest = i, bid[i]
    return taker


@part
def edit(w: World, g: Game, b: int, i: int, up: bool) -> None:
    """Move row `i` of the proposal one level and let the others make room, or take it.

    GPUs change hands at the margin, by the index score: who values its last level least gives
    first, who values one more most gets first. Rows edited before in this round stay.
    """
    by_kind = not is_plain_world(w)
    if by_kind:
        view = plain_view(w, b)
        by_kind = placeable(view, g.proposal[b, : view.job.size])
    g.pinned[b, i] = True
    move(w, g, b, i, 1 if up else -1)
    g.room[b] -= gpus_at(w, b, i, g.proposal[b, i])
    if by_kind:
        change_hands(w, g, b, i)
    else:
        change_any_hands(w, g, b)
    g.edits[b] += 1
    g.changed[b] = True
    g.fresh[b] = False


@kernel
def change_any_hands(w: World, g: Game, b: int) -> None:
    """Let others make room for an edit or take what it leaves, all GPUs being alike."""
    while exceeds(0.0, g.free[b]):
        giver = find_giver(w, g, b)
        if giver < 0:
            break
        move(w, g, b, giver, -1)
    while exceeds(g.free[b], 0.0):
        taker = find_taker(w, g, b)
        if taker < 0:
            break
        move(w, g, b, taker, 1)


@part
def change_hands(w: World, g: Game, b: int, i: int) -> None:
    """The same where it matters whose GPUs they are: of which type, within which quota.

    Args:
        i: the row that has been edited; the proposal before it could be placed.
    """
    view = plain_view(w, b)
    n = view.job.size
    proposal, bid_up = g.proposal[b, :n], g.bid_up[b]
    while not placeable(view, proposal):
        giver = find_helper(g, b, view, i)
        if giver < 0:
            break
        move(w, g, b, giver, -1)
    passed = g.pinned[b, :n].copy()
    while True:
        taker, highest = -1, -np.inf
        for j in range(n):
            if bid_up[j] > highest and not passed[j]:
                taker, highest = j, bid_up[j]
        if taker < 0:
            return
        proposal[taker] += 1
        fits = placeable(view, proposal)
        proposal[taker] -= 1
        if fits:
            move(w, g, b, taker, 1)
        else:
            passed[taker] = True


@kernel
def find_helper(g: Game, b: int, v: ClusterView, i: int) -> int:
    """As `find_giver`, of those whose GPUs job `i` could use, or whose quota it shares."""
    giver, lowest = -1, np.inf
    bid, pinned = g.bid_down[b], g.pinned[b]
    for j in range(v.job.size):
        if bid[j] < lowest and not pinned[j]:
            types = 1 << v.gpu_type[j] if v.level[j] > 0 else v.types[j]
            shares_quota = v.tenant_quota.size > 0 and v.tenant[j] == v.tenant[i]
            if types & v.types[i] != 0 or shares_quota:
                giver, lowest = j, bid[j]
    return giver


@part
def sub_step(w: World, g: Game, b: int, action: int) -> bool:
    """Change the proposal as `action`, which is legal, says; whether that commits it."""
    num_algorithms, shown = g.algorithms.size, g.slot.shape[1]
    if action == COMMIT:
        return True
    if action <= num_algorithms:
        take_algorithm(w, g, b, g.algorithms[action - 1], g.algorithm_params[action - 1])
        g.changed[b] = True
        if not g.allow_edits:
            return True
        g.fresh[b] = False
        write_anew(w, g, b)
        return False
    k = action - 1 - num_algorithms
    up = k < shown
    edit(w, g, b, g.slot[b, k if up else k - shown], up)
    if g.edits[b] >= g.max_edits:
        return True
    write_mask(w, g, b)
    write_counts(w, g, b)
    return False


@kernel
def step(w: World, g: Game, b: int, action: int, with_reward: bool, out: np.ndarray) -> bool:
    """One sub-step of the scheduler. An illegal action counts as commit.

    Args:
        with_reward: False leaves the reward at 0 and saves the time.
        out: (2,) float64, overwritten: reward in percent, and simulated seconds passed, 0
            within a round.

    Returns:
        Whether the episode has ended.
    """
    g.decisions[b] += 1
    out[0], out[1] = 0.0, 0.0
    if action < 0 or action >= g.mask.shape[1] or g.mask[b, action] == 0:
        action = COMMIT
    if not sub_step(w, g, b, action):
        return False
    before = w.env_f[b, c.NOW_S]
    if with_reward and g.look_ahead:
        out[0] = apply_looking_ahead(w, g, b)
    else:
        apply(w, b, g.proposal[b, : w.env_k[b, c.NUM_ACTIVE]])
    ended = not run_to_decision(w, g, b)
    if with_reward and not g.look_ahead:
        out[0] = credit_by_shadow(w, g, b, ended)
    g.episode_return[b] += out[0]
    out[1] = w.env_f[b, c.NOW_S] - before
    return ended


@part
def step_one(
    world: Ints1, game: Ints1, b: int, action: int, with_reward: bool, out: Floats1
) -> bool:
    """`step` for Python."""
    return step(world_at(world), game_at(game), b, action, with_reward, out)


@part
def step_all(
    world: Ints1, game: Ints1, actions: Ints1, reward: Floats1, dt_s: Floats1, done: Flags1
) -> bool:
    """`step` in every environment; all arrays (B,). Whether any episode has ended.

    Args:
        world, game: tables of the records, which numba takes faster than the records.
    """
    w, g = world_at(world), game_at(game)
    out = np.empty(2)
    ended = False
    for b in range(actions.size):
        done[b] = step(w, g, b, actions[b], True, out)
        reward[b], dt_s[b] = out[0], out[1]
        ended |= done[b]
    return ended
