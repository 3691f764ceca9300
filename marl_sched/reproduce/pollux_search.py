"""Pollux' choice of GPUs and places for all jobs at once, by a local search; compiled.

    minimise  sum over jobs of 1 / (speedup x c x r + 0.001)

speedup is goodput beside that on a fair share of the cluster, c = nodes / GPUs of the cluster,
and r <= 1 what a restart leaves of it for a job whose place changes: the power mean of exponent
-1 over speedups. No two jobs that span nodes may share one.
Source: Qiao et al., Pollux, OSDI 2021, whose genetic algorithm is not used here.

The search is over the set of jobs whose place may change. Given the set, what the others leave
free is handed out step by step to whom it helps most for each GPU, packed on few nodes, largest
first, and what remains fills up the nodes. A job goes in or out of the set for as long as that
helps, from two sets: those without a place, and all jobs; the better end is taken.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from marl_sched.compiled.jit import kernel, part
from marl_sched.compiled.records import copy_into, record
from marl_sched.reproduce.goodput import Agents, goodput
from marl_sched.types import Flags1, Floats1, Ints1, Ints2

LEAST = 1e-3
"""Speedup that no job falls below; a job without GPUs costs its reciprocal."""
PASSES = 8
"""Over all jobs, at most, from each of the two sets."""


@record
class Question(NamedTuple):
    """What is to be decided, for A active jobs on N nodes."""

    job: Ints1
    """(A,) row of each job among the agents."""
    most: Ints1
    """(A,) GPUs at most."""
    factor: Floats1
    """(A,) r: what a change of place leaves of the speedup."""
    fair: Floats1
    """(A,) goodput on a fair share."""
    held: Ints2
    """(A, N) GPUs held."""
    held_gpus: Ints1
    """(A,) the sum."""
    held_nodes: Ints1
    """(A,) nodes on which they are."""
    capacity: Ints1
    """(N,) GPUs of each node."""


@record
class Draft(NamedTuple):
    """Scratch of the search."""

    free: Ints1
    """(N,) GPUs not yet given away."""
    spanned: Flags1
    """(N,) whether a job that spans nodes is there."""
    gpus: Ints1
    """(A,) GPUs of each job."""
    step: Ints1
    """(A,) GPUs more that help a job most for each of them."""
    gain: Floats1
    """(A,) by how much, for each."""
    order: Ints1
    """(A,) jobs to place."""
    chosen: Ints1
    """(2,) batch of one GPU and accumulation steps, which nobody reads here."""


@kernel
def cost_of(a: Agents, q: Question, d: Draft, i: int, gpus: int, spans: bool, moved: bool) -> float:
    """Reciprocal of job `i`'s speedup."""
    if gpus == 0:
        return 1.0 / LEAST
    speedup = goodput(a, q.job[i], spans, gpus, d.chosen) / q.fair[i]
    share = len(q.capacity) / q.capacity.sum()
    return 1.0 / (speedup * share * (q.factor[i] if moved else 1.0) + LEAST)


