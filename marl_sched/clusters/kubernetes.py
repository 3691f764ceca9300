"""Validation of what goes to a Kubernetes API server, without one."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from marl_sched.clusters import pins
from marl_sched.clusters.located import Document, Problem, schema_problems
from marl_sched.errors import UserError

KUBERNETES = "1.31"
"""Version of the core kinds' schemas."""

METADATA = {
    "type": "object",
    "anyOf": [{"required": ["name"]}, {"required": ["generateName"]}],
    "properties": {name: {"type": "string"} for name in ("name", "generateName", "namespace")}
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
    kind = value.get("kind")
    if not isinstance(kind, str):
        return [Problem(document.line(()), "kind: is missing")]
    if str(value.get("apiVersion", "")).partition("/")[0] == "ray.io":
        if kind not in pins.CRDS:
            known = " and ".join(pins.CRDS)
            return [Problem(document.line(["kind"]), f"kind {kind}: only {known} are checked here")]
        return _custom(document, kind, crd_dir) + _open(document, kind)
    return _core(document)


def _core(document: Document) -> list[Problem]:
    try:
        import kubernetes_validate
    except ImportError:
        raise UserError(
            "kubernetes-validate is not installed, which knows the core kinds: "
            "pip install 'marl_sched[clusters]'"
        ) from None
    try:
        kubernetes_validate.validate(document.value, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return schema_problems([error], document)
    except kubernetes_validate.SchemaNotFoundError:
        kind = f"{document.value.get('apiVersion')} {document.value['kind']}"
        return [
            Problem(document.line(["kind"]), f"kind {kind}: not one of Kubernetes {KUBERNETES}")
        ]
    return []


def _custom(document: Document, kind: str, crd_dir: Path | None) -> list[Problem]:
    import jsonschema

    version = str(document.value["apiVersion"]).partition("/")[2]
    schema = closed_schema(definition(kind, crd_dir), version)
    if schema is None:
        line = document.line(["apiVersion"])
        return [Problem(line, f"apiVersion: {kind} has no version {version!r}")]
    return schema_problems(jsonschema.Draft7Validator(schema).iter_errors(document.value), document)


def _open(document: Document, kind: str) -> list[Problem]:
    """Where a Ray cluster would take orders from whoever reaches it."""
    spec = document.value.get("spec") or {}
    path: tuple[str, ...] = ("spec",)
    if kind == "RayJob":
        path, spec = ("spec", "rayClusterSpec"), spec.get("rayClusterSpec") or {}
    mode = (spec.get("authOptions") or {}).get("mode") if isinstance(spec, dict) else None
    if mode == "token":
        return []
    line = document.line((*path, "authOptions"))
    return [Problem(line, f"{'.'.join(path)}.authOptions: mode: token is missing: an open cluster")]


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
    path = Path.home() / ".cache" / "marl_sched" / f"kuberay-{pins.KUBERAY_VERSION}" / name
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
    except (OSError, yaml.YAMLError, TypeError, KeyError) as error:
        raise UserError(f"{path}: is no CustomResourceDefinition ({error})") from None
    if found is None:
        return None
    closed: dict[str, Any] = _close(found["schema"]["openAPIV3Schema"])
    closed["properties"]["metadata"] = METADATA
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
