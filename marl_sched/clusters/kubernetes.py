"""Validation of what goes to a Kubernetes API server, without one."""

from __future__ import annotations

import re
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from marl_sched.clusters import objects, pins, podspecs
from marl_sched.clusters.located import Document, Problem, schema_problems, shown, unknown
from marl_sched.clusters.pods import empty, ray_problems
from marl_sched.errors import UserError
from marl_sched.folders import user_cache

KUBERNETES = "1.31"
"""Version of the core kinds' schemas."""

_WORDS = {
    "apiVersion": re.compile(r"(?:[a-z0-9][a-z0-9.-]*/)?[a-z][a-z0-9]*"),
    "kind": re.compile(r"[A-Za-z][A-Za-z0-9]*"),
}
"""What they may be; names of files are made of them."""

METADATA = {
    "type": "object",
    "anyOf": [{"required": ["name"]}, {"required": ["generateName"]}],
    "properties": {
        name: {"type": "string", "minLength": 1} for name in ("name", "generateName", "namespace")
    }
    | {
        name: {"type": "object", "additionalProperties": {"type": "string"}}
        for name in ("labels", "annotations")
    },
    "additionalProperties": False,
}
"""Of a custom object, which its definition leaves to the API server."""


def problems(document: Document, crd_dir: Path | None) -> list[Problem]:
    """What the API server would refuse in an object, and a Ray without authentication.

    Args:
        crd_dir: folder of KubeRay's definitions; None takes a cached download.
    """
    value = document.value
    for name in ("apiVersion", "kind"):
        if name not in value:
            near = get_close_matches(name, list(map(str, value)), n=1, cutoff=0.7)
            if near:
                return [unknown((), near[0], [name], document)]
            return [Problem(document.line(()), f"{name}: is missing")]
        if not isinstance(value[name], str) or not value[name]:
            return [Problem(document.line([name]), f"{name}: must be text")]
        if len(value[name]) > 253 or _WORDS[name].fullmatch(value[name]) is None:
            message = f"{name}: {shown(value[name])!r} is none"
            return [Problem(document.line([name]), message)]
    kind = value["kind"]
    if value["apiVersion"].partition("/")[0] == "ray.io":
        if kind not in pins.CRDS:
            known = " and ".join(pins.CRDS)
            return [Problem(document.line(["kind"]), f"kind {kind}: only {known} are checked here")]
        found = _custom(document, kind, crd_dir)
        # What follows looks into parts that are as the schema says.
        found = found or ray_problems(document, kind) + _rules(document)
    else:
        found = _core(document) or _named(document) + _rules(document)
    named = {problem.line for problem in found}
    return found + [problem for problem in empty(document) if problem.line not in named]


def _rules(document: Document) -> list[Problem]:
    """What no schema says, of an object that is as its own says."""
    return objects.problems(document) + podspecs.problems(document)


def _core(document: Document) -> list[Problem]:
    try:
        import kubernetes_validate
    except ImportError:
        raise UserError(
            "kubernetes-validate is not installed, which knows the core kinds: "
            "pip install -e '.[clusters]'"
        ) from None
    try:
        kubernetes_validate.validate(document.value, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return schema_problems([error], document)
    except kubernetes_validate.SchemaNotFoundError:
        kind = f"{document.value['apiVersion']} {document.value['kind']}"
        return [
            Problem(document.line(["kind"]), f"kind {kind}: not one of Kubernetes {KUBERNETES}")
        ]
    return []


def _named(document: Document) -> list[Problem]:
    """The name, which the core kinds' schemas do not ask for."""
    metadata = document.value.get("metadata") or {}
    if metadata.get("name") or metadata.get("generateName"):
        return []
    return [Problem(document.line(["metadata", "name"]), "metadata.name: is missing")]


def _custom(document: Document, kind: str, crd_dir: Path | None) -> list[Problem]:
    import jsonschema

    version = document.value["apiVersion"].partition("/")[2]
    schema = closed_schema(definition(kind, crd_dir), version)
    if schema is None:
        line = document.line(["apiVersion"])
        return [Problem(line, f"apiVersion: {kind} has no version {version!r}")]
    return schema_problems(jsonschema.Draft7Validator(schema).iter_errors(document.value), document)


def definition(kind: str, crd_dir: Path | None) -> Path:
    """File of KubeRay's definition of `kind`.

    Raises:
        UserError: when `crd_dir` does not have it, or it cannot be downloaded.
    """
    name, size, sha256 = pins.CRDS[kind]
    if crd_dir is not None:
        path = crd_dir / name
        if not path.is_file():
            raise UserError(
                f"--crd-dir {crd_dir}: has no {name}; it is {pins.CRD_FOLDER}/{name} in "
                f"ray-project/kuberay, {pins.KUBERAY_VERSION}"
            )
        return path
    path = user_cache() / f"kuberay-{pins.KUBERAY_VERSION}" / name
    if not path.is_file():
        from marl_sched.files import replacing
        from marl_sched.workload import download

        url = "/".join(
            (download.RAW_ADDRESS, "ray-project/kuberay", pins.KUBERAY_VERSION, pins.CRD_FOLDER,
             name)
        )  # fmt: skip
        try:
            data = download.download(url, size, sha256)
        except UserError as error:
            raise UserError(f"{error}; or name a folder that has it by --crd-dir") from None
        with replacing(path) as temporary:
            temporary.write_bytes(data)
    return path


@lru_cache(maxsize=4)
def closed_schema(path: Path, version: str) -> dict[str, Any] | None:
    """The schema in a definition, with unknown fields refused; None without that version."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        crd = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
        (found,) = [v for v in crd["spec"]["versions"] if v["name"] == version] or [None]
        if found is None:
            return None
        closed: dict[str, Any] = _close(found["schema"]["openAPIV3Schema"])
        closed["properties"]["metadata"] = METADATA
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, KeyError, ValueError) as error:
        raise UserError(
            f"{path}: is no CustomResourceDefinition of KubeRay ({type(error).__name__}: {error})"
        ) from None
    return closed


def _close(node: Any) -> Any:
    """`node` with additionalProperties: false wherever an object lists its properties."""
    if isinstance(node, list):
        return [_close(item) for item in node]
    if not isinstance(node, dict):
        return node
    result = {key: _close(value) for key, value in node.items()}
    if node.get("type") == "object" and isinstance(node.get("properties"), dict):
        result.setdefault("additionalProperties", False)
    return result
