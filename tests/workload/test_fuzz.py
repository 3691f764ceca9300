"""Damaged traces of every format: a workload of finite figures, or one line of error."""

from __future__ import annotations

import json
import math
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marl_sched.config import WorkloadConfig
from marl_sched.quantities import LONGEST_S, MOST, MOST_COUNT, SHORTEST_S
from marl_sched.types import Cluster
from marl_sched.workload import Workload, load_workload
from marl_sched.workload.formats import read_trace
from marl_sched.workload.gavel import load_overheads, load_profile, load_throughputs, load_trace
from marl_sched.workload.openb import load_nodes, load_pods
from marl_sched.workload.stats import trace_stats
from tests.mutants import EXAMPLES, EXTREMES, damaged, read_or_refused
from tests.workload.test_formats import CHRONUS, MURI, SLURM
from tests.workload.test_loaders import ITP, PHILLY

CLUSTER = Cluster.parse("2x4:A100+2x4:T4")

OWN = """job_id,arrival_s,duration_s,num_gpus,model,elastic,min_gpus,max_gpus,cpus_per_gpu,\
memory_gb_per_gpu,network_gbps_per_gpu,priority,tenant,deadline_s,gpu_milli,gpu_types,cancel_s,\
depends_on,max_retries,failure_rate_per_h,checkpoint_interval_s,loader_cpus_per_gpu
a,0,100,2,bert,true,1,4,4,32,1,5,x,500,,A100 T4,900,,3,0.1,60,2
b,10,200,1,,false,,,,,,,y,,250,T4,,a,,,,
c,20,50.5,4,,,,,1,,,,x,,,,,a b,0,,0,
"""
REQUEUED = SLURM + (
    "13|ann|vision|gpu|2024-03-01T10:00:00|2024-03-01T10:05:00|2024-03-01T10:35:00|1800|gres/gpu=1|"
    "cpu=4,gres/gpu=1|NODE_FAIL\n"
    "13|ann|vision|gpu|2024-03-01T10:35:00|2024-03-01T10:40:00|2024-03-01T10:50:00|600|gres/gpu=1|"
    "cpu=4,gres/gpu=1|COMPLETED\n"
)
ZONED = PHILLY.replace(":03,", ":03+08:00,").replace(":32,", ":32Z,")
TEXTS = {
    "own.csv": OWN, "philly.csv": PHILLY, "itp.csv": ITP, "muri.csv": MURI, "chronus.csv": CHRONUS,
    "slurm.txt": REQUEUED, "zoned.csv": ZONED,
}  # fmt: skip

