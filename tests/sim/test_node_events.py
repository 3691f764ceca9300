"""The file of given node events: what is read, and what is refused by row and column."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marl_sched.errors import UserError
from marl_sched.sim.node_events import read_node_events
from marl_sched.types import Cluster
from tests.mutants import EXAMPLES, damaged, read_or_refused

CLUSTER = Cluster.parse("2x4")
TEXT = "time_s,node,event,notice_s\n50,node-1,up,\n10,1,down,0\n20.5,node-0,reclaim,30\n"


def written(folder: Path, text: str) -> str:
    path = folder / "events.csv"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_by_time_whatever_the_order(tmp_path: Path) -> None:
    found = read_node_events(written(tmp_path, TEXT), CLUSTER)
    assert found.tolist() == [[10, 1, 0, 0], [20.5, 0, 2, 30], [50, 1, 1, 0]]
    assert read_node_events(None, CLUSTER).shape == (0, 4)
    # A file with a header alone: nothing happens.
    assert read_node_events(written(tmp_path, "time_s,node,event\n"), CLUSTER).shape == (0, 4)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("5,²,down,", "row 2, column 'node': '²' is no node of cluster 2x4, which has node-0 to"),
        ("5,2,down,", "row 2, column 'node': '2' is no node"),
        ("5,-1,down,", "row 2, column 'node': '-1' is no node"),
        (f"5,{'9' * 5000},down,", "row 2, column 'node': '999"),
        ("5,0,stop,", "row 2, column 'event': 'stop' is not down, up, reclaim"),
        ("soon,0,down,", "row 2, column 'time_s': 'soon' is not a number"),
        (",0,down,", "row 2, column 'time_s': empty cell is not a number"),
        ("inf,0,down,", "row 2, column 'time_s': 'inf' is not a finite number"),
        ("1e11,0,down,", "row 2, column 'time_s': '1e11' is beyond 1e.10"),
        ("-5,0,down,", "row 2, column 'time_s': '-5' is negative"),
        ("5,0,reclaim,-1", "row 2, column 'notice_s': '-1' is negative"),
        ("5,0", "row 2: 2 cells where the header has 4"),
    ],
)
def test_rows_that_are_refused(row: str, message: str, tmp_path: Path) -> None:
    path = written(tmp_path, f"time_s,node,event,notice_s\n{row}\n")
    with pytest.raises(UserError, match=f"node events {path}: {message}") as caught:
        read_node_events(path, CLUSTER)
    assert len(str(caught.value)) < 500


def test_files_that_are_refused(tmp_path: Path) -> None:
    for text, message in (("time_s,node\n1,0\n", "no column 'event'"), ("", "is empty")):
        with pytest.raises(UserError, match=message):
            read_node_events(written(tmp_path, text), CLUSTER)
    with pytest.raises(UserError, match="node events .*none.csv: no such file"):
        read_node_events(str(tmp_path / "none.csv"), CLUSTER)


@settings(max_examples=EXAMPLES)
@given(seed=st.integers(0, 2**32))
def test_damaged_files(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.csv"
    path.write_bytes(damaged(TEXT.encode(), Random(seed)))
    found = read_or_refused(lambda: read_node_events(str(path), CLUSTER))
    if found is not None:
        assert np.isfinite(found).all() and (found >= 0).all() and (np.diff(found[:, 0]) >= 0).all()
        assert (found[:, 1] < 2).all() and (found[:, 2] < 3).all()
