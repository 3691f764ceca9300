"""Muri, Chronus and Slurm accounting records."""

import csv
from pathlib import Path

import numpy as np
import pytest

from marl_sched.config import WorkloadConfig
from marl_sched.errors import UserError
from marl_sched.types import Cluster
from marl_sched.workload import Workload, load_workload
from marl_sched.workload.formats import FORMATS, read_trace

CLUSTER = Cluster.parse("8x8")

MURI = """job_id,num_gpu,submit_time,iterations,model_name,batch_size,duration,interval,\
iteration_time,resource_time_0,resource_time_1,resource_time_2,priority
0,1,5000,100,dqn,128,49000,0,490,446,8,0,1
1,8,6500,20,vgg16,16,4280,0,214,82,75,66,0
"""

CHRONUS = """job_id,user,num_gpu,submit_time,iterations,model_name,duration,interval,\
expect_time_list,expect_value_list,best_effort,job_type
0,vc_a,4,10,6910,resnet101,211,8,282,10,0,strict
1,vc_b,1,12,8897,inception_v3,31,6,88-120,10-5,0,soft
2,vc_a,0,13,8897,vgg16,31,6,88,10,0,strict
3,vc_a,1,14,8897,vgg16,31,6,14341,10,1,best
"""

SLURM = """JobID|User|Account|Partition|Submit|Start|End|ElapsedRaw|ReqTRES|AllocTRES|State
7|ann|vision|gpu|2024-03-01T10:00:00|2024-03-01T10:05:00|2024-03-01T11:05:00|3600|\
billing=8,cpu=8,gres/gpu=2,mem=64G,node=1|billing=8,cpu=8,gres/gpu:a100=2,gres/gpu=2,mem=64G,node=1\
|COMPLETED
7.batch|||gpu|2024-03-01T10:05:00|2024-03-01T10:05:00|2024-03-01T11:05:00|3600||cpu=8|COMPLETED
7.0|||gpu|2024-03-01T10:05:00|2024-03-01T10:05:00|2024-03-01T11:05:00|3600||cpu=8|FAILED
8_1|bob||gpu|2024-03-01T09:59:30|2024-03-01T10:05:00|2024-03-01T10:06:00|60|\
cpu=4,gres/gpu:v100=1,mem=8000M,node=1|cpu=4,gres/gpu:v100=1,gres/gpu:t4=3,mem=8000M,node=1\
|CANCELLED by 1000
8_2|bob|vision|gpu|2024-03-01T09:59:30|2024-03-01T10:05:00|2024-03-01T10:06:00|60|gres/gpu=1||TIMEOUT
9|ann|vision|cpu|2024-03-01T10:00:00|2024-03-01T10:05:00|2024-03-01T11:05:00|3600|cpu=8|cpu=8|FAILED
10|ann|vision|gpu|2024-03-01T10:00:00|2024-03-01T10:05:00|Unknown|30|gres/gpu=1|gres/gpu=1|RUNNING
11_[4-9]|ann|vision|gpu|2024-03-01T10:00:00|Unknown|Unknown|0|gres/gpu=1||PENDING
12|ann|vision|gpu|2024-03-01T10:00:00|None|2024-03-01T10:01:00|0|gres/gpu=1||CANCELLED by 7
"""


def load(path: Path, **settings) -> Workload:
    return load_workload(WorkloadConfig(trace=str(path), **settings), CLUSTER, 0)


def written(folder: Path, text: str) -> Path:
    path = folder / "trace.txt"
    path.write_text(text)
    return path


def test_muri(tmp_path):
    workload = load(written(tmp_path, MURI))
    assert workload.job_id.tolist() == ["0", "1"]
    assert workload.arrival_s.tolist() == [0.0, 1.5]
    assert workload.duration_s == pytest.approx([49.0, 4.28])
    assert workload.num_gpus.tolist() == [1, 8]
    # dqn is not in the catalogue and is drawn; vgg16 is.
    assert workload.job(1).model == "vgg16"


def test_chronus(tmp_path):
    workload = load(written(tmp_path, CHRONUS))
    assert workload.job_id.tolist() == ["0", "1", "3"]
    assert workload.arrival_s.tolist() == [0.0, 120.0, 240.0]
    assert workload.duration_s.tolist() == [211 * 60.0, 31 * 60.0, 31 * 60.0]
    assert workload.deadline_s.tolist() == [282 * 60.0, (2 + 88) * 60.0, np.inf]
    assert [workload.job(i).tenant for i in range(3)] == ["vc_a", "vc_b", "vc_a"]
    assert [workload.job(i).model for i in (1, 2)] == ["inception3", "vgg16"]
    assert workload.skipped == {"asks for no GPU": 1}


