"""Traces in, traces out: formats, bad rows, round trips."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marl_sched.config import SyntheticConfig, WorkloadConfig
from marl_sched.errors import UserError
from marl_sched.perf import build_profiles
from marl_sched.types import Cluster
from marl_sched.workload import Workload, generate, load_workload, write_trace

DATA = Path(__file__).parents[2].parent / "shared" / "data"
needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason="the real traces are not here (../shared/data)"
)
CLUSTER = Cluster.parse("4x8")
OWN = "job_id,arrival_s,duration_s,num_gpus\n"
PHILLY = """timestamp,duration,num_gpus,gpu_time,cluster
2017-10-09 06:13:03,2951.0,1,2951.0,6214e9
2017-09-29 07:58:32,860.0,4,3440.0,6c71a0
2017-10-09 06:13:03,10.5,2,21,6214e9
"""
ITP = """job_id,submission_time,duration,num_gpu
a,5010,1265,1
b,5016,2066,8
"""


def load(path: Path, cluster: Cluster = CLUSTER, seed: int = 0, **settings) -> Workload:
    return load_workload(WorkloadConfig(trace=str(path), **settings), cluster, seed)


def written(folder: Path, text: str, name: str = "trace.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def same(one: Workload, other: Workload) -> None:
    assert one.job_id.tolist() == other.job_id.tolist()
    for name in (
        "arrival_s",
        "duration_s",
        "num_gpus",
        "elastic",
        "min_gpus",
        "max_gpus",
        "demand",
        "priority",
        "deadline_s",
        "model",
    ):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    assert [one.job(i).tenant for i in range(len(one))] == [
        other.job(i).tenant for i in range(len(other))
    ]


def test_philly(tmp_path):
    workload = load(written(tmp_path, PHILLY))
    assert workload.name == "trace"
    # Sorted by arrival; the two at the same second keep their order.
    assert workload.job_id.tolist() == ["row-3", "row-2", "row-4"]
    assert workload.arrival_s.tolist() == [0.0, 857_671.0, 857_671.0]
    assert workload.duration_s.tolist() == [860.0, 2951.0, 10.5]
    assert workload.num_gpus.tolist() == [4, 1, 2]
    assert [workload.job(i).tenant for i in range(3)] == ["6c71a0", "6214e9", "6214e9"]
    assert workload.demand.tolist() == [[1, 0, 0, 0]] * 3
    assert workload.skipped == {}


def test_itp(tmp_path):
    workload = load(written(tmp_path, ITP))
    assert workload.job_id.tolist() == ["a", "b"]
    assert workload.arrival_s.tolist() == [0.0, 6.0]
    assert workload.num_gpus.tolist() == [1, 8]
    assert workload.tenants == ("",)


def test_own_format_states_everything(tmp_path):
    path = written(
        tmp_path,
        "job_id,arrival_s,duration_s,num_gpus,model,elastic,min_gpus,max_gpus,cpus_per_gpu,"
        "memory_gb_per_gpu,network_gbps_per_gpu,priority,tenant,deadline_s\n"
        "x,10,100,2,bert,true,2,8,4,32,1,5,team,500\n"
        "y,20,200,4,ncf,false,,,,,,,,\n",
    )
    x, y = (load(path).job(i) for i in range(2))
    assert (x.model, x.elastic, x.min_gpus, x.max_gpus) == ("bert", True, 2, 8)
    assert (x.priority, x.tenant, x.arrival_s, x.deadline_s) == (5.0, "team", 0.0, 490.0)
    assert load(path).demand[0].tolist() == [1.0, 4.0, 32.0, 1.0]
    assert (y.model, y.elastic, y.min_gpus, y.max_gpus) == ("ncf", False, 4, 4)
    assert (y.priority, y.tenant, y.deadline_s) == (0.0, "", float("inf"))


def test_a_stated_range_makes_a_job_elastic(tmp_path):
    path = written(
        tmp_path, "arrival_s,duration_s,num_gpus,min_gpus,max_gpus\n0,9,2,1,4\n0,9,2,2,2\n0,9,2,,\n"
    )
    workload = load(path, elastic_fraction=0.0)
    assert workload.elastic.tolist() == [True, False, False]
    assert workload.max_gpus.tolist() == [4, 2, 2]


def test_blank_lines_and_a_byte_order_mark_do_no_harm(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_bytes(b"\xef\xbb\xbf" + (OWN + "a,0,5,1\n\n b ,1,5,1\n\n").encode())
    assert load(path).job_id.tolist() == ["a", "b"]


BAD_ROWS = [
    ("a,0,5,1\nb,1,five,1\n", "row 3, column 'duration_s': 'five' is not a number"),
    ("a,0,5,1\nb,1,nan,1\n", "row 3, column 'duration_s': 'nan' is not a finite number"),
    ("a,0,5,1\nb,1,inf,1\n", "row 3, column 'duration_s': 'inf' is not a finite number"),
    ("a,0,5,1\nb,1,-3,1\n", "row 3, column 'duration_s': '-3' is not positive"),
    ("a,0,5,1\nb,1,0,1\n", "row 3, column 'duration_s': '0' is not positive"),
    ("a,0,5,1\nb,1,,1\n", "row 3, column 'duration_s': empty cell is not a number"),
    ("a,0,5,1\nb,,5,1\n", "row 3, column 'arrival_s': empty cell is not a number"),
    ("a,0,5,1\n\nb,1,5,1.5\n", "row 4, column 'num_gpus': '1.5' is not a whole number of at"),
    ("a,0,5,1\nb,1,5,0\n", "row 3, column 'num_gpus': '0' is not a whole number of at least 1"),
    ("a,0,5,1\nb,1,5,-2\n", "row 3, column 'num_gpus': '-2' is not a whole number"),
    ("a,0,5,1\na,1,5,1\n", "row 3, column 'job_id': 'a' is repeated, first in row 2"),
    ("a,0,5,1\nb,1,5\n", "row 3: 3 cells where the header has 4"),
    ("a,0,5,1\nb,1,5,64\n", "row 3: job 'b' asks for 64 GPUs, and no pool of one GPU type of"),
]


@pytest.mark.parametrize(("rows", "message"), BAD_ROWS)
def test_a_bad_row_is_named_or_skipped_and_counted(tmp_path, rows, message):
    path = written(tmp_path, OWN + rows)
    with pytest.raises(UserError) as caught:
        load(path)
    text = str(caught.value)
    assert f"trace {path}: {message}" in text
    assert "--skip-bad-rows" in text
    assert "\n" not in text
    kept = load(path, skip_bad_rows=True)
    assert kept.job_id.tolist() == ["a"]
    assert sum(kept.skipped.values()) == 1


@pytest.mark.parametrize(
    ("header", "cell", "message"),
    [
        ("elastic", "maybe", "'maybe' is neither true nor false"),
        ("min_gpus", "3", "'3' is more than num_gpus"),
        ("max_gpus", "1", "'1' is less than num_gpus"),
        ("max_gpus", "2.5", "'2.5' is not a whole number of at least 1"),
        ("cpus_per_gpu", "-1", "'-1' is negative"),
        ("priority", "high", "'high' is not a number"),
        ("deadline_s", "soon", "'soon' is not a number"),
    ],
)
def test_bad_optional_cells(tmp_path, header, cell, message):
    path = written(tmp_path, f"arrival_s,duration_s,num_gpus,{header}\n0,5,2,\n0,5,2,{cell}\n")
    with pytest.raises(UserError, match=f"row 3, column '{header}': {message}"):
        load(path)
    assert len(load(path, skip_bad_rows=True)) == 1


def test_the_first_bad_row_is_the_one_named(tmp_path):
    path = written(tmp_path, OWN + "a,x,5,1\nb,0,-1,1\nc,0,5,1\n")
    with pytest.raises(UserError, match="row 2, column 'arrival_s'"):
        load(path)
    assert load(path, skip_bad_rows=True).skipped == {
        "arrival_s: not a number": 1,
        "duration_s: not positive": 1,
    }


@pytest.mark.parametrize("row", ["b,0,1e11,1", "b,1e300,5,1", "b,0,1e300,1"])
def test_times_that_no_simulation_gets_through(tmp_path, row):
    path = written(tmp_path, OWN + f"a,0,5,1\n{row}\n")
    with pytest.raises(UserError, match=r"row 3, column .*(arrival|duration)_s.* is beyond 1e\+1"):
        load(path)
    assert len(load(path, skip_bad_rows=True)) == 1


@pytest.mark.parametrize("cell", ["2017-13-09 06:13:03", "now", "", "2017", "5010"])
def test_bad_times(tmp_path, cell):
    path = written(tmp_path, PHILLY + f"{cell},10.5,2,21,6214e9\n")
    with pytest.raises(UserError, match="row 5, column 'timestamp': .*like 2017-10-09 06:13:03"):
        load(path)
    assert len(load(path, skip_bad_rows=True)) == 3


def test_unknown_model_names_the_catalogue(tmp_path):
    path = written(tmp_path, "arrival_s,duration_s,num_gpus,model\n0,5,1,\n0,5,1,alexnet\n")
    with pytest.raises(UserError, match="row 3, column 'model': 'alexnet' .* known: resnet18"):
        load(path)


def test_bad_files(tmp_path):
    cases = {
        "no such file": tmp_path / "none.csv",
        "is a folder": tmp_path,
        "is empty": written(tmp_path, "", "empty.csv"),
        "unknown format, its columns are a, b": written(tmp_path, "a,b\n1,2\n", "ab.csv"),
        "column 'x' is there twice": written(tmp_path, "x,x\n1,2\n", "xx.csv"),
        "has no usable job": written(tmp_path, OWN, "header.csv"),
        "unknown column 'prio'; known: arrival_s": written(
            tmp_path, "arrival_s,duration_s,num_gpus,prio\n0,1,1,1\n", "prio.csv"
        ),
        "cannot be read as Parquet": written(tmp_path, "text", "not.parquet"),
    }
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00\x01" * 50)
    cases["cannot be read as CSV text"] = binary
    for message, path in cases.items():
        with pytest.raises(UserError, match=message) as caught:
            load(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_format_that_is_asked_for_must_fit(tmp_path):
    path = written(tmp_path, ITP)
    with pytest.raises(UserError, match="no column 'timestamp', which the philly format needs"):
        load(path, format="philly")
    assert len(load(path, format="itp")) == 2


def test_no_job_left(tmp_path):
    path = written(tmp_path, OWN + "a,0,5,64\n")
    with pytest.raises(UserError, match="none of its 1 usable jobs fits cluster 4x8"):
        load(path, skip_bad_rows=True)
    path = written(tmp_path, OWN + "a,0,x,1\n")
    with pytest.raises(UserError, match=r"no usable job \(1 rows: duration_s: not a number\)"):
        load(path, skip_bad_rows=True)


def test_arrivals_start_at_zero_after_skipping(tmp_path):
    path = written(tmp_path, OWN + "a,0,5,64\nb,100,5,1\nc,130,5,1\n")
    assert load(path, skip_bad_rows=True).arrival_s.tolist() == [0.0, 30.0]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), jobs=st.integers(1, 30), elastic=st.floats(0, 1))
def test_what_is_written_reads_back_the_same(tmp_path_factory, suffix, seed, jobs, elastic):
    config = WorkloadConfig(synthetic=SyntheticConfig(num_jobs=jobs), elastic_fraction=elastic)
    workload = load_workload(config, CLUSTER, seed)
    path = tmp_path_factory.mktemp("round") / f"trace.{suffix}"
    write_trace(workload, path)
    same(workload, load(path, seed=seed + 1))


def test_demands_deadlines_and_tenants_survive_the_round_trip(tmp_path):
    path = written(
        tmp_path,
        "job_id,arrival_s,duration_s,num_gpus,cpus_per_gpu,priority,tenant,deadline_s\n"
        'x,0.1,100.25,2,4,5,"team, one",500\n'
        "y,20,200,4,,,,\n",
    )
    workload = load(path)
    for name in ("again.csv", "again.parquet"):
        write_trace(workload, tmp_path / name)
        same(workload, load(tmp_path / name))


def test_a_failed_write_leaves_no_file(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UserError, match="choose another path"):
        write_trace(generate(SyntheticConfig(num_jobs=2), 8, 0), blocked / "trace.csv")
    assert sorted(tmp_path.iterdir()) == [blocked]


@needs_data
def test_the_philly_trace_is_read_whole():
    cluster = Cluster.parse("32x8")
    workload = load(DATA / "philly" / "philly.csv", cluster)
    assert len(workload) == 66_156
    assert workload.skipped == {}
    assert len(workload.tenants) == 14
    assert (np.diff(workload.arrival_s) >= 0).all()
    assert workload.duration_s.max() == pytest.approx(4_628_226.0)
    assert workload.offered_load(256) == pytest.approx(1.42, abs=0.01)
    assert len(build_profiles(workload, cluster).sizes) < 100


@needs_data
@pytest.mark.parametrize(("name", "jobs", "load_"), [("05", 3629, 0.0786), ("06", 2396, 0.676)])
def test_itp_traces_are_read_whole(name, jobs, load_):
    workload = load(DATA / "itp" / f"cluster{name}.csv", Cluster.parse("16x8"))
    assert len(workload) == jobs
    assert workload.offered_load(128) == pytest.approx(load_, rel=0.01)


@needs_data
def test_every_other_data_file_is_refused_in_one_line():
    for path in sorted(DATA.rglob("*.csv")):
        try:
            load(path, Cluster.parse("128x8"))
        except UserError as error:
            assert "\n" not in str(error)
            assert str(path) in str(error)
