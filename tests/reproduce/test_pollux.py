"""Pollux' artifact: every job's completion time, to the second."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from marl_sched.errors import UserError
from marl_sched.reproduce.pollux import run
from marl_sched.reproduce.pollux_policy import Pollux
from marl_sched.reproduce.pollux_rules import ReplayedJob, ring, take_greedily
from marl_sched.reproduce.replay import ReplayedModel

EXPECTED = {"tiresias": "tiresias.json", "optimus_oracle": "optimus.json"}


@pytest.mark.parametrize("scheduler", EXPECTED)
def test_every_job_ends_at_the_same_second(shared_data: Path, scheduler: str) -> None:
    folder = shared_data / "pollux"
    expected = json.loads((folder / "expected" / EXPECTED[scheduler]).read_text())["jct_s"]
    compared = 0
    for name, jcts in expected.items():
        path = folder / "workloads" / f"{name}.csv"
        if path.is_file():
            assert run(path, folder / "profiles", scheduler)["jcts_s"] == jcts
            compared += 1
    assert compared >= 2


def test_pollux_is_at_most_its_authors_mean(shared_data: Path) -> None:
    folder = shared_data / "pollux"
    expected = json.loads((folder / "expected" / "pollux.json").read_text())["jct_s"]
    compared = 0
    for name, jcts in expected.items():
        path = folder / "workloads" / f"{name}.csv"
        if path.is_file():
            ours = run(path, folder / "profiles", "pollux")
            assert set(ours["jcts_s"]) == set(jcts)
            assert ours["avg_jct_s"] <= sum(jcts.values()) / len(jcts)
            compared += 1
    assert compared >= 2


class Stepped:
    """A job's progress by the artifact's rules, round by round, and its time of completion."""

    def __init__(self, model: ReplayedModel) -> None:
        self.ends, self.epoch, self.progress = model.epoch_end, 0, 0.0
        self.resume_s = 0.0
        self.done_s: float | None = None

    def step(self, now_s: float, moved: bool, rates: np.ndarray) -> None:
        if moved:
            self.resume_s = now_s + 30.0
        seconds = now_s + 60.0 - max(now_s, self.resume_s)
        while seconds > 0 and self.done_s is None:
            rate, end = rates[self.epoch], self.ends[self.epoch]
            if self.progress + rate * seconds < end:
                self.progress += rate * seconds
                return
            seconds -= round(float((end - self.progress) / rate))
            self.progress = end
            self.epoch += 1
            if self.epoch == len(self.ends):
                self.done_s = now_s + 60.0 - seconds


def test_progress_under_pollux_obeys_the_artifacts_rules(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shared_data / "pollux"
    jobs: dict[int, tuple[float, Stepped]] = {}
    rates_of = Pollux.rates

    def spied(self: Pollux, now_s: float, job: ReplayedJob, moved: bool) -> np.ndarray:
        rates = rates_of(self, now_s, job, moved)
        _, stepped = jobs.setdefault(job.index, (job.arrival_s, Stepped(job.model)))
        assert stepped.epoch == job.epoch
        stepped.step(now_s, moved, rates)
        return rates

    monkeypatch.setattr(Pollux, "rates", spied)
    path = sorted((folder / "workloads").glob("*.csv"))[0]
    jcts = run(path, folder / "profiles", "pollux")["jcts_s"]
    assert len(jobs) == len(jcts)
    expected = [jobs[j][1].done_s - jobs[j][0] for j in range(len(jcts))]  # type: ignore[operator]
    assert list(jcts.values()) == expected


def test_a_ring_keeps_the_order_in_which_nodes_were_taken() -> None:
    assert ring([3, 3, 1, 1, 1, 2]) == (2, 3, 1)
    assert ring([]) == ()


def test_the_node_with_most_free_gpus_gives_first() -> None:
    free = np.array([1, 4, 3])
    assert take_greedily(free, 6) == [1, 1, 1, 1, 2, 2]
    assert free.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,time\na,1\n", ["application"]),
        ("name,time,application,num_replicas,batch_size\na,1,vgg,1,8\n", ["row 2", "vgg"]),
        ("name,time,application,num_replicas,batch_size\na,x,ncf,1,8\n", ["row 2", "time"]),
        ("name,time,application,num_replicas,batch_size\n", ["no job"]),
    ],
)
def test_bad_workloads(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "jobs.csv"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        run(path, tmp_path, "tiresias")
    for word in words:
        assert word in str(error.value)


def test_an_unknown_scheduler_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="optimus_oracle"):
        run(tmp_path / "jobs.csv", tmp_path, "sjf")
