"""Playing a learned scheduler greedily on given episodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from marl_sched.config import Config, RewardWeights
from marl_sched.envs.batched import BatchedSchedulingEnv
from marl_sched.envs.episodes import Episode
from marl_sched.envs.state import reward_weights
from marl_sched.evaluation.compare import part_episodes
from marl_sched.evaluation.metrics import job_results
from marl_sched.evaluation.statistics import Evidence
from marl_sched.evaluation.windows import evidence_of

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
    env = _environment(config, part, episodes)
    env.play_fixed(act, episodes, demand if config.env.agents == "learned" else None)
    return env


def _environment(config: Config, part: str, episodes: list[Episode]) -> BatchedSchedulingEnv:
    """One environment for each episode."""
    jobs = max(episode.end - episode.first for episode in episodes)
    sized = config.env.model_copy(update={"jobs_per_episode": jobs})
    config = config.model_copy(update={"env": sized})
    return BatchedSchedulingEnv(config, len(episodes), config.seed, part)


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


@dataclass(frozen=True)
class BaseCosts:
    """What a base schedule costs on the validation episodes, in the terms of the reward."""

    cost: np.ndarray
    """(E, 7) float64."""
    norm: np.ndarray
    """(E, 7) float64 > 0, `cost` floored."""

    def score(self, cost: np.ndarray, config: Config, episodes: list[Episode]) -> Score:
        """The score of `cost` (E, 7) against these costs, see `validate`."""
        weights = reward_weights(config.env) / self.norm.sum(axis=0)
        shares = len(cost) * (cost - self.cost) @ weights
        disjoint = evidence_of(config, "validation", episodes).disjoint
        return Score(100.0 * shares, len(episodes) / disjoint)


@dataclass(frozen=True)
class Score:
    """Cost on validation against the base schedule's, percent; lower wins."""

    episodes: np.ndarray
    """(E,) float64, each episode's part; their mean is the score. (1,) where no more is known."""
    overlap: float = 1.0
    """Episodes for each that would share no job with others, see `evidence_of`."""

    @property
    def percent(self) -> float:
        return float(self.episodes.mean())

    def clearly_beats(self, other: Score) -> bool:
        """Whether it is lower by more than the standard error of the paired difference."""
        difference = self.episodes - other.episodes
        evidence = Evidence(np.arange(difference.size), self.overlap)
        return float(difference.mean()) < -evidence.standard_error(difference)


def base_costs(config: Config) -> BaseCosts:
    """The costs of `env.base` on the validation episodes, with honest agents."""
    episodes = part_episodes(config, "validation", config.training.validation_episodes)
    env = _environment(config, "validation", episodes)
    for b, episode in enumerate(episodes):
        env.begin(b, episode)
    return BaseCosts(env.game.shadow_cost.copy(), env.game.norm.copy())


def validate_base(config: Config, reference: BaseCosts) -> Score:
    """The score of the base schedule itself against another one."""
    episodes = part_episodes(config, "validation", config.training.validation_episodes)
    return reference.score(base_costs(config).cost, config, episodes)


def validate(
    act: Act, config: Config, demand: Demand | None = None, reference: BaseCosts | None = None
) -> Score:
    """Cost of a learned scheduler on validation against the base schedule's, percent.

        100 sum_j w_j (C_j - C_j of the base) / C_j of the base

    with the weights w_j of the reward and its costs C_j summed over episodes. With the default
    weights that is the mean JCT. The base is run with honest agents whatever
    `demand`. With `env.train_weights` it is the mean of the scores at each of these terms alone
    and at all of them evenly.

    Args:
        reference: the base schedule that counts, where it is not the one that is acted on.
    """
    if config.env.train_weights:
        return _validate_all(act, config, demand, reference)
    episodes = part_episodes(config, "validation", config.training.validation_episodes)
    env = play_learned(config, "validation", act, episodes, demand)
    base = reference or BaseCosts(env.game.shadow_cost, env.game.norm)
    return base.score(env.world.cost[: len(episodes)], config, episodes)


def with_weights(config: Config, weights: Mapping[Any, float]) -> Config:
    """The experiment with these reward weights always; terms that are not named weigh nothing."""
    reward = RewardWeights(**dict.fromkeys(RewardWeights.model_fields, 0.0) | dict(weights))
    env = config.env.model_copy(update={"reward": reward, "train_weights": ()})
    return config.model_copy(update={"env": env})


def _validate_all(
    act: Act, config: Config, demand: Demand | None, reference: BaseCosts | None
) -> Score:
    """The mean score at the corners and the centre of the simplex of `env.train_weights`."""
    terms = config.env.train_weights
    points = [{term: 1.0} for term in terms] + [dict.fromkeys(terms, 1.0)]
    scores = [validate(act, with_weights(config, p), demand, reference) for p in points]
    return Score(np.mean([score.episodes for score in scores], axis=0), scores[0].overlap)
