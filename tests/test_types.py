"""Clusters as text and as files: what is read, and what is refused in one line."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marl_sched.errors import UserError
from marl_sched.quantities import MOST_GPUS, MOST_NODES
from marl_sched.types import Cluster
from tests.mutants import EXAMPLES, damaged, read_or_refused

FILE = """nodes:
- {count: 2, gpus: 4, type: A100, cpus: 64, memory_gb: 512.5, network_gbps: 100, rack: "row 1/a"}
- count: 1
  gpus: 8
  type: 4090
"""


def test_a_file_states_what_a_text_cannot(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(FILE)
    cluster = Cluster.parse(str(path))
    assert str(cluster) == "2x4:A100+1x8:4090"
    assert cluster.nodes[1].rack == "row 1/a"
    assert cluster.nodes[1].capacity.tolist() == [4, 64, 512.5, 100]
    # What is not stated: 16 CPUs, 128 GB and 25 Gbit/s a GPU.
    assert cluster.nodes[2].capacity.tolist() == [8, 128, 1024, 200]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("9" * 5000 + "x1", "more than 1,000,000 nodes"),
        ("1x" + "9" * 5000, "more than 10,000,000 GPUs a node"),
        ("1000000x8+1x8", "1,000,001 nodes, more than 1,000,000"),
        ("1000000x11", "11,000,000 GPUs, more than 10,000,000"),
        ("²x8", "is not NODESxGPUS"),
        ("٣x8", "is not NODESxGPUS"),
        ("a" * 70_000, "is not NODESxGPUS"),
        ("+".join(f"1x1:T{i}" for i in range(63)), "63 GPU types; at most 62 work"),
    ],
)
def test_texts_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        Cluster.parse(text)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ("{gpus: 2, 1: 2}", "the key 1 is no text"),
        ("{gpus: 2, cpu: 2}", "unknown key 'cpu'; known: count, gpus, type, cpus, "),
        ("{gpus: 2, gpus: 3}", "key 'gpus' is there twice"),
        ("{gpus: 2, cpus: .nan}", "cpus must be a number >= 0 and at most 1e.12, not nan"),
        ("{gpus: 2, memory_gb: .inf}", "memory_gb must be a number >= 0"),
        ("{gpus: 2, network_gbps: -1}", "network_gbps must be a number >= 0"),
        ("{gpus: 2, cpus: true}", "cpus must be a number >= 0"),
        ("{count: 99999999999, gpus: 2}", "count must be a whole number from 1 to 1,000,000"),
        ("{count: 0, gpus: 2}", "count must be a whole number from 1"),
        ("{gpus: 1.5}", "gpus must be a whole number from 0"),
        ("{gpus: 2020-13-01}", "'2020-13-01' is no timestamp"),
        ("{gpus: 0}", "needs at least one node with a GPU"),
        ("{gpus: 2, type: [a]}", "type must be a name such as A100"),
        ("{gpus: 2, type: 1.5}", "type must be a name such as A100, not 1.5; write it in quotes"),
        ("{count: 2}", "needs at least 'gpus'"),
        ("&a [*a]", "is nested too deeply, or in itself"),
        (f"{{gpus: {'9' * 5000}}}", "is no int"),
    ],
)
def test_files_that_are_refused(group: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"nodes:\n- {group}\n")
    with pytest.raises(UserError, match=message) as caught:
        Cluster.parse(str(path))
    assert str(caught.value).startswith(f"cluster file {path}: ") and len(str(caught.value)) < 500


def check_sane(cluster: Cluster | None) -> None:
    if cluster is not None:
        assert 1 <= len(cluster.nodes) <= MOST_NODES and 1 <= cluster.num_gpus <= MOST_GPUS
        assert np.isfinite(cluster.capacity).all() and (cluster.capacity >= 0).all()


@settings(max_examples=EXAMPLES)
@given(seed=st.integers(0, 2**32))
def test_damaged_files(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.yaml"
    path.write_bytes(damaged(FILE.encode(), Random(seed)))
    check_sane(read_or_refused(lambda: Cluster.parse(str(path))))


@settings(max_examples=EXAMPLES)
@given(seed=st.integers(0, 2**32))
def test_damaged_texts(seed: int) -> None:
    text = damaged(b"6x4:T4+2x8:A100", Random(seed), b"+x:").decode("utf-8", "replace")
    check_sane(read_or_refused(lambda: Cluster.parse(text)))
