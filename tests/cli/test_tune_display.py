"""Progress of a sweep where no terminal shows it: whole lines, the best so far, time left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from marl_sched.cli.tune import _size
from marl_sched.cli.tune_display import Display
from marl_sched.config import load_config
from marl_sched.tuning.page import Sweep
from marl_sched.tuning.run import Run
from tests.tuning import pages


class Clock:
    """In the place of `time.monotonic`."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("marl_sched.cli.tune_display.time.monotonic", clock)
    return clock


def display(sweep: Sweep) -> Display:
    return Display(Run(sweep, load_config(None, []), Path("out")))


def row(iteration: int, percent: float | None, progress: float, **more: Any) -> dict[str, Any]:
    figures = {"iteration": iteration, "validation_percent": percent, "progress": progress}
    return figures | {"new": True} | more


def test_lines_of_a_search(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    reason = "at 50% of its budget its best network was at +5.00 %, " + "the better ones lower " * 5
    with display(pages.SWEEP) as show:
        show("trial_1", row(0, 0.0, 0.0))
        show("trial_1", row(1, 2.0, 0.25))
        show("trial_1", row(2, None, 0.4))
        show("trial_1", row(3, 3.0, 0.5))  # no better: no line
        clock.now_s = 59.0
        show("trial_1", row(4, -4.0, 0.75))
        clock.now_s = 60.0
        show("trial_1", {"progress": 1.0, "state": "done", "network_percent": -4.0, "new": True})
        show("trial_2", {"again": "its worker died"})
        clock.now_s = 121.0
        show("trial_2", row(1, 5.0, 0.5))
        show("trial_2", {"progress": 1.0, "state": "stopped", "reason": reason, "new": True})
        show("trial_3", {"progress": 1.0, "state": "failed", "network_percent": -9.0, "new": True})
    words = [" ".join(line.split()) for line in capsys.readouterr().err.splitlines()]
    assert words == [
        "trial_1 iteration 0 +0.00 % of the base's cost on validation",
        "trial_1 iteration 1 +2.00 % of the base's cost on validation",
        "trial_1 iteration 4 -4.00 % of the base's cost on validation",
        "trial_1 done [1 of 3 ended; about 2.0 min left; best -4.00 % (trial_1)]",
        "trial_2 starts again: its worker died",
        "trial_2 iteration 1 +5.00 % of the base's cost on validation",
        f"trial_2 stopped: {reason.strip()} "
        "[2 of 3 ended; about 1.0 min left; best -4.00 % (trial_1)]",
        "trial_3 failed [3 of 3 ended; best -4.00 % (trial_1)]",
    ]  # fmt: skip


def test_the_longest_that_a_sweep_may_take() -> None:
    """One trial of all points' budget together takes that however many run beside it."""

    def size(sweep: Sweep, concurrent: int, minutes: float) -> str:
        config = load_config(None, [f"training.minutes={minutes}"])
        return _size(Run(sweep, config, Path("out"), concurrent))

    assert size(pages.WEIGHTS, 8, 10.0) == (
        "2 points + 1 for all weights = 3 trials, 8 at a time, at most 20 minutes and their starts"
    )
    assert "at most 40 minutes" in size(pages.WEIGHTS, 1, 10.0)
    assert "at most 20 minutes" in size(pages.PBT, 8, 10.0)  # two generations
    assert "at most 20 minutes" in size(pages.SWEEP, 2, 10.0)  # two trials, then the third
    assert "at most 72 seconds and" in size(pages.SWEEP, 2, 0.6)
    assert "at most 1 second and" in size(replace(pages.SWEEP, trials=1), 2, 0.01)
    assert size(replace(pages.WEIGHTS, seeds=2), 8, 10.0).startswith(
        "2 points x 2 seeds + 2 for all weights = 6 trials, "
    )


def test_what_was_done_before_takes_no_time(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with display(pages.WEIGHTS) as show:
        # Two units of four, by another process: the network for all weights.
        show("conditioned", {"progress": 1.0, "units": 2, "state": "done"})
        clock.now_s = 60.0
        show("jct", {"progress": 1.0, "units": 1, "state": "done", "new": True})
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("done  [1 of 3 ended]")
    # With other weights in each trial, there is no best among them.
    assert lines[1].endswith("done  [2 of 3 ended; about 1.0 min left]")


@pytest.mark.parametrize(
    ("objective", "figures", "words"),
    [
        ("valid_avg_jct_s", {"valid_avg_jct_s": 7200.0}, "best 2.00 h (b)"),
        ("-valid_gpu_useful_fraction", {"valid_gpu_useful_fraction": 0.7}, "best 70.0 % (b)"),
    ],
)
def test_the_best_is_by_the_objective(
    objective: str,
    figures: dict[str, float],
    words: str,
    clock: Clock,
    capsys: pytest.CaptureFixture[str],
) -> None:
    worse = {name: 2 * value if name.endswith("_s") else 0.5 for name, value in figures.items()}
    with display(replace(pages.PBT, objectives=(objective,))) as show:
        for name, found in (("a", worse), ("b", figures), ("c", worse)):
            show(name, {"progress": 1.0, "state": "done", "new": True, **found})
    assert words in capsys.readouterr().err.splitlines()[-1]
