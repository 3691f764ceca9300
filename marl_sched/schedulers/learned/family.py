"""Scorers for all reward weights at once: parameters that are linear in the weights.

    theta(w) = theta_0 + sum_k (w_k - 1/K) theta_k

for weights w on the simplex of K terms of the reward. Whatever w is, theta(w) is one scorer, so
that nothing that plays scorers has to know of families.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from marl_sched.errors import UserError
from marl_sched.schedulers.learned.scorer import NUM_INDEX_PARAMS, NUM_WEIGHTS
from marl_sched.terms import SHORT

SIZE = NUM_INDEX_PARAMS + NUM_WEIGHTS
"""Entries of one theta: shifts of the index's parameters, then the network's weights."""

SHIFT = 4.0
"""Scale of the index's parameters beside the network's weights: a perturbation of 0.05 moves them
by a fifth, as a factor or as log-odds."""

_ODDS = ("p", "trust")
_EXTREME = 0.02
"""Shares that begin nearer to 0 or 1 could hardly move."""


def shares(weights: np.ndarray) -> np.ndarray:
    """(1 + K,) float64: how much of theta_0 .. theta_K is in the scorer at `weights` (K,)."""
    return np.concatenate([[1.0], weights - 1.0 / max(1, weights.size)])


def theta_at(thetas: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(SIZE,) float64: the scorer at `weights` (K,) of the family `thetas` ((1 + K) SIZE,)."""
    found: np.ndarray = shares(weights) @ thetas.reshape(1 + weights.size, SIZE)
    return found


def shifted(params: Mapping[str, float], theta: np.ndarray) -> dict[str, float]:
    """The index's `params` shifted by the first entries of theta (SIZE,): shares by log-odds, all
    others by a factor."""
    shifts = SHIFT * theta[:NUM_INDEX_PARAMS]
    moved = {}
    for (name, value), shift in zip(params.items(), shifts.tolist(), strict=True):
        if shift == 0.0:
            moved[name] = value
        elif name in _ODDS:
            share = min(max(value, _EXTREME), 1.0 - _EXTREME)
            moved[name] = 1.0 / (1.0 + (1.0 - share) / share * math.exp(-shift))
        else:
            moved[name] = value * math.exp(shift)
    return moved


def parse_weights(text: str, terms: Sequence[str], what: str) -> dict[str, float]:
    """`fairness=0.5,jct=0.5` as weights that sum to 1, those of terms that are not named left out.

    Args:
        what: is read, for the error's words.

    Raises:
        UserError: when it cannot be read, names a term twice, or none of `terms`.
    """
    known = {short: term for short, term in SHORT.items() if term in terms}
    known |= {term: term for term in terms}
    found: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        try:
            weight = float(value)
        except ValueError:
            weight = -1.0
        if name.strip() not in known or not 0 <= weight < math.inf:
            raise UserError(
                f"{what}: write NAME=WEIGHT,.. with weights from 0 and names among "
                f"{', '.join(known)}"
            )
        term = known[name.strip()]
        if term in found:
            raise UserError(f"{what}: {term} is named twice; name each term once")
        found[term] = weight
    total = sum(found.values())
    if total <= 0:
        raise UserError(f"{what}: one weight must be above 0")
    return {term: weight / total for term, weight in found.items()}
