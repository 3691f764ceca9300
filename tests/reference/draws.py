"""Random numbers by name: each is a function of (seed, stream, i, k), in any order of use."""

from __future__ import annotations

import math

MASK = 2**64 - 1
JOB_FAILURES, NODE_FAILURES, PLACEMENT = 1, 2, 3
"""Streams."""


def finalise(z: int) -> int:
    """The finaliser of splitmix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def uniform(seed: int, stream: int, i: int, k: int) -> float:
    """In [0, 1)."""
    z = (
        seed * 0x9E3779B97F4A7C15
        + stream * 0xBF58476D1CE4E5B9
        + i * 0x94D049BB133111EB
        + k * 0xD6E8FEB86659FD93
    ) & MASK
    return (finalise(finalise(z)) >> 11) / 2**53


def exponential(mean: float, seed: int, stream: int, i: int, k: int) -> float:
    return -math.log(1.0 - uniform(seed, stream, i, k)) * mean
