"""Drawing actions under a mask.

Masks are (B, M) with positive = legal and at least one legal action in each row.
"""

from __future__ import annotations

import numpy as np

from marl_sched.compiled.jit import kernel


def draw_categorical(logits: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Actions (B,) int64 drawn from softmax of logits (B, M), and their log-probabilities."""
    return look_up(logits, rng.random(len(logits)))


@kernel
def look_up(logits: np.ndarray, uniform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The actions at cumulated probabilities `uniform` (B,) in [0, 1), and their log-probabilities.

    One without probability is never taken, whatever rounding does.
    """
    actions = np.zeros(logits.shape[0], np.int64)
    logp = np.empty(logits.shape[0], np.float32)
    chance = np.empty(logits.shape[1])
    for b in range(logits.shape[0]):
        highest = logits[b].max()
        total = 0.0
        for a in range(logits.shape[1]):
            chance[a] = np.exp(np.float64(logits[b, a] - highest))
            total += chance[a]
        left = uniform[b] * total
        for a in range(logits.shape[1]):
            if chance[a] > 0.0:
                actions[b] = a
                left -= chance[a]
                if left < 0.0:
                    break
        logp[b] = logits[b, actions[b]] - highest - np.log(total)
    return actions, logp


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
