"""A point inside a set of fractions of time, the one that an interior-point solver stops at.

    floor_a <= x_a <= 1,   x_a >= 0,   sum_a gang_a x_a <= capacity

A feasible set has no best point; Gavel takes what its solver, ECOS, returns for an objective that
is constant, and that decides who gets the time to spare. This is that solver's algorithm: the
self-dual embedding of G x + s = h, s >= 0 with dual z, and scalars tau, kappa, solved by
predictor and corrector steps. Source: Domahidi, Chu and Boyd, ECOS: An SOCP Solver for Embedded
Systems, ECC 2013. Here every row of G has one entry except the capacity's, so that a step costs
O(A): the normal equations are a diagonal plus one outer product.

Axes: A jobs; rows 3 x A (x >= 0, x <= 1, rate x >= rate floor), then the row of the capacity.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

_TOLERANCE = 1e-8
"""Of feasibility and of the duality gap."""
_MOST_STEPS = 100
_SCALINGS = 3
_STEP_BACK, _LONGEST_STEP = 0.99, 0.999
_LEAST_CENTRING = 1e-4


class _System(NamedTuple):
    """G as its diagonals and the row of the capacity, scaled; G^T d G with d (3 A + 1,)."""

    diagonals: np.ndarray  # (3, A) float64
    row: np.ndarray  # (A,) float64

    def times(self, x: np.ndarray) -> np.ndarray:
        """(3 A + 1,) G x."""
        return np.append(self.diagonals * x, self.row @ x)

    def transposed(self, z: np.ndarray) -> np.ndarray:
        """(A,) G^T z."""
        rows = z[:-1].reshape(3, -1)
        return (self.diagonals * rows).sum(axis=0) + self.row * z[-1]

    def solve(
        self, d: np.ndarray, first: np.ndarray, second: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """x (A,), z (3 A + 1,) with G^T z = first and G x - z / d = second."""
        diagonal = (self.diagonals**2 * d[:-1].reshape(3, -1)).sum(axis=0)
        scaled = self.row / diagonal
        pivot = 1.0 / d[-1] + self.row @ scaled
        x, z = np.zeros(len(diagonal)), np.zeros(len(d))
        # Once more on what is left over: entries of d span twenty orders of magnitude.
        for _ in range(3):
            rest = second - (self.times(x) - z / d)
            right = first - self.transposed(z) + self.transposed(d * rest)
            more = right / diagonal
            more -= scaled * ((self.row @ more) / pivot)
            x = x + more
            z = z + d * (self.times(more) - rest)
        return x, z


def interior_point(
    floor: np.ndarray, rate: np.ndarray, gang: np.ndarray, capacity: float
) -> np.ndarray:
    """A point of the set; what comes out where it is empty means nothing.

    Args:
        floor: (A,) float64.
        rate: (A,) float64 > 0, work per second, in whose unit the floors are given to the solver:
            it measures by how much they are missed.
        gang: (A,) float64 > 0, GPUs.
        capacity: GPUs.

    Returns:
        (A,) float64 in [0, 1].
    """
    ones = np.ones(len(gang))
    system, unit, bounds = _scale(
        _System(np.stack([-ones, ones, -rate]), gang),
        np.concatenate([0.0 * ones, ones, -rate * floor, [capacity]]),
    )
    x, z = system.solve(np.ones(len(bounds)), 0.0 * ones, bounds)
    s, z = _inside(-z), np.ones(len(bounds))
    tau = kappa = 1.0
    norm = max(1.0, float(np.linalg.norm(bounds)))
    for _ in range(_MOST_STEPS):
        dual_rest = -system.transposed(z)
        rest = s + system.times(x) - bounds * tau
        level = kappa + bounds @ z
        mu = (s @ z + kappa * tau) / (len(s) + 1)
        size = max(norm + float(np.linalg.norm(x)) + float(np.linalg.norm(s)), 1.0)
        missed = float(np.linalg.norm(rest)) / size / tau
        dual_missed = float(np.linalg.norm(dual_rest)) / (1.0 + float(np.linalg.norm(z))) / tau
        if max(missed, dual_missed, float(s @ z)) < _TOLERANCE and bounds @ z <= _TOLERANCE:
            break
        d = z / s
        x_tau, z_tau = system.solve(d, 0.0 * ones, bounds)
        pivot = kappa / tau - bounds @ z_tau

        def direction(
            kept: float, target: np.ndarray, scalar: Any
        ) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, float]:
            """dx, dz, ds, dtau, dkappa that leave `kept` of the rests; s dz + z ds = -target."""
            dx, dz = system.solve(d, kept * dual_rest, -kept * rest + target / z)  # noqa: B023
            dtau = (kept * level - scalar / tau + bounds @ dz) / pivot  # noqa: B023
            dz = dz + dtau * z_tau  # noqa: B023
            ds = -(target / z + s / z * dz)  # noqa: B023
            return dx + dtau * x_tau, dz, ds, dtau, -(scalar + kappa * dtau) / tau  # noqa: B023

        _, dz, ds, dtau, dkappa = direction(1.0, s * z, kappa * tau)
        reach = _longest(np.append(s, [tau, kappa]), np.append(ds, [dtau, dkappa]), z, dz)
        centring = min(max((1.0 - reach) ** 3, _LEAST_CENTRING), 1.0)
        dx, dz, ds, dtau, dkappa = direction(
            1.0 - centring,
            s * z + ds * dz - centring * mu,
            kappa * tau + dkappa * dtau - centring * mu,
        )
        step = _STEP_BACK * _longest(
            np.append(s, [tau, kappa]), np.append(ds, [dtau, dkappa]), z, dz
        )
        x, z, s = x + step * dx, z + step * dz, s + step * ds
        tau, kappa = tau + step * dtau, kappa + step * dkappa
    return np.clip(x / unit / tau, 0.0, 1.0)


def _scale(system: _System, bounds: np.ndarray) -> tuple[_System, np.ndarray, np.ndarray]:
    """Rows and columns divided by the root of their largest entry, three times.

    Returns:
        The scaled system, units of x (A,), scaled bounds.
    """
    diagonals, row = system
    unit, rows = np.ones(len(row)), np.ones(len(bounds))
    for _ in range(_SCALINGS):
        column = np.sqrt(np.maximum(np.abs(diagonals).max(axis=0), row))
        line, last = np.sqrt(np.abs(diagonals)), np.sqrt(row.max())
        diagonals, row = diagonals / line / column, row / last / column
        unit, rows = unit * column, rows * np.append(line, last)
    return _System(diagonals, row), unit, bounds / rows


def _inside(r: np.ndarray) -> np.ndarray:
    """`r` moved along (1, .., 1) until all of it is positive."""
    return r + 1.0 + max(-_STEP_BACK, float(-r.min()) if (r <= 0.0).any() else -_STEP_BACK)


def _longest(s: np.ndarray, ds: np.ndarray, z: np.ndarray, dz: np.ndarray) -> float:
    """The longest step up to 0.999 that keeps s and z from becoming negative."""
    shrink = max(float((-ds / s).max()), float((-dz / z).max()), 1e-13)
    return min(max(1.0 / shrink, 1e-6), _LONGEST_STEP)
