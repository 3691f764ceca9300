"""What the API server asks of pods, and of what they are made from: parts that fit together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from marl_sched.clusters import syntax
from marl_sched.clusters.located import Document, Path, Problem, dotted, shown, unknown
from marl_sched.clusters.syntax import Rule

NATIVE = ("cpu", "memory", "ephemeral-storage", "storage")
"""Resources of Kubernetes itself; all others are DOMAIN/NAME."""

AMOUNTS = {
    "ResourceQuota": ("hard",),
    "PersistentVolume": ("capacity",),
    "LimitRange": ("default", "defaultRequest", "max", "min"),
    "RuntimeClass": ("podFixed",),
}
"""Kind -> keys of mappings to quantities, besides requests and limits."""

CONTAINERS = ("containers", "initContainers", "ephemeralContainers")
PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
HANDLERS = ("exec", "grpc", "httpGet", "tcpSocket")

RESTARTS = {
    **dict.fromkeys(("Job", "CronJob"), ("OnFailure", "Never")),
    **dict.fromkeys(("Deployment", "DaemonSet", "StatefulSet", "ReplicaSet"), ("Always",)),
}
"""Kind -> what its pods' `restartPolicy` may be; where it is left out it is Always."""


def problems(document: Document) -> list[Problem]:
    """What does not fit together in the pods, volumes and workloads of an object."""
    found: list[Problem] = []
    for path, value in _mappings(document.value, ()):
        if isinstance(value.get("containers"), list):
            found += _pod(path, value, document)
        if isinstance(value.get("resources"), dict):
            found += _resources((*path, "resources"), value["resources"], document)
        for key in AMOUNTS.get(str(document.value["kind"]), ()):
            if isinstance(value.get(key), dict):
                found += _quantities((*path, key), value[key], document)
        for key in ("sizeLimit", "divisor"):
            if key in value:
                found += _quantities(path, {key: value[key]}, document)
        if isinstance(value.get("accessModes"), list) and "capacity" not in value:
            found += _claim(path, value, document)
    return found + list(_workload(document)) + list(_service(document))


