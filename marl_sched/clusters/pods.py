"""What schemas leave open in Ray's Kubernetes objects: resources, `ray start`, open Rays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from marl_sched.clusters import pins
from marl_sched.clusters.launcher import runtime_env_problems
from marl_sched.clusters.located import Document, Path, Problem, dotted, leaves, parse, unknown

NATIVE = ("cpu", "memory", "ephemeral-storage", "storage")
"""Resources of Kubernetes itself; all others are DOMAIN/NAME."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")


NAMES = ("name", "image", "groupName", "claimName", "rayVersion", "redisAddress")
"""Keys whose value must not be empty."""


def empty(document: Document) -> list[Problem]:
    """Keys without a value, which the API server takes for left out."""
    return [
        Problem(document.line(path), f"{dotted(path)}: is empty")
        for path, item in leaves(document.value, ())
        if (item is None and path[-1:] != ("creationTimestamp",))
        or (item == "" and path[-1:] and path[-1] in NAMES)
    ]


def pod_resources(document: Document) -> list[Problem]:
    """Names of `requests` and `limits` that no node can have."""
    return list(_resources(document.value, (), document))


def _resources(value: Any, path: Path, document: Document) -> Iterator[Problem]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _resources(item, (*path, index), document)
    elif isinstance(value, dict):
        for name, item in value.items():
            below = (*path, name)
            if path[-1:] == ("resources",) and name in ("requests", "limits"):
                for key in item if isinstance(item, dict) else ():
                    if "/" not in str(key) and key not in NATIVE and "hugepages-" not in str(key):
                        yield unknown(below, str(key), NATIVE, document)
            else:
                yield from _resources(item, below, document)


def ray_problems(document: Document, kind: str) -> list[Problem]:
    """Options of `ray start`, the job's runtime environment, and a Ray open to everybody.

    Args:
        kind: RayCluster or RayJob, valid by its definition.
    """
    spec = document.value.get("spec") or {}
    path: Path = ("spec",)
    found = []
    if kind == "RayJob":
        found += _runtime_env(spec.get("runtimeEnvYAML"), document)
        spec, path = spec.get("rayClusterSpec") or {}, ("spec", "rayClusterSpec")
    if (spec.get("authOptions") or {}).get("mode") != "token":
        message = f"{dotted(path)}.authOptions: mode: token is missing: an open cluster"
        found.append(Problem(document.line((*path, "authOptions")), message))
    version = str(spec.get("rayVersion", pins.RAY_VERSION))
    if version.split(".")[:2] != pins.RAY_VERSION.split(".")[:2]:
        message = f"{dotted(path)}.rayVersion: {version}, and this project works with "
        where = document.line((*path, "rayVersion"))
        found.append(Problem(where, message + pins.RAY_VERSION))
    groups: list[tuple[Path, Any]] = [((*path, "headGroupSpec"), spec.get("headGroupSpec"))]
    workers = spec.get("workerGroupSpecs") or []
    groups += [((*path, "workerGroupSpecs", n), group) for n, group in enumerate(workers)]
    for below, group in groups:
        found += _start_params(group or {}, (*below, "rayStartParams"), document)
    if kind == "RayCluster":
        found += _dashboard(groups[0], document)
    return found


def _start_params(group: dict[str, Any], path: Path, document: Document) -> list[Problem]:
    known = _start_options()
    params = group.get("rayStartParams") or {}
    return [unknown(path, name, known, document) for name in params if name not in known]


def _start_options() -> set[str]:
    """Long options of `ray start`."""
    from ray.scripts.scripts import start

    return {
        option.removeprefix("--")
        for param in start.params
        for option in (*param.opts, *param.secondary_opts)
        if option.startswith("--")
    }


def _dashboard(head: tuple[Path, Any], document: Document) -> list[Problem]:
    """KubeRay's own is every address; a RayJob needs it, as the operator looks in there."""
    path, group = head
    where = (*path, "rayStartParams", "dashboard-host")
    host = ((group or {}).get("rayStartParams") or {}).get("dashboard-host")
    if host in LOOPBACK:
        return []
    message = "must be 127.0.0.1: the dashboard is open to the network"
    return [Problem(document.line(where), f"{dotted(where)}: {message}")]


def _runtime_env(text: str | None, document: Document) -> list[Problem]:
    """The YAML within the YAML; its lines follow its key's."""
    path = ("spec", "runtimeEnvYAML")
    if not text:
        return []
    inner, problems = parse(text)
    for one in inner:
        if isinstance(one.value, dict):
            problems += runtime_env_problems(one)
        else:
            problems.append(Problem(1, "is no mapping"))
    begins = document.line(path)
    return [Problem(begins + one.line, f"{dotted(path)}: {one.message}") for one in problems]
