"""Our updates beside RLlib's own on the same weights and the same batch."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.algorithms.dqn.torch.dqn_torch_learner import DQNTorchLearner
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.core.columns import Columns
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils.metrics import TD_ERROR_KEY
from ray.rllib.utils.numpy import convert_to_numpy
from ray.rllib.utils.postprocessing.value_predictions import compute_value_targets

from marl_sched.config import Config, load_config
from marl_sched.models.ppo import PPOModule
from marl_sched.training.dqn import dqn_config
from marl_sched.training.gae import advantages, discounts
from marl_sched.training.ppo import RolloutsToBatch, ppo_config
from marl_sched.training.rollout import SCHEDULER, Rollout

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]

BATCH = 64


def settings(*more: str) -> Config:
    """2 nodes of 4 GPUs, episodes of 24 jobs, four environments, edits."""
    return load_config(
        overrides=[
            "cluster=2x4", "workload.synthetic.num_jobs=200", "env.actions=edit",
            "workload.synthetic.median_duration_s=900", "env.job_slots=8",
            "env.jobs_per_episode=24", "training.num_env_runners=0",
            "training.num_envs_per_runner=4", "training.ppo.batch_size=256",
            f"training.ppo.minibatch_size={BATCH}", f"training.dqn.batch_size={BATCH}", *more,
        ]
    )  # fmt: skip


@pytest.fixture
def ppo() -> Iterator[Any]:
    algorithm = ppo_config(settings("training.ppo.gamma=0.9")).build_algo()
    yield algorithm
    algorithm.stop()


@pytest.fixture
def dqn() -> Iterator[Any]:
    algorithm = dqn_config(settings()).build_algo()
    yield algorithm
    algorithm.stop()


def rllibs_learner(algorithm: Any, learner_class: type, **training: Any) -> Any:
    """RLlib's own learner with the weights of the algorithm's."""
    ours = algorithm.learner_group._learner
    config = algorithm.config.copy(copy_frozen=False).learners(learner_class=learner_class)
    learner = config.training(**training).build_learner(spaces=algorithm.env_runner.get_spaces())
    learner.module.set_state(ours.module.get_state())
    return learner


def weights(learner: Any) -> dict[str, np.ndarray]:
    return {n: np.array(v) for n, v in learner.module.get_state()[SCHEDULER].items()}


def test_ppo_updates_as_rllib_does(ppo: Any) -> None:
    ours = ppo.learner_group._learner
    rollouts = ppo.env_runner.sample()
    columns = RolloutsToBatch(0.9, 0.9)(rl_module=ours.module, batch={}, episodes=rollouts)
    theirs = rllibs_learner(ppo, PPOTorchLearner)
    before, results = weights(ours), []
    for learner in (ours, theirs):
        batch = MultiAgentBatch({SCHEDULER: SampleBatch(deepcopy(columns[SCHEDULER]))}, 256)
        given = {"num_epochs": 2, "minibatch_size": BATCH}
        results.append(learner.update(batch=batch, timesteps={}, **given)[SCHEDULER])
    for name in ("total_loss", "policy_loss", "vf_loss", "mean_kl_loss", "entropy"):
        mine, its = (float(convert_to_numpy(result[name].peek())) for result in results)
        assert mine == pytest.approx(its, rel=1e-5, abs=1e-7), name
    after, expected = weights(ours), weights(theirs)
    assert any((after[name] != before[name]).any() for name in after if "policy" in name)
    for name, value in expected.items():
        np.testing.assert_allclose(after[name], value, rtol=1e-5, atol=1e-7, err_msg=name)


def test_dqn_updates_as_rllib_does(dqn: Any) -> None:
    ours, buffer = dqn.learner_group._learner, dqn.local_replay_buffer
    for _ in range(8):
        buffer.add(dqn.env_runner.sample())
    replays = buffer.sample(BATCH)
    (replay,) = replays
    gamma = settings().training.dqn.gamma
    # RLlib counts steps where ours is minus the log of the discount.
    steps = replay.columns["n_step"] / -np.log(gamma)
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-5)
    assert set(np.rint(steps)) >= {1.0, 3.0}  # edits within a round do not count
    theirs = rllibs_learner(dqn, DQNTorchLearner, gamma=gamma)
    columns = {
        Columns.OBS: replay.obs,
        Columns.NEXT_OBS: replay.next_obs,
        **(replay.columns | {"n_step": np.rint(steps).astype(np.int64)}),
    }
    batch = MultiAgentBatch({SCHEDULER: SampleBatch(deepcopy(columns))}, BATCH)
    before = weights(ours)
    mine = ours.update(episodes=replays, timesteps={}, minibatch_size=BATCH)[SCHEDULER]
    its = theirs.update(batch=batch, timesteps={})[SCHEDULER]
    error, known = (np.concatenate(convert_to_numpy(r[TD_ERROR_KEY].peek())) for r in (mine, its))
    np.testing.assert_allclose(error, known, rtol=1e-4, atol=1e-6)
    assert error.shape == (BATCH,) and error.max() > 0.01
    after, expected = weights(ours), weights(theirs)
    assert any((after[name] != before[name]).any() for name in after)
    for name, value in expected.items():
        np.testing.assert_allclose(after[name], value, rtol=1e-4, atol=2e-6, err_msg=name)


def test_advantages_are_rllibs_where_time_is_even() -> None:
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(40, 5)), rng.normal(size=(41, 5))
    dones = rng.random((40, 5)) < 0.1
    discount = discounts(np.full((40, 5), 60.0), dones, 0.95)
    got = advantages(rewards, values, discount, 0.8) + values[:-1]
    cut = np.zeros(41)
    cut[-2:] = 1.0  # the rollout ends there, its episodes go on
    for b in range(5):
        expected = compute_value_targets(
            values[:, b], np.append(rewards[:, b], 0.0), np.append(dones[:, b], 0.0), cut, 0.95, 0.8
        )
        np.testing.assert_allclose(got[:, b], expected[:-1], rtol=1e-5, atol=1e-6)


def value_of(module: PPOModule, part: Any, t: int) -> np.ndarray:
    """Values (B,) of the observations at step t, in units of the reward."""
    obs = {name: torch.from_numpy(value[t].copy()) for name, value in part.obs.items()}
    scaled = module.compute_values({Columns.OBS: obs}).detach().numpy().astype(float)
    return scaled * float(module.value_std) + float(module.value_mean)


def test_a_rollout_cut_short_bootstraps_from_its_last_observation(ppo: Any) -> None:
    """With lambda 0 each target is the reward and the discounted value of what comes next."""
    module = ppo.learner_group._learner.module[SCHEDULER].unwrapped()
    module.rescale_values(3.0, 2.0)
    with torch.no_grad():
        module.value.head.weight.normal_()
    rollouts: list[Rollout] = ppo.env_runner.sample(num_timesteps=4 * 40)
    (part,) = (rollout.modules[SCHEDULER] for rollout in rollouts)
    connector = RolloutsToBatch(0.9, 0.0, discount_per_h=2.0)
    columns = connector._columns(module, part, torch.device("cpu"))
    targets = columns["targets"].reshape(40, 4)
    seen = {"cut": 0, "ended": 0, "sub_step": 0, "passed": 0}
    for t in range(40):
        following = value_of(module, part, t + 1)
        for b in range(4):
            dt_s, done = part.dt_s[t, b], part.dones[t, b]
            discount = 0.9 * np.exp(-2.0 * dt_s / 3600) if dt_s > 0 else 1.0
            expected = part.rewards[t, b] + (0.0 if done else discount * following[b])
            assert targets[t, b] == pytest.approx(expected, rel=1e-4, abs=1e-4)
            kind = "ended" if done else "cut" if t == 39 else "passed" if dt_s > 0 else "sub_step"
            seen[kind] += 1
    assert min(seen["cut"], seen["sub_step"], seen["passed"]) > 0
