"""Times of every kind: the units of Parquet's columns, zones, and columns of other types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from marl_sched.config import WorkloadConfig
from marl_sched.errors import UserError
from marl_sched.quantities import LONGEST_S
from marl_sched.types import Cluster
from marl_sched.workload import load_workload, write_trace
from marl_sched.workload.formats import read_trace

UNITS = ("s", "ms", "us", "ns")
PER_S = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
START_S = 1_704_067_200  # 2024-01-01 00:00:00 UTC


def lengths(seconds: list[int], unit: str) -> Any:
    return pa.array([PER_S[unit] * value for value in seconds], pa.duration(unit))


def points(seconds: list[int], unit: str, zone: str | None = None) -> Any:
    cells = [PER_S[unit] * (START_S + value) for value in seconds]
    return pa.array(cells, pa.timestamp(unit, zone))


def written(folder: Path, **columns: Any) -> Path:
    path = folder / "t.parquet"
    pq.write_table(pa.table(columns), path, coerce_timestamps=None)
    return path


@pytest.mark.parametrize("unit", UNITS)
def test_a_length_of_time_keeps_its_unit_in_every_format(tmp_path: Path, unit: str) -> None:
    """5 s are 5 s, whatever the file counts them in and whatever the format counts in."""
    ids, gpus = ["a", "b"], [1, 2]
    arrival, duration = lengths([60, 120], unit), lengths([5, 1800], unit)
    tables = [
        {"job_id": ids, "arrival_s": [60, 120], "duration_s": duration, "num_gpus": gpus},
        {"job_id": ids, "arrival_s": arrival, "duration_s": duration, "num_gpus": gpus},
        {"timestamp": points([60, 120], unit), "duration": duration, "num_gpus": gpus},
        {"job_id": ids, "submission_time": arrival, "duration": duration, "num_gpu": gpus},
        {
            "job_id": ids, "num_gpu": gpus, "submit_time": arrival, "iterations": [5, 1800],
            "iteration_time": lengths([1, 1], unit), "model_name": ["", ""],
        },
        {
            "job_id": ids, "user": ids, "num_gpu": gpus, "submit_time": points([60, 120], unit),
            "duration": duration, "expect_time_list": ["", ""],
        },
    ]  # fmt: skip
    for table in tables:
        raw = read_trace(written(tmp_path, **table))
        assert raw.arrival_s.tolist() == [0.0, 60.0], list(table)
        assert raw.duration_s == pytest.approx([5.0, 1800.0]), list(table)


@pytest.mark.parametrize("unit", UNITS)
def test_dates_of_our_own_format(tmp_path: Path, unit: str) -> None:
    columns = {
        "arrival_s": points([60, 0], unit, "Asia/Shanghai"),
        "duration_s": [5.0, 6.0],
        "num_gpus": [1, 1],
        "deadline_s": pa.array([PER_S[unit] * (START_S + 100), None], pa.timestamp(unit, "UTC")),
    }
    raw = read_trace(written(tmp_path, **columns))
    assert raw.arrival_s.tolist() == [0.0, 60.0] and raw.duration_s.tolist() == [6.0, 5.0]
    assert raw.deadline_s.tolist() == [np.inf, 100.0]


GOOD: dict[str, Any] = {"arrival_s": [0, 1], "duration_s": [5, 6], "num_gpus": [1, 1]}


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("duration_s", points([1, 2], "s"), "holds in each row a point in time .*length of time"),
        ("num_gpus", lengths([1, 2], "ns"), "holds in each row a length of time .*write numbers"),
        ("priority", points([1, 2], "ms"), "holds in each row a point in time .*write numbers"),
        ("deadline_s", points([1, 2], "s"), "'arrival_s' are on different clocks"),
        ("duration_s", pa.array([{"x": 1}] * 2), "of type 'struct<x: int64>', which holds no such"),
        ("duration_s", pa.array([[1], [2]]), "row 1, column 'duration_s': .* is not a number"),
        ("tenant", pa.array([["a"], ["b"]]), "column 'tenant' holds lists"),
        ("job_id", pa.array([b"\xff", b"a"]), "column 'job_id' is of type 'binary'"),
        (
            "model",
            pa.array([[("a", 1)]] * 2, pa.map_(pa.string(), pa.int64())),
            "column 'model' is of type .map<string, int64",
        ),
        ("arrival_s", pa.array([1, 2], pa.time64("us")), "is of type 'time64"),
    ],
)
def test_columns_that_are_refused(tmp_path: Path, column: str, values: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read_trace(written(tmp_path, **(GOOD | {column: values})))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "values",
    [
        pa.array([b"a", b"b"]),
        pa.array(["a", "b"], pa.large_string()),
        pa.array(["a", "b"]).dictionary_encode(),
        pa.array(["a", "b"], pa.string_view()),
    ],
)
def test_text_of_other_types(tmp_path: Path, values: Any) -> None:
    raw = read_trace(written(tmp_path, **(GOOD | {"job_id": values})))
    assert raw.job_id.tolist() == ["a", "b"]


def test_numbers_of_other_types(tmp_path: Path) -> None:
    for kind in (pa.int8(), pa.uint64(), pa.float16(), pa.float32(), pa.decimal128(9, 2)):
        cells = pa.array([5, 6], pa.int64()).cast(pa.float64()).cast(kind)
        raw = read_trace(written(tmp_path, **(GOOD | {"duration_s": cells})))
        assert raw.duration_s.tolist() == [5.0, 6.0], kind


@pytest.mark.parametrize("kind", [pa.list_(pa.string()), pa.large_list(pa.string())])
def test_names_in_lists(tmp_path: Path, kind: Any) -> None:
    """Names with blanks too, which a text would cut in two."""
    columns: dict[str, Any] = {
        "job_id": ["a", "b c", "d"], "arrival_s": [0, 1, 2], "duration_s": [5, 6, 7],
        "num_gpus": [1, 1, 1], "depends_on": pa.array([[], ["a"], ["a", "b c"]], kind),
        "gpu_types": pa.array([None, ["T4"], ["T4", "A100"]], kind),
    }  # fmt: skip
    path = written(tmp_path, **columns)
    raw = read_trace(path)
    assert [raw.parents.of(job).tolist() for job in range(3)] == [[], [0], [0, 1]]
    assert raw.gpu_types.tolist() == ["", "T4", "T4 A100"]
    workload = load_workload(WorkloadConfig(trace=str(path)), Cluster.parse("2x2:T4+1x2:A100"), 0)
    write_trace(workload, tmp_path / "again.parquet")
    again = read_trace(tmp_path / "again.parquet")
    assert [again.parents.of(job).tolist() for job in range(3)] == [[], [0], [0, 1]]
    with pytest.raises(UserError, match="the name of job 'b c', .* give the output the suffix"):
        write_trace(workload, tmp_path / "again.csv")
    columns["depends_on"] = pa.array([[], ["a"], ["a b"]], kind)
    with pytest.raises(UserError, match="column 'depends_on': 'a b' is not the job_id of any job"):
        read_trace(written(tmp_path, **columns))


PHILLY = "timestamp,duration,num_gpus\n"


@pytest.mark.parametrize(
    ("first", "second", "gap_s"),
    [
        ("2024-01-01 00:00:00Z", "2024-01-01T00:01:00Z", 60.0),
        ("2024-01-01 08:00:00+08:00", "2024-01-01 00:01:00 UTC", 60.0),
        ("2024-01-01T08:00:00+0800", "2024-01-01T00:00:00-01", 3600.0),
        ("2023-12-31 18:30:00-05:30", "2024-01-01 00:00:00.5+00:00", 0.5),
        # Central Europe at the end of summer time: 02:30 is there twice, an hour apart.
        ("2024-10-27 02:30:00+02:00", "2024-10-27 02:30:00+01:00", 3600.0),
        # As they stand: the hour that a clock is put forward by counts.
        ("2024-03-31 01:59:59", "2024-03-31 03:00:00", 3601.0),
        ("2024-02-28 23:59:59.123456789", "2024-02-29 00:00:00", 0.876544),
    ],
)
def test_zones(tmp_path: Path, first: str, second: str, gap_s: float) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"{PHILLY}{first},5,1\n{second},6,1\n")
    raw = read_trace(path)
    assert raw.arrival_s.tolist() == [0.0, pytest.approx(gap_s, abs=1e-6)]
    assert raw.duration_s.tolist() == [5.0, 6.0]


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("2024-01-01 00:00:00", "2024-01-01 00:00:00Z", "a time with a zone, as no other one"),
        ("2024-01-01 00:00:00Z", "2024-01-01 00:00:00", "a time without a zone, while others"),
        ("2024-01-01 00:00:00Z", "2024-01-01 00:00:00 CET", "not a date and time like .*08:00"),
        ("2024-01-01 00:00:00Z", "2024-01-01 00:00:00+15:00", "not a date and time"),
        ("2024-01-01 00:00:00Z", "2024-01-01 00:00:00+01:60", "not a date and time"),
        ("2024-01-01 00:00:00Z", "2024-02-30 00:00:00Z", "not a date and time"),
        ("2024-01-01 00:00:00", "2024-01-01 00:00:60", "not a date and time"),
        ("0001-01-01 00:00:00", "2024-01-01 00:00:00", "more than 1e.10 s after the first"),
    ],
)
def test_zones_that_are_refused(tmp_path: Path, first: str, second: str, message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"{PHILLY}{first},5,1\n{second},6,1\n")
    with pytest.raises(UserError, match=f"row 3, column 'timestamp': '{second[:10]}.*{message}"):
        read_trace(path)
    assert len(read_trace(path, skip_bad_rows=True)) == 1


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("job_id,num_gpu,submit_time,iterations,iteration_time,model_name\na,1,0,{x},{x},vgg16", 2),
        ("job_id,user,num_gpu,submit_time,duration,expect_time_list\na,u,1,0,{x},5", 2),
        ("JobID|Submit|State|ElapsedRaw|ReqTRES\n1|2024-01-01 00:00:00|FAILED|{x}|gres/gpu=1", 2),
        ("arrival_s,duration_s,num_gpus\n0,{x},1", 2),
        ("arrival_s,duration_s,num_gpus,loader_cpus_per_gpu\n0,5,1,{x}", 2),
        ("arrival_s,duration_s,num_gpus,deadline_s\n0,5,1,{x}", 2),
        ("arrival_s,duration_s,num_gpus,priority\n0,5,1,{x}", 2),
    ],
)
@pytest.mark.parametrize("x", ["1e18", "1e300", "inf", "nan", "9" * 5000, "-inf"])
def test_what_no_simulation_gets_through(tmp_path: Path, text: str, row: int, x: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text.format(x=x) + "\n")
    with pytest.raises(UserError, match=f"row {row}, column ") as caught:
        read_trace(path)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("count", ["9" * 20, "9" * 5000, "1e300", "inf", "²"])
def test_counts_of_resources(tmp_path: Path, count: str) -> None:
    path = tmp_path / "t.txt"
    for cell in (f"gres/gpu={count}", f"gres/gpu=1,cpu={count}", f"gres/gpu=1,mem={count}G"):
        path.write_text(
            f"JobID|Submit|State|ElapsedRaw|ReqTRES\n1|2024-01-01 00:00:00|FAILED|5|{cell}\n"
        )
        with pytest.raises(UserError, match="row 2, column 'ReqTRES': .* is not resources like"):
            read_trace(path)


def test_the_longest_run_time_is_read(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"arrival_s,duration_s,num_gpus\n0,{LONGEST_S},1\n{LONGEST_S},5,1\n")
    assert read_trace(path).duration_s.tolist() == [LONGEST_S, 5.0]
