"""Checkpoints of a run: whole or refused, and free of pickles.

A folder iter_N whose `progress.json` is written last. It says how far the run was and has the
SHA-256 of every other file, and one of itself. A checkpoint counts where all of them fit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

from marl_sched.artefact import pickles_in, sha256
from marl_sched.files import write_text

PROGRESS = "progress.json"
"""Makes a folder a checkpoint."""

_FILES, _DIGEST = "files", "sha256"


class Damaged(ValueError):
    """A file of a checkpoint is missing, damaged or not to be read; the message names it."""


def seal(folder: Path, progress: Mapping[str, Any]) -> None:
    """Write `progress.json`, from which on the files in `folder` are a checkpoint."""
    digests = {path.relative_to(folder).as_posix(): _sha256(path) for path in _files(folder)}
    record = {**progress, _FILES: digests}
    write_text(folder / PROGRESS, json.dumps({**record, _DIGEST: _digest(record)}) + "\n")


def parse_progress(text: str, where: str) -> dict[str, Any]:
    """How far a run was, by the text of a `progress.json`.

    Raises:
        Damaged: when it is not what `seal` has written; the message begins with `where`.
    """
    try:
        record = dict(json.loads(text))
        digest = record.pop(_DIGEST)
        record[_FILES].items()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Damaged(f"{where}: cut short, damaged or of an earlier version") from None
    if digest != _digest(record):
        raise Damaged(f"{where}: does not match its own SHA-256")
    return record


def read_progress(folder: Path) -> dict[str, Any]:
    """How far the run was at the checkpoint in `folder`, after a look at all of its files.

    Raises:
        Damaged: naming a file that is not as it was written.
    """
    pickles = pickles_in(folder)
    if pickles:
        raise Damaged(
            f"{pickles[0]}: a pickle, and reading one runs whatever code is in it; no checkpoint "
            "of this version holds any"
        )
    with _reading(folder / PROGRESS) as path:
        text = path.read_bytes().decode("utf-8", errors="replace")
    record = parse_progress(text, str(path))
    for name, digest in record.pop(_FILES).items():
        with _reading(folder / name) as path:
            found = _sha256(path)
        if found != digest:
            raise Damaged(f"{path}: does not match the SHA-256 in {PROGRESS}")
    return record


@contextmanager
def _reading(path: Path) -> Iterator[Path]:
    """Turn what keeps `path` from being read into `Damaged`."""
    if not path.is_file():
        raise Damaged(f"{path}: is missing" if not path.exists() else f"{path}: is no file")
    try:
        yield path
    except OSError as error:
        raise Damaged(f"{path}: cannot be read ({error.strerror})") from None


def problem_of(folder: Path) -> str | None:
    """What is wrong with the checkpoint in `folder`, naming the file; None: nothing."""
    try:
        read_progress(folder)
    except Damaged as error:
        return str(error)
    return None


def is_checkpoint(folder: PurePath) -> bool:
    """Whether a folder is named as checkpoints are."""
    kind, _, number = folder.name.partition("_")
    return kind == "iter" and number.isdecimal()


def iteration_of(folder: PurePath) -> int:
    """By the name of a checkpoint's folder."""
    return int(folder.name.removeprefix("iter_"))


def folders_in(checkpoints: Path) -> list[Path]:
    """Folders of checkpoints, the newest last."""
    found = (path for path in checkpoints.glob("iter_*") if is_checkpoint(path) and path.is_dir())
    return sorted(found, key=iteration_of)


def _files(folder: Path) -> Iterator[Path]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return (path for path in sorted(found) if path != folder / PROGRESS)


def _sha256(path: Path) -> str:
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while data := file.read(2**20):
            found.update(data)
    return found.hexdigest()


def _digest(record: Mapping[str, Any]) -> str:
    return sha256(json.dumps(record, sort_keys=True).encode())
