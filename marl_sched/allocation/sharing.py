"""Three ways to share one pool of GPUs among agents that each state a demand.

With 3 whole GPUs and demands of 2 and 1: the equal split of 1.5 each is infeasible, on demand
gives (2, 1). These are the rules in their plainest form, one number per agent; the schedulers
`equal`, `on_demand` and `priority` are the same rules over jobs with allowed sizes, on nodes with
other resources. What a rule may answer is `feasibility`'s matter.

A whole demand is a gang: it starts together or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from marl_sched.allocation.feasibility import check_shares, exceeds
from marl_sched.errors import UserError


def equal_split(
    demands: Sequence[float] | np.ndarray,
    capacity: float,
    *,
    fractional: bool = False,
    maximum: Sequence[float] | np.ndarray | None = None,
) -> np.ndarray:
    """The same share for everybody who asks: R / n GPUs, whatever they ask for.

    Args:
        demands: (J,) GPUs that each agent asks for, >= 0; an agent that asks for none is not
            counted.
        capacity: R, GPUs in the pool.
        fractional: allow shares of a GPU.
        maximum: (J,) most GPUs an agent can use; None for agents that can use any number.
            What an agent cannot use stays free: the split is not repeated.

    Returns:
        (J,) float64, GPUs per agent.

    Raises:
        Infeasible: when the share is no whole number and GPUs are whole.
    """
    asked = _checked(demands, capacity, fractional)
    asking = asked > 0.0
    count = int(asking.sum())
    if count == 0:
        return np.zeros_like(asked)
    share = capacity / count
    granted = np.where(asking, share, 0.0)
    what = f"an equal split of {capacity:g} GPUs among {count} agents is {share:g} each"
    check_shares(granted, np.inf, capacity, what, whole=not fractional)
    if maximum is None:
        return granted
    return np.minimum(granted, _checked(maximum, capacity, fractional, name="maximum"))


def on_demand(
    demands: Sequence[float] | np.ndarray, capacity: float, *, fractional: bool = False
) -> np.ndarray:
    """Everybody gets what they ask for, in the order given, or waits if it no longer fits.

    Args and returns as in `equal_split`; a waiting agent holds 0.
    """
    asked = _checked(demands, capacity, fractional)
    return _fill(asked, capacity, np.arange(asked.size))


def by_priority(
    demands: Sequence[float] | np.ndarray,
    priorities: Sequence[float] | np.ndarray,
    capacity: float,
    *,
    fractional: bool = False,
) -> np.ndarray:
    """As `on_demand`, but the highest priority chooses first; ties in the order given.

    Args:
        priorities: (J,) higher goes first; the other arguments as in `equal_split`.
    """
    asked = _checked(demands, capacity, fractional)
    rank = np.asarray(priorities, dtype=np.float64)
    if rank.shape != asked.shape or np.isnan(rank).any():
        raise UserError(f"priorities must be {asked.size} numbers, one per demand")
    return _fill(asked, capacity, np.argsort(-rank, kind="stable"))


def _fill(asked: np.ndarray, capacity: float, order: np.ndarray) -> np.ndarray:
    granted = np.zeros_like(asked)
    free = float(capacity)
    for agent in order:
        if not exceeds(asked[agent], free):
            granted[agent] = asked[agent]
            free = max(0.0, free - asked[agent])
    return granted


def _checked(
    values: Sequence[float] | np.ndarray, capacity: float, fractional: bool, name: str = "demands"
) -> np.ndarray:
    """(J,) float64 copy of `values` after checking them and the pool."""
    array = np.array(values, dtype=np.float64)
    if not (np.isfinite(capacity) and capacity >= 0):
        raise UserError(f"capacity must be a number of GPUs >= 0, not {capacity!r}")
    if array.ndim != 1 or not np.isfinite(array).all() or (array < 0).any():
        raise UserError(f"{name} must be a list of numbers of GPUs >= 0, not {values!r}")
    if not fractional and ((array != np.floor(array)).any() or capacity != np.floor(capacity)):
        raise UserError(f"{name} and capacity must be whole; or allow fractional GPUs")
    return array
