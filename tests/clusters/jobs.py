"""What test_jobs.py looks at, beside a head of its own; prints one JSON object."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.clusters.head import head

OPEN = {"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": ""}
WRONG = {"RAY_AUTH_TOKEN": "0" * 64}
TINY = (
    "--cluster 2x4 --num-env-runners 1 --iterations 1 --set workload.synthetic.num_jobs=200 "
    "--set training.ppo.batch_size=512 --set training.validation_episodes=2 "
    "--set evaluation.episodes=2 --set evaluation.bound_episodes=0"
).split()


def run(*words: str, **environment: str) -> dict[str, object]:
    done = subprocess.run(
        words, capture_output=True, text=True, env={**os.environ, **environment}, timeout=400
    )
    return {"code": done.returncode, "out": done.stdout[-6000:], "err": done.stderr[-6000:]}


def main(runtime_env: str, storage: str, fetched: str) -> None:
    ours = [sys.executable, "-m", "marl_sched"]
    ray = str(Path(sys.executable).with_name("ray"))
    seen: dict[str, object] = {}
    with head() as at:
        submit = [
            ray, "job", "submit", "--address", at.dashboard, "--runtime-env", runtime_env,
            "--working-dir", ".", "--",
        ]  # fmt: skip
        seen["refused"] = run(*submit, "true", **OPEN)
        seen["wrong_token"] = run(*submit, "true", **WRONG)
        train = ["python", "-m", "marl_sched", "train", "--address", "auto", "--storage", storage]
        seen["trained"] = run(*submit, *train, *TINY)
        seen["fetched"] = run(*ours, "cluster", "fetch", storage, "--out", fetched)
        seen["listed"] = run(ray, "job", "list", "--address", at.dashboard)
        seen["doctor"] = run(*ours, "doctor", "--address", at.address, "--json")
        seen["doctor_wrong"] = run(*ours, "doctor", "--address", at.address, "--json", **WRONG)
    os.environ.update(OPEN)
    with head() as at:
        seen["doctor_open"] = run(*ours, "doctor", "--address", at.address, "--json")
        seen["doctor_allowed"] = run(
            *ours, "doctor", "--address", at.address, "--json", "--allow-open"
        )
    print(json.dumps(seen), flush=True)
