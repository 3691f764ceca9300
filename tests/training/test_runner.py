"""The batched env runner beside `SchedulingEnv`, step by step on the same seed."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from marl_sched.config import load_config
from marl_sched.envs import SchedulingEnv
from marl_sched.envs.batched import BatchedSchedulingEnv, spec_spaces
from marl_sched.training.other_clusters import on_runners_cluster
from marl_sched.training.rllib import build_algorithm
from marl_sched.training.rollout import SCHEDULER
from marl_sched.training.runner import worker_seed

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]


def build(algo: str, credit: str, num_envs: int) -> Any:
    config = load_config(
        overrides=[
            "cluster=2x4", "workload.synthetic.num_jobs=200", "env.actions=full",
            "workload.synthetic.median_duration_s=900", "env.job_slots=8", "seed=4",
            "env.jobs_per_episode=24", "training.num_env_runners=0", f"env.credit={credit}",
            f"training.algo={algo}", f"training.num_envs_per_runner={num_envs}",
        ]
    )  # fmt: skip
    return build_algorithm(config)


def test_runners_take_the_clusters_in_turn_at_one_load() -> None:
    config = load_config(
        overrides=["cluster=2x4", "env.train_clusters=[4x4:v100, 2x2]", "workload.load=0.7"]
    )
    taken = [on_runners_cluster(config, worker) for worker in range(5)]
    assert [one.cluster for one in taken] == ["2x4", "2x4", "4x4:v100", "2x2", "2x4"]
    for one in taken:
        env = BatchedSchedulingEnv(one, 1, seed=0)
        assert env.workload.offered_load(int(env.world.total[0])) == pytest.approx(0.7)
        assert env.observation_space == spec_spaces(config)[0]


@pytest.mark.parametrize(("algo", "credit"), [("ppo", "shadow"), ("dqn", "lookahead")])
def test_a_rollout_is_what_the_environment_answers(algo: str, credit: str) -> None:
    algorithm = build(algo, credit, 1)
    runner = algorithm.env_runner
    config = runner.env.config
    env = SchedulingEnv({"config": config, "seed": worker_seed(config.seed, 0, 0)})
    obs, _ = env.reset()
    episodes = 0
    try:
        for fragment in (1, 70, 130):
            (rollout,) = runner.sample(num_timesteps=fragment)
            part = rollout.modules[SCHEDULER]
            for t in range(fragment):
                for name, value in obs[SCHEDULER].items():
                    np.testing.assert_array_equal(part.obs[name][t, 0], value, err_msg=name)
                obs, reward, done, truncated, info = env.step({SCHEDULER: part.actions[t, 0]})
                assert reward[SCHEDULER] == part.rewards[t, 0]
                assert info[SCHEDULER]["dt_s"] == part.dt_s[t, 0]
                assert done["__all__"] == part.dones[t, 0] and not truncated["__all__"]
                if done["__all__"]:
                    episodes += 1
                    obs, _ = env.reset()
            for name, value in obs[SCHEDULER].items():  # what the learner bootstraps from
                np.testing.assert_array_equal(part.obs[name][fragment, 0], value, err_msg=name)
    finally:
        algorithm.stop()
    assert episodes > 1


def test_probabilities_are_those_of_the_network() -> None:
    """What the runner records is what the learner computes for the same observations."""
    algorithm = build("ppo", "shadow", 4)
    try:
        module = algorithm.learner_group._learner.module[SCHEDULER].unwrapped()
        with torch.no_grad():
            for parameter in module.policy.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        algorithm.env_runner_group.sync_weights(
            from_worker_or_learner_group=algorithm.learner_group, inference_only=True
        )
        (rollout,) = algorithm.env_runner.sample(num_timesteps=4 * 50)
        part = rollout.modules[SCHEDULER]
        obs = {n: torch.from_numpy(v[:-1].reshape(200, *v.shape[2:])) for n, v in part.obs.items()}
        with torch.no_grad():
            logits = module.logits(obs)
        assert part.logits is not None and part.logp is not None
        np.testing.assert_allclose(part.logits.reshape(200, -1), logits, rtol=1e-5, atol=1e-5)
        chosen = torch.log_softmax(logits, dim=-1)[torch.arange(200), part.actions.reshape(-1)]
        np.testing.assert_allclose(part.logp.reshape(-1), chosen, rtol=1e-4, atol=1e-5)
        mask = obs["mask"].numpy()
        assert (mask[np.arange(200), part.actions.reshape(-1)] == 1).all()
        assert len(set(part.actions.reshape(-1))) > 5
    finally:
        algorithm.stop()


def test_every_worker_has_seeds_of_its_own() -> None:
    """Else all runners would play the same episodes, and draw the same actions."""
    asked = list(product(range(3), range(5), range(2)))  # seed, worker, purpose
    assert len({worker_seed(*one) for one in asked}) == len(asked)
