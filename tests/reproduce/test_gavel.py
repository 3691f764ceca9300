"""R3 and R3b: Gavel's rounds by hand, in its published simulator, and on a real cluster."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from marl_sched.errors import UserError
from marl_sched.reproduce.gavel import RealCluster, cluster_of, run
from marl_sched.reproduce.gavel_leases import LiveRounds, assign
from marl_sched.reproduce.gavel_scripts import Scripts
from marl_sched.reproduce.gavel_sections import OVERHEADS, REAL_CLUSTER, RECORDED, run_gavel
from marl_sched.reproduce.gavel_steps import Steps
from marl_sched.workload.gavel import load_overheads, load_profile, load_throughputs, load_trace


def line(
    steps: int, arrival_s: float, gpus: int = 1, kind: str = "A3C (batch size 4)", mode: str = ""
) -> str:
    cells = [kind, "run", "there", "-n", "0", str(steps), str(gpus), "1", "-1"]
    if mode:
        cells[7:7] = [mode]
        cells.append("100")
    return "\t".join([*cells, str(arrival_s)]) + "\n"


@pytest.fixture
def rates(tmp_path: Path) -> Path:
    """Ten steps a second, whatever it is."""
    kinds = [("A3C (batch size 4)", gpus) for gpus in (1, 2, 4)]
    kinds += [(f"ResNet-18 (batch size {batch})", 1) for batch in (32, 256)]
    path = tmp_path / "rates.json"
    table = {f"('{kind}', {gpus})": {"null": 10.0} for kind, gpus in kinds}
    path.write_text(json.dumps({"v100": table}))
    return path


def trace_of(folder: Path, *lines: str) -> Path:
    path = folder / "jobs.trace"
    path.write_text("".join(lines))
    return path


def test_rounds_by_hand(tmp_path: Path, rates: Path) -> None:
    # a has the whole first round. b comes with the second: 120 s of which 20 are lost, a whole
    # round, and 20 s for the last 200 steps.
    trace = trace_of(tmp_path, line(1200, 0), line(2400, 50))
    found = run(trace, rates, None, "max_min_fairness", "1")
    assert found["jcts_s"] == pytest.approx({"0": 120.0, "1": 330.0}, abs=1e-4)
    assert found["num_restarts"] == 1
    assert found["makespan_s"] == pytest.approx(380.0, abs=1e-4)


def test_a_short_last_round_pays_no_restart(tmp_path: Path, rates: Path) -> None:
    trace = trace_of(tmp_path, line(1200, 0), line(600, 50))
    found = run(trace, rates, None, "max_min_fairness", "1")
    assert found["jcts_s"]["1"] == pytest.approx(130.0, abs=1e-4)


def measured(folder: Path, **conditions: float) -> RealCluster:
    path = folder / "overheads.txt"
    path.write_text("seconds = [10.0]")
    return RealCluster(path, **conditions)  # type: ignore[arg-type]


def test_a_lease_that_is_extended(tmp_path: Path, rates: Path) -> None:
    # Launched in 10 s, 240 s of training, 10 s for the last checkpoint; rounds cost nothing.
    trace = trace_of(tmp_path, line(2400, 0))
    found = run(trace, rates, None, "max_min_fairness", "1", real=measured(tmp_path))
    assert found["jcts_s"] == pytest.approx({"0": 260.0}, abs=1e-4)
    assert found["num_restarts"] == 0


def test_leases_by_hand(tmp_path: Path, rates: Path) -> None:
    # a trains from 10 to 120 s and writes until 130 s; b launches until 140 s, trains for 50 s,
    # writes until 200 s. At 190 s it was b's turn again, so that a is asked for only in the middle
    # of the round from 250 s on, at 310 s: launched at 320, loaded at 330, 1300 steps to 460 s.
    trace = trace_of(tmp_path, line(2400, 0), line(500, 0))
    found = run(trace, rates, None, "max_min_fairness", "1", real=measured(tmp_path))
    assert found["jcts_s"] == pytest.approx({"0": 470.0, "1": 200.0}, abs=1e-4)
    assert found["num_restarts"] == 1


def test_conditions_of_a_recorded_run(tmp_path: Path, rates: Path) -> None:
    trace = trace_of(tmp_path, line(500, 0), line(500, 30))
    late = measured(tmp_path, first_jobs=2)
    found = run(trace, rates, None, "max_min_fairness", "2", real=late)
    assert found["jcts_s"] == pytest.approx({"0": 100.0, "1": 70.0}, abs=1e-4)
    # Planned for 50 s and ended after 25 of them.
    half = measured(tmp_path, overtime=0.5)
    found = run(trace, rates, None, "max_min_fairness", "2", real=half)
    assert found["jcts_s"]["0"] == pytest.approx(10.0 + 25.0 + 10.0, abs=1e-4)


def test_who_can_stays_on_its_gpus() -> None:
    gang = np.array([1, 1, 2, 1])
    held = {0: (0, (0,)), 1: (0, (3,))}
    # The gang takes the first two GPUs, so that 0 moves, 1 stays, and 3 waits for no one.
    found = assign({0: 0, 1: 0, 2: 0}, gang, held, np.array([4]))
    assert found == {2: (0, (0, 1)), 1: (0, (3,)), 0: (0, (2,))}
    assert assign({0: 1}, gang, held, np.array([4, 1])) == {0: (1, (0,))}


def test_fractions_hold_at_once_on_a_real_cluster() -> None:
    rounds = LiveRounds(1, 120.0, lend=False)
    jobs, ones = np.arange(2), np.ones(2, dtype=np.int64)

    def decide(now_s: float, running: list[tuple[int, int, float]]) -> list[int]:
        half = np.full((2, 1), 0.5)
        runs = np.ones((2, 1), dtype=bool)
        chosen = rounds.decide_live(running, now_s, jobs, ones, runs, ones[:1], lambda: half)
        return chosen.tolist()

    assert decide(0.0, []) == [0, -1]
    # What job 0 is having counts, but is not booked.
    assert decide(60.0, [(0, 0, 0.0)]) == [-1, 0]
    assert decide(60.0, []) == [0, -1]


def test_scripts_count_whole_epochs(tmp_path: Path, rates: Path) -> None:
    # 40 epochs of 1563 steps: critical for 30 % of them, so that the end of the 13th changes it.
    epoch = 1563
    kind = "ResNet-18 (batch size 32)"
    path = trace_of(tmp_path, line(40 * epoch, 0, kind=kind, mode="accordion"))
    steps = Steps(load_trace(path), load_throughputs(rates), ("v100",))
    scripts = Scripts(steps)
    assert scripts.next_steps(0) == (13 * epoch, False)
    assert not scripts.end_lease(0, 12 * epoch + 100, 1000.0)
    # The 100 steps count, the epoch that they were of begins anew.
    assert steps.left[0] == 28 * epoch - 100
    assert scripts.next_steps(0) == (epoch, False)
    assert scripts.end_lease(0, epoch, 100.0)
    assert steps.batch[0] == 256
    assert scripts.next_steps(0)[1]


@pytest.mark.parametrize("scheduler", ["max_min_fairness", "max_sum_throughput", *RECORDED])
def test_the_published_simulator(shared_data: Path, scheduler: str) -> None:
    folder = shared_data / "shockwave"
    path = folder / "expected" / f"{scheduler}.json"
    expected = json.loads(path.read_text()) if path.is_file() else RECORDED[scheduler]
    found = run_gavel(folder, scheduler)
    exact = 1e-9 if scheduler in RECORDED else 0.01
    assert found["avg_jct_s"] == pytest.approx(expected["avg_jct"], rel=exact)
    assert found["makespan_s"] == pytest.approx(expected["makespan"], rel=exact)


@pytest.mark.parametrize("scheduler", REAL_CLUSTER)
def test_nearer_to_real_gpus_than_the_published_simulator(
    shared_data: Path, scheduler: str
) -> None:
    folder, known = shared_data / "shockwave", REAL_CLUSTER[scheduler]
    real = RealCluster(folder / OVERHEADS, known.first_jobs, known.overtime)
    found = run_gavel(folder, scheduler, real=real)
    for key, there, theirs in zip(("avg_jct_s", "makespan_s"), known.real, known.sim, strict=True):
        assert abs(found[key] - there) < abs(theirs - there), key


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["no jobs"]),
        ("a\tb\n", ["line 1", "2 tab-separated"]),
        (line(10, 0, kind="A3C (batch 4)"), ["line 1", "job_type"]),
        (line(0, 0), ["line 1", "total_steps", ">= 1"]),
        (line(10, 0, gpus=0), ["line 1", "scale_factor"]),
        (line(10, -1), ["arrival_time", ">= 0"]),
        (line(10, 5) + line(10, 4), ["line 2", "arrival_time", "sort"]),
        (line(10, 0, mode="dynamic"), ["line 1", "mode", "accordion"]),
    ],
)
def test_bad_traces(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        load_trace(trace_of(tmp_path, text))
    for word in words:
        assert word in str(error.value)


def test_other_bad_files(tmp_path: Path, rates: Path) -> None:
    path = tmp_path / "other"
    path.write_text('{"v100": {"A3C": {"null": 1}}}')
    with pytest.raises(UserError, match="GPU type 'v100', key 'A3C'"):
        load_throughputs(path)
    path.write_text("[{}]")
    with pytest.raises(UserError, match="1 records; the trace has 2 jobs"):
        load_profile(path, 2)
    with pytest.raises(UserError, match="record 0.*needs a list of seconds"):
        load_profile(path, 1)
    path.write_text('[{"duration_every_epoch": [[2, 3.5], 1.0]}]')
    assert load_profile(path, 1).tolist() == [8.0]
    with pytest.raises(UserError, match="list of seconds in brackets"):
        load_overheads(rates)
    unknown = trace_of(tmp_path, line(10, 0, kind="LM (batch size 5)"))
    with pytest.raises(UserError, match=r"trace job 0.*no entry \('LM \(batch size 5\)', 1\)"):
        run(unknown, rates, None, "max_min_fairness", "1")
    with pytest.raises(UserError, match="no GPU type 'p100'"):
        run(unknown, rates, None, "max_min_fairness", "1:1")
    with pytest.raises(UserError, match="unknown scheduler 'fifo'"):
        run(unknown, rates, None, "fifo", "1")


@pytest.mark.parametrize("text", ["", "0", "a", "1:2:3:4", "-1"])
def test_bad_clusters(text: str) -> None:
    with pytest.raises(UserError, match="cluster"):
        cluster_of(text)
