"""The openb experiment: published allocation ratios, and its rules on inputs done by hand."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from marl_sched.errors import UserError
from marl_sched.reproduce.openb import SCHEDULERS, arrival_order, at_load, run
from marl_sched.sim import devices
from marl_sched.workload import openb


def test_loader_and_kernels_mean_the_same_by_a_mask_and_a_whole_gpu() -> None:
    assert (openb.ANY_TYPE, openb.MAX_TYPES) == (devices.ANY_TYPE, devices.MAX_TYPES)
    assert openb.WHOLE == devices.MILLI


LISTS = ("default", "gpushare100", "multigpu50")


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_published_allocation(shared_data: Path, name: str, scheduler: str) -> None:
    folder = shared_data / "openb"
    result = run(folder / f"openb_pod_list_{name}.csv", None, scheduler, seeds=5)
    with (folder / "expected_gpu_allocated_percent.csv").open() as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if row["workload"] == result["workload"] and row["policy"] == scheduler
        ]
    assert {int(row["load_percent"]) for row in rows} == {90, 100}
    for row in rows:
        ours = result["gpu_allocated_percent"][int(row["load_percent"])]["mean_percent"]
        assert ours == pytest.approx(float(row["mean_percent"]), abs=1.0)


def write_lists(folder: Path, pods: list[str]) -> Path:
    nodes = ["sn,cpu_milli,memory_mib,gpu,model", "a,8000,100,2,T4", "b,8000,100,2,G2"]
    (folder / "openb_node_list_gpu_node.csv").write_text("\n".join(nodes) + "\n")
    path = folder / "openb_pod_list_small.csv"
    path.write_text("\n".join(["name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec", *pods]))
    return path


@pytest.mark.parametrize("scheduler", [*SCHEDULERS, "first_fit", "spread"])
def test_whole_gpus_fill_the_cluster(tmp_path: Path, scheduler: str) -> None:
    """Four GPUs, pods of one GPU: each arrival up to 100 % finds room, the fifth does not."""
    path = write_lists(tmp_path, [f"p{i},1000,1,1,1000," for i in range(3)])
    result = run(path, None, scheduler, seeds=[0, 7], load_percent=(25, 50, 100, 125))
    got = {load: v["percent"] for load, v in result["gpu_allocated_percent"].items()}
    assert got == {25: [25.0, 25.0], 50: [50.0, 50.0], 100: [100.0, 100.0], 125: [100.0, 100.0]}
    assert result["num_gpus"] == 4 and result["seeds"] == [0, 7]


def test_gpu_types_and_cpus_bound_the_allocation(tmp_path: Path) -> None:
    path = write_lists(tmp_path, [f"p{i},1000,1,1,1000,T4" for i in range(4)])
    result = run(path, None, "BestFit", 1, (100,))
    assert result["gpu_allocated_percent"][100]["percent"] == [50.0]
    path = write_lists(tmp_path, [f"p{i},5000,1,1,1000," for i in range(4)])
    result = run(path, None, "BestFit", 1, (100,))
    assert result["gpu_allocated_percent"][100]["percent"] == [50.0]


def test_the_same_seed_gives_the_same_result(tmp_path: Path) -> None:
    path = write_lists(tmp_path, [f"p{i},{1000 + i},1,1,{300 + 40 * i}," for i in range(9)])
    first, again = (run(path, None, "Random", [3, 4], (60, 90)) for _ in range(2))
    assert first["gpu_allocated_percent"] == again["gpu_allocated_percent"]


def test_arrivals_are_topped_up_and_cut_to_130_percent() -> None:
    demand = np.array([1000, 2000, 0, 500])
    order = arrival_order(demand, 4000, np.random.default_rng(0))
    assert sorted(order[:4].tolist()) == [0, 1, 2, 3]
    assert 5200 - 2000 < demand[order].sum() <= 5200
    many = np.full(100, 1000)
    order = arrival_order(many, 50_000, np.random.default_rng(0))
    assert len(order) == len(set(order.tolist())) == 65


def test_the_value_at_a_load_is_a_mean_over_arrivals() -> None:
    arrived = np.array([88.9, 89.6, 90.4, 90.6, 95.2])
    held = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    assert at_load(arrived, held, 90) == 3.0
    assert at_load(arrived, held, 94) == 16.0  # nothing rounds to 94, but 95.2 does to 95
    assert at_load(arrived, held, 93) == 8.0  # nothing near: the last arrival below
    assert at_load(arrived, held, 60) == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scheduler": "Best"}, "scheduler 'Best' places no pods; known: Random"),
        ({"seeds": 0}, "give at least one"),
        ({"load_percent": (130,)}, "whole percents from 1 to 129"),
        ({"load_percent": (90.5,)}, "whole percents"),
    ],
)
def test_bad_requests(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = write_lists(tmp_path, ["p0,1000,1,1,1000,"])
    with pytest.raises(UserError, match=message):
        run(path, **change)  # type: ignore[arg-type]


def test_without_a_node_list_or_a_gpu(tmp_path: Path) -> None:
    path = write_lists(tmp_path, ["p0,1000,1,0,0,"])
    with pytest.raises(UserError, match="no pod asks for a GPU"):
        run(path)
    (tmp_path / "openb_node_list_gpu_node.csv").unlink()
    with pytest.raises(UserError, match="name the node list"):
        run(path)
