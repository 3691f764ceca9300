"""The non-dominated set, and the picture of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from marl_sched.tuning.tradeoff import Axis, costs_of, draw, non_dominated

X, Y = Axis("x", "x"), Axis("y", "y", 100.0, higher_is_better=True)


def test_keeps_whoever_nobody_beats() -> None:
    costs = np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 3.0], [2.0, 2.0], [1.0, 4.0]])
    assert non_dominated(costs).tolist() == [True, True, False, True, False]


def test_higher_is_better_is_turned() -> None:
    table = [{"x": 1.0, "y": 0.5}, {"x": 1.0, "y": 0.6}]
    assert non_dominated(costs_of(table, (X, Y))).tolist() == [False, True]


@given(hnp.arrays(float, hnp.array_shapes(min_dims=2, max_dims=2), elements=st.floats(0, 9)))
def test_somebody_is_left_and_beats_the_rest(costs: np.ndarray) -> None:
    kept = non_dominated(costs)
    assert kept.any()
    for row in costs[~kept]:
        assert ((costs[kept] <= row).all(axis=1) & (costs[kept] < row).any(axis=1)).any()


def test_draws_equal_points_and_far_ones(tmp_path: Path) -> None:
    table = [
        {"name": f"s{i}", "kind": "trained" if i < 2 else "classic", "x": x, "y": y}
        for i, (x, y) in enumerate([(1.0, 0.5), (1.0, 0.5), (1.1, 0.6), (9.0, 0.1)])
    ]
    path = tmp_path / "picture.png"
    draw(table, [(X, Y), (X, Y)], path, "title")
    assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 20_000
    assert [p.name for p in tmp_path.iterdir()] == ["picture.png"]
