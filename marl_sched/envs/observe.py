"""What the scheduler sees, written by compiled code straight into the observation arrays.

A round's first observation is written whole; a sub-step rewrites what its edit has moved.
"""

from __future__ import annotations

import numpy as np

from marl_sched.allocation.feasibility import exceeds, placeable
from marl_sched.allocation.room import gpus_in
from marl_sched.compiled.jit import kernel, part
from marl_sched.compiled.logarithm import log_each
from marl_sched.compiled.order import smallest_first
from marl_sched.envs.state import Game
from marl_sched.schedulers.rules.elastic_index import MIN_REMAINING_S
from marl_sched.sim import columns as c
from marl_sched.sim.apply import gpus_at
from marl_sched.sim.kernels import is_plain_world, plain_view
from marl_sched.sim.nodes import emptiest_share
from marl_sched.sim.world import World

BID_RANGE = 4.0
"""Bids further from the price than this look the same."""


@kernel
def set_bids(w: World, g: Game, b: int, i: int) -> None:
    """Note the index score of one level more than proposed for row `i`, and of its last one."""
    level = g.proposal[b, i]
    limit = w.slot_k[b, c.LIMIT_LEVEL, i]
    g.bid_up[b, i] = g.score[b, i, level] if level < limit else -np.inf
    g.bid_down[b, i] = g.score[b, i, level - 1] if level > 0 else np.inf


@part
def take_stock(w: World, g: Game, b: int) -> None:
    """Count what the proposal hands out and changes, and note everybody's bids."""
    given, moved = 0.0, 0
    held, limit = w.slot_k[b, c.LEVEL], w.slot_k[b, c.LIMIT_LEVEL]
    proposal, score = g.proposal[b], g.score[b]
    bid_up, bid_down = g.bid_up[b], g.bid_down[b]
    sizes, profile, demand = w.sizes, w.slot_k[b, c.PROFILE], w.slot_demand[b]
    for i in range(w.env_k[b, c.NUM_ACTIVE]):
        level = proposal[i]
        given += gpus_in(sizes, profile, demand, i, level)
        moved += level != held[i]
        bid_up[i] = score[i, level] if level < limit[i] else -np.inf
        bid_down[i] = score[i, level - 1] if level > 0 else np.inf
    g.free[b] = w.usable[b, 0] - given
    g.moved[b] = moved


@kernel
def find_price(w: World, g: Game, b: int) -> None:
    """The index score at which GPUs change hands: between who gains next and who loses next."""
    highest, lowest = -np.inf, np.inf
    bid_up, bid_down = g.bid_up[b], g.bid_down[b]
    for i in range(w.env_k[b, c.NUM_ACTIVE]):
        highest = bid_up[i] if bid_up[i] > highest else highest
        lowest = bid_down[i] if bid_down[i] < lowest else lowest
    if highest > -np.inf and lowest < np.inf:
        g.price[b] = 0.5 * (highest + lowest)
    else:
        g.price[b] = highest if highest > -np.inf else (lowest if lowest < np.inf else 0.0)


@part
def choose_slots(w: World, g: Game, b: int) -> None:
    """Pick the jobs that get a slot, least work left first.

    All of them where they fit; else those whose next or last level is closest to the price:
    where an edit can matter.
    """
    n, shown = w.env_k[b, c.NUM_ACTIVE], g.slot.shape[1]
    find_price(w, g, b)
    slot, slot_of, order = g.slot[b], g.slot_of[b], g.order[b]
    # 0 marks who is picked until the slots are numbered.
    slot_of[:n] = 0
    if n > shown:
        bid_up, bid_down, price = g.bid_up[b], g.bid_down[b], g.price[b]
        rows, distance = np.empty(n, dtype=np.int64), np.empty(n)
        for i in range(n):
            rows[i] = i
            distance[i] = min(abs(bid_up[i] - price), abs(bid_down[i] - price))
        smallest_first(rows, shown, distance)
        for k in range(shown, n):
            slot_of[rows[k]] = -1
    k = 0
    for rank in range(n - 1, -1, -1):
        i = order[rank]
        if slot_of[i] == 0:
            slot[k], slot_of[i] = i, k
            k += 1
    g.shown[b] = k
    slot[k:] = -1


@part
def write_observation(w: World, g: Game, b: int) -> None:
    """Fill the observation and the mask of environment `b` at the beginning of a round."""
    write_mask(w, g, b)
    mean_left_s = write_globals(w, g, b)
    write_jobs(w, g, b, mean_left_s)
    write_levels(w, g, b)
    write_cluster(w, g, b)


@kernel
def write_levels(w: World, g: Game, b: int) -> None:
    """Write what follows from the proposal into every slot."""
    for k in range(g.shown[b]):
        write_level(w, g, b, k)


