"""Strict reading of openb node and pod lists."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from marl_sched.errors import UserError
from marl_sched.workload.openb import ANY_TYPE, load_nodes, load_pods

NODES = "sn,cpu_milli,memory_mib,gpu,model"
PODS = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos"


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_node_list(tmp_path: Path) -> None:
    path = write(tmp_path / "n.csv", NODES, "a,8000,1024,1,T4", "b,4000,512,0,", "c,96000,9,8,G2")
    nodes = load_nodes(path)
    assert nodes.name.tolist() == ["a", "b", "c"]
    assert nodes.cpu_milli.tolist() == [8000, 4000, 96000]
    assert nodes.memory_mib.tolist() == [1024, 512, 9]
    assert nodes.num_gpu.tolist() == [1, 0, 8]
    assert nodes.gpu_types == ("T4", "G2")
    assert nodes.node_type.tolist() == [0, 0, 1]


def test_a_pod_list(tmp_path: Path) -> None:
    path = write(
        tmp_path / "p.csv",
        PODS,
        "p0,1000,64,1,460,,LS",
        "p1,1000,64,2,1000,V100|T4,LS",
        "p2,1000,64,0,0,T4,BE",
        "p3,1000,64,1,1000,A100,BE",
    )
    pods = load_pods(path)
    assert pods.total_gpu_milli.tolist() == [460, 2000, 0, 1000]
    # Any type; the named ones; a pod without a GPU is bound by none; a type that nobody has.
    assert pods.type_mask(("T4", "G2", "V100")).tolist() == [ANY_TYPE, 0b101, ANY_TYPE, 0]


def test_a_pod_list_without_types(tmp_path: Path) -> None:
    path = write(tmp_path / "p.csv", PODS.rsplit(",", 2)[0], "p0,1000,64,1,460")
    assert load_pods(path).type_mask(("T4",)).tolist() == [ANY_TYPE]


@pytest.mark.parametrize(
    ("row", "where"),
    [
        ("p1,x,64,1,460,,", "row 3, column 'cpu_milli': 'x' is not a number"),
        ("p1,-1,64,1,460,,", "row 3, column 'cpu_milli': '-1' is not a whole number of at least 0"),
        ("p1,1,,1,460,,", "row 3, column 'memory_mib': empty cell is not a number"),
        ("p1,1,64,1.5,460,,", "row 3, column 'num_gpu': '1.5' is not a whole number from 0 to 62"),
        ("p1,1,64,1,1001,,", "row 3, column 'gpu_milli': '1001' is not a whole number from 0"),
        ("p1,1,64,2,500,,", "row 3, column 'gpu_milli': '500' is a share of several GPUs"),
        ("p1,1,64,0,500,,", "row 3, column 'gpu_milli': '500' is a share of no GPU"),
        ("p1,1,64,1,0,,", "row 3, column 'gpu_milli': '0' is nothing of the GPUs"),
        ("p0,1,64,1,460,,", "row 3, column 'name': 'p0' is there already"),
        (",1,64,1,460,,", "row 3, column 'name': empty cell is no name"),
        ("p1,1,64,1,460", "row 3: 5 cells where the header has 7"),
    ],
)
def test_a_bad_pod(tmp_path: Path, row: str, where: str) -> None:
    path = write(tmp_path / "p.csv", PODS, "p0,1000,64,1,460,,", row)
    with pytest.raises(UserError) as caught:
        load_pods(path)
    assert where in str(caught.value) and str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("row", "where"),
    [
        ("a,0,64,1,T4", "row 2, column 'cpu_milli': '0' is not a whole number of at least 1"),
        ("a,1,64,63,T4", "row 2, column 'gpu': '63' is not a whole number from 0 to 62"),
        ("a,1,64,1,", "row 2, column 'model': empty cell is no GPU type"),
        ("a,1,64,0,", "no node with a GPU"),
    ],
)
def test_a_bad_node(tmp_path: Path, row: str, where: str) -> None:
    with pytest.raises(UserError) as caught:
        load_nodes(write(tmp_path / "n.csv", NODES, row))
    assert where in str(caught.value)


def test_files_of_another_kind(tmp_path: Path) -> None:
    nodes = write(tmp_path / "n.csv", NODES, "a,1,64,1,T4")
    with pytest.raises(UserError, match="no column 'name'"):
        load_pods(nodes)
    with pytest.raises(UserError, match="has no rows"):
        load_pods(write(tmp_path / "p.csv", PODS))
    with pytest.raises(UserError, match="no such file"):
        load_pods(tmp_path / "absent.csv")


def test_the_published_lists(shared_data: Path) -> None:
    folder = shared_data / "openb"
    nodes = load_nodes(folder / "openb_node_list_gpu_node.csv")
    assert (len(nodes), int(nodes.num_gpu.sum())) == (1213, 6212)
    lists = sorted(folder.glob("openb_pod_list_*.csv"))
    assert lists
    for path in lists:
        pods = load_pods(path)
        shares = (pods.num_gpu == 1) & (pods.gpu_milli < 1000)
        assert len(pods) > 8000 and shares.any()
        assert np.all(pods.type_mask(nodes.gpu_types) != 0)
