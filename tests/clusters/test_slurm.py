"""The batch script for Slurm, run for real on a host of its own, with Slurm's commands played."""

from __future__ import annotations

import json
import secrets
import subprocess
from pathlib import Path

import pytest

from marl_sched.clusters.targets import Launch, render
from marl_sched.compiled.jit import cache_folder
from tests.clusters.isolated import ROOT, own_host, ray_environment

pytestmark = [pytest.mark.ray, pytest.mark.slow]

TINY = (
    "--resume auto --cluster 2x4 --set workload.synthetic.num_jobs=200 --iterations 1 "
    "--set training.ppo.batch_size=512 --set training.validation_episodes=2 "
    "--set evaluation.episodes=2 --set evaluation.bound_episodes=0"
)
PLAYED = {
    # A step has the CPUs that it asks for itself, not those that the job has for each task.
    "srun": "unset SLURM_CPUS_PER_TASK\n"
    "while [[ $1 == --* ]]; do [[ $1 == --cpus-per-task=3 ]] && has=1; shift; done\n"
    '[[ -v has ]] || exit 7\nexec "$@"',
    "scontrol": "echo localhost",
    # A host without a network finds no address, not even its own.
    "getent": 'echo "127.0.0.1 STREAM localhost"',
}


def test_the_script_trains_and_ends_its_ray(tmp_path: Path) -> None:
    isolation = own_host()
    if not isolation:
        pytest.skip("`ray symmetric-run` ends every Ray of a host, and here is no other one")
    for name, text in PLAYED.items():
        path = tmp_path / name
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    storage = tmp_path / "shared"
    launch = Launch(nodes=1, cpus_per_node=3, gpus_per_node=0, storage=str(storage))
    script = tmp_path / "train.sbatch"
    text = render("slurm", launch).replace("--resume auto", TINY)
    script.write_text(text.replace('"runs/slurm-', f'"{tmp_path}/slurm-'))
    slurm = {
        "SLURM_SUBMIT_DIR": str(ROOT), "SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1",
        "SLURM_JOB_NODELIST": "localhost", "SLURM_CPUS_PER_TASK": "3", "HOME": str(tmp_path),
        "NUMBA_CACHE_DIR": str(cache_folder().parent),
    }  # fmt: skip
    with ray_environment(**slurm) as environment:
        del environment["RAY_AUTH_TOKEN"], environment["RAY_AUTH_MODE"]
        environment["PATH"] = f"{tmp_path}:{environment['PATH']}"
        done = subprocess.run(
            [*isolation, "bash", str(script)],
            env=environment, capture_output=True, text=True, timeout=280,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "held-out jobs (test part)" in done.stdout
    assert "Ray processes" in done.stdout + done.stderr  # stopped
    for folder in (tmp_path / "slurm-7", storage / "slurm-7"):
        assert json.loads((folder / "run.json").read_text())["iteration"] == 1
