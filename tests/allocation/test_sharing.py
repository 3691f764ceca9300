"""Equal, on demand, by priority."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marl_sched.allocation.feasibility import Infeasible
from marl_sched.allocation.sharing import by_priority, equal_split, on_demand
from marl_sched.errors import UserError


def test_two_agents_asking_two_and_one_of_three_gpus() -> None:
    demands = [2, 1]
    with pytest.raises(Infeasible, match=r"3 GPUs among 2 agents is 1\.5 each"):
        equal_split(demands, 3)
    np.testing.assert_array_equal(equal_split(demands, 3, fractional=True), [1.5, 1.5])
    np.testing.assert_array_equal(on_demand(demands, 3), [2, 1])


def test_equal_split_is_the_same_for_all_who_ask() -> None:
    np.testing.assert_array_equal(equal_split([4, 0, 1], 6), [3, 0, 3])
    np.testing.assert_array_equal(equal_split([4, 1], 6, maximum=[4, 1]), [3, 1])
    np.testing.assert_array_equal(equal_split([], 6), [])
    np.testing.assert_array_equal(equal_split([0, 0], 6), [0, 0])


def test_on_demand_serves_in_order_and_later_ones_that_still_fit() -> None:
    np.testing.assert_array_equal(on_demand([2, 4, 1], 5), [2, 0, 1])
    np.testing.assert_array_equal(on_demand([0.1] * 10, 1, fractional=True), [0.1] * 10)


def test_priority_goes_first_and_ties_keep_their_order() -> None:
    np.testing.assert_array_equal(by_priority([2, 4, 1], [0, 9, 0], 5), [0, 4, 1])
    np.testing.assert_array_equal(by_priority([3, 3, 3], [1, 1, 1], 6), [3, 3, 0])


@pytest.mark.parametrize(
    ("demands", "capacity"),
    [([-1], 3), ([float("nan")], 3), ([1.5], 3), ([1], 2.5), ([1], float("inf")), ([[1]], 3)],
)
def test_bad_input_is_named(demands: list[float], capacity: float) -> None:
    for rule in (equal_split, on_demand):
        with pytest.raises(UserError, match="demands|capacity"):
            rule(demands, capacity)


def test_priorities_must_match() -> None:
    with pytest.raises(UserError, match="2 numbers"):
        by_priority([1, 1], [1], 3)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 3)), max_size=12), st.integers(0, 40))
def test_every_rule_keeps_the_constraints(pairs: list[tuple[int, int]], capacity: int) -> None:
    demands = np.array([pair[0] for pair in pairs], dtype=float)
    priorities = [pair[1] for pair in pairs]
    answers = [
        on_demand(demands, capacity),
        by_priority(demands, priorities, capacity),
        equal_split(demands, capacity, fractional=True, maximum=demands),
    ]
    for answer in answers:
        assert (answer >= 0).all()
        assert (answer <= demands).all()
        assert answer.sum() <= capacity + 1e-9


@given(st.lists(st.integers(1, 8), min_size=1, max_size=8))
def test_enough_for_all_gives_all(demands: list[int]) -> None:
    np.testing.assert_array_equal(on_demand(demands, sum(demands)), demands)
    np.testing.assert_array_equal(by_priority(demands, demands, sum(demands)), demands)
