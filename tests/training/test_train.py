"""Whole training runs on a task of seconds: learning, repeating, resuming, falling back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from marl_sched.config import Config, load_config
from marl_sched.errors import UserError
from marl_sched.evaluation.learned import Score
from marl_sched.models.policy import load_policy
from marl_sched.training.records import RunFolder
from marl_sched.training.rllib import build_algorithm
from marl_sched.training.rollout import SCHEDULER
from marl_sched.training.run import train
from tests.training.fake_env import EPISODE_STEPS, PATH, FakeBatchedEnv

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]

TIMES = {"elapsed_s", "decisions_per_s", "sample_s", "update_s"}

SMALL = {
    "ppo": [
        "training.ppo.lr=0.003",
        "training.ppo.batch_size=2048",
        "training.ppo.minibatch_size=256",
        "training.ppo.entropy=0",
        "model.commit_bias=0",
    ],
    "dqn": [
        "training.dqn.lr=0.002",
        "training.dqn.decisions_per_iteration=2048",
        "training.dqn.learning_starts=1000",
        "training.dqn.target_update=500",
        "training.dqn.epsilon=[0.3, 0.02]",
        "training.dqn.epsilon_decisions=10000",
        "training.dqn.gamma=0.9",
    ],
}


def settings(algo: str, iterations: int, *more: str) -> Config:
    return load_config(
        overrides=[
            f"training.algo={algo}",
            f"training.iterations={iterations}",
            "training.minutes=null",
            "training.num_env_runners=0",
            "env.job_slots=6",
            "training.validation_every=2",
            "training.checkpoint_every=2",
            *SMALL[algo],
            *more,
        ]
    )


def score(act: Callable[[Mapping[str, np.ndarray]], np.ndarray], config: Config) -> float:
    """Minus the points of ten steps of 64 environments: 0 to -10, lower is better."""
    env = FakeBatchedEnv(config, 64, seed=99, part="validation")
    obs, points = env.reset(), 0.0
    for _ in range(EPISODE_STEPS):
        obs, reward, _, _ = env.step(act(obs))
        points += float(reward.mean())
    return -points


def run(config: Config, out: Path, **more: Any) -> Any:
    given: dict[str, Any] = {"validate": score, "env_class": PATH} | more
    return train(config, out, **given)


def curve(out: Path) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in row.items() if name not in TIMES}
        for row in RunFolder(out).rows()
    ]


@pytest.mark.parametrize(("algo", "iterations", "enough"), [("ppo", 10, -8.0), ("dqn", 14, -5.0)])
def test_learns_and_leaves_its_best_policy(
    tmp_path: Path, algo: str, iterations: int, enough: float
) -> None:
    config = settings(algo, iterations)
    rows: list[dict[str, Any]] = []
    result = run(config, tmp_path, progress=rows.append)
    assert result.iteration == iterations and result.best_validation <= enough
    assert [row["iteration"] for row in rows] == list(range(iterations + 1))
    assert rows[0]["validation_percent"] > enough  # it did not start there
    policy = load_policy(tmp_path)
    assert score(policy.act, config) == pytest.approx(result.best_validation)
    assert policy.manifest.iteration == result.best_iteration > 0 and not policy.manifest.is_base
    names = sorted(path.name for path in tmp_path.iterdir())
    files = ["best", "checkpoints", "config.yaml", "metrics.csv", "network", "run.json"]
    assert names == files
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["seed"] == 0 and record["finished"] and record["versions"]["ray"]
    written = load_config(tmp_path / "config.yaml")
    assert written.env.credit == "lookahead"  # what `train` takes where none is chosen
    assert written.model_copy(update={"env": config.env}) == config


@pytest.mark.parametrize("algo", ["ppo", "dqn"])
def test_a_fresh_network_acts_as_the_base(algo: str) -> None:
    for bias in ("0.5", "3"):
        config = settings(algo, 1, f"model.commit_bias={bias}")
        algorithm = build_algorithm(config, PATH)
        try:
            obs = FakeBatchedEnv(config, 500, seed=1).reset()
            batch = {"obs": {name: torch.from_numpy(value) for name, value in obs.items()}}
            actions = algorithm.get_module(SCHEDULER).forward_inference(batch)["actions"]
            assert (actions == 0).all()
        finally:
            algorithm.stop()


@pytest.mark.parametrize(
    ("algo", "runners"),
    # PPO on two runners is repeated by the test of resuming.
    [("ppo", 0), ("dqn", 0), pytest.param("dqn", 2, marks=pytest.mark.slow)],
)
def test_same_seed_same_curve_and_other_seed_another(
    tmp_path: Path, algo: str, runners: int
) -> None:
    config = settings(algo, 2, f"training.num_env_runners={runners}")
    run(config, tmp_path / "a")
    run(config, tmp_path / "b")
    assert curve(tmp_path / "a") == curve(tmp_path / "b")
    first, second = (load_policy(tmp_path / name).state() for name in "ab")
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
    if runners == 0:
        run(config.model_copy(update={"seed": 1}), tmp_path / "c")
        assert curve(tmp_path / "a") != curve(tmp_path / "c")


@pytest.mark.parametrize("runners", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_resumed_ppo_run_goes_on_exactly(tmp_path: Path, runners: int) -> None:
    more = f"training.num_env_runners={runners}"
    run(settings("ppo", 4, more), tmp_path / "whole")
    run(settings("ppo", 2, more), tmp_path / "halves")
    result = run(settings("ppo", 4, more), tmp_path / "halves", resume=True)
    assert result.iteration == 4
    assert curve(tmp_path / "halves") == curve(tmp_path / "whole")
    first, second = (load_policy(tmp_path / name).state() for name in ("whole", "halves"))
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


@pytest.mark.parametrize("algo", ["ppo", "dqn"])
def test_resumes_at_the_last_checkpoint_after_a_kill(tmp_path: Path, algo: str) -> None:
    def die(row: dict[str, Any]) -> None:
        if row["iteration"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(settings(algo, 6), tmp_path, progress=die)
    folder = RunFolder(tmp_path)
    with open(folder.metrics, "a") as file:
        file.write("4,1.5,99")  # cut short
    assert [row["iteration"] for row in folder.rows()] == [0, 1, 2, 3]
    assert (folder.latest_checkpoint() or Path()).name == "iter_2"
    seen: list[dict[str, Any]] = []
    result = run(settings(algo, 5), tmp_path, resume=True, progress=seen.append)
    assert [row["iteration"] for row in seen] == [3, 4, 5] and result.iteration == 5
    assert [row["iteration"] for row in folder.rows()] == [0, 1, 2, 3, 4, 5]
    assert result.decisions == seen[-1]["decisions"] == 5 * 2048
    kept = sorted(path.name for path in folder.checkpoints.iterdir())
    assert kept == ["iter_4", "iter_5"]


def test_kl_coefficient_and_target_counter_survive(tmp_path: Path) -> None:
    for algo, key in (("ppo", "curr_kl_coeffs_per_module"), ("dqn", "last_update_ts_by_mid")):
        first, second = (build_algorithm(settings(algo, 1), PATH) for _ in range(2))
        try:
            first.train()
            value = getattr(first.learner_group._learner, key)
            value[SCHEDULER] = torch.tensor(0.7) if algo == "ppo" else 700
            first.save_to_path(str(tmp_path / algo))
            second.restore_from_path(str(tmp_path / algo))
            restored = getattr(second.learner_group._learner, key)
            assert float(restored[SCHEDULER]) == pytest.approx(float(value[SCHEDULER]))
            assert second.training_iteration == 1
        finally:
            first.stop()
            second.stop()


def test_never_below_the_base_on_validation(tmp_path: Path) -> None:
    scores = iter([0.0, 5.0, 3.0, 8.0])
    result = run(
        settings("ppo", 4, "env.actions=edit"), tmp_path, validate=lambda act, config: next(scores)
    )
    assert (result.best_iteration, result.best_validation) == (0, 0.0)
    policy = load_policy(tmp_path)
    assert policy.manifest.is_base
    assert (policy.act(FakeBatchedEnv(settings("ppo", 1), 50, seed=3).reset()) == 0).all()


@pytest.mark.parametrize(
    ("network", "kept"),
    [
        # On average 0.1 % better, and the standard error of that is 1.0: it may be chance.
        ([-2.0, 1.5, 0.2], False),
        ([-2.0, -1.5, -2.2], True),
    ],
)
def test_a_network_has_to_be_clearly_better_than_what_is_kept(
    tmp_path: Path, network: list[float], kept: bool
) -> None:
    scores = iter([Score(np.zeros(3)), Score(np.array(network))])
    config = settings("ppo", 1, "env.actions=edit")
    result = run(config, tmp_path, validate=lambda act, config: next(scores))
    assert result.best_iteration == int(kept)
    assert load_policy(tmp_path).manifest.is_base != kept
    # It is the best network in any case.
    assert load_policy(tmp_path / "network").manifest.validation == pytest.approx(np.mean(network))


def by_action(percent: dict[int, float], network: float) -> Callable[..., Score]:
    """A validation that knows what each single action is worth, over three episodes."""

    def validate(act: Any, config: Config) -> Score:
        obs = FakeBatchedEnv(config, 200, seed=1).reset()
        taken = set(act(obs).tolist())
        mean = percent[taken.pop()] if len(taken) == 1 else network
        return Score(mean + np.array([-0.3, 0.0, 0.3]) * np.sign(mean))

    return validate


@pytest.mark.parametrize("algo", ["ppo", "dqn"])
def test_the_best_single_algorithm_is_kept_where_nothing_learned_beats_it(
    tmp_path: Path, algo: str
) -> None:
    names = ["elastic_index:tuned,p=0.6", "afs", "equi"]
    config = settings(algo, 2, f"env.algorithms={names}".replace("'", '"'))
    worth = {0: 0.0, 1: 1.0, 2: -5.0, 3: -4.9}
    result = run(config, tmp_path, validate=by_action(worth, network=-5.1))
    assert (result.best_iteration, result.best_validation) == (0, -5.0)
    policy = load_policy(tmp_path)
    assert policy.manifest.plays == 2 and not policy.manifest.is_base
    assert (policy.act(FakeBatchedEnv(config, 50, seed=3).reset()) == 2).all()
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["best_single"] == "afs"
    assert record["singles_validation"] == {
        name: pytest.approx(worth[1 + a]) for a, name in enumerate(names)
    }


def test_a_single_algorithm_has_to_be_clearly_better_than_the_base(tmp_path: Path) -> None:
    config = settings("ppo", 1, "env.algorithms=[afs]")
    run(config, tmp_path, validate=by_action({0: 0.0, 1: -0.1}, network=1.0))
    assert load_policy(tmp_path).manifest.is_base
    assert json.loads((tmp_path / "run.json").read_text())["best_single"] is None


def test_an_existing_run_is_not_replaced_by_accident(tmp_path: Path) -> None:
    run(settings("ppo", 1), tmp_path)
    with pytest.raises(UserError, match="holds a run already; continue it with --resume auto"):
        run(settings("ppo", 1), tmp_path)
    with pytest.raises(UserError, match="model.job_hidden was 32 and now is 16"):
        run(settings("ppo", 2, "model.job_hidden=16"), tmp_path, resume=True)
    assert run(settings("ppo", 2), tmp_path, overwrite=True).iteration == 2
    assert [row["iteration"] for row in RunFolder(tmp_path).rows()] == [0, 1, 2]