TYPES = (
    pa.int64(), pa.int8(), pa.uint64(), pa.float64(), pa.float32(), pa.float16(), pa.bool_(),
    pa.string(), pa.large_string(), pa.binary(), pa.null(), pa.decimal128(38, 3), pa.date32(),
    pa.time64("us"), pa.duration("s"), pa.duration("ns"), pa.timestamp("s"), pa.timestamp("ns"),
    pa.timestamp("ms", "Asia/Shanghai"), pa.list_(pa.string()), pa.list_(pa.int64()),
    pa.struct([("x", pa.int64())]), pa.map_(pa.string(), pa.int64()),
    pa.dictionary(pa.int8(), pa.string()), pa.list_(pa.list_(pa.string())),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged")


def check_trace(path: Path, skip_bad_rows: bool) -> None:
    """Read it in every way that commands do."""
    changes: dict[str, Any] = {"load": 0.9, "burstiness": 2.0, "elastic_fraction": 0.5}
    changes = changes if skip_bad_rows else {}
    config = WorkloadConfig(trace=str(path), skip_bad_rows=skip_bad_rows, **changes)
    workload = read_or_refused(lambda: load_workload(config, CLUSTER, 0, {"x": 3.0}))
    if workload is not None:
        check_sane(workload)
    raw = read_or_refused(lambda: read_trace(path, skip_bad_rows=skip_bad_rows))
    if raw is not None:
        json.dumps(trace_stats(raw, CLUSTER), allow_nan=False)


def check_sane(workload: Workload) -> None:
    """Numbers that a simulation comes to an end with."""
    jobs = len(workload)
    assert jobs >= 1 and len(set(workload.job_id.tolist())) == jobs
    assert workload.arrival_s[0] == 0.0 and (np.diff(workload.arrival_s) >= 0).all()
    assert workload.arrival_s[-1] <= LONGEST_S
    assert (workload.duration_s >= SHORTEST_S).all() and (workload.duration_s <= LONGEST_S).all()
    assert (workload.num_gpus >= 1).all() and (workload.num_gpus <= MOST_COUNT).all()
    assert (workload.min_gpus >= 1).all() and (workload.min_gpus <= workload.num_gpus).all()
    assert (workload.max_gpus >= workload.num_gpus).all()
    for name in ("demand", "priority", "failure_rate_per_h", "loader_cpus_per_gpu"):
        values = getattr(workload, name)
        assert np.isfinite(values).all() and (np.abs(values) <= MOST).all(), name
    for name in ("deadline_s", "cancel_s", "checkpoint_interval_s"):
        values = getattr(workload, name)
        assert not np.isneginf(values).any() and (values[np.isfinite(values)] < 1e14).all(), name
    assert math.isfinite(workload.offered_load(8)) or workload.arrival_s[-1] == 0.0


@settings(max_examples=EXAMPLES)
@given(name=st.sampled_from(sorted(TEXTS)), seed=st.integers(0, 2**32), skip=st.booleans())
def test_texts(folder: Path, name: str, seed: int, skip: bool) -> None:
    path = folder / name
    path.write_bytes(damaged(TEXTS[name].encode(), Random(seed)))
    check_trace(path, skip)


@settings(max_examples=EXAMPLES)
@given(name=st.sampled_from(sorted(TEXTS)), seed=st.integers(0, 2**32), skip=st.booleans())
def test_columns_of_another_type(folder: Path, name: str, seed: int, skip: bool) -> None:
    """As Parquet, with a column or two of a type that no format is made of."""
    rng = Random(seed)
    header, *rows = [
        line.split("|" if "|" in TEXTS[name] else ",") for line in TEXTS[name].strip().split("\n")
    ]
    columns: dict[str, Any] = {
        column: pa.array([row[i] for row in rows]) for i, column in enumerate(header)
    }
    for _ in range(rng.randint(1, 3)):
        columns[rng.choice(header)] = some_column(rng, len(rows))
    path = folder / "typed.parquet"
    try:
        pq.write_table(pa.table(columns), path)
    except pa.ArrowException:  # a table that nobody can write
        return
    check_trace(path, skip)


def some_column(rng: Random, rows: int) -> Any:
    """(rows,) of any type, with values of all sizes and some empty cells."""
    kind = rng.choice(TYPES)
    extremes = (0, 1, 2, 60, 3600, -1, 127, 2**31 - 1, 10**12, 2**62, -(2**63), 1704067200)
    cells: list[Any] = []
    for _ in range(rows):
        number = rng.choice(extremes)
        if pa.types.is_nested(kind):
            words = [rng.choice("abc7") for _ in range(rng.randint(0, 3))]
            cells.append(
                [int(word, 16) for word in words]
                if kind == pa.list_(pa.int64())
                else words
                if kind == pa.list_(pa.string())
                else [words]
                if kind == pa.list_(pa.list_(pa.string()))
                else {"x": 1}
                if pa.types.is_struct(kind)
                else [("x", 1)]
            )
        elif pa.types.is_binary(kind):
            cells.append(rng.choice([b"a", b"\xff", b"12", b"2024-01-01 00:00:00"]))
        elif pa.types.is_dictionary(kind) or kind in (pa.string(), pa.large_string()):
            cells.append(rng.choice(EXTREMES).replace("\ud7ff", ""))
        else:
            cells.append(number)
    cells = [None if rng.random() < 0.1 else cell for cell in cells]
    for fallback in (kind, pa.float64()):
        try:
            return pa.array(cells, kind)
        except (pa.ArrowException, OverflowError, TypeError, ValueError):
            cells = [None if cell is None else float(rng.choice(extremes)) for cell in cells]
            if kind == fallback:
                try:
                    return pa.array([None if c is None else 7 for c in cells], kind)
                except (pa.ArrowException, TypeError, ValueError):
                    continue
    return pa.array(cells)


@settings(max_examples=EXAMPLES)
@given(seed=st.integers(0, 2**32), skip=st.booleans())
def test_damaged_parquet(folder: Path, seed: int, skip: bool) -> None:
    path = folder / "bytes.parquet"
    table = pa.table(
        {"job_id": ["a", "b"], "arrival_s": [0.0, 5.0], "duration_s": [5, 8], "num_gpus": [1, 2]}
    )
    pq.write_table(table, path)
    path.write_bytes(damaged(path.read_bytes(), Random(seed)))
    check_trace(path, skip)


GAVEL = (
    "ResNet-18 (batch size 32)\tpython x\tdir\t--steps\t1\t1000\t2\tstatic\t1\t-1\t100\t0.5\n"
    "LSTM\tpython y\tdir\t--steps\t0\t20\t1\tgns\t2.5\t-1\t50\t7\n"
)
RATES = '{"v100": {"(\'ResNet-18 (batch size 32)\', 1)": {"null": 2.5, "x": [1, 2]}}}'
PROFILE = '[{"duration_every_epoch": [3.0, [2, 4.5]]}, {"duration_every_epoch": [1]}]'
PODS = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\na,1000,64,1,460,\nb,1,64,2,1000,T4\n"
NODES = "sn,cpu_milli,memory_mib,gpu,model\nn0,64000,262144,2,P100\nn1,96000,1024,0,\n"
READERS: dict[str, tuple[str, Any]] = {
    "gavel.trace": (GAVEL, load_trace),
    "rates.json": (RATES, load_throughputs),
    "profile.json": (PROFILE, lambda path: load_profile(path, 2)),
    "overheads.txt": ("measured [2.0, 4.0, 1e1]", load_overheads),
    "pods.csv": (PODS, load_pods),
    "nodes.csv": (NODES, load_nodes),
}


@settings(max_examples=EXAMPLES)
@given(name=st.sampled_from(sorted(READERS)), seed=st.integers(0, 2**32))
def test_files_of_other_artifacts(folder: Path, name: str, seed: int) -> None:
    text, read = READERS[name]
    path = folder / name
    path.write_bytes(damaged(text.encode(), Random(seed), b"\t,:[]{}\n ()"))
    found = read_or_refused(lambda: read(path))
    if isinstance(found, np.ndarray):
        assert np.isfinite(found).all() and (found >= 0).all()
    elif found is not None and name == "gavel.trace":
        assert np.isfinite(found.arrival_s).all() and (found.total_steps >= 1).all()