@pytest.mark.parametrize("cell", ["soon", "-3", "0", "nan"])
def test_a_bad_chronus_deadline(tmp_path, cell):
    path = written(tmp_path, CHRONUS.replace(",282,", f",{cell},"))
    with pytest.raises(UserError, match="row 2, column 'expect_time_list': .*like 102-142"):
        load(path)
    assert len(load(path, skip_bad_rows=True)) == 2


def test_slurm(tmp_path):
    workload = load(written(tmp_path, SLURM))
    assert workload.job_id.tolist() == ["8_1", "8_2", "7"]
    assert workload.arrival_s.tolist() == [0.0, 0.0, 30.0]
    assert workload.duration_s.tolist() == [60.0, 60.0, 3600.0]
    assert workload.num_gpus.tolist() == [4, 1, 2]
    assert [workload.job(i).tenant for i in range(3)] == ["bob", "vision", "vision"]
    assert workload.demand == pytest.approx(
        np.array([[1, 1, 8000 / 1024 / 4, 0], [1, 0, 0, 0], [1, 4, 32, 0]])
    )
    assert workload.skipped == {
        "job step": 2,
        "holds no GPU": 1,
        "job that has not ended": 2,
        "job that never ran": 1,
    }


@pytest.mark.parametrize(
    ("columns", "elapsed"),
    [("Elapsed", "1-02:03:04"), ("Start|End", "2024-03-01T10:00:00|2024-03-02T12:03:04")],
)
def test_slurm_run_times_of_other_columns(tmp_path, columns, elapsed):
    path = written(
        tmp_path,
        f"JobID|Submit|{columns}|ReqTRES|State|\n"
        f"7|2024-03-01T10:00:00|{elapsed}|gres/gpu=1|COMPLETED|\n",
    )
    assert read_trace(path).duration_s.tolist() == [93_784.0]
    assert read_trace(path).tenant.tolist() == [""]


def attempts(*rows: tuple[str, str, str, int, str]) -> str:
    """Records of sacct -D by (id, submitted, started, run time, state); times of one day."""
    lines = ["JobID|Submit|Start|ElapsedRaw|ReqTRES|State"]
    for name, submit, start, elapsed, state in rows:
        begun = f"2024-03-01T{start}:00" if ":" in start else start
        lines.append(f"{name}|2024-03-01T{submit}:00|{begun}|{elapsed}|gres/gpu=1|{state}")
    return "\n".join(lines) + "\n"


def test_the_last_attempt_of_a_requeued_job_counts(tmp_path):
    """It was submitted at 00:00 and ran for an hour in the end, whatever its first state."""
    for state in ("NODE_FAIL", "REQUEUED", "PREEMPTED", "FAILED", "COMPLETED"):
        rows = [
            ("700", "00:00", "00:01", 1800, state),
            ("701", "00:10", "00:11", 60, "COMPLETED"),
            ("700", "00:31", "00:35", 600, "NODE_FAIL"),
            ("700", "00:45", "00:50", 3600, "COMPLETED"),
        ]
        for order in (rows, rows[::-1]):
            workload = load(written(tmp_path, attempts(*order)))
            assert workload.job_id.tolist() == ["700", "701"]
            assert workload.arrival_s.tolist() == [0.0, 600.0]
            assert workload.duration_s.tolist() == [3600.0, 60.0]
            assert workload.skipped == {"earlier attempt of a requeued job": 2}


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (("7", "00:31", "Unknown", 0, "PENDING"), "job that has not ended"),
        (("7", "00:31", "00:35", 60, "RUNNING"), "job that has not ended"),
        (("7", "00:31", "None", 0, "CANCELLED by 9"), "job that never ran"),
    ],
)
def test_a_job_whose_last_attempt_does_not_count(tmp_path, last, reason):
    first = ("7", "00:00", "00:01", 1800, "REQUEUED")
    other = ("8", "00:00", "00:01", 5, "FAILED")
    workload = load(written(tmp_path, attempts(first, last, other)))
    assert workload.job_id.tolist() == ["8"]
    assert workload.skipped == {"earlier attempt of a requeued job": 1, reason: 1}


