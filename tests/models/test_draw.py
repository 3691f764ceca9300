"""Drawing actions under a mask."""

from __future__ import annotations

import numpy as np

from marl_sched.models.draw import draw_categorical, draw_legal, epsilon_greedy

DRAWS = 10_000


def masks(rng: np.random.Generator) -> np.ndarray:
    mask = (rng.random((DRAWS, 12)) < 0.3).astype(np.int8)
    mask[np.arange(DRAWS), rng.integers(0, 12, DRAWS)] = 1
    return mask


def test_illegal_actions_are_never_drawn() -> None:
    rng = np.random.default_rng(0)
    mask = masks(rng)
    rows = np.arange(DRAWS)
    scores = rng.normal(size=mask.shape)
    logits = np.where(mask > 0, scores, -1e9).astype(np.float32)
    assert (mask[rows, draw_categorical(logits, rng)[0]] == 1).all()
    assert (mask[rows, draw_legal(mask, rng)] == 1).all()
    for epsilon in (0.0, 0.5, 1.0):
        assert (mask[rows, epsilon_greedy(scores, mask, epsilon, rng)] == 1).all()


def test_draws_follow_the_softmax() -> None:
    logits = np.tile(np.log([0.1, 0.2, 0.7]).astype(np.float32), (DRAWS, 1))
    actions, logp = draw_categorical(logits, np.random.default_rng(1))
    shares = np.bincount(actions, minlength=3) / DRAWS
    np.testing.assert_allclose(shares, [0.1, 0.2, 0.7], atol=0.015)
    np.testing.assert_allclose(logp, logits[0][actions], rtol=1e-5)


def test_legal_draws_are_uniform() -> None:
    mask = np.tile(np.array([0, 1, 0, 1, 1], np.int8), (DRAWS, 1))
    shares = np.bincount(draw_legal(mask, np.random.default_rng(2)), minlength=5) / DRAWS
    np.testing.assert_allclose(shares, [0, 1 / 3, 0, 1 / 3, 1 / 3], atol=0.015)


def test_epsilon_is_the_chance_of_a_random_action() -> None:
    mask = np.ones((DRAWS, 4), np.int8)
    q_values = np.tile(np.array([0.0, 3.0, 1.0, 2.0]), (DRAWS, 1))
    rng = np.random.default_rng(3)
    assert (epsilon_greedy(q_values, mask, 0.0, rng) == 1).all()
    share = np.mean(epsilon_greedy(q_values, mask, 0.4, rng) != 1)
    assert abs(share - 0.4 * 3 / 4) < 0.015
