"""Which file is which: an experiment's inputs told apart by content, and those beside a trace."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from marl_sched.errors import UserError, in_words
from marl_sched.files import read_bytes
from marl_sched.types import ANY_GPU, Cluster

THROUGHPUTS = "*throughputs*.json"
PROFILE = "*per_epoch_profile*.json"
"""How the files of a Gavel experiment are named by those who made them."""

PROFILES = "profiles"
"""Folder of measurements beside Pollux' workloads, or beside their folder."""

_BY_TYPE = re.compile(r"\d+(:\d+)*")


@dataclass(frozen=True)
class GavelFiles:
    """What one run of Gavel reads."""

    trace: Path
    throughputs: Path
    profile: Path | None


def gavel_files(
    given: list[Path], throughputs: Path | None, profile: Path | None
) -> list[GavelFiles]:
    """One entry a trace among `given`, in which the two JSON files may stand anywhere.

    What is not given is the only file beside the trace that is named like it. A profile may be
    absent: then run times follow from the throughputs.

    Raises:
        UserError: for a file given twice, none where one is needed, or several beside the trace.
    """
    traces = []
    for path in given:
        kind = _json_kind(path)
        if kind is None:
            traces.append(path)
        elif kind == "throughputs":
            throughputs = _only_one(throughputs, path, kind)
        else:
            profile = _only_one(profile, path, kind)
    if not traces:
        raise UserError(
            f"--input {given[0]}: no job trace among the inputs; give the trace of the experiment"
        )
    return [
        GavelFiles(
            trace,
            throughputs or _needed(trace, THROUGHPUTS, "--throughputs"),
            profile or _beside(trace, PROFILE, "--profiles"),
        )
        for trace in traces
    ]


def _json_kind(path: Path) -> str | None:
    """throughputs (an object), profile (a list), or None for a file that is not JSON."""
    text = read_bytes(path, "--input").decode("utf-8", errors="replace").lstrip()
    if path.suffix.lower() != ".json" and text[:1] not in ("{", "["):
        return None
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"--input {path}: cannot be read as JSON: {in_words(error)}") from None
    if isinstance(data, list):
        return "profile"
    if isinstance(data, dict):
        return "throughputs"
    raise UserError(f"--input {path}: neither a throughput table nor a per-epoch profile")


def _only_one(before: Path | None, path: Path, kind: str) -> Path:
    if before is not None and before != path:
        raise UserError(f"--input {path}: {kind} are given already by {before}; leave one out")
    return path


def _beside(trace: Path, pattern: str, option: str) -> Path | None:
    found = sorted(trace.parent.glob(pattern))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise UserError(
            f"--input {trace}: several files {pattern} beside it ({names}); choose with {option}"
        )
    return found[0] if found else None


def _needed(trace: Path, pattern: str, option: str) -> Path:
    found = _beside(trace, pattern, option)
    if found is None:
        raise UserError(f"--input {trace}: no file {pattern} beside it; name one with {option}")
    return found


def gavel_cluster(text: str) -> dict[str, int] | str:
    """GPUs as Gavel's runner takes them: "32" and "32:16:8" as they are, nodes added up by type.

    Raises:
        UserError: for text that is no cluster.
    """
    if _BY_TYPE.fullmatch(text.strip()):
        return text.strip()
    gpus: dict[str, int] = {}
    for node in Cluster.parse(text).nodes:
        kind = "v100" if node.gpu_type == ANY_GPU else node.gpu_type.lower()
        gpus[kind] = gpus.get(kind, 0) + node.num_gpus
    return gpus


def pollux_profiles(workload: Path) -> Path:
    """The folder of measurements that belongs to a workload.

    Raises:
        UserError: where there is none.
    """
    for folder in (workload.parent, workload.absolute().parent.parent):
        if (folder / PROFILES).is_dir():
            return folder / PROFILES
    raise UserError(
        f"--input {workload}: no folder {PROFILES!r} beside it; name it with --profiles"
    )
