"""Several learners: rollouts are shared out between environments, and the networks stay one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ray.rllib.utils.minibatch_utils import ShardEpisodesIterator

from marl_sched.config import load_config
from marl_sched.errors import UserError
from marl_sched.training.dqn import dqn_config
from marl_sched.training.ppo import ppo_config
from marl_sched.training.rllib import build_algorithm
from marl_sched.training.rollout import SCHEDULER, ModuleRollout, Rollout
from tests.training.fake_env import PATH
from tests.training.test_train import settings


def rollout(steps: int, envs: int, first: int) -> Rollout:
    """Each decision's reward is its environment's number."""
    rows = np.broadcast_to(np.arange(first, first + envs, dtype=float), (steps + 1, envs)).copy()
    part = ModuleRollout(
        obs={"x": rows},
        actions=rows[:-1].astype(int),
        rewards=rows[:-1],
        dt_s=rows[:-1],
        dones=rows[:-1] > 0,
    )
    return Rollout(1, 0, envs, steps, {SCHEDULER: part})


@pytest.mark.parametrize("learners", [1, 2, 4])
@pytest.mark.parametrize("envs", [[4, 4, 4], [4], [4, 8]])
def test_no_environment_is_lost_doubled_or_cut(learners: int, envs: list[int]) -> None:
    starts = np.cumsum([0, *envs[:-1]])
    rollouts = [rollout(6, number, int(first)) for number, first in zip(envs, starts, strict=True)]
    shares = list(ShardEpisodesIterator(rollouts, learners, len_lookback_buffer=0))
    seen: list[float] = []
    for share in shares:
        for part in share:
            arrays = part.modules[SCHEDULER]
            assert arrays.rewards.shape == (6, part.num_envs) and len(part) == 6 * part.num_envs
            assert arrays.obs["x"].shape == (7, part.num_envs) and arrays.logp is None
            seen += arrays.rewards[0].tolist()
    assert sorted(seen) == list(range(sum(envs)))
    # Learners step together: none may have more minibatches than another.
    assert len({sum(map(len, share)) for share in shares}) == 1


@pytest.mark.parametrize(
    ("config", "more", "message"),
    [
        (dqn_config, ["training.num_learners=2"], "DQN learns in one place"),
        (ppo_config, ["training.num_learners=3"], "must divide"),
        (ppo_config, ["training.num_learners=2", "env.agents=learned"], "learned agents"),
    ],
)
def test_what_several_learners_cannot_do(config: Any, more: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        config(load_config(overrides=["training.num_env_runners=0", *more]))


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_local")
def test_two_learners_end_up_with_one_network() -> None:
    algorithm = build_algorithm(settings("ppo", 1, "training.num_learners=2"), PATH)
    try:
        results = [algorithm.train() for _ in range(2)]
        assert results[-1]["env_runners"]["num_env_steps_sampled_lifetime"] == 2 * 2048
        states = algorithm.learner_group.foreach_learner(
            lambda learner: {
                name: value.cpu().numpy()
                for name, value in learner.module[SCHEDULER].unwrapped().state_dict().items()
            }
        )
        first, second = (result.get() for result in states)
        for name, value in first.items():
            np.testing.assert_array_equal(value, second[name], err_msg=name)
    finally:
        algorithm.stop()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_local")
def test_dqn_learns_in_another_process() -> None:
    algorithm = build_algorithm(settings("dqn", 1, "training.num_learners=1"), PATH)
    try:
        result = algorithm.train()
        assert np.isfinite(result["learners"][SCHEDULER]["qf_loss"])
    finally:
        algorithm.stop()
