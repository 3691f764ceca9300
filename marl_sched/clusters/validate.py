"""One launch file of any kind: what is wrong with it, by line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from marl_sched.clusters import dockerfile, kubernetes, kustomize, launcher, shell
from marl_sched.clusters.located import Document, Problem, parse


@dataclass(frozen=True)
class Report:
    """Of one file."""

    kinds: list[str]
    """What the file was taken for."""
    problems: list[Problem]
    """By line."""
    notes: list[str]
    """What could not be checked, and what the user has yet to fill in."""


LONGEST = 1_000_000
"""Characters of a file; Kubernetes itself takes no object of more than 1.5 MB."""

MOST_SHOWN = 400
"""Characters of a message."""

SCRIPTS, YAML = (".sh", ".sbatch", ".slurm"), (".yaml", ".yml", "")


def validate(path: Path, text: str, crd_dir: Path | None = None) -> Report:
    """Check a launch file offline.

    Raises:
        UserError: when what checks it is missing.
    """
    report = _report(path, text, crd_dir)
    found = {
        Problem(one.line, one.message if len(one.message) <= MOST_SHOWN
                else f"{one.message[: MOST_SHOWN - 2]}..")
        for one in report.problems
    }  # fmt: skip
    return Report(report.kinds, sorted(found), report.notes)


def _report(path: Path, text: str, crd_dir: Path | None) -> Report:
    if len(text) > LONGEST:
        return Report([], [Problem(1, f"has more than {LONGEST:,} characters")], [])
    if not text.strip():
        return Report([], [Problem(1, "is empty")], [])
    if "\0" in text:
        line = 1 + text[: text.index("\0")].count("\n")
        return Report([], [Problem(line, "holds a byte 0: is no text")], [])
    if path.suffix in SCRIPTS or text.startswith("#!"):
        return Report(["batch script"], shell.problems(path, text), [])
    if dockerfile.is_one(path, text):
        return Report(["Dockerfile"], dockerfile.problems(text), [])
    if path.suffix not in YAML:
        message = (
            "nothing here checks such a file; it checks YAML for `ray up`, KubeRay, Kubernetes and "
            "Ray's runtime environments, batch scripts, and Dockerfiles"
        )
        return Report([], [Problem(1, message)], [])
    documents, problems = parse(text)
    if not documents and not problems:
        problems.append(Problem(1, "is empty"))
    kinds: list[str] = []
    notes: list[str] = []
    for document in documents:
        kind, found, left = _one(document, crd_dir)
        kinds.append(kind)
        problems += found
        notes += left
    return Report(kinds, problems + _twice(documents), notes)


def _twice(documents: list[Document]) -> list[Problem]:
    """Objects of one kind and name: of two, one would replace the other."""
    found, seen = [], dict[tuple[str, ...], int]()
    for document in documents:
        value = document.value
        metadata = value.get("metadata") if isinstance(value, dict) else None
        if not isinstance(metadata, dict) or not metadata.get("name"):
            continue
        kind, name = value.get("kind"), metadata["name"]
        group = str(value.get("apiVersion")).rpartition("/")[0]
        key = (group, str(kind), str(metadata.get("namespace")), str(name))
        if key in seen:
            line = document.line(("metadata", "name"))
            message = f"metadata.name: {kind} {name} is there already, at line {seen[key]}"
            found.append(Problem(line, message))
        seen.setdefault(key, document.line(("metadata", "name")))
    return found


def _one(document: Document, crd_dir: Path | None) -> tuple[str, list[Problem], list[str]]:
    """Kind, problems and what could not be checked of one document."""
    value = document.value
    line = document.line(())
    if not isinstance(value, dict):
        return "unknown", [Problem(line, "is no mapping")], []
    if "apiVersion" in value or "kind" in value:
        if value.get("kind") == "Kustomization":
            return "Kustomization", kustomize.problems(document), []
        return str(value.get("kind")), kubernetes.problems(document, crd_dir), []
    if {"cluster_name", "provider"} & set(value):
        return "ray up", launcher.cluster_problems(document), launcher.unchecked(document)
    if {"env_vars", "working_dir", "py_modules", "pip", "excludes"} & set(value):
        return "runtime environment", launcher.runtime_env_problems(document), []
    message = (
        "neither for Kubernetes (apiVersion, kind), nor for `ray up` (cluster_name, provider), "
        "nor a runtime environment"
    )
    return "unknown", [Problem(line, message)], []
