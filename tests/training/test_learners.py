"""Several learners: rollouts are shared out between environments, and the networks stay one."""

from __future__ import annotations

import numpy as np
import pytest
from ray.rllib.utils.minibatch_utils import ShardEpisodesIterator

from marl_sched.config import load_config
from marl_sched.errors import UserError
from marl_sched.training import learner_placement as placement
from marl_sched.training.dqn import dqn_config
from marl_sched.training.ppo import ppo_config
from marl_sched.training.rllib import build_algorithm
from marl_sched.training.rollout import SCHEDULER, ModuleRollout, Rollout
from marl_sched.training.run import check
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
    ("more", "message"),
    [
        (["training.algo=dqn", "training.num_learners=2"], "DQN learns in one place"),
        (["training.num_learners=3"], "must divide"),
        (["training.num_learners=2", "env.agents=learned"], "learned agents"),
    ],
)
def test_what_several_learners_cannot_do(more: list[str], message: str) -> None:
    config = load_config(overrides=["training.num_env_runners=0", *more])
    for refuse in (check, dqn_config if config.training.algo == "dqn" else ppo_config):
        with pytest.raises(UserError, match=message):
            refuse(config)


@pytest.mark.parametrize(
    ("present", "learners", "place", "bundles"),
    [
        (0, 0, None, [{"CPU": 1, "GPU": 0}, {"CPU": 1}]),
        (0, 2, None, [{"CPU": 1, "GPU": 0}, {"CPU": 1}, *[{"CPU": 1, "GPU": 0}] * 2]),
        (2, 0, None, [{"CPU": 1, "GPU": 1}, {"CPU": 1}]),
        (2, 2, None, [{"CPU": 1, "GPU": 0}, {"CPU": 1}, *[{"CPU": 0, "GPU": 1}] * 2]),
        (0, 1, "big", [{"CPU": 1, "GPU": 0}, {"CPU": 1}, {"CPU": 0, "GPU": 0, "big": 1}]),
    ],
)
def test_a_trial_reserves_its_learners(
    monkeypatch: pytest.MonkeyPatch,
    present: int,
    learners: int,
    place: str | None,
    bundles: list[dict[str, float]],
) -> None:
    monkeypatch.setattr(placement, "most_gpus", lambda: float(present))
    more = [] if place is None else [f"training.learner_resource={place}"]
    config = load_config(
        overrides=[
            "training.num_env_runners=1",
            f"training.num_learners={learners}",
            "training.num_gpus_per_learner=1",
            *more,
        ]
    )
    assert placement.trial_bundles(config) == bundles
    assert placement.num_cpus(config) == 1 + learners


def test_a_shortage_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(placement, "most_gpus", lambda: 0.0)
    monkeypatch.setattr(placement.ray, "cluster_resources", lambda: {"CPU": 4.0})
    asked = ["training.num_env_runners=3", "training.num_gpus_per_learner=1"]
    placement.tell_shortage(load_config(overrides=[*asked, "training.num_learners=1"]))
    assert caplog.messages == []
    placement.tell_shortage(load_config(overrides=[*asked, "training.num_learners=2"]))
    assert "waits until the Ray cluster has 5 CPU (4 there)" in caplog.text


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
