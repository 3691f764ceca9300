"""What the commands print and write."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest
import yaml

from marl_sched import __version__
from marl_sched.cli import tables
from marl_sched.config import WorkloadConfig
from marl_sched.evaluation.events import read_events, replay_metrics
from marl_sched.schedulers import REGISTRY, get_scheduler
from marl_sched.types import Cluster
from marl_sched.workload import load_workload
from tests.cli.program import call, write_trace

METRICS = {
    "num_jobs", "num_finished", "avg_jct_s", "p50_jct_s", "p99_jct_s", "makespan_s",
    "avg_queueing_delay_s", "avg_slowdown", "gpu_allocated_fraction", "num_preemptions",
}  # fmt: skip

SMALL = ("--set", "workload.synthetic.num_jobs=200", "--cluster", "2x4")


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return write_trace(tmp_path / "jobs.csv")


def test_simulate_prints_one_json_object(capsys: pytest.CaptureFixture[str], trace: Path) -> None:
    seen = call(
        capsys, "simulate", "--scheduler", "las", "--trace", trace, "--cluster", "2x4", "--json"
    )
    assert seen.code == 0
    report = json.loads(seen.out)  # nothing else on standard output
    assert set(report) >= METRICS
    assert report["scheduler"] == "las"
    assert report["num_jobs"] == report["num_finished"] == 60
    assert report["p50_jct_s"] <= report["p99_jct_s"] <= report["makespan_s"]
    assert 0 < report["gpu_allocated_fraction"] <= 1
    again = call(
        capsys, "simulate", "--scheduler", "las", "--trace", trace, "--cluster", "2x4", "--json"
    )
    assert again.out == seen.out


def test_simulate_prints_a_table(capsys: pytest.CaptureFixture[str], trace: Path) -> None:
    seen = call(capsys, "simulate", "--scheduler", "fcfs", "--trace", trace, "--cluster", "2x4")
    assert seen.code == 0
    for words in ("fcfs on jobs", "mean JCT", "preemptions", "60"):
        assert words in seen.out


def test_jobs_out_is_one_row_a_job(
    capsys: pytest.CaptureFixture[str], trace: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    seen = call(
        capsys, "simulate", "--trace", trace, "--cluster", "2x4", "--json", "--jobs-out", out
    )
    rows = list(csv.DictReader(out.open()))
    assert len(rows) == 60
    jct_s = [float(row["jct_s"]) for row in rows]
    assert sum(jct_s) / 60 == pytest.approx(json.loads(seen.out)["avg_jct_s"])


def report_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, float]:
    seen = call(capsys, "simulate", "--json", *arguments)
    assert seen.code == 0, seen.err
    return json.loads(seen.out)


def test_options_change_the_run(capsys: pytest.CaptureFixture[str], trace: Path) -> None:
    def run(*more: object) -> dict[str, float]:
        return report_of(capsys, "--scheduler", "sjf", "--trace", trace, "--cluster", "1x4", *more)

    plain = run()
    assert run("--load", "0.2")["avg_jct_s"] < run("--load", "3")["avg_jct_s"]
    assert run("--estimate-noise", "0")["avg_jct_s"] != plain["avg_jct_s"]
    assert run("--seed", "5")["avg_jct_s"] != plain["avg_jct_s"]
    assert run("--cluster", "4x4")["makespan_s"] < plain["makespan_s"]
    slow = report_of(
        capsys, "--scheduler", "srtf", "--trace", trace, "--cluster", "1x4",
        "--set", "sim.restart_scale=50",
    )  # fmt: skip
    quick = report_of(
        capsys, "--scheduler", "srtf", "--trace", trace, "--cluster", "1x4",
        "--set", "sim.restart_scale=0",
    )  # fmt: skip
    assert quick["avg_jct_s"] < slow["avg_jct_s"]


def test_settings_from_a_file_and_their_order(
    capsys: pytest.CaptureFixture[str], trace: Path, tmp_path: Path
) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump({"cluster": "1x4", "workload": {"trace": str(trace)}}))
    small = report_of(capsys, "--config", path)
    assert small["num_jobs"] == 60
    # --set wins over the file, an option over both.
    by_set = report_of(capsys, "--config", path, "--set", "cluster=4x4")
    assert by_set["makespan_s"] < small["makespan_s"]
    by_option = report_of(capsys, "--config", path, "--set", "cluster=4x4", "--cluster", "1x4")
    assert by_option == small


def test_bad_rows_are_counted_and_reported(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "jobs.csv"
    path.write_text("arrival_s,duration_s,num_gpus\n0,100,1\n1,-5,1\n2,soon,1\n3,100,2\n4,9,64\n")
    seen = call(capsys, "simulate", "--trace", path, "--cluster", "1x4", "--json",
                "--skip-bad-rows")  # fmt: skip
    assert seen.code == 0
    report = json.loads(seen.out)
    assert report["num_jobs"] == 2
    assert sum(report["skipped_rows"].values()) == 3
    assert "skipped" in seen.err


def test_all_run_and_are_listed(capsys: pytest.CaptureFixture[str], trace: Path) -> None:
    listed = call(capsys, "simulate", "--scheduler", "list")
    assert listed.code == 0
    for name in REGISTRY:
        assert name in listed.out
        report = report_of(
            capsys, "--scheduler", name, "--trace", trace, "--cluster", "1x4:T4+1x4:A100"
        )
        assert report["num_finished"] == 60, name


def test_evaluate_prints_one_json_object(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = (
        "evaluate", "--scheduler", "fcfs", "--scheduler", "las:quantum_gpu_s=900",
        "--scheduler", "fcfs", *SMALL, "--episodes", "3", "--jobs-per-episode", "15",
    )  # fmt: skip
    out = tmp_path / "report.json"
    seen = call(capsys, *arguments, "--json", "--out", out)
    assert seen.code == 0
    report = json.loads(seen.out)
    assert json.loads(out.read_text()) == report
    names = {"fcfs", "las:quantum_gpu_s=900"}
    assert set(report["schedulers"]) == set(report["vs_best_classic"]) == names
    for metrics in report["schedulers"].values():
        assert set(metrics) >= METRICS
        for interval in metrics.values():
            assert set(interval) == {"mean", "low", "high"}
            assert interval["low"] <= interval["mean"] + 1e-9 <= interval["high"] + 2e-9
    assert report["best_classic"] in names
    best = report["vs_best_classic"][report["best_classic"]]["avg_jct_percent"]
    assert best == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert report["episodes"] == 3
    table = call(capsys, *arguments)
    assert table.code == 0
    assert "fcfs" in table.out and "vs best classic" in table.out


def test_planners_are_judged_like_any_other_scheduler(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A planner whose episode is the whole workload has the figures of `simulate`; in a suite its
    results are kept, by its parameters."""
    small = ("--set", "workload.synthetic.num_jobs=30", "--cluster", "2x4:A100+2x4:T4", "--json")
    names = ("gandiva_fair", "max_min_fairness:round_s=900", "srtf")
    seen = call(
        capsys, "evaluate", *(word for name in names for word in ("--scheduler", name)), *small,
        "--part", "whole", "--episodes", "1", "--jobs-per-episode", "30",
    )  # fmt: skip
    assert seen.code == 0, seen.err
    judged = json.loads(seen.out)["schedulers"]
    assert set(judged) == set(names)
    for name in names:
        report = json.loads(call(capsys, "simulate", "--scheduler", name, *small).out)
        for metric in METRICS:
            assert judged[name][metric]["mean"] == pytest.approx(report[metric], rel=1e-12)

    suite = ("evaluate", "--suite", "quick", "--scheduler", "srtf", "--episodes", "1",
             "--jobs-per-episode", "10", "--set", "workload.synthetic.num_jobs=120",
             "--set", "evaluation.bound_episodes=0", "--out", tmp_path)  # fmt: skip
    assert call(capsys, *suite, "--scheduler", "gandiva_fair").code == 0
    assert call(capsys, *suite, "--scheduler", "gandiva_fair:round_s=600").code == 0
    cell = json.loads((tmp_path / "cells" / "built-in-8x4.json").read_text())
    assert len(cell["runs"]) == 3


