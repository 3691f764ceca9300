"""Random numbers that depend on what they are for and not on when they are drawn.

The k-th failure of a job or a node is the same under every scheduler: paired comparisons then
share their accidents (common random numbers).
"""

from __future__ import annotations

import numpy as np

from marl_sched.compiled.jit import kernel

JOB_FAILURES, NODE_FAILURES, PLACEMENT = 1, 2, 3
"""What a stream of draws is for."""


@kernel
def finalise(z: np.uint64) -> np.uint64:
    """The mixing function of splitmix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@kernel
def uniform(seed: int, stream: int, i: int, k: int) -> float:
    """A number in [0, 1) of the k-th draw of individual `i` in a stream."""
    z = np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15)
    z += np.uint64(stream) * np.uint64(0xBF58476D1CE4E5B9)
    z += np.uint64(i) * np.uint64(0x94D049BB133111EB)
    z += np.uint64(k) * np.uint64(0xD6E8FEB86659FD93)
    return float(finalise(finalise(z)) >> np.uint64(11)) / 9007199254740992.0


@kernel
def exponential_s(seed: int, stream: int, i: int, k: int) -> float:
    """An exponential variate of mean 1, from the same draw."""
    return -np.log(1.0 - uniform(seed, stream, i, k))
