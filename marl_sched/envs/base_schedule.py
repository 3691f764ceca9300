"""The base schedule, and the index score of every level that edits go by; compiled.

Both are found in one go where the base is the elastic index itself. The work of environment `b`
may be asked of another world row `at` that looks ahead for it: what is found lies in row `b` of
the game.
"""

from __future__ import annotations

import numpy as np

from marl_sched.allocation.room import all_fit, is_plain
from marl_sched.compiled.jit import kernel, part
from marl_sched.compiled.order import descending_again
from marl_sched.envs.state import HONEST, Game
from marl_sched.schedulers.dispatch import decide
from marl_sched.schedulers.mechanisms.filling import fill_whole
from marl_sched.schedulers.rules.elastic_index import remaining_s, single_gpu_work, write_worth
from marl_sched.sim import columns as c
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
