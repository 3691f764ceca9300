"""Numbers that people write, and the largest that mean anything.

Whatever is read from a file or an option is held against these: what lies beyond would only come
back as an infinite figure, as a loop without end, or as no memory.
"""

from __future__ import annotations

import math
import re
from typing import Any, TypeGuard

import numpy as np

LONGEST_S = 1e10
"""Seconds (317 years): no run time, interval or span of a trace is longer."""

SHORTEST_S = 1e-6
"""Seconds: no run time or interval is shorter, but for those that may be 0."""

LATEST = 1e13
"""No point in time is later, in any unit: milliseconds since 1970 are less."""

MOST = 1e12
"""Of anything that is counted or measured: CPUs, GB, Gbit/s, a rate, a priority."""

MOST_COUNT = 1_000_000_000
"""Of GPUs that one job asks for, of steps, of retries."""

MOST_JOBS = 20_000_000
"""Of a trace."""

MOST_NODES = 1_000_000
"""Of a cluster."""

MOST_GPUS = 10_000_000
"""Of a cluster."""

MOST_TYPES = 62
"""GPU types of a cluster: the types that a job may use are bits of one number."""

MOST_SEED = 2**63 - 1
"""A generator of random numbers takes no larger one."""

_DIGITS = 18
"""Of a whole number; as many always fit 64 bits."""

_WHOLE = re.compile(rf"0*[0-9]{{1,{_DIGITS}}}")


def whole(text: str) -> int | None:
    """The number that `text` is, in plain digits; None for anything else and for larger ones."""
    text = text.strip()
    # 4,300 digits are the most that `int` reads, however many of them are zeros.
    return int(text.lstrip("0") or "0") if _WHOLE.fullmatch(text) else None


def is_number(value: Any, least: float, most: float) -> TypeGuard[float]:
    """Whether `value` is a finite number from `least` to `most`; truth values are none."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return False
    return bool(least <= value <= most and math.isfinite(value))


def is_whole(value: Any, least: int, most: int) -> TypeGuard[int]:
    """Whether `value` is an int from `least` to `most`; truth values are none."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        return False
    return bool(least <= value <= most)
