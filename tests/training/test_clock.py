"""A run keeps to its minutes, whatever its iterations, validations and checkpoints take."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marl_sched.config import load_config
from marl_sched.training.clock import Budget, Clock
from marl_sched.training.diverged import Diverged
from marl_sched.training.records import Row, RunFolder
from marl_sched.training.run import TrainResult, _Run, limit_reached
from marl_sched.training.trainer import Candidate


@dataclass
class Time:
    """A clock that goes on when somebody says how long something takes."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Steps:
    """Learns in iterations of `whole_s`, or as long as it is given, in steps of `step_s`."""

    time: Time
    whole_s: float = 30.0
    step_s: float = 1.0
    validation_s: float = 5.0
    checkpoint_s: float = 1.0
    setup_s: float = 100.0
    losses: list[float] = field(default_factory=list)
    cautious = False
    made: int = 0
    known_s: float = 0.0

    def algorithm(self) -> str:
        return "ppo"

    def prepare(self) -> None: ...

    def iterate(self, seconds: float | None = None) -> Row:
        left_s = self.whole_s if seconds is None else min(self.whole_s, seconds)
        self.time.now_s += max(self.step_s, -(-left_s // self.step_s) * self.step_s)
        self.made, self.known_s = self.made + 1, self.whole_s
        loss = self.losses[self.made - 1] if self.losses else 0.5
        return {"decisions": 10 * self.made, "value_loss": loss}

    def shortest_s(self) -> float:
        return self.known_s / 4

    def is_due(self) -> bool:
        return False

    def candidate(self, iteration: int, is_base: bool) -> Steps:
        return self

    def singles(self) -> dict[str, Candidate]:
        self.time.now_s += self.setup_s
        return {}

    def score(self) -> float:
        self.time.now_s += self.validation_s
        return -float(self.made)

    def save(self, folder: Path, score: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "made").write_text(str(self.made))

    def best_in(self, folder: Path) -> tuple[int, float]:
        return int((folder / "made").read_text()), self.score()

    def save_to_path(self, path: str) -> None:
        self.time.now_s += self.checkpoint_s
        Path(path).mkdir(parents=True)
        (Path(path) / "state").write_text(str(self.made))

    def restore_from_path(self, path: str) -> None:
        self.time.now_s += self.setup_s
        self.made = int((Path(path) / "state").read_text())

    def stop(self) -> None: ...


def train(steps: Steps, out: Path, minutes: float, resume: bool = False) -> TrainResult:
    config = load_config(
        overrides=[f"training.minutes={minutes}", "training.validation_every=3",
                   "training.checkpoint_every=2"]
    )  # fmt: skip
    folder, clock = RunFolder(out), Clock(steps.time)
    folder.checkpoints.mkdir(parents=True, exist_ok=True)
    steps.time.now_s += steps.setup_s
    run = _Run(config, folder, steps, clock, Budget(minutes, clock), None)
    run.start(folder.latest_checkpoint() if resume else None)
    run.loop()
    return run.finish()


@settings(max_examples=15)
@given(
    minutes=st.floats(0.05, 4.0), whole_s=st.floats(5.0, 200.0),
    validation_s=st.floats(0.1, 60.0), checkpoint_s=st.floats(0.0, 5.0),
)  # fmt: skip
def test_the_minutes_are_kept(
    minutes: float, whole_s: float, validation_s: float, checkpoint_s: float
) -> None:
    """Nobody is late by more than a step and a checkpoint, whose time nobody knows before the
    first; and what is left unused is less than the smallest iteration and its end would take."""
    steps = Steps(Time(), whole_s, 0.5, validation_s, checkpoint_s)
    with TemporaryDirectory() as out:
        result = train(steps, Path(out), minutes)
        rows = RunFolder(Path(out)).rows()
    limit_s = 60.0 * minutes
    if result.iteration == 0:
        assert limit_s <= validation_s and result.elapsed_s == 0.0
        return
    assert result.elapsed_s <= limit_s + 1.0 + 2 * checkpoint_s
    assert result.elapsed_s >= limit_s - (whole_s / 4 + 2 * (validation_s + checkpoint_s) + 1.0)
    assert rows[-1]["validation_percent"] is not None  # what was learned last is validated


def test_time_before_training_does_not_count(tmp_path: Path) -> None:
    """8 minutes with 100 s of setup: 16 iterations of 30 s less what 5 validations take."""
    result = train(Steps(Time()), tmp_path, 8)
    assert result.iteration > 10 and 440 < result.elapsed_s <= 481
    # Workers, single algorithms, and the base's validation.
    assert result.setup_s == 100.0 + 100.0 + 5.0


def test_the_first_validation_is_no_measure_of_those_to_come(tmp_path: Path) -> None:
    """It waits for workers and loads what is compiled: 50 s, where later ones take 5."""
    steps = Steps(Time())
    inner, first = steps.score, [45.0]

    def score() -> float:
        steps.time.now_s += first.pop() if first else 0.0
        return inner()

    steps.score = score  # type: ignore[method-assign]
    result = train(steps, tmp_path, 1)
    assert result.iteration >= 2 and 50 < result.elapsed_s <= 61


def test_a_run_without_an_iteration_says_so(tmp_path: Path) -> None:
    result = train(Steps(Time(), validation_s=20.0), tmp_path, 0.05)
    assert result.iteration == 0 and RunFolder(tmp_path).latest_checkpoint() is None


def test_resuming_counts_the_time_used_before(tmp_path: Path) -> None:
    time = Time()
    first = train(Steps(time), tmp_path, 2)
    assert 100 < first.elapsed_s <= 121
    newest = RunFolder(tmp_path).latest_checkpoint() or tmp_path
    saved = json.loads((newest / "progress.json").read_text())
    assert limit_reached(load_config(overrides=["training.minutes=2"]), saved) == "2 minutes"
    assert limit_reached(load_config(overrides=["training.minutes=3"]), saved) is None
    # Of the same minutes nothing is left, whatever was not used; of more, the rest.
    time.now_s += 1e5
    again = train(Steps(time), tmp_path, 2, resume=True)
    assert again.iteration == first.iteration
    more = train(Steps(time), tmp_path, 4, resume=True)
    assert 220 < more.elapsed_s <= 241 and more.iteration > first.iteration


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path, loss: float) -> None:
    """After the checkpoint of iteration 2 and the validation of iteration 3."""
    steps = Steps(Time(), losses=[0.5, 0.5, 0.5, loss, 0.5])
    with pytest.raises(Diverged, match=f"diverged: value_loss is {loss} in iteration 4") as error:
        train(steps, tmp_path, 20)
    assert "\n" not in str(error.value)
    for words in (str(tmp_path / "best"), "(iteration 3)", "training.ppo.lr", "0.001"):
        assert words in str(error.value)
    folder = RunFolder(tmp_path)
    assert (folder.best / "made").read_text() == "3"
    assert [path.name for path in folder.checkpoints.iterdir()] == ["iter_2"]
    assert folder.read_run()["diverged"].startswith("diverged: value_loss")


def test_a_finished_run_is_finished_when_a_checkpoint_took_its_last_seconds(tmp_path: Path) -> None:
    """The checkpoint of iteration 2 leaves no room: that network is still validated, and a resume
    of the same minutes has nothing to do."""
    steps = Steps(Time(), whole_s=20.0, checkpoint_s=12.0)
    first = train(steps, tmp_path, 1)
    rows = RunFolder(tmp_path).rows()
    assert [row["iteration"] for row in rows] == list(range(first.iteration + 1))
    assert rows[-1]["iteration"] == 2 and rows[-1]["validation_percent"] == -2.0
    assert train(Steps(steps.time), tmp_path, 1, resume=True).iteration == 2
