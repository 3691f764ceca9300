"""Playing a classic scheduler to the end of an episode: compiled driver of the event loop."""

from __future__ import annotations

import numpy as np

from marl_sched.compiled.jit import part
from marl_sched.compiled.order import rows_by
from marl_sched.schedulers.dispatch import decide, is_order, leaves_running, write_keys
from marl_sched.sim import columns as c
from marl_sched.sim.apply import apply_first
from marl_sched.sim.kernels import EPOCH, advance, make_view, plain_view, start
from marl_sched.sim.placement import place
from marl_sched.sim.relocate import repack
from marl_sched.sim.world import World
from marl_sched.types import Floats1

PAUSED = 3
"""What `play` returns beside the states of `kernels.advance`: call it again to go on."""


@part
def play(w: World, b: int, number: int, params: Floats1, epochs: int) -> int:
    """Run scheduler `number` until every job of environment `b` has ended.

    Args:
        epochs: so many decisions at most, so that Python can say how far it is, and be stopped.

    Returns:
        `kernels.FINISHED`, `kernels.STUCK`, `PAUSED`, or `kernels.FULL`: give it room first.
    """
    for _ in range(epochs):
        status = advance(w, b)
        if status != EPOCH:
            return status
        if w.repack:
            repack_by(w, b, number, params)
            continue
        target = w.target[b, : w.env_k[b, c.NUM_ACTIVE]]
        view = plain_view(w, b) if leaves_running(number) else make_view(w, b)
        apply_first(w, b, target, decide(number, view, params, target))
    return PAUSED


@part
def repack_by(w: World, b: int, number: int, params: Floats1) -> None:
    """Place everybody anew in the order of scheduler `number`, one of those that are an order."""
    view = make_view(w, b)
    key = np.empty(view.job.size)
    if is_order(number):
        write_keys(number, view, params, key)
    repack(w, b, rows_by(key, view.job))


PLAYED = (advance, apply_first, decide, place, start, play, rows_by)
"""What every run of a compiled scheduler needs, the longest to compile first."""
