"""A runner that dies in the middle of training."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import ray

from marl_sched.training.rllib import build_algorithm
from tests.training.fake_env import PATH
from tests.training.test_train import settings

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]


def sampled(algorithm: Any) -> list[tuple[int, int, int]]:
    """(worker, steps taken, weights' number) of each runner that answers."""
    return algorithm.env_runner_group.foreach_env_runner(
        lambda runner: (runner.worker_index, runner._steps, runner._weights_seq_no),
        local_env_runner=False,
    )


@pytest.mark.parametrize("algo", ["ppo", pytest.param("dqn", marks=pytest.mark.slow)])
def test_training_goes_on_and_the_runner_rejoins(algo: str) -> None:
    algorithm = build_algorithm(settings(algo, 1, "training.num_env_runners=2"), PATH)
    group = algorithm.env_runner_group
    try:
        algorithm.train()
        assert sorted(worker for worker, *_ in sampled(algorithm)) == [1, 2]
        victim = group._worker_manager.actors()[1]
        killer = threading.Timer(0.05, lambda: ray.kill(victim, no_restart=False))
        killer.start()
        decisions: list[int] = []
        back: list[tuple[int, int, int]] = []
        while len(decisions) < 60 and not (
            len(back) == 2 and min(steps for _, steps, _ in back) > 0
        ):
            results = algorithm.train()
            decisions.append(results["env_runners"]["num_env_steps_sampled_lifetime"])
            back = sampled(algorithm)
        killer.join()
        assert group.num_remote_worker_restarts() == 1
        assert all(b > a for a, b in zip(decisions, decisions[1:], strict=False))
        steps = {worker: number for worker, number, _ in back}
        assert 0 < steps[1] < steps[2]  # a new life that samples, beside the old one
        assert len({number for *_, number in back}) == 1  # with the same weights
    finally:
        algorithm.stop()
