"""Intervals: how often they hold the truth, and what they must not depend on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marl_sched.evaluation.statistics import (
    LEAST_WINDOWS,
    Evidence,
    Interval,
    doubt,
    interval_notes,
    mean_interval,
    percent_interval,
    percent_text,
    ratio_interval,
)


def ends(interval: Interval) -> tuple[float, float, float]:
    """Low, mean and high of an interval that there is."""
    assert interval.low is not None and interval.mean is not None and interval.high is not None
    return interval.low, interval.mean, interval.high


def held(intervals: list[Interval], truth: float) -> float:
    found = [ends(one) for one in intervals]
    return float(np.mean([low <= truth <= high for low, _, high in found]))


def width(interval: Interval) -> float:
    low, _, high = ends(interval)
    return high - low


# Coverage. 600 trials of 95 %: a standard error of 0.9 points; the margins are four of them.


def test_an_interval_holds_its_mean_and_shrinks_with_evidence() -> None:
    values = np.random.default_rng(0).lognormal(0, 1, 400)
    few = mean_interval(values[:25], Evidence.apart(25))
    many = mean_interval(values, Evidence.apart(400))
    for interval, sample in ((few, values[:25]), (many, values)):
        low, mean, high = ends(interval)
        assert low < mean < high and mean == pytest.approx(sample.mean())
    # Sixteen times the episodes: a quarter of the width, roughly.
    assert 2.0 < width(few) / width(many) < 8.0


@pytest.mark.parametrize("count", [3, 5, 20])
@pytest.mark.parametrize("sigma", [0.2, 0.6])
def test_a_scheduler_against_itself_is_told_apart_one_time_in_twenty(
    count: int, sigma: float
) -> None:
    """A-A, on windows of very different size. A percentile bootstrap holds the truth in fewer than
    0.8 of cases with 5 windows or 3."""
    rng, found = np.random.default_rng(count), []
    for _ in range(600):
        jobs = rng.lognormal(0, 1, count)  # what both have in common
        ours, theirs = jobs * rng.lognormal(0, sigma, (2, count))
        found.append(ratio_interval(ours, theirs, Evidence.apart(count)))
    assert 0.915 <= held(found, 1.0) <= 0.985


def test_draws_of_the_same_jobs_are_no_new_windows() -> None:
    """Two levels: what windows of jobs do to a pair, and what draws add. Four windows played 10
    times are no 40 episodes: taken as such, intervals hold the truth in a third of cases."""
    rng, counted, taken_apart = np.random.default_rng(1), [], []
    window = np.tile(np.arange(4), 10)
    for _ in range(600):
        ours = rng.lognormal(0, 0.3, 4)[window] * rng.lognormal(0, 0.1, 40)
        theirs = np.ones(40)
        truth = np.exp((0.3**2 + 0.1**2) / 2)
        counted.append(ratio_interval(ours, theirs, Evidence(window)))
        taken_apart.append(ratio_interval(ours, theirs, Evidence.apart(40)))
    assert 0.915 <= held(counted, truth) <= 0.985
    assert held(taken_apart, truth) < 0.6


def test_windows_that_overlap_count_for_less() -> None:
    """Sums of 8 out of 40 independent values, in 33 windows that are worth 5."""
    rng, counted, taken_apart = np.random.default_rng(2), [], []
    rows = np.arange(33)[:, None] + np.arange(8)
    evidence = Evidence(np.arange(33), 33 * 8 / 40)
    for _ in range(600):
        values = rng.exponential(1.0, 40)[rows].mean(axis=1)
        counted.append(mean_interval(values, evidence))
        taken_apart.append(mean_interval(values, Evidence.apart(33)))
    assert 0.915 <= held(counted, 1.0) <= 0.985
    assert held(taken_apart, 1.0) < 0.8


def test_rare_events_are_held_where_enough_windows_were_played_and_told_where_not() -> None:
    """One window in 20 is 10 times as long. 60 windows have three of these; 20 have none in a
    third of all cases, and nothing that was seen can then say so."""
    rng = np.random.default_rng(3)

    def found(count: int) -> list[Interval]:
        ours = np.where(rng.random((600, count)) < 0.05, 10.0, rng.lognormal(0, 0.05, (600, count)))
        return [ratio_interval(one, np.ones(count), Evidence.apart(count)) for one in ours]

    truth = 0.05 * 10.0 + 0.95 * np.exp(0.05**2 / 2)
    many, some = found(100), found(20)
    assert 0.92 <= held(many, truth) <= 0.99
    assert held(some, truth) < 0.85
    once = [one for one in some if ends(one)[2] > 1.4]
    assert np.mean([one.rare for one in once]) > 0.4
    plain = rng.lognormal(0, 0.3, (300, 20))
    assert np.mean([mean_interval(one, Evidence.apart(20)).rare for one in plain]) < 0.05


# Properties


values = st.lists(st.floats(0.1, 100.0), min_size=LEAST_WINDOWS, max_size=12)


@given(values, st.floats(0.01, 1000.0))
def test_neither_unit_nor_order_matter(data: list[float], unit: float) -> None:
    ours = np.array(data)
    theirs = np.random.default_rng(len(data)).lognormal(0, 0.5, len(data))
    evidence = Evidence.apart(len(data))
    plain, scaled = ends(mean_interval(ours, evidence)), ends(mean_interval(unit * ours, evidence))
    assert scaled == pytest.approx([unit * end for end in plain], rel=1e-6)
    assert plain[0] <= plain[1] * (1 + 1e-12) and plain[1] <= plain[2] * (1 + 1e-12)
    there = ends(ratio_interval(ours, theirs, evidence))
    back = ends(ratio_interval(theirs, ours, evidence))
    # Who is divided by whom does not matter either.
    assert there == pytest.approx([1 / end for end in reversed(back)], rel=1e-6)
    order = np.random.default_rng(0).permutation(len(data))
    again = ends(ratio_interval(ours[order], theirs[order], evidence))
    assert again == pytest.approx(there, rel=1e-6)


@given(values)
def test_draws_that_change_nothing_change_no_interval(data: list[float]) -> None:
    once, count = np.array(data), len(data)
    thrice = mean_interval(np.tile(once, 3), Evidence(np.tile(np.arange(count), 3)))
    single = mean_interval(once, Evidence.apart(count))
    assert (thrice.mean, thrice.low, thrice.high) == pytest.approx(
        (single.mean, single.low, single.high), rel=1e-6
    )


def test_shared_jobs_widen_an_interval() -> None:
    normal = np.random.default_rng(2).normal(size=64)
    apart = mean_interval(normal, Evidence.apart(64))
    shared = mean_interval(normal, Evidence(np.arange(64), 4.0))
    # Evidence of a quarter of the episodes: twice the width, and a little for what it leaves open.
    assert shared.mean == apart.mean
    assert 2.0 < width(shared) / width(apart) < 2.5


def test_pairing_cancels_what_schedulers_share() -> None:
    theirs = np.random.default_rng(3).lognormal(8, 2, 30)
    exact = percent_interval(0.9 * theirs, theirs, Evidence.apart(30))
    assert exact.as_dict() == pytest.approx({"mean": -10.0, "low": -10.0, "high": -10.0})


def test_equal_episodes_leave_no_doubt() -> None:
    interval = mean_interval(np.full(7, 3.0), Evidence.apart(7))
    assert (interval.low, interval.mean, interval.high) == (3.0, 3.0, 3.0)
    assert mean_interval(np.zeros(7), Evidence.apart(7)).as_dict() == dict.fromkeys(
        ("mean", "low", "high"), 0.0
    )


def test_by_hand() -> None:
    """Symmetric values: a plain Student interval, 4.303 standard errors with 3 windows."""
    found = mean_interval(np.array([-1.0, 0.0, 1.0]), Evidence.apart(3))
    half = 4.302653 * (1.0 / 3) ** 0.5
    assert (found.low, found.high) == pytest.approx((-half, half), rel=1e-5)


# Too little evidence


@pytest.mark.parametrize(
    "evidence",
    [
        Evidence.apart(1),
        Evidence.apart(2),
        Evidence(np.zeros(12, int)),  # one window in 12 draws
        Evidence(np.arange(12), 6.0),
    ],
)
def test_there_is_no_interval_of_fewer_than_three_windows(evidence: Evidence) -> None:
    count = len(evidence.window)
    data = np.arange(1.0, count + 1)
    for found in (mean_interval(data, evidence), ratio_interval(data, data[::-1], evidence)):
        assert found.mean is not None and found.low is None and found.high is None
    percent = percent_interval(data, data + 1, evidence).as_dict()
    assert doubt(percent) and percent_text(percent).endswith(" [-]")


def test_what_is_not_defined_has_no_figure() -> None:
    found = mean_interval(np.array([1.0, np.nan, 2.0, 3.0]), Evidence.apart(4))
    assert found.as_dict() == {"mean": None, "low": None, "high": None}
    assert doubt(found.as_dict()) and percent_text(found.as_dict()) == "-"


def test_of_some_sequences_only_theirs_count() -> None:
    evidence = Evidence(np.tile(np.arange(10), 3), 1.0)
    some = evidence.take([0, 10, 20, 25])
    assert some.windows == 2 and some.disjoint == 2.0  # window 0 three times, and window 5
    shared = Evidence(np.arange(20), 5.0).take([0, 5, 10, 15])
    assert shared.disjoint == 4.0


def test_the_standard_error_is_that_of_the_mean() -> None:
    data = np.array([-3.0, 2.0, -3.0, 2.0])
    assert Evidence.apart(4).standard_error(data) == pytest.approx(data.std(ddof=1) / 2.0)
    assert Evidence.apart(1).standard_error(data[:1]) == 0.0


def test_reports_of_earlier_releases_can_be_read() -> None:
    notes = interval_notes({"episodes": 100, "overlap": 4.0, "best_classic": "srtf"})
    assert notes[0] == "100 paired episodes" and "bootstrap of an earlier release" in notes[1]
