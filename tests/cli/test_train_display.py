"""What `train` says at its end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from marl_sched.checkpoints import seal
from marl_sched.cli import tables
from marl_sched.cli.train_display import going_on, say_what_is_better, say_what_was_gained
from marl_sched.config import load_config
from marl_sched.evaluation.metrics import shorter_than
from marl_sched.training.run import TrainResult


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ((), True),
        (("env.reward.completion_time=3",), True),
        (("training.algo=es",), False),
        (("env.reward.fairness=0.5",), False),
        (("env.reward={completion_time: 0, energy: 1}",), False),
        (("env.train_weights=[completion_time, fairness]",), False),
    ],
)
def test_baselines_are_compared_where_the_score_is_jct(
    more: tuple[str, ...], named: bool, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    settings = load_config(overrides=["env.base=srtf", *more])
    result = TrainResult(tmp_path, 9, 100, 1.0, best_iteration=8, best_validation=-4.0)
    say_what_was_gained(settings, result, {"srtf": 100.0, "fcfs": 150.0, "las": 98.0})
    printed = " ".join(capsys.readouterr().err.split())
    objective = "mean JCT" if named or more == ("training.algo=es",) else "cost"
    assert f"kept, on validation: -4.00 % of srtf's {objective}" in printed
    assert ("Best baseline there: las -2.00" in printed) == named
    kept = json.loads((tmp_path / "run.json").read_text())["baselines_validation"]
    assert kept == pytest.approx({"srtf": 0.0, "fcfs": 50.0, "las": -2.0})


def test_what_is_shorter_than_what_was_trained_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    jct = {"runs/x": 100.0, "pretrained": 97.0, "elastic_index:trust=1": 99.5, "srtf": 180.0}
    report = {
        "schedulers": {name: {"avg_jct_s": {"mean": mean}} for name, mean in jct.items()},
        "episodes": 20,
    }
    report["shorter_than_trained"] = shorter_than(report, "runs/x")
    say_what_is_better(load_config(), report)
    printed = capsys.readouterr().err
    assert printed.count("\n") <= 2  # a line, or one that is broken at 80 characters
    assert "on these 20 episodes: pretrained -3.0 %, elastic_index:trust=1 -0.5 %" in " ".join(
        printed.split()
    )
    # Who was trained for something else is not measured by completion times.
    say_what_is_better(load_config(overrides=["env.reward.fairness=0.5"]), report)
    assert shorter_than(report, "pretrained") == {}
    say_what_is_better(load_config(), report | {"shorter_than_trained": {}})
    assert capsys.readouterr().err == ""


def test_what_was_trained_for_is_among_the_columns() -> None:
    fair = load_config(overrides=["env.reward={completion_time: 0.2, fairness: 0.8}"]).env.reward
    assert list(tables.compared(fair.shares)) == [
        "avg_jct_s", "unfair_fraction", "avg_slowdown", "num_restarts",
    ]  # fmt: skip
    for shown in ("completion_time", "preemption"):
        assert tables.compared({shown: 1.0}) == tables.COMPARED
    assert fair.words == "cost by completion_time 0.20, fairness 0.80"


def test_a_resumed_run_says_where_it_goes_on(tmp_path: Path) -> None:
    def checkpoint(folder: Path, iteration: int, elapsed_s: float) -> None:
        path = folder / "checkpoints" / f"iter_{iteration}"
        path.mkdir(parents=True)
        seal(path, {"iteration": iteration, "elapsed_s": elapsed_s})

    def said(storage: Path | None, **limits: float | None) -> str | None:
        changes = [f"training.{name}={value}" for name, value in limits.items()]
        settings = load_config(overrides=changes)
        return going_on(settings, tmp_path / "out", None if storage is None else str(storage))

    shared = tmp_path / "shared"
    assert said(None, minutes=2) is said(shared, minutes=2) is None
    checkpoint(tmp_path / "out", 9, 119.0)
    assert said(None, minutes=2) == f"going on with the run in {tmp_path}/out: iteration 9"
    checkpoint(shared, 10, 120.5)  # further than --out
    seen = said(shared, minutes=2)
    assert seen is not None
    assert f"the run in {shared} has finished its 2 minutes: nothing to train" in seen
    assert said(shared, minutes=3) == f"going on with the run in {shared}: iteration 10"
    seen = said(None, iterations=9)
    assert seen is not None and "has finished its 9 iterations: nothing to train" in seen