@pytest.mark.parametrize(
    "again",
    [
        ("7", "00:00", "00:01", 1800, "COMPLETED"),  # the same record twice
        ("7", "00:05", "00:10", 60, "COMPLETED"),  # runs while the first still does
    ],
)
def test_records_of_one_id_that_overlap_are_refused(tmp_path, again):
    path = written(tmp_path, attempts(("7", "00:00", "00:01", 1800, "COMPLETED"), again))
    with pytest.raises(UserError, match="row 3, column 'JobID': '7' is repeated, first in row 2"):
        load(path)


def test_requeues_without_a_start(tmp_path):
    """The submission of an attempt is then its earliest start."""
    text = attempts(("7", "00:00", "", 60, "NODE_FAIL"), ("7", "00:31", "", 600, "FAILED"))
    lines = [line.split("|") for line in text.split("\n")[:-1]]
    path = written(tmp_path, "\n".join("|".join([*c[:2], *c[3:]]) for c in lines) + "\n")
    workload = load(path)
    assert workload.duration_s.tolist() == [600.0] and len(workload) == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("2024-03-01T10:00:00", "yesterday", "row 2, column 'Submit': 'yesterday' is not a date"),
        ("COMPLETED", "DONE", "row 2, column 'State': 'DONE' is not a state of a Slurm job"),
        ("|3600|", "|long|", "row 2, column 'ElapsedRaw': 'long' is not the time"),
        ("gres/gpu=2,", "gres/gpu=two,", "row 2, column 'AllocTRES': .* is not resources like"),
        ("mem=64G", "mem=lots", "row 2, column 'AllocTRES': .* is not resources like"),
        ("\n8_1|", "\n7|", "row 5, column 'JobID': '7' is repeated, first in row 2"),
    ],
)
def test_bad_slurm_cells(tmp_path, old, new, message):
    path = written(tmp_path, SLURM.replace(old, new))
    with pytest.raises(UserError, match=message):
        load(path)
    assert len(load(path, skip_bad_rows=True)) >= 1


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("JobID|Submit|State|ElapsedRaw", "no column 'AllocTRES' or 'ReqTRES'"),
        ("JobID|Submit|State|ReqTRES|End", "no column 'ElapsedRaw'"),
    ],
)
def test_slurm_columns_that_are_missing(tmp_path, header, message):
    cells = {
        "JobID": "1",
        "Submit": "2024-03-01T10:00:00",
        "State": "FAILED",
        "ReqTRES": "gres/gpu=1",
    }
    row = "|".join(cells.get(name, "1") for name in header.split("|"))
    with pytest.raises(UserError, match=f"row 1: {message}"):
        load(written(tmp_path, f"{header}\n{row}\n"))


def test_only_rows_without_gpu_jobs(tmp_path):
    rows = [line for line in SLURM.splitlines() if line.startswith(("JobID", "7.", "9"))]
    path = written(tmp_path, "\n".join(rows) + "\n")
    with pytest.raises(
        UserError, match=r"no usable job \(2 rows: job step; 1 rows: holds no GPU\)"
    ):
        load(path)


def test_no_header_is_two_formats():
    for name, kind in FORMATS.items():
        matches = [other for other, its in FORMATS.items() if set(its.columns) <= set(kind.columns)]
        assert matches == [name]


@pytest.mark.parametrize("name", ["trace1", "trace3"])
def test_the_muri_traces(shared_data, name):
    path = shared_data / "muri" / f"{name}.csv"
    workload = load(path)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert len(workload) == len(rows)
    assert workload.skipped == {}
    # The trace's own run time is the same product, in whole milliseconds of whole iterations.
    by_id = {row["job_id"]: float(row["duration"]) / 1e3 for row in rows}
    given = [by_id[name] for name in workload.job_id.tolist()]
    np.testing.assert_allclose(workload.duration_s, given, rtol=0.01, atol=1.0)


def test_the_chronus_trace(shared_data):
    workload = load(shared_data / "chronus" / "trace_job_Philly_SLO.csv")
    assert len(workload) == 30_940 - 205
    assert workload.skipped == {"asks for no GPU": 205}
    assert len(workload.tenants) == 11
    # Two weeks; every job has at least its run time and a tenth more.
    assert workload.arrival_s[-1] == pytest.approx(14 * 86_400, rel=0.01)
    slack = (workload.deadline_s - workload.arrival_s) / workload.duration_s
    assert 1.1 <= slack.min() <= slack.max() <= 6
