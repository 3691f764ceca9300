"""Shares, types, cancellations, dependencies, failures: the columns beyond the core ones."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marl_sched.config import SyntheticConfig, WorkloadConfig
from marl_sched.errors import UserError
from marl_sched.types import Cluster
from marl_sched.workload import Workload, generate, load_workload, write_trace
from marl_sched.workload.arrays import UNLIMITED, is_constant
from marl_sched.workload.formats import read_trace
from marl_sched.workload.jobs import fits
from marl_sched.workload.parents import Parents

CLUSTER = Cluster.parse("2x4:T4+2x8:A100")
CORE = "job_id,arrival_s,duration_s,num_gpus"

RICH = f"""{CORE},gpu_types,gpu_milli,cancel_s,depends_on,max_retries,failure_rate_per_h,\
checkpoint_interval_s,loader_cpus_per_gpu
a,10,100,1,t4,250,60,,3,0.5,600,4
b,20,100,4,A100 T4,,,a,0,,0,
c,30,100,1,,1000,,b a,,,,
"""


def load(path: Path, cluster: Cluster = CLUSTER, **settings) -> Workload:
    return load_workload(WorkloadConfig(trace=str(path), **settings), cluster, 0)


def written(folder: Path, text: str) -> Path:
    path = folder / "trace.csv"
    path.write_text(text)
    return path


def parents_of(workload: Workload) -> list[list[str]]:
    return [workload.job_id[workload.parents.of(j)].tolist() for j in range(len(workload))]


def test_every_column_arrives(tmp_path):
    workload = load(written(tmp_path, RICH))
    assert workload.gpu_types == ("T4", "A100")
    assert workload.gpu_type_mask.tolist() == [1, 3, -1]
    assert workload.allowed_types(CLUSTER).tolist() == [[True, False], [True, True], [True, True]]
    assert workload.demand[:, 0].tolist() == [0.25, 1.0, 1.0]
    assert workload.cancel_s.tolist() == [50.0, np.inf, np.inf]
    assert parents_of(workload) == [[], ["a"], ["a", "b"]]
    assert workload.max_retries.tolist() == [3, 0, UNLIMITED]
    assert workload.failure_rate_per_h.tolist() == [0.5, 0.0, 0.0]
    np.testing.assert_array_equal(workload.checkpoint_interval_s, [600.0, 0.0, np.nan])
    assert workload.loader_cpus_per_gpu.tolist() == [4.0, 0.0, 0.0]


def test_a_share_is_rigid_and_counts_as_a_share(tmp_path):
    path = written(tmp_path, f"{CORE},gpu_milli\na,0,100,1,250\nb,100,100,1,\n")
    workload = load(path, elastic_fraction=1.0)
    assert workload.elastic.tolist() == [False, True]
    assert workload.max_gpus[0] == 1
    assert workload.offered_load(1) == pytest.approx(1.25)
    assert read_trace(path).gpu_s.tolist() == [25.0, 100.0]


def test_what_a_trace_leaves_open_takes_no_memory():
    workload = generate(SyntheticConfig(num_jobs=50), 16, 0)
    for name in ("cancel_s", "max_retries", "failure_rate_per_h", "gpu_type_mask", "deadline_s"):
        assert is_constant(getattr(workload, name)), name
        assert getattr(workload, name).shape == (50,)
    assert workload.parents.indptr.tolist() == [0] * 51
    assert workload.slice(3, 9).cancel_s.tolist() == [np.inf] * 6
    assert is_constant(workload.with_load(0.5, 16).cancel_s)
    assert workload.job_id.dtype == np.dtypes.StringDType()


def test_the_allowed_types_follow_names_to_another_cluster(tmp_path):
    workload = load(written(tmp_path, RICH))
    other = Cluster.parse("1x4:V100+1x4:a100")
    assert workload.allowed_types(other).tolist() == [[False, False], [False, True], [True, True]]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_what_is_written_reads_back_the_same(tmp_path, suffix):
    workload = load(written(tmp_path, RICH))
    path = tmp_path / f"again.{suffix}"
    write_trace(workload, path)
    again = load(path)
    for name in (
        "gpu_type_mask",
        "demand",
        "cancel_s",
        "max_retries",
        "failure_rate_per_h",
        "checkpoint_interval_s",
        "loader_cpus_per_gpu",
        "arrival_s",
    ):
        np.testing.assert_array_equal(getattr(workload, name), getattr(again, name), err_msg=name)
    assert parents_of(again) == parents_of(workload)


def test_columns_that_no_job_uses_are_not_written(tmp_path):
    path = tmp_path / "plain.csv"
    write_trace(generate(SyntheticConfig(num_jobs=2), 8, 0), path)
    assert path.read_text().splitlines()[0].endswith(",priority,tenant,deadline_s")


def test_many_blocks_are_written_as_one(tmp_path, monkeypatch):
    monkeypatch.setattr("marl_sched.workload.trace.BLOCK", 2)
    workload = load(written(tmp_path, RICH))
    for suffix in ("csv", "parquet"):
        path = tmp_path / f"blocks.{suffix}"
        write_trace(workload, path)
        # Job c is in another block than its parents.
        assert parents_of(load(path)) == parents_of(workload)


def test_cancellation_moves_with_the_arrival(tmp_path):
    workload = load(written(tmp_path, RICH))
    stretched = workload.with_load(workload.offered_load(24) / 2, 24)
    wait = workload.cancel_s - workload.arrival_s
    np.testing.assert_allclose(stretched.cancel_s - stretched.arrival_s, wait)
    assert stretched.arrival_s[2] == pytest.approx(2 * workload.arrival_s[2])


def test_a_dependency_outside_a_slice_counts_as_met(tmp_path):
    workload = load(written(tmp_path, RICH))
    assert parents_of(workload.slice(1, 3)) == [[], ["b"]]
    assert parents_of(workload.split((0.3, 0.4, 0.3))[1]) == [[]]
    assert parents_of(workload.slice(0, 2)) == [[], ["a"]]


def test_dependencies_survive_sorting_by_arrival(tmp_path):
    path = written(tmp_path, f"{CORE},depends_on\nlate,50,1,1,\nearly,0,1,1,late\nmid,9,1,1,late\n")
    workload = load(path)
    assert workload.job_id.tolist() == ["early", "mid", "late"]
    assert parents_of(workload) == [["late"], ["late"], []]


BAD_CELLS = [
    (
        "gpu_types",
        "H100",
        "'H100' is not a GPU type of cluster 2x4:T4.2x8:A100, which has T4, A100",
    ),
    ("gpu_types", "T4 H100", "'H100' is not a GPU type"),
    ("gpu_milli", "0", "'0' is not a whole number from 1 to 1000"),
    ("gpu_milli", "1001", "'1001' is not a whole number from 1 to 1000"),
    ("gpu_milli", "2.5", "'2.5' is not a whole number from 1 to 1000"),
    ("cancel_s", "-1", "'-1' is before arrival_s"),
    ("cancel_s", "inf", "'inf' is not a finite number"),
    ("max_retries", "-1", "'-1' is not a whole number of at least 0"),
    ("max_retries", "1.5", "'1.5' is not a whole number of at least 0"),
    ("failure_rate_per_h", "-0.1", "'-0.1' is negative"),
    ("checkpoint_interval_s", "-5", "'-5' is negative"),
    ("loader_cpus_per_gpu", "many", "'many' is not a number"),
    ("depends_on", "z", "'z' is not the job_id of any job in the file"),
    ("depends_on", "a b", "'b' is the job itself"),
]


@pytest.mark.parametrize(("column", "cell", "message"), BAD_CELLS)
def test_bad_cells_name_row_column_and_mend(tmp_path, column, cell, message):
    path = written(tmp_path, f"{CORE},{column}\na,0,5,1,\nb,0,5,1,{cell}\n")
    with pytest.raises(UserError, match=f"row 3, column '{column}': {message}") as caught:
        load(path)
    assert "--skip-bad-rows" in str(caught.value)
    assert load(path, skip_bad_rows=True).job_id.tolist() == ["a"]


@pytest.mark.parametrize(
    ("columns", "row", "message"),
    [
        ("gpu_milli", "b,0,5,2,500", "a share of one GPU, but num_gpus is not 1"),
        ("gpu_milli,elastic", "b,0,5,1,500,true", "a share of one GPU, but the job is elastic"),
        ("gpu_milli,max_gpus", "b,0,5,1,500,4", "a share of one GPU, but the job is elastic"),
    ],
)
def test_a_share_is_of_one_gpu(tmp_path, columns, row, message):
    path = written(tmp_path, f"{CORE},{columns}\n{row}\n")
    with pytest.raises(UserError, match=f"row 2, column 'gpu_milli': '500' is {message}"):
        load(path)


def test_a_cycle_is_named(tmp_path):
    rows = "a,0,5,1,c\nb,0,5,1,a\nc,0,5,1,b\nd,0,5,1,c\ne,0,5,1,\n"
    path = written(tmp_path, f"{CORE},depends_on\n{rows}")
    message = (
        "row 2, column 'depends_on': a cycle of jobs that wait for each other: a -> c -> b -> a"
    )
    with pytest.raises(UserError, match=message):
        load(path)
    kept = load(path, skip_bad_rows=True)
    assert kept.job_id.tolist() == ["d", "e"]
    assert kept.skipped == {"depends_on: a cycle": 3}
    assert parents_of(kept) == [[], []]


def test_no_pool_of_the_types_that_a_job_may_use(tmp_path):
    path = written(tmp_path, f"{CORE},gpu_types\na,0,5,16,A100\nb,0,5,16,T4\n")
    message = r"job 'b' asks for 16 GPUs, and no pool of one GPU type that it may use \(T4\)"
    with pytest.raises(UserError, match=message):
        load(path)
    assert load(path, skip_bad_rows=True).job_id.tolist() == ["a"]
    one = np.array([[1.0, 0, 0, 0]])
    assert fits(np.array([8]), one, CLUSTER, np.array([[True, False]])).tolist() == [True]


def test_only_unknown_types(tmp_path):
    path = written(tmp_path, f"{CORE},gpu_types\na,0,5,1,H100\n")
    with pytest.raises(UserError, match="every job names a GPU type that cluster"):
        load(path, skip_bad_rows=True)


@given(st.integers(2, 12).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, 2**31))))
def test_cycles_are_found_exactly(case):
    jobs, seed = case
    rng = np.random.default_rng(seed)
    child, parent = rng.integers(0, jobs, (2, int(rng.integers(1, 2 * jobs))))
    apart = child != parent
    parents = Parents.from_edges(child[apart], parent[apart], jobs)
    reach = np.zeros((jobs, jobs), bool)
    reach[parents.child, parents.indices] = True
    for _ in range(jobs):
        reach |= (reach.astype(int) @ reach.astype(int)) > 0
    on_cycle = np.diag(reach)
    between = reach[:, on_cycle].any(axis=1) & reach[on_cycle].any(axis=0)
    assert parents.in_cycles().tolist() == np.flatnonzero(on_cycle | between).tolist()
    if on_cycle.any():
        loop = parents.cycle_from(int(parents.in_cycles()[0]))
        assert loop[0] == loop[-1]
        assert len(set(loop)) == len(loop) - 1
        for one, other in zip(loop, loop[1:], strict=False):
            assert other in parents.of(one)


def test_who_waits_for_a_skipped_job_is_skipped_too(tmp_path) -> None:
    path = tmp_path / "jobs.csv"
    path.write_text(
        "job_id,arrival_s,duration_s,num_gpus,depends_on\n"
        "a,0,x,1,\nb,0,9,1,a\nc,0,9,1,b d\nd,0,9,1,\n"
    )
    workload = load_workload(WorkloadConfig(trace=str(path), skip_bad_rows=True), CLUSTER, 0)
    assert workload.job_id.tolist() == ["d"]
    assert workload.skipped == {"duration_s: not a number": 1, "depends_on: a skipped job": 2}
