"""The base schedule, and the index score of every level that edits go by; compiled.

Both are found in one go where the base is the elastic index itself. The work of environment `b`
may be asked of another world row `at` that looks ahead for it: what is found lies in row `b` of
the game.
"""

from __future__ import annotations

import numpy as np

from marl_sched.allocation.room import all_fit, is_plain
from marl_sched.envs.game import GREEDY, HONEST, LEARNED, YIELDING, Game
from marl_sched.jit import kernel, part
from marl_sched.order import descending_again
from marl_sched.schedulers.dispatch import decide
from marl_sched.schedulers.elastic_index import remaining_s, single_gpu_work, write_worth
from marl_sched.schedulers.filling import fill_whole
from marl_sched.sim import columns as c
from marl_sched.sim.apply import gpus_at
from marl_sched.sim.kernels import make_view, plain_view
from marl_sched.sim.world import World
from marl_sched.types import ClusterView, Ints1


@kernel
def score_levels(w: World, g: Game, b: int, at: int, view: ClusterView) -> None:
    """Fill the work left, its order and the score of every level of the active jobs of `at`."""
    n = view.job.size
    work, order, ranked = g.work[b, :n], g.order[b], g.rank_weight
    left_s = remaining_s(view, g.index_params[4])
    single_gpu_work(view, left_s, work)
    descending_again(order, g.ordered[b], work)
    g.ordered[b] = n
    weight = np.empty(n)
    for rank in range(n):
        weight[order[rank]] = ranked[rank]
    write_worth(view, left_s, g.index_params, weight, g.log_gain, view.profile, g.score[b, :n])


@kernel
def grant_all(w: World, g: Game, view: ClusterView, target: np.ndarray) -> bool:
    """Write the most that every job accepts and can use into target; whether all of it fits."""
    profile, limit, demand, sizes, useful = (
        view.profile, view.limit_level, view.demand, view.sizes, g.useful,
    )  # fmt: skip
    if not is_plain(view):
        for i in range(target.size):
            target[i] = min(limit[i], useful[profile[i]])
        return all_fit(view, target)
    for r in range(1 if w.gpus_only else 4):
        left = view.capacity[r] + 1e-9
        for i in range(target.size):
            target[i] = min(limit[i], useful[profile[i]])
            left -= sizes[profile[i], target[i]] * demand[i, r]
            if left < 0.0:
                return False
    return True


@kernel
def nothing_to_do(w: World, g: Game, at: int) -> bool:
    """Whether all active jobs hold the most that they accept and can use, and so keep it."""
    all_have_most = w.env_k[at, c.BELOW_MOST] == 0
    return all_have_most and g.all_useful and g.base_is_index and g.behaviour == HONEST


@part
def write_base(w: World, g: Game, b: int, at: int, target: Ints1) -> bool:
    """Write the base schedule's levels of the active jobs of `at` into target (A,).

    Returns:
        Whether levels were scored for it: the index need not, where there is enough for all.
    """
    if g.base_is_index:
        if grant_all(w, g, plain_view(w, at), target):
            return False
        view = make_view(w, at)
        score_levels(w, g, b, at, view)
        fill_whole(view, g.score[b, : target.size], target)
        return True
    for i in range(target.size):
        target[i] = min(w.slot_k[at, c.LEVEL, i], w.slot_k[at, c.LIMIT_LEVEL, i])
    decide(g.base, make_view(w, at), g.base_params, target)
    return False


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
