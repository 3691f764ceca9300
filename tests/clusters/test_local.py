"""clusters/local.yaml: valid for Ray's launcher, token on, dashboard on loopback."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

LOCAL = Path(__file__).parents[2] / "clusters" / "local.yaml"


@pytest.fixture
def config() -> dict[str, Any]:
    loaded = yaml.safe_load(LOCAL.read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def validated(config: dict[str, Any]) -> dict[str, Any]:
    """`config` with Ray's defaults filled in, after Ray's own validation."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared: dict[str, Any] = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    return prepared


def test_the_launcher_accepts_it(config: dict[str, Any]) -> None:
    prepared = validated(config)
    node_type = prepared["available_node_types"][prepared["head_node_type"]]
    assert node_type["max_workers"] == len(config["provider"]["worker_ips"])
    for part in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert prepared[part] == config[part]


def test_a_misspelt_key_is_refused(config: dict[str, Any]) -> None:
    import jsonschema

    config["setup_comands"] = config.pop("setup_commands")
    with pytest.raises(jsonschema.ValidationError, match="setup_comands"):
        validated(config)


@pytest.mark.parametrize("part", ["head_start_ray_commands", "worker_start_ray_commands"])
def test_every_ray_start_asks_for_the_token(config: dict[str, Any], part: str) -> None:
    starts = [command for command in config[part] if "ray start" in command]
    assert len(starts) == 1
    exported, found, _ = starts[0].partition("ray start")
    assert found
    assert "export RAY_AUTH_MODE=token" in exported
    # An environment variable outside the command would not reach the machine.
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


def test_the_dashboard_is_on_loopback(config: dict[str, Any]) -> None:
    (start,) = [c for c in config["head_start_ray_commands"] if "ray start" in c]
    hosts = [word for word in start.split() if word.startswith("--dashboard-host")]
    assert hosts == ["--dashboard-host=127.0.0.1"]


def test_no_secret_is_in_the_file(config: dict[str, Any]) -> None:
    assert "RAY_AUTH_TOKEN" not in LOCAL.read_text(encoding="utf-8")
    assert "ssh_public_key" not in config["auth"]
