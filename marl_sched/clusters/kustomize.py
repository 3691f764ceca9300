"""Validation of kustomize overlays, such as those that queue a launch file."""

from __future__ import annotations

from functools import lru_cache

from marl_sched.clusters.located import Document, Problem, parse, unknown

API = "kustomize.config.k8s.io/v1beta1"

FIELDS = tuple(
    """apiVersion kind metadata resources components crds openapi patches namespace namePrefix
    nameSuffix labels replacements images replicas configMapGenerator secretGenerator
    generatorOptions generators transformers validators helmCharts helmGlobals buildMetadata
    sortOptions commonAnnotations""".split()
)
"""Of a Kustomization (kustomize 5), but for those that it calls deprecated."""

_PATCH = ("path", "patch", "target", "options")
_TARGET = (
    "group", "version", "kind", "name", "namespace", "labelSelector", "annotationSelector"
)  # fmt: skip


def problems(document: Document) -> list[Problem]:
    """What kustomize would refuse, as far as one file shows."""
    value = document.value
    if value.get("apiVersion") != API:
        return [Problem(document.line(["apiVersion"]), f"apiVersion: must be {API}")]
    found = [unknown((), name, FIELDS, document) for name in value if name not in FIELDS]
    resources = value.get("resources") or []
    if not isinstance(resources, list) or not all(isinstance(one, str) for one in resources):
        found.append(Problem(document.line(["resources"]), "resources: must be a list of paths"))
    patches = value.get("patches") or []
    if not isinstance(patches, list):
        return [*found, Problem(document.line(["patches"]), "patches: must be a list")]
    for index, patch in enumerate(patches):
        found += _patch(patch, ("patches", index), document)
    return found


def _patch(patch: object, path: tuple[str | int, ...], document: Document) -> list[Problem]:
    line = document.line(path)
    if not isinstance(patch, dict):
        return [Problem(line, f"patches[{path[-1]}]: must be a mapping")]
    found = [unknown(path, name, _PATCH, document) for name in patch if name not in _PATCH]
    target = patch.get("target") or {}
    if not isinstance(target, dict):
        found.append(Problem(document.line((*path, "target")), "target: must be a mapping"))
    else:
        below = (*path, "target")
        found += [unknown(below, name, _TARGET, document) for name in target if name not in _TARGET]
    begins = document.line((*path, "patch"))
    text = patch.get("patch")
    if text is not None:
        # Lines of the block below its key.
        problems = _syntax(text) if isinstance(text, str) else (Problem(0, "must be text"),)
        found += [Problem(begins + one.line, f"patch: {one.message}") for one in problems]
    return found


@lru_cache(maxsize=16)
def _syntax(text: str) -> tuple[Problem, ...]:
    """What is wrong with a patch as YAML; an alias may name one text many times."""
    return tuple(parse(text)[1])
