"""Conditions that a training episode draws at random: load, restart costs, noise of estimates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from marl_sched.config import Config, RewardWeights


@dataclass(frozen=True)
class Conditions:
    """What jobs meet in one episode."""

    stretch: float
    """Factor of the gaps between arrivals."""
    restart_scale: float
    """Factor of the configured restart costs."""
    estimate_noise: float
    """Sigma of the log-normal factor on the sizes that schedulers see."""


def draw_weights(config: Config, rng: np.random.Generator) -> np.ndarray:
    """(7,) float64 reward weights of a training episode, on the simplex of `env.train_weights`.

    Dirichlet(1/2): denser near the corners than evenly, as objectives differ most there.
    """
    terms = list(RewardWeights.model_fields)
    drawn = np.zeros(len(terms))
    named = [terms.index(term) for term in config.env.train_weights]
    drawn[named] = rng.dirichlet(np.full(len(named), 0.5))
    return drawn


def draw_conditions(
    config: Config, load: float, home: float | None, rng: np.random.Generator
) -> Conditions:
    """Conditions as `env.train_load`, `train_restart_scale` and `train_estimate_noise` say.

    Args:
        load: offered load of the jobs at their own times; without arrivals over time (infinite)
            there is nothing to stretch.
        home: load that is always among those drawn, and the one without `train_load`; None: the
            jobs' own, which then widens nothing.
    """
    env, target = config.env, home
    known = home is not None and 0 < home < np.inf
    if env.train_load is not None:
        low, high = env.train_load
        if known:
            assert home is not None
            low, high = min(low, home), max(high, home)
        target = float(rng.uniform(low, high))
    stretch = 1.0 if target is None or not 0 < load < np.inf else load / target
    scale = 1.0
    if env.train_restart_scale is not None:
        scale = float(np.exp(rng.uniform(*np.log(env.train_restart_scale))))
    noise = config.workload.estimate_noise
    if env.train_estimate_noise is not None:
        drawn = float(rng.uniform(*env.train_estimate_noise))
        noise = drawn if noise > 0 else 0.0  # exact sizes stay exact
    return Conditions(stretch, scale, noise)