def _mappings(value: Any, path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _mappings(item, (*path, index))
    elif isinstance(value, dict):
        yield path, value
        for name, item in value.items():
            yield from _mappings(item, (*path, name))


def _problem(path: Iterable[str | int], message: str, document: Document) -> Problem:
    return Problem(document.line(path), f"{dotted(path)}: {message}")


def _items(value: Any, path: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Those mappings that a list holds, with their paths."""
    found = enumerate(value) if isinstance(value, list) else ()
    return [((*path, index), item) for index, item in found if isinstance(item, dict)]


def _distinct(
    items: list[tuple[Path, dict[str, Any]]], key: str, rule: Rule, document: Document
) -> Iterator[Problem]:
    """Texts under `key` that are written wrong, or there twice."""
    seen = set()
    for path, item in items:
        text = item.get(key)
        if not isinstance(text, str) or not text:
            continue
        wrong = rule(text)
        if wrong is not None:
            yield _problem((*path, key), f"{shown(text)!r} {wrong}", document)
        if text in seen:
            yield _problem((*path, key), f"{shown(text)!r} is there twice", document)
        seen.add(text)


def _pod(path: Path, pod: dict[str, Any], document: Document) -> Iterator[Problem]:
    containers = [one for name in CONTAINERS for one in _items(pod.get(name), (*path, name))]
    if not pod["containers"]:
        yield _problem((*path, "containers"), "is empty", document)
    yield from _distinct(containers, "name", syntax.label, document)
    if isinstance(pod.get("overhead"), dict):
        yield from _quantities((*path, "overhead"), pod["overhead"], document)
    volumes = _items(pod.get("volumes"), (*path, "volumes"))
    yield from _distinct(volumes, "name", syntax.label, document)
    for where, volume in volumes:
        sources = [name for name in volume if name != "name" and volume[name] is not None]
        if len(sources) > 1:  # without one it is an emptyDir
            message = f"must have one source, and has {' and '.join(map(shown, sources))}"
            yield _problem(where, message, document)
    known = {str(volume.get("name")) for _, volume in volumes} | _claims(document)
    ports = [one for where, container in containers
             for one in _items(container.get("ports"), (*where, "ports"))]  # fmt: skip
    yield from _once([(*where, "hostPort") for where, port in ports if port.get("hostPort")],
                     [(port["hostPort"], port.get("protocol") or "TCP", port.get("hostIP"))
                      for _, port in ports if port.get("hostPort")], document)  # fmt: skip
    for where, container in containers:
        yield from _container(where, container, known, document)


def _once(paths: list[Path], keys: list[Any], document: Document) -> Iterator[Problem]:
    """Of things that may be there once: those that are there again."""
    for number, (path, key) in enumerate(zip(paths, keys, strict=True)):
        if key in keys[:number]:
            yield _problem(
                path, f"{' '.join(str(one) for one in key if one)} is there twice", document
            )


def _claim(path: Path, value: dict[str, Any], document: Document) -> Iterator[Problem]:
    """Of a claim to a volume: how it is used, and how large it has to be."""
    if not value["accessModes"]:
        yield _problem((*path, "accessModes"), "is empty", document)
    requests = (value.get("resources") or {}).get("requests") or {}
    size = syntax.quantity(requests.get("storage"))
    if "storage" not in requests:
        yield _problem((*path, "resources", "requests", "storage"), "is missing", document)
    elif size == 0:
        yield _problem((*path, "resources", "requests", "storage"), "must be above 0", document)


def _claims(document: Document) -> set[str]:
    """Volumes that a StatefulSet makes for each of its pods."""
    spec = document.value.get("spec")
    templates = spec.get("volumeClaimTemplates") if isinstance(spec, dict) else None
    return {
        str(one["metadata"].get("name"))
        for _, one in _items(templates, ())
        if isinstance(one.get("metadata"), dict)
    }


def _container(
    path: Path, container: dict[str, Any], volumes: set[str], document: Document
) -> Iterator[Problem]:
    image = container.get("image")
    wrong = syntax.image(image) if isinstance(image, str) and image else None
    if wrong is not None:
        yield _problem((*path, "image"), f"{shown(image)!r} {wrong}", document)
    elif "image" not in container:
        yield _problem((*path, "image"), "is missing", document)
    ports = _items(container.get("ports"), (*path, "ports"))
    yield from _distinct(ports, "name", syntax.port_name, document)
    mounts = _items(container.get("volumeMounts"), (*path, "volumeMounts"))
    anything: Rule = lambda text: "must not have ':'" if ":" in text else None  # noqa: E731
    yield from _distinct(mounts, "mountPath", anything, document)
    for where, mount in mounts:
        below = mount.get("subPath")
        if isinstance(below, str) and (below.startswith("/") or ".." in below.split("/")):
            yield _problem((*where, "subPath"), "must stay below the volume", document)
    devices = _items(container.get("volumeDevices"), (*path, "volumeDevices"))
    for where, mount in mounts + devices:
        if mount.get("name") not in volumes:
            message = f"{shown(mount.get('name'))!r} is no volume of the pod"
            yield _problem((*where, "name"), message, document)
    for where, variable in _items(container.get("env"), (*path, "env")):
        yield from _variable(where, variable, document)
    for name in PROBES:
        probe = container.get(name)
        if isinstance(probe, dict) and len(set(HANDLERS) & set(probe)) != 1:
            message = f"must have one of {', '.join(HANDLERS)}"
            yield _problem((*path, name), message, document)
        elif isinstance(probe, dict) and name != "readinessProbe":
            if probe.get("successThreshold") not in (None, 1):
                yield _problem((*path, name, "successThreshold"), "must be 1", document)


def _variable(path: Path, variable: dict[str, Any], document: Document) -> Iterator[Problem]:
    name, source = variable.get("name"), variable.get("valueFrom")
    wrong = syntax.variable(name) if isinstance(name, str) and name else None
    if wrong is not None:
        yield _problem((*path, "name"), f"{shown(name)!r} {wrong}", document)
    if source is not None and variable.get("value"):
        yield _problem(path, "has a value and valueFrom; only one may be there", document)
    if isinstance(source, dict) and len(source) != 1:
        yield _problem((*path, "valueFrom"), "must have one source", document)


def _resources(path: Path, value: dict[str, Any], document: Document) -> Iterator[Problem]:
    """Requests and limits: known, readable, and no more asked for than allowed."""
    of_pod = any(part in CONTAINERS or part == "autoscalerOptions" for part in path)
    parts = {
        name: value[name] for name in ("requests", "limits") if isinstance(value.get(name), dict)
    }
    wrong = []
    for name, amounts in parts.items():
        wrong += list(_quantities((*path, name), amounts, document))
        for key in map(str, amounts):
            where = (*path, name, key)
            if "/" not in key and not key.startswith("hugepages-") and key not in NATIVE:
                wrong.append(unknown((*path, name), key, NATIVE, document))
            elif "/" in key and syntax.label_key(key) is not None:
                wrong.append(_problem(where, f"the name {syntax.label_key(key)}", document))
            elif key == "storage" and of_pod:
                wrong.append(_problem(where, "is for volumes; do you mean ephemeral-storage?",
                                      document))  # fmt: skip
    yield from wrong
    if not wrong:
        yield from _compared(path, parts.get("requests", {}), parts.get("limits", {}), document)


def _compared(
    path: Path, requests: dict[str, Any], limits: dict[str, Any], document: Document
) -> Iterator[Problem]:
    for key, text in requests.items():
        where = (*path, "requests", key)
        amount, limit = syntax.quantity(text), syntax.quantity(limits.get(key))
        assert amount is not None
        # Devices and huge pages are handed out whole, and to nobody else: no more, no less.
        exact = key not in NATIVE
        if exact and (limit is None or amount != limit):
            asked = f"limits.{key} must be the same" + (
                "" if limit is None else f", not {limits[key]}"
            )
            yield _problem(where, f"{text}: {asked}", document)
        elif limit is not None and amount > limit:
            yield _problem(where, f"{text} is more than limits.{key}, {limits[key]}", document)


def _quantities(path: Path, amounts: dict[str, Any], document: Document) -> Iterator[Problem]:
    for key, text in amounts.items():
        where = (*path, key)
        amount = syntax.quantity(text)
        if amount is None:
            message = f"{shown(text)!r} is no quantity such as 2, 500m or 8Gi"
            yield _problem(where, message, document)
        elif amount < 0:
            yield _problem(where, f"{shown(text)} must not be negative", document)
        elif amount.denominator != 1 and "/" in str(key) and path[-1] in ("requests", "limits"):
            yield _problem(where, f"{shown(text)} must be a whole number", document)


def _workload(document: Document) -> Iterator[Problem]:
    """Of kinds that make pods: the pods' restarts, and that the selector finds them."""
    kind, spec = document.value["kind"], document.value.get("spec")
    if kind not in RESTARTS or not isinstance(spec, dict):
        return
    path: Path = ("spec",)
    if kind == "CronJob":
        path = ("spec", "jobTemplate", "spec")
        spec = (spec.get("jobTemplate") or {}).get("spec") or {}
    template = spec.get("template") or {}
    policy = (template.get("spec") or {}).get("restartPolicy") or "Always"
    if policy not in RESTARTS[kind]:
        where = (*path, "template", "spec", "restartPolicy")
        known = " or ".join(RESTARTS[kind])
        yield _problem(where, f"{policy}: must be {known} in a {kind}", document)
    selector = (spec.get("selector") or {}).get("matchLabels")
    if kind in ("Job", "CronJob") or not isinstance(selector, dict):
        return
    labels = (template.get("metadata") or {}).get("labels") or {}
    for name, text in selector.items():
        if labels.get(name) != text:
            where = (*path, "selector", "matchLabels", name)
            yield _problem(where, "the template's labels do not have it", document)


def _service(document: Document) -> Iterator[Problem]:
    spec = document.value.get("spec")
    if document.value["kind"] != "Service" or not isinstance(spec, dict):
        return
    ports = _items(spec.get("ports"), ("spec", "ports"))
    yield from _distinct(ports, "name", syntax.label, document)
    yield from _once([path for path, _ in ports], [
        (port.get("port"), port.get("protocol") or "TCP") for _, port in ports
    ], document)  # fmt: skip
    for path, port in ports:
        if len(ports) > 1 and not port.get("name"):
            yield _problem((*path, "name"), "is missing, as there are several ports", document)
        target = port.get("targetPort")
        wrong = syntax.port_name(target) if isinstance(target, str) and target else None
        if wrong is not None:
            yield _problem((*path, "targetPort"), f"{shown(target)!r} {wrong}", document)
