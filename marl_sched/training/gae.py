"""Generalised advantage estimation over arrays of environment rows."""

from __future__ import annotations

import numpy as np


def discounts(dt_s: np.ndarray, dones: np.ndarray, gamma: float, per_h: float = 0.0) -> np.ndarray:
    """(T, *rows) float64: gamma exp(-per_h dt), 1 within an instant, 0 at the end of an episode.

    Sub-steps of one decision epoch take no time, so that they must not be discounted. With
    gamma 1 this is the discount of a semi-Markov decision process in continuous time.
    Source: Bradtke and Duff, Reinforcement learning methods for continuous-time Markov decision
    problems, NIPS 1994.

    Args:
        dt_s: (T, *rows) seconds that each step took.
        dones: (T, *rows) bool.
        gamma: for each step that took time, in [0, 1].
        per_h: rate of discounting, per hour.
    """
    passed = np.where(dt_s > 0, gamma, 1.0) * np.exp(-per_h / 3600.0 * dt_s)
    return np.where(dones, 0.0, passed)


def advantages(
    rewards: np.ndarray,
    values: np.ndarray,
    discount: np.ndarray,
    lambda_: float,
    valid: np.ndarray | None = None,
) -> np.ndarray:
    """Advantage of each decision against the value function.

    delta_t = r_t + d_t V_{t+1} - V_t ;  A_t = delta_t + d_t lambda A_{t+1}
    Source: Schulman et al., High-dimensional continuous control using GAE, ICLR 2016.
    Where a row is not `valid` it took no decision: its reward and discount are handed to the
    row's last decision before, as semi-Markov steps are.

    Args:
        rewards: (T, *rows) float64.
        values: (T+1, *rows), the last one to bootstrap from.
        discount: (T, *rows), as of `discounts`.
        lambda_: in [0, 1].
        valid: (T, *rows) bool, or None where all are.

    Returns:
        (T, *rows) float64, 0 where not valid.
    """
    out = np.zeros(rewards.shape, dtype=np.float64)
    after = np.zeros(rewards.shape[1:])  # A of the next decision
    next_value = values[-1].astype(np.float64)
    reward = np.zeros_like(after)  # collected since the decision before
    factor = np.ones_like(after)
    for t in range(len(rewards) - 1, -1, -1):
        reward = rewards[t] + discount[t] * reward
        factor = discount[t] * factor
        decided = valid[t] if valid is not None else np.ones(after.shape, dtype=bool)
        advantage = reward + factor * next_value - values[t] + factor * lambda_ * after
        out[t] = np.where(decided, advantage, 0.0)
        after = np.where(decided, advantage, after)
        next_value = np.where(decided, values[t], next_value)
        reward = np.where(decided, 0.0, reward)
        factor = np.where(decided, 1.0, factor)
    return out
