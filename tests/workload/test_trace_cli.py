"""`marl-sched trace`: what it prints and writes."""

import json

import pytest
from typer.testing import CliRunner

from marl_sched.cli.trace import CORE_COLUMNS, app
from marl_sched.errors import UserError

TRACE = """job_id,arrival_s,duration_s,num_gpus
a,0,3600,1
b,1800,7200,2
c,3600,bad,1
d,7200,3600,64
"""


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "jobs.csv"
    path.write_text(TRACE)
    return path


def test_stats_as_json(trace):
    found = json.loads(run("stats", str(trace), "--cluster", "2x4", "--skip-bad-rows", "--json"))
    assert found["num_jobs"] == 3
    assert found["skipped"] == {"duration_s: not a number": 1}
    assert found["span_s"] == 7200.0
    assert found["num_gpus"]["jobs"] == {"1": 1, "2": 1, "64": 1}
    assert found["gpu_hours"] == pytest.approx(1 + 4 + 64)
    assert found["offered_load"] == pytest.approx(69 / 2 / 8)
    assert found["num_jobs_that_do_not_fit"] == 1
    assert found["classes"]["medium"]["jobs_share"] == pytest.approx(2 / 3)


def test_stats_as_a_table(trace):
    text = run("stats", str(trace), "--skip-bad-rows")
    assert "1 (1 duration_s: not a number)" in text
    assert "69 GPU-hours" in text


def test_stats_of_one_job(tmp_path):
    path = tmp_path / "one.csv"
    path.write_text("arrival_s,duration_s,num_gpus\n5,10,1\n")
    found = json.loads(run("stats", str(path), "--cluster", "1x1", "--json"))
    assert found["offered_load"] is None
    assert "none on 1x1" in run("stats", str(path), "--cluster", "1x1")


def test_bad_input_is_a_user_error(trace):
    with pytest.raises(UserError, match="row 4, column 'duration_s': 'bad' is not a number"):
        run("stats", str(trace))
    with pytest.raises(UserError, match="--format 'pbs': unknown format; known: philly, itp"):
        run("stats", str(trace), "--format", "pbs")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_synth(tmp_path, suffix):
    out = tmp_path / f"jobs.{suffix}"
    arguments = ("synth", "--jobs", "50", "--seed", "1", "--load", "0.5", "--cluster", "4x4")
    found = json.loads(run(*arguments, "--out", str(out), "--json"))
    assert found["num_jobs"] == 50
    assert found["offered_load"] == pytest.approx(0.5)
    assert "50 jobs" in run(*arguments, "--out", str(tmp_path / f"again.{suffix}"))
    if suffix == "csv":
        assert out.read_text().splitlines()[0] == ",".join(CORE_COLUMNS)
        assert out.read_text() == (tmp_path / "again.csv").read_text()


def test_synth_refuses_bad_settings(tmp_path):
    out = tmp_path / "jobs.csv"
    for arguments, message in (
        (("--load", "-1"), "load=-1.0: Input should be greater than 0"),
        (("--cluster", "8"), "is not NODESxGPUS"),
    ):
        with pytest.raises(UserError, match=message):
            run("synth", "--out", str(out), *arguments)
    with pytest.raises(UserError, match="suffix must be .csv or .parquet"):
        run("synth", "--out", str(tmp_path / "jobs.txt"))
    assert not list(tmp_path.iterdir())
