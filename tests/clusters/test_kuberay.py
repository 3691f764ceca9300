"""clusters/kuberay: valid for KubeRay's schema, token on, the image that pyproject names."""

from __future__ import annotations

import copy
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[2]
RAYJOB = ROOT / "clusters" / "kuberay" / "rayjob.yaml"


def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(RAYJOB.read_text(encoding="utf-8")))


@pytest.fixture
def rayjob() -> dict[str, Any]:
    (job,) = [doc for doc in documents() if doc["kind"] == "RayJob"]
    return job


@pytest.fixture(scope="session")
def schema(shared_data: Path) -> dict[str, Any]:
    """The v1 schema of KubeRay's RayJob, closed: a field it does not name is an error."""
    path = shared_data / "kuberay" / "ray.io_rayjobs.yaml"
    if not path.is_file():
        pytest.skip("KubeRay's RayJob definition is not there: ../shared/data/kuberay")
    return closed_schema(path)


@cache
def closed_schema(path: Path) -> dict[str, Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    definition = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    (version,) = [v for v in definition["spec"]["versions"] if v["name"] == "v1"]
    closed: dict[str, Any] = close(version["schema"]["openAPIV3Schema"])
    # The definition leaves the object's own metadata to the API server.
    closed["properties"]["metadata"] = {
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"type": "string"}, "namespace": {"type": "string"}},
        "additionalProperties": False,
    }
    return closed


def close(node: Any) -> Any:
    """`node` with additionalProperties: false wherever an object lists its properties."""
    if isinstance(node, list):
        return [close(item) for item in node]
    if not isinstance(node, dict):
        return node
    result = {key: close(value) for key, value in node.items()}
    if node.get("type") == "object" and isinstance(node.get("properties"), dict):
        result.setdefault("additionalProperties", False)
    return result


def test_the_job_follows_the_schema(rayjob: dict[str, Any], schema: dict[str, Any]) -> None:
    jsonschema.validate(rayjob, schema)


@pytest.mark.parametrize(
    ("path", "right", "wrong"),
    [
        (("spec",), "entrypoint", "entrypont"),
        (("spec", "rayClusterSpec"), "authOptions", "authOption"),
        (("spec", "rayClusterSpec", "authOptions"), "mode", "modes"),
        (("spec", "rayClusterSpec", "workerGroupSpecs", 0), "replicas", "replica"),
        (
            ("spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "containers", 0),
            "resources",
            "resource",
        ),
    ],
)
def test_a_misspelt_field_is_caught(
    rayjob: dict[str, Any], schema: dict[str, Any], path: tuple[Any, ...], right: str, wrong: str
) -> None:
    broken = copy.deepcopy(rayjob)
    place: Any = broken
    for part in path:
        place = place[part]
    place[wrong] = place.pop(right)
    with pytest.raises(jsonschema.ValidationError, match=wrong):
        jsonschema.validate(broken, schema)


def test_core_objects_follow_kubernetes() -> None:
    import kubernetes_validate

    core = [doc for doc in documents() if "/" not in doc["apiVersion"]]
    assert [doc["kind"] for doc in core] == ["PersistentVolumeClaim"]
    for doc in core:
        kubernetes_validate.validate(doc, "1.31", strict=True)


def test_token_authentication_is_on(rayjob: dict[str, Any]) -> None:
    cluster = rayjob["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    for container in containers(rayjob):
        for variable in container.get("env", []):
            assert variable["name"] not in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")


def test_image_and_version_are_the_pinned_ray(rayjob: dict[str, Any]) -> None:
    pinned = re.search(
        r'"ray\[[\w,]+\]==(\d+\.\d+)\.\*"', (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    )
    assert pinned is not None
    assert str(rayjob["spec"]["rayClusterSpec"]["rayVersion"]).startswith(pinned[1] + ".")
    version = rayjob["spec"]["rayClusterSpec"]["rayVersion"]
    assert {c["image"] for c in containers(rayjob)} == {f"rayproject/ray:{version}-py311"}


def test_the_wheel_is_this_version_and_the_command_is_ours(rayjob: dict[str, Any]) -> None:
    from marl_sched import __version__

    packages = yaml.safe_load(rayjob["spec"]["runtimeEnvYAML"])["pip"]
    assert packages == [f"/home/ray/wheels/marl_sched-{__version__}-py3-none-any.whl"]
    assert shlex.split(rayjob["spec"]["entrypoint"])[:2] == ["marl-sched", "train"]
    mounts = {m["mountPath"] for c in containers(rayjob) for m in c["volumeMounts"]}
    assert "/home/ray/wheels" in mounts


def test_the_workers_can_hold_the_samplers(rayjob: dict[str, Any]) -> None:
    words = shlex.split(rayjob["spec"]["entrypoint"])
    runners = int(words[words.index("--num-env-runners") + 1])
    (group,) = rayjob["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    cpus = group["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"]
    assert runners <= group["replicas"] * int(cpus)


def containers(rayjob: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = rayjob["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [c for group in groups for c in group["template"]["spec"]["containers"]]
