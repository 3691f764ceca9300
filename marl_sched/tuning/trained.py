"""The scheduler that a trial trained: a network of PPO or DQN, or a scorer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from marl_sched.config import Config
from marl_sched.envs.episodes import Episode
from marl_sched.evaluation.entrants import Metrics, Player, policy_player, rule_player
from marl_sched.evaluation.simulate import Tell, silent
from marl_sched.models.policy import load_policy
from marl_sched.schedulers import Scheduler, scorer_of_record
from marl_sched.schedulers.learned.scorer_file import (
    ScorerRecord,
    at_weights,
    is_scorer,
    load_record,
)
from marl_sched.training.records import RunFolder


@dataclass(frozen=True)
class Trained:
    """A trained scheduler and what its training says of it."""

    player: Player
    """Plays the experiment that it is given; a scheduler for all weights of the reward at those of
    the experiment."""
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
    player = _family_player(record) if record.terms else rule_player(_rule(record))
    return Trained(player, record.iteration, record.validation)


def _rule(record: ScorerRecord) -> Scheduler:
    return scorer_of_record(record, "scorer")


def _family_player(record: ScorerRecord) -> Player:
    def play(config: Config, part: str, episodes: list[Episode], tell: Tell = silent) -> Metrics:
        at = at_weights(record, config.env.reward.model_dump())
        return rule_player(_rule(at)).play(config, part, episodes, tell)

    return Player("scorer", None, play)


def _load_network(folder: Path) -> Trained:
    policy = load_policy(folder)
    player = policy_player(policy, str(folder))
    return Trained(player, policy.manifest.iteration, policy.manifest.validation)
