"""`ray job submit` and `doctor` against a real head that asks for the token, and an open one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from marl_sched.compiled.jit import cache_folder
from tests.clusters.isolated import ROOT, ray_environment, run_isolated

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("jobs") / "fetched"


@pytest.fixture(scope="module")
def seen(fetched: Path) -> dict[str, Any]:
    """What the program beside the heads saw."""
    # The file that users submit, but with the kernels that this suite has compiled.
    runtime_env = yaml.safe_load((ROOT / "clusters" / "runtime_env.yaml").read_text("utf-8"))
    runtime_env["env_vars"]["NUMBA_CACHE_DIR"] = str(cache_folder().parent)
    path = fetched.parent / "runtime_env.yaml"
    path.write_text(yaml.safe_dump(runtime_env), encoding="utf-8")
    storage = str(fetched.parent / "shared")
    with ray_environment() as environment:
        done = run_isolated(
            Path(__file__).with_name("head.py"),
            "tests.clusters.jobs",
            str(path),
            storage,
            str(fetched),
            environment=environment,
            timeout_s=580,
        )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def findings(of: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(of["out"].splitlines()[-1])
    return found


@pytest.mark.parametrize("name", ["refused", "wrong_token"])
def test_without_the_token_nothing_is_taken(seen: dict[str, Any], name: str) -> None:
    assert seen[name]["code"] != 0, seen[name]
    assert "authentication" in (seen[name]["out"] + seen[name]["err"]).lower()


def test_a_job_runs_from_the_checkout_and_its_log_is_followed(seen: dict[str, Any]) -> None:
    trained = seen["trained"]
    assert trained["code"] == 0, trained["out"] + trained["err"]
    for line in ("training PPO (meta)", "held-out jobs (test part)", "succeeded"):
        assert line in trained["out"]
    assert seen["listed"]["out"].count("SUCCEEDED") >= 1


def test_what_it_made_is_fetched(seen: dict[str, Any], fetched: Path) -> None:
    assert seen["fetched"]["code"] == 0, seen["fetched"]["err"]
    names = {str(path.relative_to(fetched)) for path in fetched.rglob("*") if path.is_file()}
    assert {"config.yaml", "metrics.csv", "run.json", "evaluation.json"} <= names
    assert "checkpoints/iter_1/progress.json" in names and any(n.startswith("best/") for n in names)
    assert json.loads((fetched / "run.json").read_text())["iteration"] == 1


def test_doctor_finds_a_sound_cluster(seen: dict[str, Any]) -> None:
    found = findings(seen["doctor"])
    assert (seen["doctor"]["code"], found["errors"]) == (0, [])
    assert found["cluster"] == {"nodes": 1.0, "cpus": 2.0, "gpus": 0.0}
    assert found["authentication"] == {"mode": "token", "token": "RAY_AUTH_TOKEN"}


def test_doctor_tells_a_wrong_token(seen: dict[str, Any]) -> None:
    (error,) = findings(seen["doctor_wrong"])["errors"]
    assert seen["doctor_wrong"]["code"] == 2 and "token" in error


def test_an_open_cluster_is_an_error_unless_allowed(seen: dict[str, Any]) -> None:
    (error,) = findings(seen["doctor_open"])["errors"]
    assert seen["doctor_open"]["code"] == 2 and "asks for no token" in error
    allowed = findings(seen["doctor_allowed"])
    assert seen["doctor_allowed"]["code"] == 0 and allowed["errors"] == []
    assert any("asks for no token" in warning for warning in allowed["warnings"])
    assert allowed["cluster"]["cpus"] == 2.0
