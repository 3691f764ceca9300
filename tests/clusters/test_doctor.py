"""`doctor` without a cluster; with one, see test_jobs.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from marl_sched.clusters import pins
from tests.cli.program import call


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A user without a token or a cluster."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_a_sound_machine(capsys: pytest.CaptureFixture[str]) -> None:
    seen = call(capsys, "doctor")
    assert seen.code == 0
    assert f"ray {pins.RAY_VERSION.rpartition('.')[0]}." in seen.out
    assert "training starts a local one" in seen.out and "nothing is wrong" in seen.out


def test_the_token_mode_without_a_token(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    seen = call(capsys, "doctor", "--json")
    assert seen.code == 2
    (error,) = json.loads(seen.out)["errors"]
    assert "ray get-auth-token --generate" in error


def test_a_mode_that_ray_does_not_know(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "tokn")
    seen = call(capsys, "doctor", "--json")
    assert seen.code == 2 and "RAY_AUTH_MODE=tokn" in json.loads(seen.out)["errors"][0]


def test_a_token_that_others_can_read(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / ".ray" / "auth_token"
    path.parent.mkdir()
    path.write_text("secret")
    path.chmod(0o644)
    found = json.loads(call(capsys, "doctor", "--json").out)
    assert found["authentication"] == {"mode": "token", "token": str(path)}
    assert [w for w in found["warnings"] if "chmod 600" in w] and "secret" not in str(found)
    path.chmod(0o600)
    assert json.loads(call(capsys, "doctor", "--json").out)["warnings"] == []


def test_nothing_answers(capsys: pytest.CaptureFixture[str]) -> None:
    seen = call(capsys, "doctor", "--address", "127.0.0.1:1")
    assert seen.code == 2 and "no Ray cluster answers there" in seen.out


def test_another_ray(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pins, "RAY_VERSION", "9.9.0")
    seen = call(capsys, "doctor", "--json")
    assert seen.code == 2 and "works with 9.9.0" in json.loads(seen.out)["errors"][0]


def test_no_cluster_runs_here(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray._private.services.find_bootstrap_address", lambda _: None)
    seen = call(capsys, "doctor", "--address", "auto")
    assert seen.code == 2 and "auto: none runs" in seen.out and "a local one" not in seen.out
