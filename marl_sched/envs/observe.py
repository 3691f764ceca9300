"""What the scheduler sees, written by compiled code straight into the observation arrays."""

from __future__ import annotations

import numpy as np

from marl_sched.envs.game import Game
from marl_sched.jit import kernel
from marl_sched.order import rows_by_key
from marl_sched.schedulers.elastic_index import MIN_REMAINING_S, log_rank_weights
from marl_sched.sim import columns as c
from marl_sched.sim.world import World

BID_RANGE = 4.0
"""Bids further from the price than this look the same."""


@kernel
def bid_up(w: World, g: Game, b: int, i: int) -> float:
    """Index score of one level more than proposed for row `i`; -inf where there is none."""
    level = g.proposal[b, i]
    return g.score[b, i, level] if level < w.slot_k[b, c.LIMIT_LEVEL, i] else -np.inf


@kernel
def bid_down(g: Game, b: int, i: int) -> float:
    """Index score of the last level proposed for row `i`; +inf where it has none."""
    level = g.proposal[b, i]
    return g.score[b, i, level - 1] if level > 0 else np.inf


@kernel
def choose_slots(w: World, g: Game, b: int) -> None:
    """Rank the active jobs by work left, find the price, and pick the jobs that get a slot.

    All of them where they fit, by work left; else those closest to gaining a level and those
    closest to losing one, half each: where an edit can matter.
    """
    n = w.env_k[b, c.NUM_ACTIVE]
    shown = g.slot.shape[1]
    up, down = np.empty(n), np.empty(n)
    for i in range(n):
        profile = w.slot_k[b, c.PROFILE, i]
        base = w.nominal_rates[profile, 1] / w.sizes[profile, 1]
        g.work[b, i] = max(w.slot_f[b, c.EST_REMAINING_S, i], MIN_REMAINING_S) / base
        up[i] = -bid_up(w, g, b, i)
        down[i] = bid_down(g, b, i)
    g.rank_weight[b, :n] = log_rank_weights(g.work[b, :n], g.index_params[0])
    g.rank_weight[b, :n] -= g.rank_weight[b, :n].max()
    highest, lowest = -up.min(), down.min()
    if highest > -np.inf and lowest < np.inf:
        g.price[b] = 0.5 * (highest + lowest)
    else:
        g.price[b] = highest if highest > -np.inf else (lowest if lowest < np.inf else 0.0)
    order = rows_by_key(g.work[b, :n])
    for position in range(n):
        g.rank[b, order[position]] = position / n
    g.slot[b, :] = -1
    if n <= shown:
        g.slot[b, :n] = order
        return
    taken = np.zeros(n, dtype=np.bool_)
    for k in range(shown):
        # The two orders in turn; `taken` drops who is in both.
        keys = up if k % 2 == 0 else down
        best = -1
        for i in range(n):
            if not taken[i] and (best < 0 or keys[i] < keys[best]):
                best = i
        taken[best] = True
        g.slot[b, k] = best


@kernel
def proposed_gpus(w: World, g: Game, b: int) -> int:
    """GPUs that the proposal hands out."""
    total = 0
    for i in range(w.env_k[b, c.NUM_ACTIVE]):
        total += w.sizes[w.slot_k[b, c.PROFILE, i], g.proposal[b, i]]
    return total


@kernel
def write_mask(w: World, g: Game, b: int, free: float) -> None:
    """Legal actions: commit always; algorithms at a round's start; edits that can be served.

    A job is edited once a round. It can go up when the free GPUs and those of jobs that were
    not edited suffice, and down when the proposal gives it any.
    """
    num_algorithms = g.algorithms.size
    shown = g.slot.shape[1]
    g.mask[b, :] = 0
    g.mask[b, 0] = 1
    if g.allow_algorithms and g.fresh[b]:
        g.mask[b, 1 : 1 + num_algorithms] = 1
    if not g.allow_edits or g.edits[b] >= g.max_edits:
        return
    room = free
    for i in range(w.env_k[b, c.NUM_ACTIVE]):
        if not g.pinned[b, i]:
            room += w.sizes[w.slot_k[b, c.PROFILE, i], g.proposal[b, i]]
    for k in range(shown):
        i = g.slot[b, k]
        if i < 0 or g.pinned[b, i]:
            continue
        profile, level = w.slot_k[b, c.PROFILE, i], g.proposal[b, i]
        if bid_up(w, g, b, i) > -np.inf and w.sizes[profile, level + 1] <= room:
            g.mask[b, 1 + num_algorithms + k] = 1
        if level > 0:
            g.mask[b, 1 + num_algorithms + shown + k] = 1


@kernel
def write_observation(w: World, g: Game, b: int) -> None:
    """Fill the observation and the mask of environment `b` from world and proposal."""
    gpus = w.total[0]
    free = gpus - proposed_gpus(w, g, b)
    write_mask(w, g, b, free)
    mean_left = write_globals(w, g, b)
    write_jobs(w, g, b, mean_left)
    write_cluster(w, g, b, free)


