"""How many GPUs each tenant would hold, counted for the tenants that are touched alone; compiled.

    tally[1, t]   thousandths of a GPU of tenant t, if tally[0, t] is the number of this count
    held[t]       else: what its jobs hold now, or 0 where a count begins with nobody

The last column says the number of the present count, and how it began. A new count is thus begun
by one number, however many tenants there are. One count at a time is open on a tally.

Arrays: quota (tenants,) float64 GPUs, +inf without one; held (tenants,) int64 and tally
(2, tenants + 1) int64, thousandths of a GPU, which add up exactly. quota is (0,) where no tenant
has one: then nothing is counted.
"""

from __future__ import annotations

import numpy as np

from marl_sched.compiled.jit import kernel

FULL = 1 << 60
"""More than any quota."""

_ROUNDING = 1e-6


@kernel
def thousandths(gpus: int, share: float) -> int:
    """Of so many GPUs, of each of which a job takes `share`."""
    return int(gpus * np.rint(1000.0 * share))


@kernel
def count_anew(quota: np.ndarray, tally: np.ndarray, from_held: bool) -> None:
    """Begin another count: with what everybody holds, or with nobody holding anything."""
    if quota.size > 0:
        tally[0, quota.size] += 1
        tally[1, quota.size] = 1 if from_held else 0


@kernel
def counted(quota: np.ndarray, held: np.ndarray, tally: np.ndarray, tenant: int) -> int:
    """Thousandths of a GPU of a tenant in the present count."""
    if tally[0, tenant] == tally[0, quota.size]:
        return int(tally[1, tenant])
    return int(held[tenant]) if tally[1, quota.size] == 1 else 0


@kernel
def add(quota: np.ndarray, held: np.ndarray, tally: np.ndarray, tenant: int, more: int) -> None:
    """Count `more` thousandths of a GPU for a tenant."""
    if quota.size > 0:
        tally[1, tenant] = counted(quota, held, tally, tenant) + more
        tally[0, tenant] = tally[0, quota.size]


@kernel
def excess(quota: np.ndarray, held: np.ndarray, tally: np.ndarray, tenant: int, more: int) -> float:
    """GPUs above its quota that a tenant would have with `more` thousandths; 0 within it."""
    if quota.size == 0 or quota[tenant] == np.inf:
        return 0.0
    over = counted(quota, held, tally, tenant) + more - 1000.0 * quota[tenant]
    return over / 1000.0 if over > _ROUNDING else 0.0
