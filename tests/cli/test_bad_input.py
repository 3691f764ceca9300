"""Bad input: one line that names it and the mend, exit code 2, nothing half-written."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from marl_sched.models.policy import save_policy
from tests.cli.program import call, files_in, write_trace
from tests.models.test_policy import make_policy

HEADER = "arrival_s,duration_s,num_gpus\n"
PHILLY = "timestamp,duration,num_gpus,gpu_time,cluster\n"

TRACES = {
    "unknown.csv": "when,how_long\n1,2\n",
    "text.csv": HEADER + "0,100,1\n5,long,1\n",
    "negative.csv": HEADER + "0,100,1\n5,100,1\n9,-3,1\n",
    "nan.csv": HEADER + "0,nan,1\n",
    "zero.csv": HEADER + "0,0,1\n",
    "half.csv": HEADER + "0,10,1.5\n",
    "empty.csv": "",
    "header.csv": HEADER,
    "frail.csv": "arrival_s,duration_s,num_gpus,checkpoint_interval_s\n0,36000,4,36000\n",
    "large.csv": HEADER + "0,100,1\n5,100,99\n",
    "philly.csv": PHILLY + "2017-10-01 00:00:00,abc,1,10,a\n",
    "binary.csv": "\x00\x01\x02",
    "cpus.csv": "arrival_s,duration_s,num_gpus,cpus_per_gpu\n0,5,1,64\n",
    "tenants.csv": "job_id,tenant,elastic," + HEADER + "a,x,0,0,5,1\nb,x,0,0,5,2\n",
    "long.csv": HEADER + f"0,{'x' * 70_000},1\n",
}

CASES = {
    # arguments (files by name in the test's folder), words that the line must contain
    "missing trace": (["simulate", "--trace", "@none.csv"], ["none.csv", "no such file"]),
    "trace is a folder": (["simulate", "--trace", "@."], ["trace"]),
    "unknown format": (["simulate", "--trace", "@unknown.csv"], ["unknown.csv", "when"]),
    "unknown --format": (
        ["simulate", "--trace", "@ok.csv", "--format", "pbs"], ["format", "pbs", "philly"],
    ),
    "wrong --format": (["simulate", "--trace", "@ok.csv", "--format", "itp"], ["ok.csv", "itp"]),
    "text": (["simulate", "--trace", "@text.csv"], ["text.csv", "row 3", "duration_s", "long"]),
    "negative": (["simulate", "--trace", "@negative.csv"], ["negative.csv", "row 4", "-3"]),
    "NaN": (["simulate", "--trace", "@nan.csv"], ["nan.csv", "row 2", "duration_s"]),
    "zero": (["simulate", "--trace", "@zero.csv"], ["zero.csv", "row 2", "duration_s"]),
    "half a GPU": (["simulate", "--trace", "@half.csv"], ["half.csv", "row 2", "num_gpus"]),
    "empty": (["simulate", "--trace", "@empty.csv"], ["empty.csv"]),
    "header only": (["simulate", "--trace", "@header.csv"], ["header.csv"]),
    "philly text": (["simulate", "--trace", "@philly.csv"], ["philly.csv", "row 2", "abc"]),
    "binary": (["simulate", "--trace", "@binary.csv"], ["binary.csv"]),
    "too large": (
        ["simulate", "--trace", "@large.csv", "--cluster", "2x4"],
        ["large.csv", "row 3", "99", "--cluster", "--skip-bad-rows"],
    ),
    "nobody survives": (
        ["simulate", "--trace", "@frail.csv", "--cluster", "4x1", "--node-mtbf-h", "0.01",
         "--scheduler", "fcfs"],
        ["times in a row", "checkpoint_interval_s"],
    ),
    "output over the input": (
        ["simulate", "--trace", "@ok.csv", "--jobs-out", "@ok.csv"], ["--jobs-out", "--trace"],
    ),
    "two outputs in one file": (
        ["simulate", "--trace", "@ok.csv", "--jobs-out", "@o", "--events", "@o"],
        ["--events", "--jobs-out"],
    ),
    "output is a device": (
        ["simulate", "--trace", "@ok.csv", "--events", "/dev/null"], ["no regular file"],
    ),
    "output below a file": (
        ["simulate", "--trace", "@ok.csv", "--events", "@ok.csv/e.parquet"], ["ok.csv"],
    ),
    "seed": (["simulate", "--trace", "@ok.csv", "--seed", "9" * 25], ["seed"]),
    "nodes": (["simulate", "--trace", "@ok.csv", "--cluster", "100000000x8"], ["1,000,000"]),
    "unknown scheduler": (["simulate", "--scheduler", "sjff"], ["sjff", "elastic_index"]),
    "unknown parameter": (
        ["simulate", "--scheduler", "las:slice=3"], ["slice", "quantum_gpu_s"],
    ),
    "bad parameter": (["simulate", "--scheduler", "las:quantum_gpu_s=-1"], ["quantum_gpu_s"]),
    "unknown setting": (["simulate", "--set", "sim.rounds=3"], ["sim.rounds", "round_s"]),
    "unknown section": (["simulate", "--set", "simm.round_s=3"], ["simm", "workload"]),
    "bad value": (["simulate", "--set", "sim.round_s=-3"], ["sim.round_s", "-3", "greater"]),
    "not a number": (["simulate", "--set", "sim.round_s=.nan"], ["sim.round_s", "finite"]),
    "text for a number": (["simulate", "--set", "sim.round_s=soon"], ["sim.round_s", "soon"]),
    "no value": (["simulate", "--set", "sim.round_s"], ["sim.round_s", "key=value"]),
    "section for a value": (["simulate", "--set", "sim=3"], ["sim"]),
    "value for a section": (["simulate", "--set", "seed.x=3"], ["seed"]),
    "missing config": (["simulate", "--config", "@none.yaml"], ["none.yaml", "no such file"]),
    "config not YAML": (["simulate", "--config", "@broken.yaml"], ["broken.yaml", "YAML"]),
    "config a list": (["simulate", "--config", "@list.yaml"], ["list.yaml", "key: value"]),
    "config unknown key": (["simulate", "--config", "@key.yaml"], ["key.yaml", "clusterr"]),
    "endless trace": (["simulate", "--trace", "/dev/zero"], ["/dev/zero", "no regular file"]),
    "packed trace": (["simulate", "--trace", "@packed.csv.gz"], ["packed.csv.gz", "gunzip"]),
    "many CPUs": (
        ["simulate", "--trace", "@cpus.csv", "--cluster", "1x2"],
        ["cpus.csv", "row 2", "nodes: [{count: 1, gpus: 2, cpus: 128}]", "docs/inputs.md"],
    ),
    "above a quota": (
        ["simulate", "--trace", "@tenants.csv", "--set", "sim.tenant_quota={x: 1}"],
        ["tenants.csv", "row 3", "'b'", "'x' may hold 1", "--skip-bad-rows"],
    ),
    "long cell": (["simulate", "--trace", "@long.csv"], ["long.csv", "row 2", "duration_s"]),
    "endless rounds": (["simulate", "--set", "sim.round_s=1.0e-300"], ["sim.round_s", "0.001"]),
    "key twice": (["simulate", "--config", "@twice.yaml"], ["twice.yaml", "line 2", "'seed'"]),
    "huge cluster file": (
        ["simulate", "--cluster", "@huge.yaml"], ["huge.yaml", "count", "1,000,000"],
    ),
    "bad cluster": (["simulate", "--cluster", "16y8"], ["16y8", "16x8"]),
    "empty cluster": (["simulate", "--cluster", "0x8"], ["0x8"]),
    "missing cluster": (["simulate", "--cluster", "@none.yaml"], ["none.yaml", "no such file"]),
    "unknown GPU": (["simulate", "--cluster", "2x4:XPU"], ["XPU", "A100"]),
    "no load": (["simulate", "--load", "0"], ["load", "greater"]),
    "NaN load": (["simulate", "--load", "nan"], ["load"]),
    "negative noise": (["simulate", "--estimate-noise", "-1"], ["estimate_noise"]),
    "negative seed": (["simulate", "--seed", "-1"], ["seed"]),
    "long text for a seed": (["simulate", "--seed", "x" * 70_000], ["--seed", "integer"]),
    "long cluster": (["simulate", "--cluster", "x" * 70_000], ["cluster 'xxx", "16x8"]),
    "long setting": (["simulate", "--set", "x" * 70_000 + "=1"], ["unknown setting 'xxx"]),
    "text for a seed": (["simulate", "--seed", "one"], ["--seed", "integer"]),
    "unwritable": (
        ["simulate", "--trace", "@ok.csv", "--cluster", "2x4", "--jobs-out", "@ok.csv/jobs.csv"],
        ["jobs.csv", "write"],
    ),
    "unknown command": (["simulat"], ["simulat"]),
    "unknown option": (["simulate", "--sched", "fcfs"], ["--sched"]),
    "no scheduler": (["evaluate"], ["--scheduler"]),
    "no such run": (["evaluate", "--scheduler", "@none"], ["none", "fcfs", "run"]),
    "not a run": (["evaluate", "--scheduler", "@folder"], ["folder"]),
    "training part": (["evaluate", "--scheduler", "fcfs", "--part", "train"], ["train", "test"]),
    "no episodes": (["evaluate", "--scheduler", "fcfs", "--episodes", "0"], ["episodes"]),
    "nothing to repack": (
        ["evaluate", "--scheduler", "equi", "--set", "sim.repack=true"], ["sim.repack", "'equi'"],
    ),
    "evaluate: missing trace": (
        ["evaluate", "--scheduler", "fcfs", "--trace", "@none.csv"], ["none.csv"],
    ),
    "evaluate: too short": (
        ["evaluate", "--scheduler", "fcfs", "--trace", "@one.csv"], ["one", "no job", "split"],
    ),
    "evaluate: unwritable": (
        ["evaluate", "--scheduler", "fcfs", "--trace", "@ok.csv", "--out", "@ok.csv/x.json"],
        ["x.json", "write"],
    ),
    "other observation": (
        ["evaluate", "--scheduler", "@other", "--trace", "@ok.csv"], ["other", "observation"],
    ),
    "damaged": (["evaluate", "--scheduler", "@damaged", "--trace", "@ok.csv"], ["damaged"]),
    "train: missing trace": (
        ["train", "--trace", "@none.csv", "--out", "@run"], ["none.csv", "no such file"],
    ),
    "train: too large": (
        ["train", "--trace", "@large.csv", "--cluster", "2x4", "--out", "@run"], ["row 3", "99"],
    ),
    "train: unknown algorithm": (["train", "--algo", "a3c", "--out", "@run"], ["a3c", "ppo"]),
    "train: unknown agents": (["train", "--agents", "kind", "--out", "@run"], ["kind", "learned"]),
    "train: bad resume": (["train", "--resume", "maybe", "--out", "@run"], ["maybe", "auto"]),
    "train: unknown preset": (["train", "--preset", "quick", "--out", "@run"], ["quick", "fast"]),
    "train: warm start of itself": (
        ["train", "--algo", "es", "--set", "training.warm_start=0.5", "--out", "@run"],
        ["warm_start", "PPO and DQN"],
    ),
    "train: no end": (
        ["train", "--set", "training.minutes=null", "--out", "@run"], ["minutes", "iterations"],
    ),
    "train: unknown base": (
        ["train", "--set", "env.base=best", "--out", "@run"], ["env.base", "best", "elastic_index"],
    ),
    "train: unknown choice": (
        ["train", "--set", "env.algorithms=[fcfs, best]", "--out", "@run"],
        ["env.algorithms", "best", "elastic_index"],
    ),
    "train: no choice": (
        ["train", "--set", "env.algorithms=[]", "--out", "@run"], ["env.algorithms"],
    ),
    "train: unknown rival": (
        ["train", "--set", "evaluation.schedulers=[best]", "--out", "@run"],
        ["evaluation.schedulers", "best", "elastic_index"],
    ),
    "synth: suffix": (["trace", "synth", "--out", "@jobs.txt"], ["jobs.txt", ".csv"]),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with every bad file, and a good trace."""
    for name, text in TRACES.items():
        (tmp_path / name).write_text(text)
    write_trace(tmp_path / "ok.csv")
    (tmp_path / "one.csv").write_text(HEADER + "0,100,1\n")
    (tmp_path / "broken.yaml").write_text("a: [1\n")
    (tmp_path / "list.yaml").write_text("- 1\n- 2\n")
    (tmp_path / "key.yaml").write_text("clusterr: 2x4\n")
    (tmp_path / "twice.yaml").write_text("seed: 1\nseed: 2\n")
    (tmp_path / "huge.yaml").write_text("nodes: [{count: 99999999999, gpus: 8}]\n")
    (tmp_path / "packed.csv.gz").write_bytes(gzip.compress(HEADER.encode()))
    (tmp_path / "folder").mkdir()
    save_policy(make_policy("ppo"), tmp_path / "other")
    save_policy(make_policy("ppo"), tmp_path / "damaged")
    for weights in (tmp_path / "damaged").rglob("*.safetensors"):
        weights.write_bytes(weights.read_bytes()[:100])
    return tmp_path


