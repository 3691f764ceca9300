"""Iterations of each algorithm make themselves small enough for the time that they are given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from marl_sched.schedulers.learned.family import SIZE
from marl_sched.training import es as evolution
from marl_sched.training import runner, sampling
from marl_sched.training.es import EvolutionStrategies
from marl_sched.training.rllib import RLlibTrainer
from tests.training.fake_env import PATH, FakeBatchedEnv
from tests.training.test_es import settings as es_settings
from tests.training.test_train import score, settings


class Time:
    """A clock that goes on by `tick_s` whenever an environment steps, or a scorer plays."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Time:
    """A step of all environments takes one second."""
    time = Time()
    for module in (runner, sampling):
        monkeypatch.setattr(module, "time", time)
    inner = FakeBatchedEnv.step

    def step(self: FakeBatchedEnv, actions: np.ndarray) -> Any:
        time.now_s += 1.0
        return inner(self, actions)

    monkeypatch.setattr(FakeBatchedEnv, "step", step)
    return time


@pytest.mark.ray
@pytest.mark.parametrize("algo", ["ppo", "dqn"])
def test_runners_stop_within_a_fragment(ray_local: None, slow: Time, algo: str) -> None:
    """2,048 decisions of 16 environments would take 128 steps of a second each."""
    trainer = RLlibTrainer(settings(algo, 9), PATH, score)
    try:
        row = trainer.iterate(40.0)
        # PPO leaves a quarter of the time to learning, of which it knows nothing yet.
        assert slow.now_s == (30.0 if algo == "ppo" else 40.0)
        assert row["decisions"] == 16 * slow.now_s
        # At least one step, however late it is; and all of them where there is time.
        trainer.iterate(-5.0)
        assert trainer._algorithm.decisions_sampled == 16
        trainer.iterate(1e9)
        assert trainer._algorithm.decisions_sampled == 2048
        before_s = slow.now_s
        trainer.iterate()
        assert slow.now_s - before_s == 128.0
    finally:
        trainer.stop()


@pytest.mark.parametrize("seconds", [-1.0, 5.0, 13.0, 24.0, 1e6])
def test_a_generation_of_fewer_pairs(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Each network takes a second on the two sequences together, the base and the middle too."""
    config = es_settings(1, "training.es.pairs=16", "training.es.sequences=2")
    time = Time()
    monkeypatch.setattr(evolution, "time", time)
    trainer = EvolutionStrategies(config)
    played: list[np.ndarray] = []

    def play(sequences: Any, theta: Any, offsets: np.ndarray) -> Any:
        played.append(offsets)
        time.now_s += 1.0 + len(offsets)
        costs = np.full((len(sequences), 1 + len(offsets), 7), 100.0)
        costs[:, 1:] += offsets.sum(axis=1)[None, :, None]
        return costs, None

    monkeypatch.setattr(trainer._players, "play", play)
    row = trainer.iterate(seconds)
    networks = row["num_episodes"] // 2
    pairs = (networks - 1) // 2
    assert networks == 1 + 2 * pairs and 1 <= pairs <= 16
    assert time.now_s <= max(4.0, seconds + 2.0)  # the first pair is played in any case
    assert pairs == 16 or time.now_s > seconds - 5.0
    if seconds == 1e6:
        # Cut into parts or not: the same step, to the last bit.
        at_once = EvolutionStrategies(config)
        monkeypatch.setattr(at_once._players, "play", play)
        assert at_once.iterate() == row
        np.testing.assert_array_equal(at_once._ascent.theta, trainer._ascent.theta)
    middle = [part[0] for part in played]
    assert not np.any(middle) and all(part.shape[1] == SIZE for part in played)


def test_a_generation_in_parts_is_the_same_generation() -> None:
    """Real networks on real sequences: what is learned does not depend on how it was cut."""
    config = es_settings(1, "training.es.pairs=5", "training.es.sequences=2")
    whole, parts = EvolutionStrategies(config), EvolutionStrategies(config)
    assert whole.iterate() == parts.iterate(1e6)
    np.testing.assert_array_equal(whole._ascent.theta, parts._ascent.theta)
