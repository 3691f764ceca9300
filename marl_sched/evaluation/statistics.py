"""Bootstrap intervals over episodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """Mean with a 95 % interval over episodes."""

    mean: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        return {"mean": self.mean, "low": self.low, "high": self.high}


def resamples(episodes: int, overlap: float, seed: int) -> np.ndarray:
    """Bootstrap draws (RESAMPLES, m) of episode indices, m = episodes / overlap.

    Episodes that share jobs carry less evidence: as many are drawn as would be disjoint.
    """
    size = max(1, round(episodes / overlap))
    return np.random.default_rng(seed).integers(0, episodes, (RESAMPLES, size))


def bootstrap(values: np.ndarray, draws: np.ndarray) -> Interval:
    """Mean of `values` (E,) with its percentile bootstrap interval over `draws`."""
    means = values[draws].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(values.mean()), float(low), float(high))


def bootstrap_ratio(ours: np.ndarray, theirs: np.ndarray, draws: np.ndarray) -> Interval:
    """100 (sum ours / sum theirs - 1) over paired episodes (E,), with its interval."""
    ratios = 100.0 * (ours[draws].sum(axis=1) / theirs[draws].sum(axis=1) - 1.0)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return Interval(100.0 * float(ours.sum() / theirs.sum() - 1.0), float(low), float(high))


def percent_text(interval: dict[str, float]) -> str:
    """An `Interval.as_dict` in percent, as reports show it: mean [low, high]."""
    return f"{interval['mean']:+.1f} [{interval['low']:+.1f}, {interval['high']:+.1f}]"
