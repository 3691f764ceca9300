"""One launch file of any kind: what is wrong with it, by line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from marl_sched.clusters import kubernetes, launcher, shell
from marl_sched.clusters.located import Document, Problem, parse
from marl_sched.errors import UserError


@dataclass(frozen=True)
class Report:
    """Of one file."""

    kinds: list[str]
    """What the file was taken for."""
    problems: list[Problem]
    """By line."""
    notes: list[str]
    """What could not be checked."""


def validate(path: Path, text: str, crd_dir: Path | None = None) -> Report:
    """Check a launch file offline.

    Raises:
        UserError: when it is of no kind that can be checked, or what checks it is missing.
    """
    if path.suffix in (".sh", ".sbatch", ".slurm") or text.startswith("#!"):
        return Report(["batch script"], sorted(shell.problems(path, text)), [])
    if path.name.startswith("Dockerfile") or path.suffix not in (".yaml", ".yml", ""):
        raise UserError(
            f"{path}: nothing here checks such a file; it checks YAML for `ray up`, KubeRay, "
            "Kubernetes and Ray's runtime environments, and batch scripts"
        )
    documents, problems = parse(text)
    if not documents and not problems:
        problems.append(Problem(1, "is empty"))
    kinds: list[str] = []
    notes: list[str] = []
    for document in documents:
        kind, found, note = _one(document, crd_dir)
        kinds.append(kind)
        problems += found
        if note is not None:
            notes.append(note)
    return Report(kinds, sorted(set(problems)), notes)


def _one(document: Document, crd_dir: Path | None) -> tuple[str, list[Problem], str | None]:
    """Kind, problems and what could not be checked of one document."""
    value = document.value
    line = document.line(())
    if not isinstance(value, dict):
        return "unknown", [Problem(line, "is no mapping")], None
    if "apiVersion" in value or "kind" in value:
        return str(value.get("kind")), kubernetes.problems(document, crd_dir), None
    if {"cluster_name", "provider"} & set(value):
        note = launcher.unchecked(document) if isinstance(value.get("provider"), dict) else None
        return "ray up", launcher.cluster_problems(document), note
    if {"env_vars", "working_dir", "py_modules", "pip", "excludes"} & set(value):
        return "runtime environment", launcher.runtime_env_problems(document), None
    message = (
        "neither for Kubernetes (apiVersion, kind), nor for `ray up` (cluster_name, provider), "
        "nor a runtime environment"
    )
    return "unknown", [Problem(line, message)], None