@pytest.mark.parametrize("case", CASES)
def test_one_line_and_exit_code_2(
    case: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    arguments, words = CASES[case]
    before = files_in(folder)
    seen = call(capsys, *(re.sub("^@", f"{folder}/", text) for text in arguments))
    assert seen.code == 2, seen
    assert seen.out == ""
    # On a new machine the kernels are compiled first.
    lines = [line for line in seen.err.splitlines() if not line.startswith("compiling kernels")]
    assert len(lines) == 1, seen.err
    assert lines[0].startswith("error: ")
    assert "Traceback" not in seen.err
    assert len(lines[0]) < 2100
    for word in words:
        assert word in lines[0], (word, lines[0])
    assert files_in(folder) == before, "something was written"
    assert "<class" not in lines[0] and "pydantic" not in lines[0]


def test_an_unreachable_address(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training says what it is about to do first; the error is the last line."""
    import ray

    # Another test's Ray would be used as it is.
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    before = files_in(folder)
    small = ["--set", "env.jobs_per_episode=10", "--set", "training.validation_episodes=1"]
    seen = call(
        capsys, "train", "--trace", folder / "ok.csv", "--cluster", "2x4", "--out", folder / "run",
        "--address", "127.0.0.1:1", *small,
    )  # fmt: skip
    assert seen.code == 2
    assert seen.out == ""
    errors = [line for line in seen.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert seen.err.splitlines()[-1] == errors[0]
    for word in ("--address", "127.0.0.1:1", "ray start --head"):
        assert word in errors[0]
    assert "Traceback" not in seen.err
    assert files_in(folder) == before, "something was written"
