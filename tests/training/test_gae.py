"""Advantages by hand, and against the plain definition."""

from __future__ import annotations

import numpy as np

from marl_sched.training.gae import advantages, discounts


def column(*values: float) -> np.ndarray:
    return np.array(values, float)[:, None]


def test_by_hand() -> None:
    # gamma 0.5, lambda 0.5; the third step ends the episode, the bootstrap is 8.
    rewards, values = column(1, 2, 3, 4), column(1, 1, 2, 2, 8)
    discount = discounts(column(9, 0, 9, 9), np.array([[0], [0], [1], [0]], bool), 0.5)
    np.testing.assert_array_equal(discount, column(0.5, 1.0, 0.0, 0.5))
    # delta: 1 + 0.5*1 - 1 = 0.5 ; 2 + 2 - 1 = 3 ; 3 - 2 = 1 ; 4 + 0.5*8 - 2 = 6
    # A_3 = 6 ; A_2 = 1 ; A_1 = 3 + 1*0.5*1 = 3.5 ; A_0 = 0.5 + 0.5*0.5*3.5 = 1.375
    got = advantages(rewards, values, discount, 0.5)
    np.testing.assert_allclose(got, column(1.375, 3.5, 1, 6))


def test_time_is_discounted_exactly_and_sub_steps_not_at_all() -> None:
    dt_s, dones = column(0, 1e-6, 1800, 36000, 0), np.array([[0], [0], [0], [0], [1]], bool)
    got = discounts(dt_s, dones, 1.0, per_h=0.5)
    np.testing.assert_allclose(got, column(1, 1, np.exp(-0.25), np.exp(-5), 0), rtol=1e-9)
    assert got[0] == 1.0
    np.testing.assert_allclose(discounts(dt_s, dones, 0.5, 0.5)[2], 0.5 * np.exp(-0.25))
    # Without an estimate of values the advantage is the discounted return.
    reward = advantages(column(0, 0, 0, 0, 8), np.zeros((6, 1)), got, 1.0)
    np.testing.assert_allclose(reward[0], 8 * np.exp(-0.25 - 5), rtol=1e-6)


def test_lambda_one_is_return_minus_value_in_any_rows() -> None:
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(20, 3, 2)), rng.normal(size=(21, 3, 2))
    dones = rng.random((20, 3, 2)) < 0.2
    discount = discounts(rng.integers(0, 2, (20, 3, 2)), dones, 0.9)
    following = values[-1]
    expected = np.empty_like(rewards)
    for t in reversed(range(20)):
        following = rewards[t] + discount[t] * following
        expected[t] = following - values[t]
    np.testing.assert_allclose(advantages(rewards, values, discount, 1.0), expected)


def test_rows_without_decision_pass_reward_and_discount_on() -> None:
    # The same as one step of reward 1 + 0.5*2 = 2 and discount 0.25, then one of 3.
    rewards, values = column(1, 2, 3), column(1, 99, 2, 8)
    discount = np.full((3, 1), 0.5)
    valid = np.array([[1], [0], [1]], bool)
    last = 3 + 0.5 * 8 - 2
    first = 2 + 0.25 * 2 - 1 + 0.25 * 0.9 * last
    got = advantages(rewards, values, discount, 0.9, valid)
    np.testing.assert_allclose(got, column(first, 0, last))
