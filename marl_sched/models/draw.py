"""Drawing actions under a mask; plain numpy.

Masks are (B, M) with positive = legal and at least one legal action in each row.
"""

from __future__ import annotations

import numpy as np


def draw_categorical(logits: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Actions (B,) int64 drawn from softmax of logits (B, M), and their log-probabilities.

    One uniform number per row is looked up among the cumulated probabilities.
    """
    shifted = logits - logits.max(axis=-1, keepdims=True)
    reached = np.cumsum(np.exp(shifted), axis=-1, dtype=np.float64)
    total = reached[:, -1]
    # Below the total, whatever rounding does: an action without probability is never drawn.
    drawn = np.minimum(rng.random(len(total)) * total, np.nextafter(total, 0.0))
    actions = (reached <= drawn[:, None]).sum(axis=-1)
    logp = shifted[np.arange(len(total)), actions] - np.log(total)
    return actions, logp.astype(np.float32)


def draw_legal(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(B,) int64, uniform over the legal actions of each row."""
    keys = np.where(mask > 0, rng.random(mask.shape), -1.0)
    return np.argmax(keys, axis=-1).astype(np.int64)


def epsilon_greedy(
    q_values: np.ndarray, mask: np.ndarray, epsilon: float, rng: np.random.Generator
) -> np.ndarray:
    """(B,) int64: the best legal action, or with chance `epsilon` any legal one.

    Both draws are made every time, so that the stream of random numbers does not depend on
    what they decide.
    """
    greedy = np.argmax(np.where(mask > 0, q_values, -np.inf), axis=-1).astype(np.int64)
    explore = rng.random(len(greedy)) < epsilon
    return np.where(explore, draw_legal(mask, rng), greedy)