@part
def write_anew(w: World, g: Game, b: int) -> None:
    """Bring the observation up to date after a proposal that is another altogether."""
    take_stock(w, g, b)
    write_mask(w, g, b)
    write_levels(w, g, b)
    write_counts(w, g, b)


@kernel
def write_mask(w: World, g: Game, b: int) -> None:
    """Legal actions: commit always; algorithms at a round's start; edits that can be served.

    A job is edited once a round. It can go up when the free GPUs and those of jobs that were
    not edited suffice, of a type that it may use and within its tenant's quota, and down when the
    proposal gives it any.
    """
    mask, slot, pinned, jobs = g.mask[b], g.slot[b], g.pinned[b], g.jobs[b]
    first_up, shown = 1 + g.algorithms.size, g.shown[b]
    first_down = first_up + slot.size
    mask[0] = 1
    mask[1:first_up] = 1 if g.allow_algorithms and g.fresh[b] else 0
    if not g.allow_edits or g.edits[b] >= g.max_edits:
        mask[first_up:] = 0
        jobs[:, 14] = 0.0
        return
    proposal, bid_up, room = g.proposal[b], g.bid_up[b], g.room[b]
    plain = is_plain_world(w)
    for k in range(shown):
        i = slot[k]
        up, down = False, False
        if not pinned[i]:
            level = proposal[i]
            up = bid_up[i] > -np.inf and not exceeds(gpus_at(w, b, i, level + 1), room)
            if up and not plain:
                up = finds_room(w, g, b, i)
            down = level > 0
        mask[first_up + k] = 1 if up else 0
        mask[first_down + k] = 1 if down else 0
        jobs[k, 14] = 1.0 if up else 0.0
    mask[first_up + shown : first_down] = 0
    mask[first_down + shown :] = 0


@part
def finds_room(w: World, g: Game, b: int, i: int) -> bool:
    """Whether one level more for row `i` can be placed beside the rows edited before."""
    view = plain_view(w, b)
    target = np.zeros(view.job.size, dtype=np.int64)
    for j in range(target.size):
        if g.pinned[b, j]:
            target[j] = g.proposal[b, j]
    target[i] = g.proposal[b, i] + 1
    return placeable(view, target)


@kernel
def write_jobs(w: World, g: Game, b: int, mean_left_s: float) -> None:
    """Per-job features in the order of `state.JOB_FEATURES` that hold all round long."""
    n, shown = w.env_k[b, c.NUM_ACTIVE], g.shown[b]
    now, round_s = w.env_f[b, c.NOW_S], w.round_s
    f, slot_k = w.slot_f[b], w.slot_k[b]
    logs, slot, jobs = g.scratch[b], g.slot[b], g.jobs[b]
    total_work, work = 0.0, g.work[b]
    for i in range(n):
        total_work += work[i]
    log_mean_work = np.log(max(total_work / n, 1.0))
    heaviest = g.rank_weight[n - 1]
    for k in range(shown):
        i = slot[k]
        left_s = max(f[c.EST_REMAINING_S, i], MIN_REMAINING_S)
        logs[k] = 1.0 + (now - f[c.ARRIVAL_S, i]) / mean_left_s
        logs[shown + k] = 1.0 + f[c.RESTART_S, i] / left_s
        logs[2 * shown + k] = 1.0
        if slot_k[c.LEVEL, i] > 0:
            logs[2 * shown + k] += (now - f[c.RUN_SINCE_S, i]) / round_s
        jobs[k, 16] = 1.0 - min(left_s / max(f[c.EST_TOTAL_S, i], MIN_REMAINING_S), 1.0)
    log_each(logs[: 3 * shown])
    jobs[shown:] = 0.0
    order, slot_of, log_work, rank_weight = g.order[b], g.slot_of[b], g.log_work[b], g.rank_weight
    for rank in range(n):
        i = order[rank]
        k = slot_of[i]
        if k < 0:
            continue
        x = jobs[k]
        held = slot_k[c.LEVEL, i]
        x[0] = 1.0
        x[1] = (log_work[i] - log_mean_work) / 4.0
        x[2] = (n - 1 - rank) / n
        x[3] = size_feature(w, g, b, i, slot_k[c.REQUEST_LEVEL, i])
        x[4] = size_feature(w, g, b, i, held)
        x[6] = size_feature(w, g, b, i, slot_k[c.LIMIT_LEVEL, i])
        x[7] = 1.0 if held == 0 else 0.0
        x[8] = 1.0 if np.isnan(f[c.FIRST_START_S, i]) else 0.0
        x[9] = logs[k] / 4.0
        x[10] = logs[shown + k]
        x[13] = (rank_weight[rank] - heaviest) / 4.0
        x[15] = logs[2 * shown + k] / 4.0


