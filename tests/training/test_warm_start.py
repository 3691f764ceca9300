"""Evolution strategies first, then PPO or DQN on their scorer: one run, resumable in both."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marl_sched.config import Config, load_config
from marl_sched.errors import UserError
from marl_sched.evaluation.compare import part_episodes
from marl_sched.evaluation.entrants import load_player
from marl_sched.evaluation.learned import Score, base_costs, run_learned, validate
from marl_sched.export.checkpoint import load_checkpoint
from marl_sched.models.policy import LearnedPolicy, load_policy
from marl_sched.schedulers.learned.scorer_file import is_scorer, load_scorer
from marl_sched.training import warm_start
from marl_sched.training.records import RunFolder
from marl_sched.training.run import train
from marl_sched.training.warm_start import on_base

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]

TIMES = {"elapsed_s", "decisions_per_s", "sample_s", "update_s"}


def settings(iterations: int, *more: str) -> Config:
    return load_config(
        overrides=[
            f"training.iterations={iterations}", "training.minutes=null",
            "training.warm_start=0.5", "training.num_env_runners=0",
            "training.validation_every=1", "training.validation_episodes=3",
            "training.checkpoint_every=1", "training.es.pairs=3", "training.es.sequences=3",
            "training.num_envs_per_runner=4", "training.ppo.batch_size=128",
            "training.ppo.minibatch_size=64", "training.dqn.decisions_per_iteration=128",
            "training.dqn.learning_starts=64", "env.actions=edit", "env.jobs_per_episode=40",
            "env.job_slots=8", "workload.synthetic.num_jobs=400", "cluster=4x4", *more,
        ]
    )  # fmt: skip


def curve(out: Path) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in row.items() if name not in TIMES}
        for row in RunFolder(out).rows()
    ]


def stop_at(iteration: int) -> Any:
    def progress(row: dict[str, Any]) -> None:
        if row["iteration"] == iteration:
            raise KeyboardInterrupt

    return progress


@pytest.fixture(scope="module")
def whole(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    train(settings(4), out)
    return out


def test_both_stages_are_one_run(whole: Path) -> None:
    rows = RunFolder(whole).rows()
    assert [row["iteration"] for row in rows] == [0, 1, 2, 3, 4]
    assert [row["warm_start"] for row in rows[1:]] == [1, 1, 0, 0]
    assert rows[0]["validation_percent"] == 0.0  # it starts at the base, exactly
    decisions = [row["decisions"] for row in rows]
    assert decisions == sorted(decisions)
    record = json.loads((whole / "run.json").read_text())
    warm = load_scorer(whole / "base")
    assert record["warm_start"] == {
        "iteration": warm.iteration, "validation_percent": warm.validation
    }  # fmt: skip
    assert record["best_validation"] <= warm.validation
    least = min(row["validation_percent"] for row in rows[:3])
    assert warm.validation == pytest.approx(least, rel=1e-5)  # metrics.csv has six digits
    kept = load_config(whole / "config.yaml")
    assert kept.env.base == settings(4).env.base == warm.config["env"]["base"]


def test_a_checkpoint_of_either_stage_is_exported_or_says_why_not(
    whole: Path, tmp_path: Path
) -> None:
    """Of the second stage the network, on the scorer that it stands on; the first has none."""
    found = load_checkpoint(whole / "checkpoints" / "iter_4")
    assert isinstance(found.trained, LearnedPolicy) and found.algo == "ppo"
    manifest = found.trained.manifest
    assert manifest.iteration == 4 and manifest.base == str(whole / "base")
    assert manifest.config["env"]["base"] == manifest.base
    with pytest.raises(KeyboardInterrupt):
        train(settings(4), tmp_path / "run", progress=stop_at(1))
    with pytest.raises(UserError, match="evolution strategies, to go on training from; export the"):
        load_checkpoint(tmp_path / "run" / "checkpoints" / "iter_1", trust=True)


def test_the_warm_start_is_scored_as_it_is_judged(whole: Path) -> None:
    """Percent of the mean JCT of the base on the very validation episodes."""
    config = settings(4)
    episodes = part_episodes(config, "validation", 3)

    def total(name: str) -> float:
        runs = load_player(name).play(config, "validation", episodes)
        return sum(run["avg_jct_s"] for run in runs)

    percent = 100 * (total(str(whole / "base")) / total(config.env.base) - 1)
    assert load_scorer(whole / "base").validation == pytest.approx(percent, abs=1e-9)


@pytest.mark.parametrize("killed_at", [1, 2, 3])
def test_goes_on_in_either_stage(whole: Path, tmp_path: Path, killed_at: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(settings(4), tmp_path, progress=stop_at(killed_at))
    result = train(settings(4), tmp_path, resume=True)
    assert result.iteration == 4
    assert curve(tmp_path) == curve(whole)


@pytest.mark.parametrize("algo", ["ppo", "dqn"])
def test_a_policy_that_wins_takes_its_scorer_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, algo: str
) -> None:
    won = lambda *_, **__: Score(np.array([-50.0, -51.0, -52.0]))  # noqa: E731
    monkeypatch.setattr(warm_start, "validate", won)
    config = settings(2, f"training.algo={algo}")
    result = train(config, tmp_path / "run")
    assert result.best_iteration == 2 and result.best_validation == -51.0
    assert result.warm_start_validation is not None and result.warm_start_validation <= 0.0
    assert not is_scorer(str(tmp_path / "run"))
    scorer = load_scorer(tmp_path / "run" / "base")
    shutil.rmtree(tmp_path / "run" / "base")
    moved = (tmp_path / "run" / "best").rename(tmp_path / "elsewhere")
    policy = load_policy(moved)
    assert load_scorer(Path(policy.manifest.base)).weights == scorer.weights
    played = Config.model_validate(policy.manifest.config)
    assert Path(played.env.base).parent == moved.resolve()
    runs = run_learned(played, "test", policy.act, part_episodes(played, "test", 2))
    assert all(run["num_finished"] == 40 for run in runs)


def test_scores_add_up_over_a_base_of_its_own(whole: Path) -> None:
    """Committing the scorer throughout is what the scorer is, against the run's base."""
    config = on_base(settings(4), whole / "base")
    commit = lambda obs: np.zeros(len(obs["mask"]), dtype=np.int64)  # noqa: E731
    score = validate(commit, config, reference=base_costs(settings(4)))
    assert score.percent == pytest.approx(load_scorer(whole / "base").validation, abs=1e-9)


def test_is_nothing_for_evolution_strategies_themselves() -> None:
    with pytest.raises(UserError, match="warm_start is for PPO and DQN"):
        settings(1, "training.algo=es")


def test_needs_a_base_with_scores(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="begin at elastic_index, not at"):
        train(settings(1, "env.base=equi"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
