"""Playing a classic scheduler to the end of an episode: compiled driver of the event loop."""

from __future__ import annotations

import numpy as np

from marl_sched.jit import kernel
from marl_sched.schedulers.dispatch import decide
from marl_sched.sim import columns as c
from marl_sched.sim.kernels import EPOCH, advance, apply, make_view
from marl_sched.sim.world import World


@kernel
def play(w: World, b: int, number: int, params: np.ndarray) -> int:
    """Run scheduler `number` until every job of environment `b` has finished.

    Returns:
        `kernels.FINISHED`, or `kernels.STUCK`.
    """
    while True:
        status = advance(w, b)
        if status != EPOCH:
            return status
        target = np.zeros(w.env_k[b, c.NUM_ACTIVE], dtype=np.int64)
        decide(number, make_view(w, b), params, target)
        apply(w, b, target)
