"""What keeps a trained scorer to states like those of its training: ranges of global features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

import numpy as np

from marl_sched.schedulers.learned.scorer import GLOBAL_FEATURES, NUM_GLOBAL, NUM_TALLY

MARGIN = 0.1
"""States count as known this far beyond those seen, as a share of each feature's range."""

UNGUARDED = "log_active"
"""More jobs than in training are no reason to fall back: all that depends on how many compete for a
GPU is relative, and on larger clusters the network gains as much or more (docs/learning.md)."""

Ranges = dict[str, tuple[float, float]]
"""Least and highest value of each of `GLOBAL_FEATURES`."""


@dataclass(frozen=True)
class Guard:
    """Where a scorer decides, and which index does elsewhere."""

    fallback: Mapping[str, float]
    """Parameters of the elastic index."""
    seen: Ranges | None = None
    """In training; None: every state counts as known."""

    @property
    def known(self) -> tuple[np.ndarray, np.ndarray]:
        """(7,) float64 each: least and highest known value of each global feature."""
        low, high = np.full(NUM_GLOBAL, -np.inf), np.full(NUM_GLOBAL, np.inf)
        if self.seen is not None:
            low, high = np.array([self.seen[name] for name in GLOBAL_FEATURES]).T
            low, high = low - MARGIN * (high - low), high + MARGIN * (high - low)
        at = GLOBAL_FEATURES.index(UNGUARDED)
        low[at], high[at] = -np.inf, np.inf
        return low, high

    @property
    def array(self) -> np.ndarray:
        """(NUM_GUARD + NUM_TALLY,) float64: the guard, and an empty tally."""
        return np.concatenate([list(self.fallback.values()), *self.known, EMPTY])


EMPTY = np.concatenate([[0.0, 0.0], np.full(NUM_GLOBAL, np.inf), np.full(NUM_GLOBAL, -np.inf)])
"""A tally before the first decision."""


@dataclass(frozen=True)
class Tally:
    """What a scorer noted in its parameters while it decided."""

    decisions: int
    """That its network was asked for: not all jobs could have all they can use."""
    fallbacks: int
    met: Ranges

    @property
    def fallback_fraction(self) -> float:
        """Share of these decisions that the index took alone."""
        return self.fallbacks / max(1, self.decisions)


def tally_of(params: np.ndarray) -> Tally:
    """Read the parameters (.,) of a scorer that has run."""
    tail = params[-NUM_TALLY:]
    ends = zip(tail[2 : 2 + NUM_GLOBAL].tolist(), tail[-NUM_GLOBAL:].tolist(), strict=True)
    return Tally(int(tail[0]), int(tail[1]), dict(zip(GLOBAL_FEATURES, ends, strict=True)))


def merged(met: list[Ranges]) -> Ranges:
    """The ranges that hold all of them."""
    return {
        name: (min(one[name][0] for one in met), max(one[name][1] for one in met))
        for name in GLOBAL_FEATURES
    }


def known(met: Ranges) -> Ranges | None:
    """What a scorer met, as what counts as known; None where it had nothing to decide."""
    return met if all(low <= high for low, high in met.values()) else None


def problem_of(params: Mapping[str, Any], seen: Any) -> str:
    """What is wrong with the parts of a guard read from a file; empty: nothing."""
    if not all(map(isfinite, params.values())):
        return "parameters to fall back on that are no numbers"
    if seen is None:
        return ""
    if sorted(seen) != sorted(GLOBAL_FEATURES):
        return "ranges of other features"
    ordered = all(-inf < low <= high < inf for low, high in seen.values())
    return "" if ordered else "a range that ends before it begins"
