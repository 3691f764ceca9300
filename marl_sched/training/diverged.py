"""Learning that has diverged: NaN and infinite numbers, which nothing good comes out of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from marl_sched.errors import UserError

MUST_BE_FINITE = (
    "policy_loss", "value_loss", "q_loss", "entropy", "gradient_norm", "agent_entropy",
)  # fmt: skip
"""Columns of metrics.csv in which NaN or infinity means that learning has diverged."""


class Diverged(UserError):
    """Learning has diverged; the message says in what it shows."""


def check_row(row: Mapping[str, Any], iteration: int) -> None:
    """See that what was measured of an iteration of learning is finite.

    Raises:
        Diverged: naming the column.
    """
    for name in MUST_BE_FINITE:
        value = row.get(name)
        if value is not None and not math.isfinite(value):
            raise Diverged(f"diverged: {name} is {value} in iteration {iteration}")


def check_arrays(arrays: Iterable[np.ndarray], what: str) -> None:
    """See that all numbers are finite.

    Args:
        what: they are, in the plural.

    Raises:
        Diverged: when one is not.
    """
    if not all(np.isfinite(array).all() for array in arrays):
        raise Diverged(f"diverged: {what} are no finite numbers")
