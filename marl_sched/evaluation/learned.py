"""Playing a learned scheduler greedily on given episodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from marl_sched.config import Config
from marl_sched.envs.batched import BatchedSchedulingEnv, Episode
from marl_sched.evaluation.compare import part_episodes
from marl_sched.evaluation.metrics import job_results

Act = Callable[[Mapping[str, np.ndarray]], np.ndarray]
"""A learned scheduler: observation arrays (B, ..) -> actions (B,) int64."""

Demand = Callable[[Mapping[str, np.ndarray]], np.ndarray]
"""Learned agents: observation arrays (D, ..) -> demands (D,) int64."""


def play_learned(
    config: Config, part: str, act: Act, episodes: list[Episode], demand: Demand | None = None
) -> BatchedSchedulingEnv:
    """All `episodes` played side by side to their end; the environment holds the outcome.

    Args:
        demand: how agents declare where the configured ones are learned; None: honestly.
    """
    jobs = max(episode.end - episode.first for episode in episodes)
    sized = config.env.model_copy(update={"jobs_per_episode": jobs})
    config = config.model_copy(update={"env": sized})
    env = BatchedSchedulingEnv(config, len(episodes), config.seed, part)
    env.play_fixed(act, episodes, demand if config.env.agents == "learned" else None)
    return env


def run_learned(
    config: Config, part: str, act: Act, episodes: list[Episode], demand: Demand | None = None
) -> list[dict[str, float]]:
    """Metrics of a learned scheduler on each episode."""
    env = play_learned(config, part, act, episodes, demand)
    return [
        job_results(
            env.workload.slice(episode.first, episode.end),
            int(env.world.total[0]),
            env.world.result[b],
            env.world.account[b],
        ).summary()
        for b, episode in enumerate(episodes)
    ]


def validate(act: Act, config: Config, demand: Demand | None = None) -> float:
    """Cost of a learned scheduler on validation against the base schedule's, percent; lower wins.

        100 sum_j w_j (C_j - C_j of the base) / C_j of the base

    with the weights w_j of the reward and its costs C_j summed over episodes. With the default
    weights that is the mean JCT. The base is run with honest agents whatever
    `demand`.
    """
    episodes = part_episodes(config, "validation", config.training.validation_episodes)
    env = play_learned(config, "validation", act, episodes, demand)
    count = len(episodes)
    excess = (env.world.cost[:count] - env.game.shadow_cost).sum(axis=0)
    return float(100.0 * (env.game.weights[0] * excess / env.game.norm.sum(axis=0)).sum())
