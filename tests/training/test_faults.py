"""Runners that die in the middle of training, networks that diverge, disks that are full."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray

from marl_sched.config import Config, load_config
from marl_sched.errors import UserError, WriteError
from marl_sched.files import disk_is_full, naming_full_disk
from marl_sched.models.policy import load_policy
from marl_sched.schedulers.learned.scorer_file import load_scorer
from marl_sched.training import rllib
from marl_sched.training.diverged import Diverged
from marl_sched.training.records import RunFolder
from marl_sched.training.rllib import RLlibTrainer
from marl_sched.training.run import train
from tests.training.fake_env import PATH
from tests.training.test_train import run, score, settings

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]


def sampled(algorithm: Any) -> list[tuple[int, int, int]]:
    """(worker, steps taken, weights' number) of each runner that answers."""
    return algorithm.env_runner_group.foreach_env_runner(
        lambda runner: (runner.worker_index, runner._steps, runner._weights_seq_no),
        local_env_runner=False,
    )


@pytest.mark.parametrize("algo", ["ppo", pytest.param("dqn", marks=pytest.mark.slow)])
def test_lost_runners_are_survived_and_rejoin(algo: str) -> None:
    """One first, then all in one iteration: it samples nothing, RLlib counts NaN, and it is made
    again."""
    trainer = RLlibTrainer(settings(algo, 1, "training.num_env_runners=2"), PATH, score)
    algorithm = trainer._algorithm
    group = algorithm.env_runner_group
    try:
        decisions = [trainer.iterate()["decisions"]]
        assert sorted(worker for worker, *_ in sampled(algorithm)) == [1, 2]
        victim = group._worker_manager.actors()[1]
        killer = threading.Timer(0.05, lambda: ray.kill(victim, no_restart=False))
        killer.start()
        back: list[tuple[int, int, int]] = []
        # The kill may come after an iteration, where one is over in less than its 0.05 s.
        while len(decisions) < 60 and not (
            group.num_remote_worker_restarts() == 1
            and len(back) == 2
            and min(steps for _, steps, _ in back) > 0
        ):
            decisions.append(trainer.iterate()["decisions"])
            back = sampled(algorithm)
        killer.join()
        assert group.num_remote_worker_restarts() == 1
        assert all(b > a for a, b in zip(decisions, decisions[1:], strict=False))
        steps = {worker: number for worker, number, _ in back}
        assert 0 < steps[1] < steps[2]  # a new life that samples, beside the old one
        assert len({number for *_, number in back}) == 1  # with the same weights
        for victim in list(group._worker_manager.actors().values()):
            ray.kill(victim, no_restart=False)
        assert trainer.iterate()["decisions"] > decisions[-1]
    finally:
        trainer.stop()


def stub_of(samples: list[int]) -> Any:
    """An algorithm whose iterations sample so many decisions, and count as RLlib does."""

    class Stub:
        decisions_sampled, total = 0, 0
        config = SimpleNamespace(delay_between_env_runner_restarts_s=0.0)
        learner_group = SimpleNamespace(get_weights=lambda: {})

        def train_within(self, seconds: float | None) -> dict[str, Any]:
            self.decisions_sampled = samples.pop(0)
            self.total += self.decisions_sampled
            count = self.total or float("nan")
            return {"env_runners": {"num_env_steps_sampled_lifetime": count,
                                    "num_episodes": float("nan"), "episode_sums": {}}}  # fmt: skip

    return Stub()


def test_an_iteration_without_samples_is_made_again_and_then_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    samples = [0, 0, 64, 0, 0]
    monkeypatch.setattr(rllib, "build_algorithm", lambda config, env_class: stub_of(samples))
    trainer = RLlibTrainer(settings("ppo", 1, "training.num_env_runners=2"), PATH, score)
    row = trainer.iterate()
    assert row["decisions"] == 64 and row["num_episodes"] == 0
    assert row["episode_return_mean"] is None
    monkeypatch.setattr(rllib, "PATIENCE_S", 0.0)
    with pytest.raises(UserError, match="all 2 env runners were lost, and none has come back"):
        trainer.iterate()


@pytest.mark.parametrize(("algo", "rate"), [("ppo", "1e+30"), ("dqn", "1e+38")])
def test_a_network_that_diverges_is_not_kept(tmp_path: Path, algo: str, rate: str) -> None:
    """With such steps nothing finite comes out of the network after its first updates."""
    config = settings(
        algo, 8, f"training.{algo}.lr={rate}", "training.checkpoint_every=1", "env.actions=edit"
    )
    with pytest.raises(Diverged, match=r"^diverged: .* in iteration \d+; ") as error:
        run(config, tmp_path)
    assert f"smaller training.{algo}.lr, which is {rate}" in str(error.value)
    policy = load_policy(tmp_path)
    assert policy.manifest.is_base and all(np.isfinite(a).all() for a in policy.state().values())
    folder = RunFolder(tmp_path)
    assert all(row["iteration"] < 3 for row in folder.rows())
    newest = folder.latest_checkpoint()
    if newest is not None:
        again = RLlibTrainer(config, PATH, score)
        try:
            again.restore_from_path(str(newest.resolve()))
            assert all(np.isfinite(one).all() for one in again._weights())
        finally:
            again.stop()
    assert folder.read_run()["finished"] is None


def evolution(*more: str) -> Config:
    return load_config(
        overrides=[
            "training.algo=es", "training.iterations=3", "training.minutes=null",
            "training.num_env_runners=0", "training.validation_every=1",
            "training.validation_episodes=2", "training.checkpoint_every=1", "training.es.pairs=2",
            "training.es.sequences=2", "env.jobs_per_episode=24", "cluster=2x4",
            "workload.synthetic.num_jobs=240", *more,
        ]
    )  # fmt: skip


@pytest.mark.parametrize("changes", ["training.es.lr=1e30", "training.es.lr=1e300",
                                     "training.es.sigma=1e300"])  # fmt: skip
def test_a_scorer_that_diverges_is_not_kept(tmp_path: Path, changes: str) -> None:
    with pytest.raises(Diverged, match="^diverged: .* in iteration 1; .* training.es.lr"):
        train(evolution(changes), tmp_path)
    kept = load_scorer(tmp_path)
    assert kept.iteration == 0 and all(np.isfinite(kept.weights))
    assert RunFolder(tmp_path).latest_checkpoint() is None


def full(*arguments: Any, **named: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "some/file")


@pytest.mark.parametrize("where", ["append", "save_checkpoint", "write_run", "prepare"])
def test_a_full_disk_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(RunFolder, where, full)
    with pytest.raises(WriteError, match="no space is left on its disk") as error:
        train(evolution(), tmp_path)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("make", "is_full"),
    [
        (lambda: OSError(errno.ENOSPC, "x"), True),
        (lambda: OSError(errno.EDQUOT, "x"), True),
        (lambda: OSError(errno.EACCES, "x"), False),
        # As Rust and C++ say it, without a number.
        (lambda: RuntimeError("I/O error: No space left on device (os error 28)"), True),
        (lambda: RuntimeError("no such thing"), False),
    ],
)
def test_what_a_full_disk_looks_like(
    tmp_path: Path, make: Callable[[], Exception], is_full: bool
) -> None:
    assert disk_is_full(make()) == is_full
    wrapped = ValueError("cannot save")
    wrapped.__cause__ = make()
    assert disk_is_full(wrapped) == is_full
    with pytest.raises(WriteError if is_full else ValueError), naming_full_disk(tmp_path):
        raise wrapped
