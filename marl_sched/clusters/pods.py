"""What schemas leave open in Ray's Kubernetes objects: groups, `ray start`, open Rays."""

from __future__ import annotations

from typing import Any

from marl_sched.clusters import pins
from marl_sched.clusters.launcher import runtime_env_problems
from marl_sched.clusters.located import (
    Document,
    Path,
    Problem,
    dotted,
    leaves,
    parse,
    shown,
    unknown,
)
from marl_sched.clusters.starting import start_options

LOOPBACK = ("127.0.0.1", "localhost", "::1")


NAMES = ("name", "image", "groupName", "claimName", "mountPath", "rayVersion", "redisAddress")
"""Keys whose value must not be empty."""


def empty(document: Document) -> list[Problem]:
    """Keys without a value, which the API server takes for left out."""
    return [
        Problem(document.line(path), f"{dotted(path)}: is empty")
        for path, item in leaves(document.value, ())
        if (item is None and path[-1:] != ("creationTimestamp",))
        or (item == "" and path[-1:] and path[-1] in NAMES)
    ]


def ray_problems(document: Document, kind: str) -> list[Problem]:
    """Options of `ray start`, the job's runtime environment, and a Ray open to everybody.

    Args:
        kind: RayCluster or RayJob, valid by its definition.
    """
    spec = document.value.get("spec") or {}
    path: Path = ("spec",)
    found = []
    if kind == "RayJob":
        found += _job(spec, document) + _runtime_env(spec.get("runtimeEnvYAML"), document)
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
    found += _groups(groups[1:], document)
    for below, group in groups:
        found += _start_params(group or {}, (*below, "rayStartParams"), document)
    if kind == "RayCluster":
        found += _dashboard(groups[0], document)
    return found


def _job(spec: dict[str, Any], document: Document) -> list[Problem]:
    """What KubeRay refuses in a job; see its `ValidateRayJobSpec`."""
    found = []
    if not spec.get("rayClusterSpec") and not spec.get("clusterSelector"):
        found.append(("rayClusterSpec", "is missing, and so is clusterSelector"))
    if not spec.get("shutdownAfterJobFinishes"):
        for name in ("suspend", "ttlSecondsAfterFinished"):
            if spec.get(name):
                found.append((name, "only with shutdownAfterJobFinishes: true"))
    if spec.get("submissionMode") == "InteractiveMode" and spec.get("backoffLimit"):
        found.append(("backoffLimit", "must be 0 in InteractiveMode"))
    return [
        Problem(document.line(("spec", name)), f"spec.{name}: {message}") for name, message in found
    ]


def _groups(groups: list[tuple[Path, Any]], document: Document) -> list[Problem]:
    """Worker groups: each with a name of its own, and sizes that its limits allow."""
    found, names = [], set()
    for path, group in groups:
        low, high = group.get("minReplicas", 0), group.get("maxReplicas", 2**31 - 1)
        size, name = group.get("replicas"), group.get("groupName")
        if low <= high and size is not None and not low <= size <= high:
            message = f"{dotted((*path, 'replicas'))}: {size} must be from {low} to {high}"
            found.append(Problem(document.line((*path, "replicas")), message))
        if name in names:
            message = f"{dotted((*path, 'groupName'))}: {name!r} is there twice"
            found.append(Problem(document.line((*path, "groupName")), message))
        names.add(name)
    return found


def _start_params(group: dict[str, Any], path: Path, document: Document) -> list[Problem]:
    known = start_options()
    found = []
    for name, value in (group.get("rayStartParams") or {}).items():
        where = (*path, name)
        if name not in known:
            found.append(unknown(path, name, known, document))
        elif not known[name](str(value)):
            message = f"{dotted(where)}: {shown(value)!r} is no value of `ray start --{name}`"
            found.append(Problem(document.line(where), message))
    return found


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