@kernel
def find_step(a: Agents, q: Question, d: Draft, i: int, left: int, node: int) -> None:
    """The number of GPUs more, at most `left`, by which each helps job `i` most.

    Args:
        node: GPUs of a node; more span several.
    """
    d.gain[i], d.step[i] = 0.0, 0
    k = d.gpus[i]
    most = min(q.most[i], k + left)
    if k >= most:
        return
    now = cost_of(a, q, d, i, k, k > node, True)
    whole = (k // node + 1) * node
    for more in (k + 1, k + 2, whole, whole + node, most):
        if more <= most:
            gain = (now - cost_of(a, q, d, i, more, more > node, True)) / (more - k)
            if gain > d.gain[i]:
                d.gain[i], d.step[i] = gain, more - k


@kernel
def hand_out(a: Agents, q: Question, d: Draft, count: int, left: int, node: int) -> None:
    """Decide the GPUs of `d.order[:count]` as if the free ones were on full nodes."""
    for x in range(count):
        i = d.order[x]
        d.gpus[i] = 0
        find_step(a, q, d, i, left, node)
    while left > 0:
        best, best_gain = -1, 0.0
        for x in range(count):
            i = d.order[x]
            if d.gain[i] > best_gain:
                best, best_gain = i, d.gain[i]
        if best < 0:
            return
        if d.step[best] <= left:
            d.gpus[best] += d.step[best]
            left -= d.step[best]
        find_step(a, q, d, best, left, node)


@kernel
def take(d: Draft, place: np.ndarray, i: int, n: int, gpus: int) -> None:
    place[i, n] += gpus
    d.free[n] -= gpus


@kernel
def stays(q: Question, d: Draft, i: int) -> bool:
    """Whether job `i` still finds free what it holds, and wants as much."""
    if d.gpus[i] == 0 or d.gpus[i] != q.held_gpus[i]:
        return False
    for n in range(len(q.capacity)):
        if q.held[i, n] > d.free[n] or (q.held[i, n] > 0 and q.held_nodes[i] > 1 and d.spanned[n]):
            return False
    return True


@kernel
def keep(q: Question, d: Draft, place: np.ndarray, i: int) -> None:
    for n in range(len(q.capacity)):
        if q.held[i, n] > 0:
            take(d, place, i, n, q.held[i, n])
            d.spanned[n] |= q.held_nodes[i] > 1


@kernel
def tightest(d: Draft, gpus: int) -> int:
    """Node with the least room that suffices; -1 where none does."""
    best = -1
    for n in range(len(d.free)):
        if d.free[n] >= gpus and (best < 0 or d.free[n] < d.free[best]):
            best = n
    return best


@kernel
def roomiest(d: Draft, spanning: bool) -> int:
    """Node with most room, for a job that spans nodes or not; -1 where there is none."""
    best = -1
    for n in range(len(d.free)):
        if d.free[n] > 0 and not (spanning and d.spanned[n]):
            if best < 0 or d.free[n] > d.free[best]:
                best = n
    return best


@kernel
def spread(q: Question, d: Draft, place: np.ndarray, i: int) -> None:
    """Place job `i` on several nodes, full ones first and the rest where it fits tightest."""
    need = d.gpus[i]
    while need > 0:
        n = roomiest(d, True)
        if n < 0:
            break
        if d.free[n] > need:
            for other in range(len(d.free)):
                if need <= d.free[other] < d.free[n] and not d.spanned[other]:
                    n = other
        part_of_it = min(d.free[n], need)
        take(d, place, i, n, part_of_it)
        need -= part_of_it
        if need > 0 or part_of_it < d.gpus[i]:
            d.spanned[n] = True
    d.gpus[i] -= need


@kernel
def room_for_spread(d: Draft, gpus: int) -> int:
    """GPUs, at most so many, that a job could have across nodes."""
    room = 0
    for n in range(len(d.free)):
        if not d.spanned[n]:
            room += d.free[n]
    return min(room, gpus)


@kernel
def place_one(a: Agents, q: Question, d: Draft, place: np.ndarray, i: int, node: int) -> None:
    """Place `d.gpus[i]` GPUs of job `i`, or as many as there is room for."""
    gpus = d.gpus[i]
    if gpus > node:
        spread(q, d, place, i)
        return
    n = tightest(d, gpus)
    if n < 0:
        n = roomiest(d, False)
        if n < 0:
            d.gpus[i] = 0
            return
        fewer, wide = d.free[n], room_for_spread(d, gpus)
        packed = cost_of(a, q, d, i, fewer, False, True)
        if wide > fewer and cost_of(a, q, d, i, wide, True, True) < packed:
            d.gpus[i] = wide
            spread(q, d, place, i)
            return
        d.gpus[i] = fewer
    take(d, place, i, n, d.gpus[i])


@kernel
def nodes_of(place: np.ndarray, i: int) -> int:
    count = 0
    for n in range(place.shape[1]):
        if place[i, n] > 0:
            count += 1
    return count


@kernel
def grow_on(a: Agents, q: Question, d: Draft, place: np.ndarray, count: int, n: int) -> bool:
    """Give one free GPU of node `n` to whom of `d.order[:count]` it helps most, if anyone."""
    best, best_gain = -1, 0.0
    for x in range(count):
        i = d.order[x]
        k, wide = d.gpus[i], nodes_of(place, i) > 1
        may = k == 0 or place[i, n] > 0 or (wide and not d.spanned[n])
        if k >= q.most[i] or not may:
            continue
        gain = cost_of(a, q, d, i, k, wide, True) - cost_of(a, q, d, i, k + 1, wide, True)
        if gain > best_gain:
            best, best_gain = i, gain
    if best < 0:
        return False
    d.spanned[n] |= d.gpus[best] > place[best, n]
    take(d, place, best, n, 1)
    d.gpus[best] += 1
    return True


@kernel
def order_by_size(d: Draft, count: int) -> None:
    """Most GPUs first; of equals, who came first in `d.order`."""
    for x in range(1, count):
        i, y = d.order[x], x
        while y > 0 and d.gpus[d.order[y - 1]] < d.gpus[i]:
            d.order[y] = d.order[y - 1]
            y -= 1
        d.order[y] = i


@kernel
def is_held(q: Question, place: np.ndarray, i: int) -> bool:
    for n in range(len(q.capacity)):
        if place[i, n] != q.held[i, n]:
            return False
    return True


@part
def draft(a: Agents, q: Question, d: Draft, moving: Flags1, place: Ints2) -> float:
    """Places (A, N) when just the `moving` (A,) jobs may change theirs; their cost in all."""
    node = q.capacity.max()
    place[:] = 0
    copy_into(d.free, q.capacity)
    d.spanned[:] = False
    count, total = 0, 0.0
    for i in range(len(q.job)):
        if moving[i]:
            d.order[count] = i
            count += 1
        else:
            keep(q, d, place, i)
            total += cost_of(a, q, d, i, q.held_gpus[i], q.held_nodes[i] > 1, False)
    hand_out(a, q, d, count, d.free.sum(), node)
    order_by_size(d, count)
    for x in range(count):
        i = d.order[x]
        if stays(q, d, i):
            keep(q, d, place, i)
    for x in range(count):
        i = d.order[x]
        if d.gpus[i] > 0 and nodes_of(place, i) == 0:
            place_one(a, q, d, place, i, node)
    for n in range(len(d.free)):
        while d.free[n] > 0 and grow_on(a, q, d, place, count, n):
            pass
    for x in range(count):
        i = d.order[x]
        moved = not is_held(q, place, i)
        total += cost_of(a, q, d, i, d.gpus[i], nodes_of(place, i) > 1, moved)
    return total


@part
def improve(a: Agents, q: Question, d: Draft, moving: Flags1, trial: Ints2, best: Ints2) -> float:
    """Let jobs into `moving` and out of it while that lowers the cost; the places go to `best`."""
    cost = draft(a, q, d, moving, best)
    last = -1
    for _ in range(PASSES):
        for i in range(len(q.job)):
            if i == last:
                return cost
            if q.held_gpus[i] == 0:
                continue
            moving[i] = not moving[i]
            new = draft(a, q, d, moving, trial)
            if new < cost - 1e-9:
                cost, last = new, i
                copy_into(best, trial)
            else:
                moving[i] = not moving[i]
        if last < 0:
            return cost
    return cost


@part
def search(a: Agents, q: Question, d: Draft, places: Ints2) -> float:
    """Choose `places` (A, N); their cost."""
    count = len(q.job)
    moving = np.empty(count, dtype=np.bool_)
    trial, other = np.empty_like(places), np.empty_like(places)
    for i in range(count):
        moving[i] = q.held_gpus[i] == 0
    cost = improve(a, q, d, moving, trial, places)
    moving[:] = True
    new = improve(a, q, d, moving, trial, other)
    if new < cost - 1e-9:
        copy_into(places, other)
        cost = new
    return cost


def plan(agents: Agents, question: Question) -> np.ndarray:
    """(A, N) int64, GPUs of each job on each node."""
    jobs, nodes = question.held.shape
    scratch = Draft(
        free=np.zeros(nodes, np.int64),
        spanned=np.zeros(nodes, bool),
        gpus=np.zeros(jobs, np.int64),
        step=np.zeros(jobs, np.int64),
        gain=np.zeros(jobs),
        order=np.zeros(jobs, np.int64),
        chosen=np.zeros(2, np.int64),
    )
    places = np.zeros((jobs, nodes), np.int64)
    search(agents, question, scratch, places)
    return places
