"""One trial by itself: its rungs, its share of the budget, what ends it as failed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from marl_sched.config import Config, load_config
from marl_sched.evaluation.entrants import Player
from marl_sched.training.records import RunFolder
from marl_sched.tuning import trial
from marl_sched.tuning.outcome import read_outcome
from marl_sched.tuning.trained import Trained
from marl_sched.tuning.trial import Job, run_job

CONFIG = load_config(None, ["training.minutes=null", "training.iterations=4"])


def job(folder: Path, **more: Any) -> Job:
    given: dict[str, Any] = {
        "number": 3, "name": "t", "seed": 1, "values": {"training.ppo.lr": 0.1},
        "config": CONFIG.model_dump(mode="json"), "folder": str(folder), "parent": None,
        "rungs": (0.5,), "cutoffs": {},
    }  # fmt: skip
    return Job(**(given | more))


def playing(scores: list[float | None], seen: list[int]) -> Any:
    """In the place of `train`: iterations with these validation scores."""

    def train(config: Config, out: Path, *, progress: Any, **rest: Any) -> None:
        folder = RunFolder(out)
        folder.out.mkdir()
        for iteration, score in enumerate(scores):
            row: dict[str, Any] = {
                "iteration": iteration,
                "elapsed_s": 1.0,
                "decisions": 256 * iteration,
            }
            row["validation_percent"] = score
            folder.append(row)
            seen.append(iteration)
            progress(row)

    return train


@pytest.fixture
def no_games(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Trained(Player("kept", None, lambda *arguments: []), iteration=0, validation=0.0)
    for loader in ("load_kept", "load_network"):
        monkeypatch.setattr(trial, loader, lambda folder: kept)
    monkeypatch.setattr(trial, "raw_on_validation", lambda config, player: {"valid_x": 1.0})


@pytest.mark.usefixtures("no_games")
def test_a_poor_trial_ends_at_its_rung(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    # The base's own score, iteration 0, is no network's.
    monkeypatch.setattr(trial, "train", playing([0.0, 5.0, None, 1.0, 1.0], seen))
    outcome = run_job(job(tmp_path / "poor", cutoffs={"0.5000": 4.0}), lambda row: None)
    assert outcome.state == "stopped" and seen == [0, 1, 2]
    assert outcome.reason.startswith("at 50% of its budget its best network was at +5.00 %")
    assert outcome.rungs == {"0.5000": 5.0} and outcome.figures["network_percent"] == 5.0
    assert read_outcome(tmp_path / "poor") == outcome

    seen.clear()
    outcome = run_job(job(tmp_path / "good", cutoffs={"0.5000": 5.0}), lambda row: None)
    assert outcome.state == "done" and seen == [0, 1, 2, 3, 4]
    assert outcome.figures["network_percent"] == 1.0 and outcome.figures["valid_x"] == 1.0
    assert outcome.budget == 0  # no checkpoint, nothing that a child could go on from
    checkpoint = tmp_path / "kept" / "checkpoints" / "iter_4"
    monkeypatch.setattr(RunFolder, "latest_checkpoint", lambda folder: checkpoint)
    assert run_job(job(tmp_path / "kept", budget=3), lambda row: None).budget == 3


@pytest.mark.usefixtures("no_games")
def test_progress_is_of_its_own_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "train", playing([None] * 5, []))
    rows: list[Any] = []
    run_job(job(tmp_path / "first", budget=2), rows.append)
    assert [row["progress"] for row in rows] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert rows[0]["units"] == 2
    monkeypatch.setattr(trial, "_inherit", lambda job, folder: None)
    rows.clear()
    run_job(job(tmp_path / "second", budget=2, parent="first"), rows.append)
    assert [row["progress"] for row in rows] == [0.0, 0.0, 0.0, 0.5, 1.0]
    assert rows[0]["units"] == 1


def test_errors_of_the_trial_fail_it_and_those_of_the_machine_go_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(error: Exception) -> Any:
        def train(*args: Any, **rest: Any) -> None:
            raise error

        return train

    monkeypatch.setattr(trial, "train", fails(ValueError("no such\nvalue")))
    outcome = run_job(job(tmp_path / "a"), lambda row: None)
    assert (outcome.state, outcome.reason) == ("failed", "no such value")
    assert outcome.cost("network_percent") is None
    monkeypatch.setattr(trial, "train", fails(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        run_job(job(tmp_path / "b"), lambda row: None)
    assert read_outcome(tmp_path / "b") is None


def test_a_loss_that_is_no_number_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(config: Config, out: Path, *, progress: Any, **rest: Any) -> None:
        progress({"iteration": 2, "value_loss": float("nan"), "policy_loss": None})

    monkeypatch.setattr(trial, "train", train)
    outcome = run_job(job(tmp_path / "a"), lambda row: None)
    assert outcome.state == "failed"
    assert outcome.reason == "diverged: value_loss is nan in iteration 2"


@pytest.mark.usefixtures("no_games")
@pytest.mark.parametrize(
    ("scores", "first"), [([0.0], "iteration"), ([0.0, None, None], "validation")]
)
def test_without_a_network_of_its_own_a_trial_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scores: list[float | None], first: str
) -> None:
    monkeypatch.setattr(trial, "train", playing(scores, []))
    outcome = run_job(job(tmp_path / "ppo"), lambda row: None)
    assert outcome.state == "failed" and outcome.figures == {}
    assert outcome.reason == f"its time was over before its first {first}: it needs more of it"
    # A scorer that learned nothing is the base, and is judged as that.
    config = load_config(None, ["training.algo=es", "training.iterations=4"])
    done = run_job(job(tmp_path / "es", config=config.model_dump(mode="json")), lambda row: None)
    assert done.state == "done" and done.figures["valid_x"] == 1.0
