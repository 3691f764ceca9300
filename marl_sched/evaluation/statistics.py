"""95 % intervals over sequences of jobs.

What an interval is about: the figure that sequences of the same kind would give on average, with
other jobs of the same workload and with other draws of what a seed decides (models, elasticity,
errors of estimates, failures). Sequences of the same jobs under other draws are one window, and
windows are what is counted: the draws of a window are averaged, and its jobs are one piece of
evidence, however often they are played.

The method, for the logarithm of a ratio of sums (of a mean, where it is positive): a Student
interval from the windows left out in turn (the jackknife), with the degrees of freedom that their
weights leave, and Hall's interval, which corrects for skewness (Hall, J. R. Stat. Soc. B 54, 1992);
the wider end of both counts. It draws nothing at random. `benchmarks/interval_coverage.py` measures
how often it holds the truth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.stats import t as student

LEAST_WINDOWS = 3
"""Windows without common jobs below which no interval is given: jobs vary, and two say nothing
of how much."""

RARE, FEW = 0.6, 8
"""Share of the spread of all windows beyond which a single one decides a figure: of `FEW` windows
or more, of ordinary differences hardly any has it."""

SOME = 10
"""Windows below which reports warn: near-equal schedulers differ in few of them."""

METHOD = "95 %, jackknife over windows and Student's t, widened for skewness"


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval, which is None where there is too little evidence."""

    mean: float | None
    """None where the figure is not defined in some sequence."""
    low: float | None
    high: float | None
    rare: bool = False
    """Whether a single window makes most of the spread: rare events decide, and few were seen."""

    def as_dict(self) -> dict[str, float | None]:
        return {"mean": self.mean, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Evidence:
    """Which of E sequences tell something new."""

    window: np.ndarray
    """(E,) int64 in [0, W); sequences of the same jobs under other draws share a number."""
    overlap: float = 1.0
    """How many windows a job is in, on average."""

    @classmethod
    def apart(cls, episodes: int) -> Evidence:
        """Of sequences that share nothing."""
        return cls(np.arange(episodes))

    @property
    def windows(self) -> int:
        """W."""
        return int(self.window.max()) + 1

    @property
    def disjoint(self) -> float:
        """As many windows without common jobs would say as much."""
        return self.windows / self.overlap

    @property
    def enough(self) -> bool:
        """Whether intervals are given."""
        return self.disjoint >= LEAST_WINDOWS

    def take(self, chosen: list[int]) -> Evidence:
        """Of some of the sequences; fewer windows share fewer jobs."""
        _, window = np.unique(self.window[chosen], return_inverse=True)
        share = (int(window.max()) + 1) / self.windows
        return Evidence(window, max(1.0, self.overlap * share))

    def sums(self, values: np.ndarray) -> np.ndarray:
        """(W,) sums over the sequences (E,) of each window."""
        return np.bincount(self.window, weights=values, minlength=self.windows)

    def standard_error(self, values: np.ndarray) -> float:
        """Of the mean of `values` (E,); 0 of a single one, of which nothing more is known.

        Windows that overlap count as two without common jobs at the least.
        """
        if len(values) < 2:
            return 0.0
        parts = self.sums(values - values.mean()) * (self.windows / len(values))
        return float(parts.std()) / (max(self.disjoint, 2.0) - 1.0) ** 0.5


def mean_interval(values: np.ndarray, evidence: Evidence) -> Interval:
    """The mean of `values` (E,); on the scale of logarithms where none is negative."""
    if not np.isfinite(values).all():
        return Interval(None, None, None)
    mean = float(values.mean())
    if mean > 0.0 and (values >= 0.0).all():
        return _scaled(mean, values, np.ones(len(values)), evidence)
    parts = evidence.sums(values - mean) / len(values)
    low, high = _offsets(parts, evidence, len(parts))
    return _interval(mean, mean - high, mean - low, parts, evidence)


def ratio_interval(ours: np.ndarray, theirs: np.ndarray, evidence: Evidence) -> Interval:
    """sum ours / sum theirs over paired sequences (E,) of figures above 0."""
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return Interval(None, None, None)
    return _scaled(float(ours.sum() / theirs.sum()), ours, theirs, evidence)


def _scaled(ratio: float, ours: np.ndarray, theirs: np.ndarray, evidence: Evidence) -> Interval:
    """The interval of `ratio`, sum ours / sum theirs, on the scale of logarithms."""
    our, their = evidence.sums(ours) / ours.sum(), evidence.sums(theirs) / theirs.sum()
    parts = _jackknife(our, their)
    weight = (our + their) / 2.0
    low, high = _offsets(parts, evidence, 1.0 / float(weight @ weight))
    return _interval(ratio, ratio * np.exp(-high), ratio * np.exp(-low), parts, evidence)


def _jackknife(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """(W,) what each window moves the log ratio by, found by leaving it out.

    Where some windows weigh much more than others that tells more of the error than the
    derivative, which stands in where a window has all there is.

    Args:
        ours: (W,) shares of a sum.
        theirs: likewise.
    """
    windows = len(ours)
    if np.abs(ours - theirs).max() < _NOTHING:  # they did the same, but for rounding
        return np.zeros(windows)
    if windows == 1 or max(ours.max(), theirs.max()) > 1.0 - _NOTHING:
        return ours - theirs
    without = np.log1p(-ours) - np.log1p(-theirs)
    return np.asarray((without.mean() - without) * (windows - 1) / windows)


_NOTHING = 1e-12


def percent_interval(ours: np.ndarray, theirs: np.ndarray, evidence: Evidence) -> Interval:
    """100 (sum ours / sum theirs - 1), see `ratio_interval`."""
    found = ratio_interval(ours, theirs, evidence)
    mean, low, high = (
        None if end is None else 100.0 * (end - 1.0) for end in (found.mean, found.low, found.high)
    )
    return Interval(mean, low, high, found.rare)


def _interval(
    mean: float, low: float, high: float, parts: np.ndarray, evidence: Evidence
) -> Interval:
    if not evidence.enough:
        return Interval(mean, None, None)
    spread = parts**2
    rare = bool(spread.max() > RARE * spread.sum() and len(parts) >= FEW)
    return Interval(mean, float(low), float(high), rare)


@lru_cache(maxsize=1024)
def _limit(freedom: float) -> float:
    """What a Student variate stays below in size, 19 times in 20."""
    return float(student.ppf(0.975, freedom))


def _offsets(parts: np.ndarray, evidence: Evidence, alike: float) -> tuple[float, float]:
    """Ends of the interval of (estimate - truth) of a sum of W contributions.

    With T = (estimate - truth) / standard error and k = skewness / sqrt(W), Hall's
    T + k T^2 / 3 + k^2 T^3 / 27 + k / 6 is closer to the t distribution than T.

    Args:
        parts: (W,) contributions, which sum to 0.
        alike: how many windows of the same weight would weigh as evenly, at most W: a few that have
            most of the jobs' time leave fewer degrees of freedom.
    """
    spread = float(parts.std())
    if spread == 0.0 or not evidence.enough:
        return 0.0, 0.0
    count = evidence.disjoint
    error = spread * len(parts) / (count - 1.0) ** 0.5
    limit = _limit(max(count * alike / len(parts) - 1.0, 1.0))
    k = float((parts**3).mean()) / spread**3 / count**0.5

    def hall(y: float) -> float:
        return y if abs(k) < 1e-6 else 3.0 / k * (float(np.cbrt(1.0 + k * (y - k / 6.0))) - 1.0)

    return error * min(-limit, hall(-limit)), error * max(limit, hall(limit))


def doubt(interval: Mapping[str, Any]) -> bool:
    """Whether an `Interval.as_dict` of differences leaves open which is lower: it holds 0, or there
    is none."""
    low, high = interval["low"], interval["high"]
    return low is None or high is None or bool(low <= 0.0 <= high)


def percent_text(interval: Mapping[str, Any], digits: int = 1) -> str:
    """An `Interval.as_dict` in percent, as reports show it: mean [low, high], or mean [-]."""
    mean, low, high = interval["mean"], interval["low"], interval["high"]
    if mean is None:
        return "-"
    if low is None or high is None:
        return f"{mean:+.{digits}f} [-]"
    return f"{mean:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def interval_notes(report: Mapping[str, Any]) -> list[str]:
    """What a reader of a comparison's intervals has to know, a clause each.

    Args:
        report: of `compare.compare`; one made by an earlier release says less.
    """
    episodes, asked = report["episodes"], report.get("episodes_asked", report["episodes"])
    about = report.get("interval")
    if about is None:
        return [f"{episodes} paired episodes", "intervals: 95 % bootstrap of an earlier release"]
    notes = [f"{episodes} paired episodes" + (f" of {asked} asked for" if asked > episodes else "")]
    draws, windows = about.get("draws") or 1, about["windows"]
    if draws > 1 and windows < episodes:
        notes[0] += f": {windows} windows of jobs in {draws} draws"
    if report["overlap"] > 1.0:
        notes.append(f"each job is in {report['overlap']:.1f} windows on average")
    if about["none_because"] is not None:
        return [*notes, f"no intervals: {about['none_because']}"]
    notes.append(f"intervals: {about['method']}, about {about['about']}")
    if about["disjoint_windows"] < SOME:
        notes.append(
            f"of fewer than {SOME} windows, those of schedulers that do nearly the same hold the "
            "truth less often than 95 %"
        )
    hang = about["hangs_on_one_window"].get(report["best_classic"], [])
    if hang:
        notes.append(
            f"rare events decide for {', '.join(hang)}: most of the spread is one window's, and "
            "such intervals hold the truth less often than 95 %; take more --episodes, or a "
            "longer trace"
        )
    return notes
