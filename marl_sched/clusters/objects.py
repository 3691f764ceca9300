"""What the API server asks of any object, and no schema says: names, labels, numbers, choices.

The rules go by the key that a value stands under, wherever in an object that is: the same keys mean
the same in all of Kubernetes' kinds and in the pods of KubeRay's.
Source: the fields' own descriptions in Kubernetes' API reference (1.31).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from marl_sched.clusters import syntax
from marl_sched.clusters.located import Document, Path, Problem, dotted, shown
from marl_sched.clusters.syntax import Rule

INT32, INT64 = 2**31 - 1, 2**63 - 1

FREE = frozenset(
    """annotations binaryData capacity clusterSelector data entrypointResources hard
    headServiceAnnotations openAPIV3Schema overhead parameters rayStartParams requests stringData
    volumeAttributes""".split()
)
"""Keys whose values hold whatever the user likes, or quantities, which `podspecs` looks at."""

LABELS = ("labels", "matchLabels", "nodeSelector")

NAMES: dict[str, Rule] = {
    "Service": syntax.label_1035,
    "Namespace": syntax.label,
    # Suffixes of services, pods and clusters have to find room in 63 characters.
    "RayCluster": syntax.shorter(syntax.label_1035, 53),
    "RayJob": syntax.shorter(syntax.label_1035, 47),
    "CronJob": syntax.shorter(syntax.subdomain, 52),
    "Job": syntax.shorter(syntax.subdomain, 63),
    "StatefulSet": syntax.label,
    **dict.fromkeys(("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"),
                    syntax.path_segment),
}  # fmt: skip
"""Kind -> rule of its objects' names, where it is not that of all others."""

TEXTS: dict[str, Rule] = {
    **dict.fromkeys(("claimName", "secretName", "serviceAccountName", "nodeName",
                     "runtimeClassName", "priorityClassName", "ingressClassName",
                     "storageClassName", "volumeName"), syntax.subdomain),
    **dict.fromkeys(("groupName", "hostname", "subdomain"), syntax.label),
    **dict.fromkeys(("maxSurge", "maxUnavailable", "minAvailable"), syntax.percentage),
    "cidr": syntax.network,
    "medium": syntax.medium,
    "schedule": syntax.schedule,
}  # fmt: skip
"""Key -> rule of the text under it; empty texts are another's business."""

REFERENCES = (
    "configMap", "configMapKeyRef", "configMapRef", "imagePullSecrets", "secretKeyRef", "secretRef"
)  # fmt: skip
"""Keys of mappings whose `name` is that of an object."""

CHOICES: dict[str, tuple[str, ...]] = {
    "accessModes": ("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"),
    "completionMode": ("NonIndexed", "Indexed"),
    "concurrencyPolicy": ("Allow", "Forbid", "Replace"),
    "dnsPolicy": ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"),
    "effect": ("NoSchedule", "PreferNoSchedule", "NoExecute"),
    "externalTrafficPolicy": ("Cluster", "Local"),
    "imagePullPolicy": ("Always", "IfNotPresent", "Never"),
    "internalTrafficPolicy": ("Cluster", "Local"),
    "persistentVolumeReclaimPolicy": ("Delete", "Recycle", "Retain"),
    "podManagementPolicy": ("OrderedReady", "Parallel"),
    "policyTypes": ("Ingress", "Egress"),
    "preemptionPolicy": ("Never", "PreemptLowerPriority"),
    "protocol": ("TCP", "UDP", "SCTP"),
    "restartPolicy": ("Always", "OnFailure", "Never"),
    "serviceType": ("ClusterIP", "LoadBalancer", "NodePort"),
    "sessionAffinity": ("ClientIP", "None"),
    "submissionMode": ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
    "terminationMessagePolicy": ("FallbackToLogsOnError", "File"),
    "upscalingMode": ("Default", "Aggressive", "Conservative"),
    "volumeBindingMode": ("Immediate", "WaitForFirstConsumer"),
    "volumeMode": ("Block", "Filesystem"),
    "whenUnsatisfiable": ("DoNotSchedule", "ScheduleAnyway"),
}
"""Key -> the texts that may stand there, or in a list there."""

TYPES: dict[str, tuple[str, ...]] = {
    "Service": ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort"),
}
"""Kind -> what its `spec.type` may be."""

STRATEGIES = {
    "Deployment": ("strategy", ("Recreate", "RollingUpdate")),
    "DaemonSet": ("updateStrategy", ("OnDelete", "RollingUpdate")),
    "StatefulSet": ("updateStrategy", ("OnDelete", "RollingUpdate")),
}