@kernel
def size_feature(w: World, g: Game, b: int, i: int, level: int) -> float:
    """What is seen of the GPUs of row `i` at a level: log2(1 + GPUs) / log2(1 + R)."""
    if w.slot_demand[b, i, 0] == 1.0:
        return g.size_feature[w.slot_k[b, c.PROFILE, i], level]
    return np.log2(1.0 + gpus_at(w, b, i, level)) / np.log2(1.0 + w.total[0])


@kernel
def write_level(w: World, g: Game, b: int, k: int) -> None:
    """The features of slot `k` that follow from what is proposed for its job."""
    i = g.slot[b, k]
    x = g.jobs[b, k]
    profile, held = w.slot_k[b, c.PROFILE, i], w.slot_k[b, c.LEVEL, i]
    wanted, price = g.proposal[b, i], g.price[b]
    x[5] = size_feature(w, g, b, i, wanted)
    x[11] = g.gain_feature[profile, wanted + 1]
    x[12] = g.gain_feature[profile, wanted]
    x[17] = np.sign(wanted - held)
    x[18] = max(min(g.bid_up[b, i] - price, BID_RANGE), -BID_RANGE) / 2.0
    x[19] = max(min(g.bid_down[b, i] - price, BID_RANGE), -BID_RANGE) / 2.0
    x[20] = 1.0 if g.pinned[b, i] else 0.0


@kernel
def write_globals(w: World, g: Game, b: int) -> float:
    """Global features in the order of `state.GLOBAL_FEATURES`; the mean run time left, s."""
    n = w.env_k[b, c.NUM_ACTIVE]
    request, limit = w.slot_k[b, c.REQUEST_LEVEL], w.slot_k[b, c.LIMIT_LEVEL]
    left, work, log_work, slot_of = (
        w.slot_f[b, c.EST_REMAINING_S], g.work[b], g.log_work[b], g.slot_of[b],
    )  # fmt: skip
    for i in range(n):
        log_work[i] = work[i]
    log_each(log_work[:n])
    asked, most, tail_asked, shown = 0.0, 0.0, 0.0, 0
    left_s, total, tail, log_sum, log_squares = 0.0, 0.0, 0.0, 0.0, 0.0
    sizes, profile, demand = w.sizes, w.slot_k[b, c.PROFILE], w.slot_demand[b]
    for i in range(n):
        request_gpus = gpus_in(sizes, profile, demand, i, request[i])
        asked += request_gpus
        most += gpus_in(sizes, profile, demand, i, limit[i])
        left_s += max(left[i], MIN_REMAINING_S)
        total += work[i]
        log_sum += log_work[i]
        log_squares += log_work[i] * log_work[i]
        if slot_of[i] < 0:
            tail += work[i]
            tail_asked += request_gpus
        else:
            shown += 1
    gpus, x = w.total[0], g.globals[b]
    mean_left_s = left_s / n
    x[0] = np.log1p(n) / 8.0
    x[1] = w.env_k[b, c.NUM_WAITING] / n
    x[2] = np.log1p(asked / gpus)
    x[3] = np.log1p(most / gpus)
    x[4] = (n - shown) / n
    x[5] = tail / total
    x[6] = np.log1p(tail_asked / gpus)
    x[7] = np.log1p(g.elapsed_s[b] / w.round_s)
    x[10] = np.sqrt(max(log_squares / n - (log_sum / n) ** 2, 0.0)) / 4.0
    x[11] = np.log1p(mean_left_s / w.round_s) / 8.0
    write_counts(w, g, b)
    return float(mean_left_s)


@kernel
def write_counts(w: World, g: Game, b: int) -> None:
    """Global and cluster features that follow from the proposal."""
    g.globals[b, 8] = (g.max_edits - g.edits[b]) / g.max_edits
    g.globals[b, 9] = g.moved[b] / w.env_k[b, c.NUM_ACTIVE]
    g.cluster[b, 1] = g.free[b] / w.total[0]


@kernel
def write_cluster(w: World, g: Game, b: int) -> None:
    """Cluster features in the order of `state.CLUSTER_FEATURES`, by the index of the nodes."""
    nodes = w.capacity.shape[0]
    x = g.cluster[b]
    x[0] = w.spare[b, 0] / w.total[0]
    x[2] = emptiest_share(w, b)
    x[3] = w.env_k[b, c.IDLE_NODES] / nodes
    x[4] = np.log2(1.0 + nodes) / 12.0
    x[5] = np.log2(1.0 + w.total[0]) / 12.0
