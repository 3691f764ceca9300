"""The sweep of the reward weights: trials, results, going on after a stop, bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from marl_sched import cli
from marl_sched.config import Config, load_config
from marl_sched.errors import UserError
from marl_sched.evaluation.compare import part_episodes
from marl_sched.evaluation.learned import play_learned, validate
from marl_sched.training import sweep as machinery
from marl_sched.training.sweep import Trial, run_sweep
from tuning import reward_weights as page

QUICK = [
    "--trials", "2", "--iterations", "1", "--episodes", "3",
    "--set", "workload.synthetic.num_jobs=600", "--set", "env.jobs_per_episode=60",
    "--set", "training.validation_episodes=3", "--set", "training.ppo.batch_size=256",
    "--set", "evaluation.schedulers=[fcfs,equi]",
]  # fmt: skip


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as done:
        cli.run(page.app, "reward_weights.py", list(arguments))
    return int(done.value.code or 0)


def settings(*more: str) -> Config:
    given = ["workload.synthetic.num_jobs=600", "env.jobs_per_episode=60", *more]
    return load_config(None, given, defaults=page.SETTINGS)


def test_points_are_on_the_simplex_and_repeat() -> None:
    chosen = page.points(9, seed=0)
    assert len(chosen) == 9 and list(chosen)[:6] == list(page.POINTS)
    for weights in chosen.values():
        assert sum(weights) == pytest.approx(1.0, abs=0.003) and min(weights) >= 0
    assert chosen == page.points(9, seed=0) != page.points(9, seed=1)


def test_weights_replace_the_default_ones() -> None:
    reward = page._weighted(settings(), page.POINTS["utilisation"]).env.reward
    assert (reward.completion_time, reward.utilisation) == (0.0, 1.0)


def take(action: int) -> Any:
    return lambda obs: np.full(len(obs["mask"]), action, dtype=np.int64)


def test_score_is_the_base_schedules_zero_and_the_jct_for_its_weight() -> None:
    config = settings("training.validation_episodes=1")
    assert validate(take(0), config).percent == pytest.approx(0.0, abs=1e-9)
    env = play_learned(config, "validation", take(1), part_episodes(config, "validation", 1))
    jct_percent = env.episode_summary(0)["jct_vs_base_percent"]
    assert validate(take(1), config).percent == pytest.approx(jct_percent)
    other = page._weighted(config, page.POINTS["slowdown"])
    assert abs(validate(take(1), other).percent - jct_percent) > 1.0


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
def test_sweep_leaves_table_and_picture_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "sweep"
    assert run(*QUICK, "--out", str(out)) == 0
    assert "completion_time" in capsys.readouterr().out
    table = pd.read_parquet(out / "results.parquet")
    assert sorted(table["name"]) == ["completion_time", "equi", "fairness", "fcfs"]
    trained = table[table["kind"] == "trained"].set_index("name")
    assert trained.loc["fairness", "weight_fairness"] == 1.0
    assert trained.loc["fairness", "weight_completion_time"] == 0.0
    assert (trained["decisions"] == 256).all()
    for metric in page.METRICS:
        assert (table[f"{metric}_low"] <= table[metric]).all()
        assert (table[metric] <= table[f"{metric}_high"]).all()
    # The useful share cannot exceed what was held.
    assert (table["gpu_useful_fraction"] <= table["gpu_allocated_fraction"] + 1e-9).all()
    assert table["non_dominated"].any()
    assert "| fcfs |" in (out / "summary.md").read_text()
    assert (out / "tradeoff.png").stat().st_size > 20_000

    # Again: restored, nothing is trained twice, and evaluation alone may change.
    before = (out / "trials" / "fairness" / "metrics.csv").read_bytes()
    monkeypatch.setattr(machinery, "_new_tuner", lambda *args: pytest.fail("was not restored"))
    assert run(*QUICK, "--out", str(out), "--episodes", "2") == 0
    assert (out / "trials" / "fairness" / "metrics.csv").read_bytes() == before

    assert run(*QUICK, "--out", str(out), "--load", "0.7") == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "holds another sweep (trial 'completion_time' has other settings in" in error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--trials", "0"], "--trials"),
        (["--trace", "no-such.csv"], "no-such.csv"),
        (["--cluster", "4y4"], "4y4"),
        (["--set", "env.reward.speed=1"], "unknown setting 'env.reward.speed'"),
        (["--address", "127.0.0.1:1"], "127.0.0.1:1"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "sweep"
    # Another test of this process may have joined one, which would be taken.
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    assert run(*QUICK, "--out", str(out), *arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and words in error
    assert not out.exists()


def test_another_runs_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({}))
    with pytest.raises(UserError, match="holds a training run"):
        run_sweep([Trial("a", settings())], tmp_path)
