"""Nodes that go down, come up, or are reclaimed: by their own failure process, or as given."""

from __future__ import annotations

import numpy as np

from marl_sched.compiled.jit import kernel, part
from marl_sched.sim import columns as c
from marl_sched.sim.draws import NODE_FAILURES, exponential_s
from marl_sched.sim.lifecycle import log, stop
from marl_sched.sim.nodes import set_state
from marl_sched.sim.world import World

GIVEN_DOWN, GIVEN_UP, GIVEN_RECLAIM = 0, 1, 2
"""Kinds of the given events."""


@kernel
def plan_failures(w: World, b: int) -> None:
    """Draw every node's first failure; all nodes are up."""
    if w.node_mtbf_s < np.inf:
        for node in range(w.capacity.shape[0]):
            up_s = exponential_s(w.seed, NODE_FAILURES, _drawn_as(w, b, node), 0) * w.node_mtbf_s
            w.node_f[b, c.NODE_OWN_EVENT_S, node] = up_s
    find_next(w, b)


@kernel
def _drawn_as(w: World, b: int, node: int) -> int:
    """The individual whose draws a node's failures are: another one in episodes of other jobs."""
    return node + w.capacity.shape[0] * w.env_k[b, c.FIRST_JOB]


@kernel
def find_next(w: World, b: int) -> None:
    """Note when the next event of any node comes."""
    at_s = np.inf
    if w.env_k[b, c.GIVEN] < w.given_events.shape[0]:
        at_s = w.given_events[w.env_k[b, c.GIVEN], 0]
    if w.node_mtbf_s < np.inf or w.given_events.shape[0] > 0:
        for node in range(w.capacity.shape[0]):
            at_s = min(at_s, w.node_f[b, c.NODE_OWN_EVENT_S, node])
            at_s = min(at_s, w.node_f[b, c.NODE_GONE_AT_S, node])
    w.env_f[b, c.NODE_EVENT_S] = at_s


@kernel
def take_down(w: World, b: int, node: int, abruptly: bool) -> None:
    """A node is gone: whoever has a GPU on it stops."""
    if w.node_k[b, c.NODE_STATE, node] == c.DOWN:
        return
    log(w, b, c.NODE_DOWN, -1, w.capacity[node, 0], node, 0.0 if abruptly else 1.0)
    # In order of the jobs, whatever order the rows are in.
    while w.node_k[b, c.NODE_JOBS, node] > 0:
        first = -1
        for k in range(w.env_k[b, c.NUM_RUNNING]):
            i = w.running[b, k]
            if on_node(w, b, i, node):
                if first < 0 or w.slot_k[b, c.JOB, i] < w.slot_k[b, c.JOB, first]:
                    first = i
        stop(w, b, first, abruptly)
    set_state(w, b, node, c.DOWN)


@kernel
def on_node(w: World, b: int, i: int, node: int) -> bool:
    """Whether the job in row `i` holds a GPU of `node`."""
    entry = w.slot_k[b, c.PLACEMENT, i]
    while entry >= 0:
        if w.pool[b, c.ENTRY_NODE, entry] == node:
            return True
        entry = w.pool[b, c.ENTRY_NEXT, entry]
    return False


@kernel
def mark_leaving(w: World, b: int, node: int) -> None:
    """Note for whoever holds GPUs of `node` that nobody else can have them after it."""
    for k in range(w.env_k[b, c.NUM_RUNNING]):
        i = w.running[b, k]
        entry = w.slot_k[b, c.PLACEMENT, i]
        while entry >= 0:
            if w.pool[b, c.ENTRY_NODE, entry] == node:
                w.slot_k[b, c.LEAVING, i] += w.pool[b, c.ENTRY_GPUS, entry]
            entry = w.pool[b, c.ENTRY_NEXT, entry]


@kernel
def bring_up(w: World, b: int, node: int) -> None:
    """A node that was down is back; it takes jobs unless it is under notice."""
    if w.node_k[b, c.NODE_STATE, node] != c.DOWN:
        return
    log(w, b, c.NODE_UP, -1, w.capacity[node, 0], node, 0.0)
    noticed = w.node_f[b, c.NODE_GONE_AT_S, node] < np.inf
    set_state(w, b, node, c.CLOSED if noticed else c.OPEN)


@kernel
def next_gone_s(w: World, b: int, node: int, now: float) -> float:
    """End of the node's next notice after `now`, of those given so far; +inf without."""
    gone_s = np.inf
    for k in range(w.env_k[b, c.GIVEN]):
        event = w.given_events[k]
        if event[1] == node and event[2] == GIVEN_RECLAIM and event[3] > 0.0:
            if event[0] + event[3] > now:
                gone_s = min(gone_s, event[0] + event[3])
    return gone_s


@kernel
def own_event(w: World, b: int, node: int) -> None:
    """A failure or a repair by the node's own process, and the draw of the one after it."""
    at_s = w.node_f[b, c.NODE_OWN_EVENT_S, node]
    w.node_k[b, c.NODE_DRAWS, node] += 1
    w.env_k[b, c.SETBACKS] += 1
    draw = w.node_k[b, c.NODE_DRAWS, node]
    mean_s = w.node_mttr_s
    if draw % 2 == 1:
        take_down(w, b, node, True)
    else:
        bring_up(w, b, node)
        mean_s = w.node_mtbf_s
    pause_s = exponential_s(w.seed, NODE_FAILURES, _drawn_as(w, b, node), draw) * mean_s
    w.node_f[b, c.NODE_OWN_EVENT_S, node] = at_s + pause_s


@kernel
def given_event(w: World, b: int, at_s: float, node: int, kind: int, notice_s: float) -> None:
    """Carry out a row of the given events.

    A notice holds until it is over, whatever becomes of the node in between.
    """
    if kind == GIVEN_UP:
        bring_up(w, b, node)
    elif kind == GIVEN_DOWN or notice_s <= 0.0:
        take_down(w, b, node, True)
    else:
        if w.node_k[b, c.NODE_STATE, node] == c.OPEN:
            mark_leaving(w, b, node)
            set_state(w, b, node, c.CLOSED)
        gone_s = w.node_f[b, c.NODE_GONE_AT_S, node]
        w.node_f[b, c.NODE_GONE_AT_S, node] = min(gone_s, at_s + notice_s)


@part
def node_events(w: World, b: int) -> None:
    """Carry out the node events that are due, the earliest first, lower nodes first."""
    now = w.env_f[b, c.NOW_S]
    while w.env_f[b, c.NODE_EVENT_S] <= now:
        at_s = w.env_f[b, c.NODE_EVENT_S]
        given = w.env_k[b, c.GIVEN]
        while given < w.given_events.shape[0] and w.given_events[given, 0] <= at_s:
            event = w.given_events[given]
            given += 1
            w.env_k[b, c.GIVEN] = given
            given_event(w, b, event[0], int(event[1]), int(event[2]), event[3])
        for node in range(w.capacity.shape[0]):
            if w.node_f[b, c.NODE_GONE_AT_S, node] <= at_s:
                w.node_f[b, c.NODE_GONE_AT_S, node] = next_gone_s(w, b, node, at_s)
                take_down(w, b, node, False)
            if w.node_f[b, c.NODE_OWN_EVENT_S, node] <= at_s:
                own_event(w, b, node)
        find_next(w, b)