def test_what_was_trained_is_compared_with_both_indices_or_it_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = ("pretrained", "elastic_index:tuned", "elastic_index:trust=1")
    few = (*SMALL, "--episodes", "2", "--jobs-per-episode", "10", "--json")
    for named, said in ((names[:1], "elastic_index:tuned, elastic_index:trust=1"),
                        (names[:2], "train: elastic_index:trust=1"), (names, None),
                        (names[1:2], None)):  # fmt: skip
        options = [word for name in named for word in ("--scheduler", name)]
        seen = call(capsys, "evaluate", *options, *few)
        told = " ".join(seen.err.split())
        assert seen.code == 0 and ("not among the schedulers" in told) == (said is not None)
        assert said is None or told.endswith(said)
    report = json.loads(call(capsys, "evaluate", *[
        word for name in names for word in ("--scheduler", name)], *few).out)  # fmt: skip
    mean = {name: of["avg_jct_s"]["mean"] for name, of in report["schedulers"].items()}
    assert report["best_index"] == min(names[1:], key=lambda name: mean[name])


def test_a_suite_goes_on_and_leaves_a_page(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = (
        "evaluate", "--suite", "quick", "--scheduler", "srtf", "--scheduler", "equi",
        "--episodes", "3", "--jobs-per-episode", "15", "--out", tmp_path,
        "--set", "workload.synthetic.num_jobs=200",
    )  # fmt: skip
    shown = call(capsys, *arguments)
    assert shown.code == 0 and "built-in-8x4" in shown.out
    page = (tmp_path / "report.md").read_text()
    assert "| `srtf` |" in page and "x bound" in page
    again = call(capsys, *arguments, "--json")
    report = json.loads(again.out)
    assert json.loads((tmp_path / "report.json").read_text()) == report
    assert list(report["overview"]) == ["equi", "srtf"]
    assert [cell["cell"] for cell in report["cells"]] == ["built-in-8x4", "built-in-4x8-busy"]
    refused = call(capsys, *arguments, "--seed", "9")
    assert refused.code == 2 and "other settings" in refused.err
    missing = call(capsys, "evaluate", "--suite", "held-out")
    assert missing.code == 2 and "--data" in missing.err


def test_tune_baseline_writes_what_the_registry_reads(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "las.yaml"
    seen = call(capsys, "tune-baseline", "las", *SMALL, "--budget", "4", "--episodes", "3",
                "--set", "evaluation.jobs_per_episode=15", "--out", out, "--json")  # fmt: skip
    assert seen.code == 0
    found = json.loads(seen.out)
    assert yaml.safe_load(out.read_text()) == found
    assert found["candidates"] == 4 and found["sequences_of_the_best"] == 3
    get_scheduler("las").with_params(found["params"])
    nothing = call(capsys, "tune-baseline", "equi", *SMALL)
    assert nothing.code == 2 and "nothing to tune" in nothing.err


def test_long_names_leave_room_for_the_figures(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    name = "las:quantum_gpu_s=900.000000000000000000000000000000000000000000000000000001"
    seen = call(capsys, "evaluate", "--scheduler", "fcfs", "--scheduler", name, *SMALL,
                "--episodes", "3", "--jobs-per-episode", "15")  # fmt: skip
    assert seen.code == 0
    for heading in ("mean JCT", "p99 JCT", "slowdown", "restarts", "vs best classic"):
        assert heading in seen.out
    assert max(len(line) for line in seen.out.splitlines()) <= 80


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "--version").out.strip() == __version__
    for command in ((), ("train",), ("simulate",), ("evaluate",), ("trace",), ("trace", "synth")):
        assert "Usage" in call(capsys, *command, "--help").out


def test_the_list_says_what_a_scheduler_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    entries: dict[str, str] = {}
    for line in call(capsys, "simulate", "--scheduler", "list").out.splitlines():
        if not line.startswith(" ") and "  [" in line:
            name = line.split()[0]
            entries[name] = ""
        if entries:
            entries[name] += f"{line.strip()} "

    assert "[order, not preemptive]" in entries["fcfs"]
    assert "[order, preemptive]  quantum_gpu_s=3600" in entries["las"]
    assert "[levels, preemptive, elastic]" in entries["equi"]
    assert "[python, preemptive, elastic]" in entries["sia"]
    assert 'Source: Gu et al., "Tiresias", NSDI 2019' in entries["tiresias"]


RICH_JOBS = """\
job_id,arrival_s,duration_s,num_gpus,tenant,cancel_s,depends_on,failure_rate_per_h,max_retries,\
checkpoint_interval_s,gpu_milli
"""


def write_rich_trace(path: Path, shares: bool = True) -> Path:
    """Jobs that fail, are cancelled, wait for each other, and share GPUs."""
    rows = []
    for i in range(60):
        cancel_s = 60 * i + 500 if i % 7 == 3 else ""
        parents = " ".join(f"j{k}" for k in (i - 2, i - 5) if i % 4 == 1 and k >= 0)
        rate, retries = (4.0, i % 3) if i % 5 == 0 else (0.0, 0)
        gpus, milli = (1, 400) if shares and i % 6 == 2 else (1 + i % 3, "")
        rows.append(
            f"j{i},{60 * i},{600 + 37 * (i % 11)},{gpus},t{i % 2},{cancel_s},{parents},{rate},"
            f"{retries},300,{milli}\n"
        )
    path.write_text(RICH_JOBS + "".join(rows))
    return path


RICH_RULES = {
    "failing nodes": ("--node-mtbf-h", "2", "--set", "sim.node_mttr_h=0.2"),
    "given node events": ("--node-events", "@events.csv"),
    "placement": ("--placement", "spread", "--set", "sim.sharing=time_slice"),
    "contention and quotas": (
        "--set", "sim.network_contention=true", "--set", "sim.tenant_quota={t0: 3}",
    ),
    "rounds": ("--set", "sim.decide_on=rounds", "--set", "sim.round_s=120"),
}  # fmt: skip


@pytest.mark.parametrize("name", ["fcfs", "srtf", "elastic_index", "sia"])
@pytest.mark.parametrize("rules", RICH_RULES)
def test_the_event_log_alone_gives_the_summary(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, rules: str
) -> None:
    path = write_rich_trace(tmp_path / "jobs.csv", shares=name != "sia")
    (tmp_path / "events.csv").write_text(
        "time_s,node,event,notice_s\n900,node-0,reclaim,120\n1500,node-1,down,\n"
        "2400,node-0,up,\n2500,node-1,up,\n"
    )
    arguments = [part.replace("@", f"{tmp_path}/") for part in RICH_RULES[rules]]
    given = ("--scheduler", name, "--trace", path, "--cluster", "3x4", *arguments)
    logs = [tmp_path / "one.parquet", tmp_path / "two.parquet"]
    reports = [report_of(capsys, *given, "--events", log) for log in logs]
    assert logs[0].read_bytes() == logs[1].read_bytes()
    assert reports[0] == reports[1] == report_of(capsys, *given)  # the log changes nothing
    cluster = Cluster.parse("3x4")
    workload = load_workload(WorkloadConfig(trace=str(path)), cluster, 0)
    found = replay_metrics(read_events(logs[0]), workload, cluster)
    expected = {key: reports[0][key] for key in found}
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-6)
    assert found["num_cancelled"] > 0 and found["num_retries"] > 0


def test_options_of_the_cluster_reach_the_simulation(
    capsys: pytest.CaptureFixture[str], trace: Path, tmp_path: Path
) -> None:
    given = ("--scheduler", "fcfs", "--trace", trace, "--cluster", "4x4")
    plain = report_of(capsys, *given)
    assert report_of(capsys, *given, "--node-mtbf-h", "0.5") != plain
    as_setting = report_of(capsys, *given, "--set", "sim.node_mtbf_h=0.5")
    assert as_setting == report_of(capsys, *given, "--node-mtbf-h", "0.5")
    path = tmp_path / "nodes.csv"
    path.write_text("time_s,node,event\n10,node-0,down\n11,node-1,down\n12,3,down\n")
    less = report_of(capsys, *given, "--node-events", path)
    assert less["makespan_s"] > plain["makespan_s"]
    seen = call(capsys, "simulate", *given, "--placement", "tightest")
    assert seen.code == 2 and "tightest" in seen.err and "best_fit" in seen.err


def test_what_solvers_print_stays_off_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    with tables.status("running"):
        os.write(1, b"a solver's line\n")
    print("result", flush=True)
    seen = capfd.readouterr()
    assert seen.out == "result\n"
    assert "a solver's line" in seen.err
