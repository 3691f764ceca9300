"""The event log: bytes, reading back, and the figures that follow from it."""

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marl_sched.config import SimConfig, SyntheticConfig, WorkloadConfig
from marl_sched.errors import UserError
from marl_sched.evaluation.events import read_events, replay, replay_metrics, write_events
from marl_sched.evaluation.simulate import simulate
from marl_sched.schedulers import get_scheduler
from marl_sched.sim import columns as c
from marl_sched.types import Cluster
from marl_sched.workload import load_workload
from tests.mutants import EXAMPLES, damaged, read_or_refused
from tests.sim.worlds import make_workload


def log(*rows) -> np.ndarray:
    """Rows (time, kind, job, gpus, node, extra)."""
    kinds = {name: number for number, name in enumerate(c.LOG_KINDS)}
    return np.array([(row[0], kinds[row[1]], *row[2:]) for row in rows], dtype=float)


# Two jobs on 4 GPUs: job 0 runs on 2, is preempted, runs again on 4 after 10 s of restart, grows
# no more; job 1 runs on 2, its node fails at 100, it runs again and fails for good at 300.
BY_HAND = log(
    (0, "arrive", 0, 2, -1, 0),
    (0, "start", 0, 2, -1, 0),
    (0, "place", 0, 2, 0, 0),
    (20, "arrive", 1, 2, -1, 0),
    (20, "start", 1, 2, -1, 5),
    (20, "place", 1, 1, 0, 0),
    (20, "place", 1, 1, 1, 0),
    (50, "preempt", 0, 0, -1, 0),
    (100, "node_down", -1, 2, 1, 0),
    (100, "preempt", 1, 0, -1, 0),
    (110, "start", 0, 2, -1, 10),
    (110, "place", 0, 2, 0, 0),
    (150, "node_up", -1, 2, 1, 0),
    (150, "start", 1, 2, -1, 5),
    (150, "place", 1, 2, 1, 0),
    (200, "finish", 0, 0, -1, 1),
    (210, "fail", 1, 0, -1, 0),
    (220, "start", 1, 2, -1, 5),
    (220, "place", 1, 2, 1, 0),
    (300, "fail", 1, 0, -1, 1),
)
TWO_NODES = Cluster.parse("2x2")
JOBS = make_workload([100.0, 120.0], [130.0, 500.0], num_gpus=[2, 2])


def test_every_job_by_hand():
    found = replay(BY_HAND, JOBS, TWO_NODES, checkpoint_interval_s=30.0)
    assert found.arrival_s.tolist() == [0.0, 20.0]
    assert found.first_start_s.tolist() == [0.0, 20.0]
    assert found.finish_s.tolist() == [200.0, 300.0]
    assert found.status.tolist() == [c.FINISHED_JOB, c.FAILED_JOB]
    assert found.held_s.tolist() == [50 + 90, 80 + 60 + 80]
    assert found.attained_gpu_s.tolist() == [280.0, 440.0]
    assert found.num_preemptions.tolist() == [1, 1]
    assert found.num_restarts.tolist() == [1, 2]
    assert found.num_retries.tolist() == [0, 2]
    assert found.overhead_gpu_s.tolist() == [20.0, 30.0]
    # Worked 75, 55 and 75 s: 15, 25 and 15 s after the last checkpoint, on 2 GPUs.
    assert found.lost_gpu_s.tolist() == [0.0, 2.0 * (15 + 25 + 15)]
    assert found.up_gpu_s == 4 * 300 - 2 * 50
    assert found.idle_gpu_s == found.up_gpu_s - 720
    # As V100 of 300 W: 45 W idle, 237 W busy.
    assert found.energy_kwh == pytest.approx((45 * 1100 + (237 - 45) * 720) / 3.6e6)
    # Asked: 2 GPUs to 20 s, 4 to 200 s, 2 to 300 s; of 4, at least one share.
    assert found.finish_time_fairness[0] == pytest.approx(200 / 130)
    assert found.finish_time_fairness[1] == pytest.approx(280 / 500)


def test_a_crowd_lowers_rho():
    crowd = make_workload([0.0, 0.0], [100.0, 100.0])
    events = log(
        (0, "arrive", 0, 2, -1, 0),
        (0, "arrive", 1, 2, -1, 0),
        (0, "start", 0, 2, -1, 0),
        (100, "finish", 0, 0, -1, 1),
        (100, "start", 1, 2, -1, 0),
        (200, "finish", 1, 0, -1, 1),
    )
    rho = replay(events, crowd, Cluster.parse("1x2")).finish_time_fairness
    # Twice as much asked as there is up to 100 s, then as much: a mean of 2 and of 1.5.
    assert rho == pytest.approx([100 / 200, 200 / 150])


