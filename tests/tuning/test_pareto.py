"""Costs against the base, hypervolume, and what a preference chooses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from marl_sched.errors import UserError
from marl_sched.tuning.judge import parse_preference
from marl_sched.tuning.pareto import hypervolumes, mark_front, preferred, relative_costs
from marl_sched.tuning.tradeoff import hypervolume

TERMS = ("completion_time", "utilisation", "deadline")


def row(name: str, jct: float, useful: float, kind: str = "trained", **more: Any) -> dict[str, Any]:
    figures = {"avg_jct_s": jct, "gpu_useful_fraction": useful, "deadline_missed_fraction": 0.0}
    valid = {f"valid_{metric}": value for metric, value in figures.items()}
    return {"name": name, "kind": kind, "state": "done", **figures, **valid, **more}


BASE = row("base", 100.0, 0.5, "classic")


def test_hypervolume_of_boxes_by_hand() -> None:
    reference = np.array([4.0, 4.0])
    assert hypervolume(np.array([[1.0, 3.0], [2.0, 1.0], [3.0, 3.5]]), reference) == 7.0
    assert hypervolume(np.array([[5.0, 0.0]]), reference) == 0.0
    assert hypervolume(np.zeros((2, 5)), np.full(5, 2.0)) == 32.0


def test_hypervolume_against_sampling() -> None:
    rng = np.random.default_rng(0)
    costs, points = rng.random((7, 4)), rng.random((10_000, 4))
    covered = np.mean([(costs <= point).all(axis=1).any() for point in points])
    assert hypervolume(costs, np.ones(4)) == pytest.approx(covered, abs=0.02)


def test_costs_are_shares_of_the_bases_and_lower_is_better() -> None:
    costs, used = relative_costs([row("a", 50.0, 0.75), BASE], BASE, TERMS)
    assert used == ["completion_time", "utilisation"]  # nobody misses a deadline
    assert costs.tolist() == [[0.5, 0.5], [1.0, 1.0]]
    found = hypervolumes([row("a", 50.0, 0.75, seed=3), BASE], BASE, TERMS)
    assert [(one["set"], one["seed"]) for one in found] == [("grid", 3), ("classic", None)]
    assert [one["hypervolume"] for one in found] == [pytest.approx(4.0), pytest.approx(1.0)]


def test_a_preference_chooses_by_validation_and_never_a_failed_trial() -> None:
    rows = [
        row("fast", 50.0, 0.5),
        row("useful", 90.0, 0.9),
        row("both", 60.0, 0.85),
        row("broken", float("nan"), float("nan"), state="failed"),
    ]
    mark_front(rows, TERMS)
    assert [one["non_dominated"] for one in rows] == [True, True, True, False]

    def first(**preference: float) -> str:
        return str(preferred(rows, BASE, preference, TERMS)[0][1]["name"])

    assert first(completion_time=1.0) == "fast"
    assert first(utilisation=1.0) == "useful"
    assert first(completion_time=0.5, utilisation=0.5) == "both"
    with pytest.raises(UserError, match="does not weigh slowdown"):
        preferred(rows, BASE, {"slowdown": 1.0}, TERMS)
    # 0.5 x 60 / 100 + 0.5 x 0.15 / 0.5; a cost that the base does not have counts for nobody.
    wanted = {"completion_time": 0.5, "utilisation": 0.5, "deadline": 0.0}
    assert preferred(rows, BASE, wanted, TERMS)[0][0] == pytest.approx(0.45)
    rows[0]["avg_jct_s"], rows[1]["valid_avg_jct_s"] = 1e6, 1.0
    assert first(completion_time=1.0) == "useful"


def test_preferences_are_read_and_scaled() -> None:
    assert parse_preference("fairness=1,jct=3") == {"fairness": 0.25, "completion_time": 0.75}
    for text in ("speed=1", "jct", "jct=-1", "jct=0", "jct=nan"):
        with pytest.raises(UserError, match="--prefer"):
            parse_preference(text)