@kernel
def write_jobs(w: World, g: Game, b: int, mean_left_s: float) -> None:
    """Per-job features in the order of `game.JOB_FEATURES`."""
    n = w.env_k[b, c.NUM_ACTIVE]
    now = w.env_f[b, c.NOW_S]
    log_gpus = np.log2(1.0 + w.total[0])
    mean_work = max(g.work[b, :n].mean(), 1.0)
    first_up = 1 + g.algorithms.size
    g.jobs[b, :, :] = 0.0
    for k in range(g.slot.shape[1]):
        i = g.slot[b, k]
        if i < 0:
            continue
        x = g.jobs[b, k]
        profile = w.slot_k[b, c.PROFILE, i]
        sizes, rates = w.sizes[profile], w.nominal_rates[profile]
        held, wanted = w.slot_k[b, c.LEVEL, i], g.proposal[b, i]
        base = rates[1] / sizes[1]
        left_s = max(w.slot_f[b, c.EST_REMAINING_S, i], MIN_REMAINING_S)
        x[0] = 1.0
        x[1] = np.log(g.work[b, i] / mean_work) / 4.0
        x[2] = g.rank[b, i]
        x[3] = np.log2(1.0 + sizes[w.slot_k[b, c.REQUEST_LEVEL, i]]) / log_gpus
        x[4] = np.log2(1.0 + sizes[held]) / log_gpus
        x[5] = np.log2(1.0 + sizes[wanted]) / log_gpus
        x[6] = np.log2(1.0 + sizes[w.slot_k[b, c.LIMIT_LEVEL, i]]) / log_gpus
        x[7] = 1.0 if held == 0 else 0.0
        x[8] = 1.0 if np.isnan(w.slot_f[b, c.FIRST_START_S, i]) else 0.0
        x[9] = np.log1p((now - w.slot_f[b, c.ARRIVAL_S, i]) / mean_left_s) / 4.0
        x[10] = np.log1p(w.slot_f[b, c.RESTART_S, i] / left_s)
        x[11] = -2.0
        if wanted < w.num_levels[profile]:
            gain = (rates[wanted + 1] - rates[wanted]) / (sizes[wanted + 1] - sizes[wanted])
            x[11] = np.log(max(gain / base, 3.4e-4)) / 4.0
        x[12] = -2.0
        if wanted > 0:
            loss = (rates[wanted] - rates[wanted - 1]) / (sizes[wanted] - sizes[wanted - 1])
            x[12] = np.log(max(loss / base, 3.4e-4)) / 4.0
        x[13] = g.rank_weight[b, i] / 4.0
        x[14] = g.mask[b, first_up + k]
        if held > 0:
            x[15] = np.log1p((now - w.slot_f[b, c.RUN_SINCE_S, i]) / w.round_s) / 4.0
        total = max(w.slot_f[b, c.EST_TOTAL_S, i], MIN_REMAINING_S)
        x[16] = 1.0 - min(left_s / total, 1.0)
        x[17] = np.sign(wanted - held)
        x[18] = max(min(bid_up(w, g, b, i) - g.price[b], BID_RANGE), -BID_RANGE) / 2.0
        x[19] = max(min(bid_down(g, b, i) - g.price[b], BID_RANGE), -BID_RANGE) / 2.0
        x[20] = 1.0 if g.pinned[b, i] else 0.0


@kernel
def write_globals(w: World, g: Game, b: int) -> float:
    """Global features in the order of `game.GLOBAL_FEATURES`; the mean run time left, s."""
    n = w.env_k[b, c.NUM_ACTIVE]
    gpus = w.total[0]
    waiting, asked, most, changes, left_s = 0.0, 0.0, 0.0, 0.0, 0.0
    total_work, log_sum, log_squares = 0.0, 0.0, 0.0
    for i in range(n):
        profile = w.slot_k[b, c.PROFILE, i]
        level = w.slot_k[b, c.LEVEL, i]
        waiting += level == 0
        changes += level != g.proposal[b, i]
        asked += w.sizes[profile, w.slot_k[b, c.REQUEST_LEVEL, i]]
        most += w.sizes[profile, w.slot_k[b, c.LIMIT_LEVEL, i]]
        left_s += max(w.slot_f[b, c.EST_REMAINING_S, i], MIN_REMAINING_S)
        log_work = np.log(g.work[b, i])
        total_work += g.work[b, i]
        log_sum += log_work
        log_squares += log_work * log_work
    shown_work, shown_asked, shown = 0.0, 0.0, 0
    for k in range(g.slot.shape[1]):
        i = g.slot[b, k]
        if i >= 0:
            shown += 1
            shown_work += g.work[b, i]
            shown_asked += w.sizes[w.slot_k[b, c.PROFILE, i], w.slot_k[b, c.REQUEST_LEVEL, i]]
    x = g.globals[b]
    mean_left_s = left_s / n
    x[0] = np.log1p(n) / 8.0
    x[1] = waiting / n
    x[2] = np.log1p(asked / gpus)
    x[3] = np.log1p(most / gpus)
    x[4] = (n - shown) / n
    x[5] = max(1.0 - shown_work / total_work, 0.0)
    x[6] = np.log1p(max(asked - shown_asked, 0.0) / gpus)
    x[7] = np.log1p(g.elapsed_s[b] / w.round_s)
    x[8] = (g.max_edits - g.edits[b]) / g.max_edits
    x[9] = changes / n
    x[10] = np.sqrt(max(log_squares / n - (log_sum / n) ** 2, 0.0)) / 4.0
    x[11] = np.log1p(mean_left_s / w.round_s) / 8.0
    return mean_left_s


@kernel
def write_cluster(w: World, g: Game, b: int, free_proposed: float) -> None:
    """Cluster features in the order of `game.CLUSTER_FEATURES`."""
    nodes = w.capacity.shape[0]
    free, emptiest, idle = 0.0, 0.0, 0.0
    for node in range(nodes):
        here = w.free[b, node, 0]
        free += here
        if w.capacity[node, 0] > 0.0:
            emptiest = max(emptiest, here / w.capacity[node, 0])
        idle += here >= w.capacity[node, 0]
    x = g.cluster[b]
    x[0] = free / w.total[0]
    x[1] = free_proposed / w.total[0]
    x[2] = emptiest
    x[3] = idle / nodes
    x[4] = np.log2(1.0 + nodes) / 12.0
    x[5] = np.log2(1.0 + w.total[0]) / 12.0