def test_the_summary_by_hand():
    found = replay_metrics(BY_HAND, JOBS, TWO_NODES, checkpoint_interval_s=30.0)
    assert found["num_finished"] == 1
    assert found["num_failed"] == 1
    assert found["avg_jct_s"] == 200.0
    assert found["avg_queueing_delay_s"] == 60.0
    assert found["num_retries"] == 2
    assert found["lost_gpu_s"] == 110.0


def test_notice_and_checkpoints():
    noticed = BY_HAND.copy()
    noticed[8, c.LOG_EXTRA] = 1.0
    assert replay(noticed, JOBS, TWO_NODES, 30.0).lost_gpu_s.tolist() == [0.0, 80.0]
    assert replay(BY_HAND, JOBS, TWO_NODES, 0.0).lost_gpu_s.tolist() == [0.0, 0.0]
    own = make_workload([100.0, 120.0], [130.0, 500.0], checkpoint_interval_s=np.array([1.0, 50.0]))
    # 75, 55 and 75 s: 25, 5 and 25 s after the last checkpoint.
    assert replay(BY_HAND, own, TWO_NODES, 30.0).lost_gpu_s.tolist() == [0.0, 110.0]


def test_a_scheduler_that_preempts_as_a_node_fails_loses_nothing():
    events = BY_HAND.copy()
    events[7, c.LOG_TIME_S] = 100.0
    events = events[[0, 1, 2, 3, 4, 5, 6, 8, 9, 7, *range(10, len(BY_HAND))]]
    assert replay(events, JOBS, TWO_NODES, 30.0).lost_gpu_s.tolist() == [0.0, 110.0]


def test_cancelled_before_it_ran():
    events = log(
        (0, "arrive", 0, 1, -1, 0),
        (0, "start", 0, 1, -1, 0),
        (5, "cancel", 1, 0, -1, 1),
        (9, "finish", 0, 0, -1, 1),
    )
    found = replay(events, make_workload([0.0, 1.0], [9.0, 9.0]), TWO_NODES)
    assert found.status.tolist() == [c.FINISHED_JOB, c.CANCELLED_JOB]
    assert np.isnan(found.first_start_s[1])
    assert np.isnan(found.finish_time_fairness[1])
    assert found.held_s.tolist() == [9.0, 0.0]


def test_up_of_a_node_that_never_went_down():
    events = np.insert(BY_HAND, 3, log((10, "node_up", -1, 2, 0, 0)), axis=0)
    assert replay(events, JOBS, TWO_NODES).up_gpu_s == 4 * 300 - 2 * 50


def test_a_file_keeps_every_digit_and_has_the_same_bytes_again(tmp_path):
    events = BY_HAND.copy()
    events[:, c.LOG_TIME_S] += 0.1
    one, other = tmp_path / "one.parquet", tmp_path / "other.parquet"
    write_events(one, events, JOBS.job_id)
    write_events(other, events.copy(), JOBS.job_id)
    assert one.read_bytes() == other.read_bytes()
    np.testing.assert_array_equal(read_events(one), events)


def test_the_columns(tmp_path):
    import pandas as pd

    path = tmp_path / "events.parquet"
    write_events(path, BY_HAND, JOBS.job_id)
    table = pd.read_parquet(path)
    assert list(table) == ["t_s", "kind", "job", "job_id", "gpus", "node", "extra"]
    assert table.kind[:3].tolist() == ["arrive", "start", "place"]
    assert table.job_id[:4].tolist() == ["job-0", "job-0", "job-0", "job-1"]
    assert table.job_id.isna().sum() == 2
    assert str(table.job.dtype) == str(table.node.dtype) == "int32"


