"""Domain randomisation: what is drawn, and that an episode under it is what it says."""

from __future__ import annotations

import numpy as np
import pytest

from marl_sched.config import Config
from marl_sched.envs.batched import BatchedSchedulingEnv
from marl_sched.envs.conditions import draw_conditions
from marl_sched.envs.episodes import Episode
from marl_sched.sim import columns as c
from tests.envs.games import config, masked_action


def with_noise(sigma: float, restart_scale: float = 1.0) -> Config:
    """A game with this noise and these restart costs throughout."""
    settings = config("full")
    workload = settings.workload.model_copy(update={"estimate_noise": sigma})
    sim = settings.sim.model_copy(update={"restart_scale": restart_scale})
    return settings.model_copy(update={"workload": workload, "sim": sim})


def outcome(settings: Config, episode: Episode) -> tuple[float, list[float]]:
    """Cost of the base schedule on an episode, and the rewards of random play."""
    env, rng, rewards = BatchedSchedulingEnv(settings, 1, seed=0), np.random.default_rng(1), []
    assert env.begin(0, episode)
    ended = False
    while not ended:
        reward, _, ended = env.step_one(0, masked_action(rng, env.observation()["mask"][0]))
        rewards.append(reward)
    return float(env.game.shadow_cost[0, c.COST_COMPLETION]), rewards


@pytest.mark.parametrize("credit", ["shadow", "lookahead"])
def test_an_episode_under_conditions_is_one_of_a_world_made_so(credit: str) -> None:
    def credited(settings: Config) -> Config:
        return settings.model_copy(update={"env": settings.env.model_copy(
            update={"credit": credit})})  # fmt: skip

    drawn = Episode(5, 29, 0.5, restart_scale=3.0, estimate_power=0.5)
    cost, rewards = outcome(credited(with_noise(1.0)), drawn)
    as_made, its_rewards = outcome(credited(with_noise(0.5, 3.0)), Episode(5, 29, 0.5))
    assert cost == pytest.approx(as_made, rel=1e-9)
    assert rewards == pytest.approx(its_rewards, abs=1e-6)
    plain, _ = outcome(credited(with_noise(1.0)), Episode(5, 29, 0.5))
    assert abs(plain / cost - 1) > 1e-3


def test_draws_lie_within_their_bounds_and_reach_them() -> None:
    settings = config(
        train_load=(0.5, 1.2), train_restart_scale=(0.5, 2.0), train_estimate_noise=(0.5, 1.5)
    )
    rng = np.random.default_rng(0)
    drawn = [draw_conditions(settings, 0.3, 0.3, rng) for _ in range(400)]
    for values, low, high in (
        ([0.3 / d.stretch for d in drawn], 0.3, 1.2),  # the own load is among them
        ([d.restart_scale for d in drawn], 0.5, 2.0),
        ([d.estimate_noise for d in drawn], 0.5, 1.5),
    ):
        assert low <= min(values) < low * 1.05 and high * 0.95 < max(values) <= high
    assert np.mean([d.restart_scale < 1 for d in drawn]) == pytest.approx(0.5, abs=0.1)


def test_what_is_not_drawn_stays_as_configured() -> None:
    rng = np.random.default_rng(0)
    fixed = draw_conditions(config(train_load=None), 0.3, 0.6, rng)
    assert (fixed.stretch, fixed.restart_scale, fixed.estimate_noise) == (0.5, 1.0, 1.0)
    assert draw_conditions(config(train_load=None), 0.3, None, rng).stretch == 1.0
    assert draw_conditions(config(), np.inf, np.inf, rng).stretch == 1.0
    exact = with_noise(0.0)
    noisy = exact.env.model_copy(update={"train_estimate_noise": (0.5, 1.5)})
    exact = exact.model_copy(update={"env": noisy})
    assert draw_conditions(exact, 0.3, None, rng).estimate_noise == 0.0


def test_training_episodes_differ_in_all_three() -> None:
    env = BatchedSchedulingEnv(
        config(train_restart_scale=(0.5, 2.0), train_estimate_noise=(0.5, 1.5)), 1, seed=0
    )
    episodes = [env.draw_episode() for _ in range(20)]
    for name in ("stretch", "restart_scale", "estimate_power"):
        assert len({getattr(episode, name) for episode in episodes}) == 20


def test_each_episode_draws_its_weights_and_is_paid_by_them() -> None:
    plain = config("full")
    drawing = plain.env.model_copy(update={"train_weights": ("completion_time", "fairness")})
    settings = plain.model_copy(update={"env": drawing})
    env = BatchedSchedulingEnv(settings, 2, seed=0)
    seen: list[tuple[float, ...]] = []
    rng = np.random.default_rng(1)
    observed = env.reset()["weights"]
    while len(seen) < 3:
        assert observed.sum(axis=1) == pytest.approx(1.0, abs=1e-5)
        assert (observed == env.game.weights.astype(np.float32)).all()
        assert not observed[:, [1, 3, 4, 5, 6]].any()
        before = observed[0].copy()
        actions = [masked_action(rng, mask) for mask in env.observation()["mask"]]
        obs, _, _, done = env.step(np.array(actions))
        observed = obs["weights"]
        assert done[0] or (observed[0] == before).all()
        if done[0]:
            seen.append(tuple(before))
    assert len(set(seen)) == 3

    # Without it the configured weights stay.
    made_so = BatchedSchedulingEnv(plain, 1, seed=0).reset()["weights"]
    assert made_so.tolist() == [[1, 0, 0, 0, 0, 0, 0]]
