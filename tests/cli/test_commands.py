"""What the commands print and write."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml

from marl_sched import __version__
from marl_sched.schedulers import REGISTRY
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