def test_files_that_are_no_log(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_events(tmp_path / "none.parquet")
    text = tmp_path / "text.parquet"
    text.write_text("text")
    import pandas as pd

    other = tmp_path / "other.parquet"
    pd.DataFrame({"t_s": [1.0]}).to_parquet(other)
    for path in (text, other):
        with pytest.raises(UserError, match=r"not one \(.*simulate --events"):
            read_events(path)


def test_energy_by_the_type_of_the_node():
    # 720 GPU-s held: job 0 on node 0; job 1 on both up to 100 s, then on node 1. T4 of 70 W draw
    # 10.5 W idle and 55.3 W busy, A100 of 400 W 60 W and 316 W.
    alone = BY_HAND[[row for row in range(len(BY_HAND)) if row != 5]]
    alone[5, c.LOG_NODE], alone[5, c.LOG_GPUS] = 1, 2
    found = replay(alone, JOBS, Cluster.parse("1x2:T4+1x2:A100"))
    idle = 10.5 * 2 * 300 + 60 * (2 * 300 - 2 * 50)
    busy = (55.3 - 10.5) * 280 + (316 - 60) * 440
    assert found.energy_kwh == pytest.approx((idle + busy) / 3.6e6)


@pytest.mark.parametrize(
    ("column", "cell", "message"),
    [
        ("t_s", np.nan, "no finite numbers"),
        ("t_s", -1.0, "not in order of time"),
        ("t_s", "soon", "column 't_s' is of type string"),
        ("t_s", None, "column 't_s' has empty cells"),
        ("kind", "explode", "'explode'"),
        ("job", 2**31, "column 'job' is to hold -1 or positions"),
        ("job", -2, "column 'job' is to hold -1 or positions"),
        ("job", 0.5, "column 'job' is to hold -1 or positions"),
        ("node", 1e18, "column 'node' is to hold -1 or positions"),
        ("gpus", -1.0, "columns 'gpus' and 'extra'"),
        ("gpus", 1e300, "columns 'gpus' and 'extra'"),
        ("extra", np.inf, "no finite numbers"),
        ("gpus", [1.0], "column 'gpus' is of type list"),
    ],
)
def test_logs_that_no_simulation_has_written(tmp_path, column, cell, message):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "events.parquet"
    write_events(path, BY_HAND, JOBS.job_id)
    table = pq.read_table(path).drop(["job_id"])
    cells = table.column(column).to_pylist()
    if isinstance(cell, str | list) and column != "kind":
        cells = [cell] * len(cells)
    cells[1] = cell
    place = table.column_names.index(column)
    pq.write_table(table.set_column(place, column, pa.array(cells)), path)
    with pytest.raises(UserError, match=rf"event log {path}: not one \(.*{message}.*--events"):
        read_events(path)


def test_a_log_of_another_workload():
    with pytest.raises(UserError, match="has a job 1, and workload .* has 1 jobs"):
        replay(BY_HAND, JOBS.slice(0, 1), TWO_NODES)
    with pytest.raises(UserError, match="has no rows"):
        replay(BY_HAND[:0], JOBS, TWO_NODES)
    with pytest.raises(UserError, match="has a node 1, and the cluster has 1 nodes"):
        replay(BY_HAND, JOBS, Cluster.parse("1x4"))


@settings(max_examples=EXAMPLES)
@given(seed=st.integers(0, 2**32))
def test_damaged_logs(tmp_path_factory, seed):
    path = tmp_path_factory.getbasetemp() / "damaged.parquet"
    write_events(path, BY_HAND, JOBS.job_id)
    path.write_bytes(damaged(path.read_bytes(), Random(seed)))
    events = read_or_refused(lambda: read_events(path))
    if events is not None:
        assert np.isfinite(events).all()
        read_or_refused(lambda: replay(events, JOBS, TWO_NODES))


@pytest.mark.parametrize("machines", ["2x4+1x8", "2x4:T4+1x8:A100"])
@pytest.mark.parametrize("name", ["fcfs", "las", "elastic_index"])
@pytest.mark.parametrize("sim", [{}, {"node_mtbf_h": 20.0, "job_mtbf_h": 10.0, "max_retries": 3}])
def test_the_log_gives_the_figures_of_the_run(name, sim, machines):
    rules = SimConfig(checkpoint_interval_s=600.0, charge_first_start=True, **sim)
    cluster = Cluster.parse(machines)
    jobs = WorkloadConfig(synthetic=SyntheticConfig(num_jobs=80, load=1.0))
    workload = load_workload(jobs, cluster, seed=3)
    run = simulate(workload, cluster, get_scheduler(name), rules, seed=1, log_events=True)
    assert run.events is not None
    found = replay(run.events, workload, cluster, rules.checkpoint_interval_s)
    assert found.summary() == pytest.approx(run.summary(), rel=1e-9, abs=1e-6)
    for each in ("finish_s", "held_s", "num_restarts", "finish_time_fairness", "lost_gpu_s"):
        expected = getattr(run, each)
        np.testing.assert_allclose(getattr(found, each), expected, rtol=1e-9, atol=1e-6)
    assert found.up_gpu_s == pytest.approx(run.up_gpu_s)
    assert found.idle_gpu_s == pytest.approx(run.idle_gpu_s, rel=1e-6)
