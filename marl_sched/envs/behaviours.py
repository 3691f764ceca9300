"""How deep-learning agents declare their demand: honest, greedy, yielding, or learned; compiled."""

from __future__ import annotations

import numpy as np

from marl_sched.compiled.jit import kernel, part
from marl_sched.envs.state import GREEDY, HONEST, LEARNED, YIELDING, Game
from marl_sched.sim import columns as c
from marl_sched.sim.apply import gpus_at
from marl_sched.sim.world import World


@kernel
def behave(w: World, g: Game, b: int, at: int) -> None:
    """Declare every active job's demand by the rule of the agents' behaviour.

    Args:
        b: environment whose agents have declared.
        at: world to write to: `b`, or the one that looks ahead for it.
    """
    if g.behaviour != HONEST:  # a job arrives with its honest demand
        declare_all(w, g, b, at)


@part
def declare_all(w: World, g: Game, b: int, at: int) -> None:
    """The same for those who are not honest."""
    n = w.env_k[at, c.NUM_ACTIVE]
    share = w.usable[at, 0] / max(n, 1)
    crowded = w.env_k[at, c.NUM_WAITING] > 0
    for i in range(n):
        profile = w.slot_k[at, c.PROFILE, i]
        most = w.num_levels[profile]
        request, limit = w.request_level[profile], most
        if g.behaviour == GREEDY:
            request = most
        elif g.behaviour == YIELDING and crowded:
            while limit > 1 and gpus_at(w, at, i, limit) > share:
                limit -= 1
        elif g.behaviour == LEARNED:
            row = w.slot_k[at, c.JOB, i] - w.env_k[at, c.FIRST_JOB]
            if not np.isnan(g.declared_s[b, row]):
                limit = g.declared_level[b, row]
                request = limit
        w.slot_k[at, c.REQUEST_LEVEL, i] = min(request, limit)
        w.slot_k[at, c.LIMIT_LEVEL, i] = limit