_PORT = (1, 65_535)
NUMBERS: dict[str, tuple[int, int]] = {
    **dict.fromkeys(("containerPort", "endPort", "nodePort", "port", "targetPort"), _PORT),
    "hostPort": (0, 65_535),
    **dict.fromkeys(("mode", "defaultMode"), (0, 0o777)),
    **dict.fromkeys(("runAsUser", "runAsGroup", "fsGroup"), (0, INT32)),
    **dict.fromkeys(("activeDeadlineSeconds", "maxSkew", "minDomains", "numOfHosts"), (1, INT32)),
    "expirationSeconds": (600, 2**32),
    "weight": (1, 100),
    "value": (-INT32 - 1, 1_000_000_000),
    "priority": (-INT32 - 1, INT32),
    "tolerationSeconds": (-INT64 - 1, INT64),
    **dict.fromkeys(("terminationGracePeriodSeconds", "startingDeadlineSeconds", "generation",
                     "observedGeneration"), (0, INT64)),
}  # fmt: skip
"""Key -> least and largest number; under all other keys 0 to the largest of 32 bits."""

MOST_ANNOTATIONS = 256 * 1024
"""Bytes of all keys and values together."""


def problems(document: Document) -> list[Problem]:
    """What is wrong in an object that is as its schema says."""
    kind = str(document.value["kind"])
    found = [*_metadata(document.value, (), kind, document), *_types(kind, document)]
    for path, value in _values(document.value, ()):
        found += _at(path, value, kind, document)
    return found


