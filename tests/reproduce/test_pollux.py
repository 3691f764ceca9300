"""Pollux' artifact: every job's completion time, to the second."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from marl_sched.errors import UserError
from marl_sched.reproduce.pollux import SCHEDULERS, ring, run
from marl_sched.reproduce.pollux_rules import take_greedily

EXPECTED = {"tiresias": "tiresias.json", "optimus_oracle": "optimus.json"}


@pytest.mark.parametrize("scheduler", SCHEDULERS)
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


def test_a_ring_keeps_the_order_in_which_nodes_were_taken() -> None:
    assert ring([3, 3, 1, 1, 1, 2]) == (2, 3, 1)
    assert ring([]) == ()


def test_the_node_with_most_free_gpus_gives_first() -> None:
    import numpy as np

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
