"""The scheduler that a trial trained: a network of PPO or DQN, or a scorer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from marl_sched.config import Config
from marl_sched.envs.batched import Episode
from marl_sched.evaluation.compare import run_classic
from marl_sched.evaluation.learned import run_learned
from marl_sched.models.policy import load_policy
from marl_sched.schedulers import scorer_of_record
from marl_sched.schedulers.scorer_file import at_weights, is_scorer, load_record
from marl_sched.training.records import RunFolder

Play = Callable[[Config, str, list[Episode]], list[dict[str, float]]]
"""Metrics of each of the episodes of a part of an experiment; a scheduler for all weights of the
reward plays at the experiment's."""


@dataclass(frozen=True)
class Trained:
    """A trained scheduler and what its training says of it."""

    play: Play
    iteration: int
    validation: float | None
    """Cost against the base on validation, percent."""


def load_kept(run: Path) -> Trained:
    """What the run in a folder keeps: the best on validation, the base schedule included."""
    return _load_scorer(run) if is_scorer(str(run)) else _load_network(run)


def load_network(run: Path) -> Trained:
    """The best that was learned, also where the run keeps something simpler."""
    network = RunFolder(run).network
    return _load_network(network) if network.is_dir() else load_kept(run)


def _load_scorer(folder: Path) -> Trained:
    record = load_record(folder)

    def play(config: Config, part: str, episodes: list[Episode]) -> list[dict[str, float]]:
        taken = at_weights(record, config.env.reward.model_dump()) if record.terms else record
        return run_classic(config, part, scorer_of_record(taken, "scorer"), episodes)

    return Trained(play, record.iteration, record.validation)


def _load_network(folder: Path) -> Trained:
    policy = load_policy(folder)

    def play(config: Config, part: str, episodes: list[Episode]) -> list[dict[str, float]]:
        return run_learned(config, part, policy.act, episodes, policy.demand)

    return Trained(play, policy.manifest.iteration, policy.manifest.validation)