def _values(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """Path and value of all in an object, but for what is below `FREE`."""
    yield path, value
    if path[-1:] and path[-1] in FREE:
        return
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _values(item, (*path, index))
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _values(item, (*path, name))


def _at(path: Path, value: Any, kind: str, document: Document) -> Iterator[Problem]:
    key = next((part for part in reversed(path) if isinstance(part, str)), "")
    if isinstance(value, dict):
        if key in LABELS:
            yield from _labels(value, path, document)
        elif key == "annotations":
            yield from _annotations(value, path, document)
        elif key == "selector" and kind == "Service":
            yield from _labels(value, path, document)
        elif key in REFERENCES and isinstance(value.get("name"), str):
            yield from _text((*path, "name"), value["name"], syntax.subdomain, document)
            if isinstance(value.get("key"), str):
                yield from _text((*path, "key"), value["key"], syntax.data_key, document)
        elif key == "tolerations":
            yield from _toleration(value, path, document)
        if key in ("data", "stringData", "binaryData") and kind in ("ConfigMap", "Secret"):
            for name in value:
                yield from _text((*path, name), str(name), syntax.data_key, document)
            if key == "binaryData" or (kind == "Secret" and key == "data"):
                for name, text in value.items():
                    yield from _text((*path, name), str(text or ""), syntax.base64, document)
        # A RayJob's `spec.metadata` is the job's own, for Ray.
        if path and not (kind == "RayJob" and path == ("spec",)):
            yield from _metadata(value, path, "", document)
        low, high = value.get("minReplicas"), value.get("maxReplicas")
        if isinstance(low, int) and isinstance(high, int) and low > high:
            where = (*path, "minReplicas")
            message = f"{dotted(where)}: {low} is more than maxReplicas, {high}"
            yield Problem(document.line(where), message)
        if "matchExpressions" in value:
            yield from _expressions(value, path, document)
    elif isinstance(value, str):
        if value and key in TEXTS:
            yield from _text(path, value, TEXTS[key], document)
        elif value and key in CHOICES:
            yield from _choice(path, value, CHOICES[key], document)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield from _number(path, key, value, kind, document)


def _number(path: Path, key: str, value: int, kind: str, document: Document) -> Iterator[Problem]:
    low, high = NUMBERS.get(key, (0, INT32))
    if key == "activeDeadlineSeconds" and kind in ("Job", "CronJob") and "template" not in path[2:]:
        low = 0
    if key == "limits":
        return
    if key == "maxReplicas" and kind == "HorizontalPodAutoscaler":
        low = 1
    if not low <= value <= high:
        reason = f"must be {low} or more" if value < low else f"must be {high} or less"
        yield Problem(document.line(path), f"{dotted(path)}: {shown(value)}: {reason}")


def _text(path: Path, value: str, rule: Rule, document: Document) -> Iterator[Problem]:
    wrong = rule(value)
    if wrong is not None:
        yield Problem(document.line(path), f"{dotted(path)}: {shown(value)!r} {wrong}")


def _choice(
    path: Path, value: str, known: tuple[str, ...], document: Document
) -> Iterator[Problem]:
    if value not in known:
        message = f"{dotted(path)}: {shown(value)!r} must be one of {', '.join(known)}"
        yield Problem(document.line(path), message)


def _metadata(
    value: dict[str, Any], path: Path, kind: str, document: Document
) -> Iterator[Problem]:
    """Names in the metadata of the object itself, or of a template in it."""
    metadata = value.get("metadata")
    rule = NAMES.get(kind, syntax.subdomain)
    rules = {
        "name": rule, "generateName": syntax.prefix_of(rule), "namespace": syntax.label
    }  # fmt: skip
    for name, wanted in rules.items():
        text = metadata.get(name) if isinstance(metadata, dict) else None
        if isinstance(text, str) and text:
            yield from _text((*path, "metadata", name), text, wanted, document)


def _types(kind: str, document: Document) -> Iterator[Problem]:
    """Choices under a key that means something else elsewhere."""
    spec = document.value.get("spec")
    if not isinstance(spec, dict):
        return
    if kind in TYPES and isinstance(spec.get("type"), str):
        yield from _choice(("spec", "type"), spec["type"], TYPES[kind], document)
    if kind in STRATEGIES:
        name, known = STRATEGIES[kind]
        strategy = spec.get(name)
        if isinstance(strategy, dict) and isinstance(strategy.get("type"), str):
            yield from _choice(("spec", name, "type"), strategy["type"], known, document)
            if strategy["type"] != "RollingUpdate" and strategy.get("rollingUpdate"):
                where = ("spec", name, "rollingUpdate")
                message = f"{dotted(where)}: only with type RollingUpdate"
                yield Problem(document.line(where), message)


def _labels(value: dict[str, Any], path: Path, document: Document) -> Iterator[Problem]:
    for name, text in value.items():
        where = (*path, name)
        wrong = syntax.label_key(str(name))
        if wrong is not None:
            yield Problem(document.line(where), f"{dotted(where)}: the key {wrong}")
        if isinstance(text, str):
            yield from _text(where, text, syntax.label_value, document)


def _annotations(value: dict[str, Any], path: Path, document: Document) -> Iterator[Problem]:
    size = 0
    for name, text in value.items():
        wrong = syntax.annotation_key(str(name))
        size += len(str(name).encode()) + len(str(text).encode())
        if wrong is not None:
            where = (*path, name)
            yield Problem(document.line(where), f"{dotted(where)}: the key {wrong}")
    if size > MOST_ANNOTATIONS:
        message = f"{dotted(path)}: {size:,} bytes, and {MOST_ANNOTATIONS:,} are the most"
        yield Problem(document.line(path), message)


def _toleration(value: dict[str, Any], path: Path, document: Document) -> Iterator[Problem]:
    operator = value.get("operator") or "Equal"
    yield from _choice((*path, "operator"), str(operator), ("Equal", "Exists"), document)
    if value.get("key"):
        yield from _text((*path, "key"), str(value["key"]), syntax.label_key, document)
    elif operator != "Exists":
        yield Problem(document.line(path), f"{dotted(path)}: without a key only with Exists")
    if value.get("value"):
        yield from _text((*path, "value"), str(value["value"]), syntax.label_value, document)
        if operator == "Exists":
            where = (*path, "value")
            yield Problem(document.line(where), f"{dotted(where)}: Exists takes no value")


def _expressions(value: dict[str, Any], path: Path, document: Document) -> Iterator[Problem]:
    """Selectors by expressions: with values where the operator compares, else without."""
    expressions = value.get("matchExpressions")
    for index, one in enumerate(expressions if isinstance(expressions, list) else ()):
        where: Path = (*path, "matchExpressions", index)
        if not isinstance(one, dict):
            continue
        operator, values = one.get("operator"), one.get("values") or []
        known = ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt")
        yield from _choice((*where, "operator"), str(operator), known, document)
        yield from _text((*where, "key"), str(one.get("key")), syntax.label_key, document)
        if operator in ("In", "NotIn") and not values:
            yield Problem(document.line(where), f"{dotted(where)}: {operator} needs values")
        if operator in ("Exists", "DoesNotExist") and values:
            yield Problem(document.line(where), f"{dotted(where)}: {operator} takes no values")
        for number, text in enumerate(values if isinstance(values, list) else ()):
            below = (*where, "values", number)
            yield from _text(below, str(text), syntax.label_value, document)
