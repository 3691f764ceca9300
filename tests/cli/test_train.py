"""Training from the command line, end to end and as small as it gets."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.cli.program import Outcome, call, files_in

SMALL = (
    "--cluster", "2x4", "--num-env-runners", "0", "--seed", "3",
    "--set", "workload.synthetic.num_jobs=240",
    "--set", "env.jobs_per_episode=16", "--set", "env.job_slots=8",
    "--set", "training.num_envs_per_runner=4", "--set", "training.validation_episodes=2",
    "--set", "training.checkpoint_every=1", "--set", "training.validation_every=1",
    "--set", "training.ppo.batch_size=256", "--set", "training.ppo.minibatch_size=128",
    "--set", "training.dqn.decisions_per_iteration=256",
    "--set", "training.dqn.learning_starts=64",
    "--set", "evaluation.episodes=3", "--set", "evaluation.schedulers=[fcfs, elastic_index]",
)  # fmt: skip

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def train(capsys: pytest.CaptureFixture[str], out: Path, iterations: int, *more: object) -> Outcome:
    return call(capsys, "train", "--out", out, "--iterations", iterations, *SMALL, *more)


def metrics(out: Path) -> list[dict[str, str]]:
    with (out / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_train_resume_and_evaluate(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, ray_local: None
) -> None:
    out = tmp_path / "run"
    seen = train(capsys, out, 1)
    assert seen.code == 0, seen.err
    assert "Traceback" not in seen.err
    # Progress goes to standard error, the table of held-out jobs to standard output.
    assert "decis" in seen.err and "iteration 1" in seen.err
    for words in ("held-out jobs", "fcfs", "elastic_index", "best classic"):
        assert words in seen.out
    for name in ("config.yaml", "metrics.csv", "run.json", "evaluation.json"):
        assert (out / name).is_file(), name
    # The strongest that were there without training are always among them, and what is shorter
    # than what was trained is said.
    judged = json.loads((out / "evaluation.json").read_text())
    there = {"elastic_index:tuned", "elastic_index:trust=1", "pretrained"}
    assert there < set(judged["schedulers"])
    jct = {who: of["avg_jct_s"]["mean"] for who, of in judged["schedulers"].items()}
    shorter = {who for who, mean in jct.items() if mean < jct[str(out)]}
    assert set(judged["shorter_than_trained"]) == shorter
    assert ("shorter than what was trained" in seen.err) == bool(shorter)
    settings = yaml.safe_load((out / "config.yaml").read_text())
    assert settings["cluster"] == "2x4" and settings["seed"] == 3
    assert settings["training"]["minutes"] is None  # a count alone is reproducible
    rows = metrics(out)
    assert [row["iteration"] for row in rows] == ["0", "1"]
    # Training starts at the base schedule, exactly.
    assert float(rows[0]["validation_percent"]) == 0.0

    # Another run is not overwritten, and a resumed one keeps its settings.
    before = files_in(out)
    again = train(capsys, out, 1)
    assert again.code == 2 and "--resume auto" in again.err.splitlines()[-1]
    other = train(capsys, out, 2, "--resume", "auto", "--load", "0.4")
    assert other.code == 2 and "workload.load" in other.err.splitlines()[-1]
    assert files_in(out) == before

    resumed = train(capsys, out, 2, "--resume", "auto")
    assert resumed.code == 0, resumed.err
    said = " ".join(resumed.err.split())  # lines break where the path is long
    assert "going on with the run in" in said and ": iteration 1" in said
    assert [row["iteration"] for row in metrics(out)] == ["0", "1", "2"]
    assert metrics(out)[:2] == rows

    judged = call(
        capsys, "evaluate", "--scheduler", out, "--scheduler", "fcfs", "--episodes", "3", "--json"
    )
    assert judged.code == 0, judged.err
    report = json.loads(judged.out)
    assert set(report["schedulers"]) == {str(out), "fcfs"}
    assert report["cluster"] == "2x4" and report["part"] == "test"
    kept = json.loads((out / "evaluation.json").read_text())
    assert report["schedulers"][str(out)] == kept["schedulers"][str(out)]

    # Another number of slots is another observation: refused or served, never a traceback.
    wider = call(
        capsys, "evaluate", "--scheduler", out, "--episodes", "3", "--json",
        "--set", "env.algorithms=[fcfs]",
    )  # fmt: skip
    assert wider.code == 2 and len(wider.err.splitlines()) == 1


def test_where_nothing_can_be_kept_nothing_is_done(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    used = tmp_path / "used"
    used.mkdir()
    (used / "run.json").write_text("{}")
    before = files_in(tmp_path)
    for more, words in (
        (("--out", tmp_path / "file" / "run"), "part of the path is a file"),
        (("--out", used), "holds a run already"),
        (("--out", tmp_path / "new", "--storage", tmp_path / "file" / "run"), "--storage"),
        (("--out", tmp_path / "new", "--storage", used), "holds a run already"),
        (("--out", tmp_path / "new", "--num-learners", 3), "must divide"),
    ):
        seen = call(capsys, "train", "--iterations", 1, "--cluster", "2x4", *more)
        assert seen.code == 2
        *said, error = seen.err.splitlines()
        assert words in error and error.startswith("error: ")
        # Before the baselines are played, which takes its time.
        assert not any("validation JCT" in line for line in said)
    assert files_in(tmp_path) == before


def test_learners_take_cpus_where_there_are_no_gpus(tmp_path: Path) -> None:
    """In a Ray of its own, which must be large enough for runners and learners."""
    out = tmp_path / "run"
    words = [str(word) for word in SMALL] + ["--num-env-runners", "1", "--num-learners", "2"]
    done = subprocess.run(
        [
            sys.executable, "-m", "marl_sched", "train", "--out", str(out), "--iterations", "1",
            *words, "--num-gpus-per-learner", "1",
        ],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [row["iteration"] for row in metrics(out)] == ["0", "1"]


@pytest.mark.parametrize("more", [("--algo", "dqn"), ("--agents", "learned")])
def test_the_other_ways_to_train(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, ray_local: None, more: tuple[str, ...]
) -> None:
    out = tmp_path / "run"
    seen = train(capsys, out, 1, *more)
    assert seen.code == 0, seen.err
    assert [row["iteration"] for row in metrics(out)] == ["0", "1"]
    assert str(out) in json.loads((out / "evaluation.json").read_text())["schedulers"]


def test_a_scorer_s_folder_is_a_scheduler(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    seen = train(capsys, out, 2, "--algo", "es", "--set", "training.es.pairs=2")
    assert seen.code == 0, seen.err
    assert "training ES (scorer) on synthetic" in seen.err
    kept = json.loads((out / "evaluation.json").read_text())
    assert str(out) in kept["schedulers"] and kept["best_classic"] != str(out)
    judged = call(
        capsys, "evaluate", "--scheduler", "elastic_index", "--scheduler", out, "--episodes", "3",
        "--json",
    )  # fmt: skip
    assert judged.code == 0, judged.err
    report = json.loads(judged.out)
    # Judged on the jobs and the cluster that it was trained for, where nothing else is given.
    assert report["cluster"] == "2x4" and report["best_classic"] == "elastic_index"
    assert report["schedulers"][str(out)] == kept["schedulers"][str(out)]
    simulated = call(capsys, "simulate", "--scheduler", out, "--cluster", "2x4", "--json")
    assert simulated.code == 0 and json.loads(simulated.out)["num_finished"] == 6000
    (file,) = (out / "best").glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    for command in ("simulate", "evaluate"):
        refused = call(capsys, command, "--scheduler", out)
        assert refused.code == 2 and "SHA-256" in refused.err.splitlines()[-1]


def test_the_fast_preset_says_what_each_stage_gained(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, ray_local: None
) -> None:
    out = tmp_path / "run"
    fast = ("--algo", "ppo", "--preset", "fast", "--set", "training.es.pairs=2")
    seen = train(capsys, out, 4, *fast)
    assert seen.code == 0, seen.err
    printed = " ".join(seen.err.split())
    assert "training PPO (scorer, then edit) on synthetic" in printed
    assert "% of elastic_index:tuned" in printed and "of that the warm start" in printed
    rows = metrics(out)
    assert [row["warm_start"] for row in rows] == ["", "1", "1", "1", "0"]
    assert float(rows[0]["validation_percent"]) == 0.0
    record = json.loads((out / "run.json").read_text())
    assert record["best_validation"] <= record["warm_start"]["validation_percent"] <= 0.0
    # Both against the base, on the same episodes.
    assert record["baselines_validation"]["elastic_index:tuned"] == 0.0
    assert record["baselines_validation"]["fcfs"] > 0.0
    kept = json.loads((out / "evaluation.json").read_text())
    assert str(out) in kept["schedulers"]
    simulated = call(capsys, "simulate", "--scheduler", out / "base", "--cluster", "2x4", "--json")
    assert simulated.code == 0 and json.loads(simulated.out)["num_finished"] == 6000
    resumed = train(capsys, out, 5, *fast, "--resume", "auto")
    assert resumed.code == 0, resumed.err
    assert [row["warm_start"] for row in metrics(out)] == ["", "1", "1", "1", "0", "0"]


def test_the_same_seed_gives_the_same_curve(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, ray_local: None
) -> None:
    clocks = {"elapsed_s", "decisions_per_s", "sample_s", "update_s"}
    curves = []
    for name in ("one", "two"):
        assert train(capsys, tmp_path / name, 2).code == 0
        rows = metrics(tmp_path / name)
        curves.append([{k: v for k, v in row.items() if k not in clocks} for row in rows])
    assert curves[0] == curves[1]
    assert len(curves[0]) == 3
