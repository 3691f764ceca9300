"""Trained schedulers on disk: a folder with `manifest.json` and the safetensors that it names.

The manifest carries the SHA-256 of every file. Nothing in the folder is executed when it is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from marl_sched.errors import UserError
from marl_sched.files import replacing, write_text

if TYPE_CHECKING:
    import numpy as np

MANIFEST = "manifest.json"
BEST = "best"
"""Folder of a run that holds its artefact."""

PICKLED = (".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".bin")
"""Endings of files that run code when they are read, as a rule."""

MOST_LOOKED_AT = 10_000
"""Files in search of pickles: somebody may name a folder as large as a home."""


def sha256(data: bytes) -> str:
    """Digest in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def folder_of(path: Path) -> Path | None:
    """The artefact's folder: `path`, or `best` in a run's folder; None where there is none."""
    found = (path / BEST, path)
    return next((folder for folder in found if (folder / MANIFEST).is_file()), None)


def pickles_in(path: Path) -> list[Path]:
    """Files in the folder `path`, or below it, that could run code when they are read."""
    if not path.is_dir():
        return []
    looked_at = islice(path.rglob("*"), MOST_LOOKED_AT)
    return sorted(p for p in looked_at if p.name.endswith(PICKLED) and p.is_file())


def find(path: Path, what: str, command: str) -> Path:
    """The folder of the artefact that `path` names.

    Args:
        what: who is looked for, for the error's words.
        command: what writes one.

    Raises:
        UserError: where there is none, or there are pickles beside or instead of it.
    """
    folder = folder_of(path)
    pickles = pickles_in(path if folder is None else folder)
    if pickles:
        raise UserError(
            f"{path}: holds a pickle ({pickles[0].relative_to(path)}), and reading one runs "
            f"whatever code is in it; give the folder that `{command} --out` wrote, or its {BEST} "
            "folder, which hold none"
        )
    if folder is not None:
        return folder
    if not path.exists():
        raise UserError(f"{path}: no such folder; give the one that `{command} --out` wrote")
    raise UserError(
        f"{path}: no trained {what} here (no {BEST}/{MANIFEST}); give the folder that "
        f"`{command} --out` wrote"
    )


def write_weights(path: Path, arrays: Mapping[str, np.ndarray]) -> str:
    """Write the safetensors file `path`, whole or not at all; its SHA-256."""
    from safetensors.numpy import save

    data: bytes = save(dict(arrays))
    with replacing(path) as temporary:
        temporary.write_bytes(data)
    return sha256(data)


def write_manifest(folder: Path, manifest: Mapping[str, Any], weights: Iterable[str]) -> Path:
    """Write `folder/manifest.json`: from then on its `weights` count, and all others are deleted.

    A reader sees all old or all new files.
    """
    write_text(folder / MANIFEST, json.dumps(manifest, indent=2) + "\n")
    for old in folder.glob("*.safetensors"):
        if old.name not in weights:
            old.unlink()
    return folder / MANIFEST


def read_verified(folder: Path, name: str, digest: str) -> bytes:
    """What the file `name` of the manifest in `folder` holds.

    Raises:
        UserError: naming the file, where it is missing, or is not what the manifest says.
    """
    path = folder / Path(name).name
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}), and {MANIFEST} names it; copy the whole "
            "folder again or train again"
        ) from None
    if sha256(data) != digest:
        raise UserError(
            f"{path}: does not match the SHA-256 in {MANIFEST}; the file is damaged or another "
            "one: copy the folder again or train again"
        )
    return data


def arrays_of(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file's content.

    Raises:
        ValueError: as of `finite`.
    """
    from safetensors.numpy import load

    return finite(load(data))


def finite(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same arrays, where all weights are numbers: nothing can be trained to others.

    Raises:
        ValueError: where one is infinite or NaN.
    """
    import numpy as np

    for name, values in arrays.items():
        if not np.isfinite(values).all():
            raise ValueError(f"{name} has weights that are no numbers")
    return dict(arrays)


def read_manifest(folder: Path, format: str) -> dict[str, Any]:
    """The manifest in `folder`.

    Raises:
        UserError: where it is of another format.
        ValueError: where it is no JSON object; within `readable` that becomes a UserError.
    """
    found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError("the manifest is no JSON object")
    if found.get("format") != format:
        raise UserError(
            f"{folder / MANIFEST}: format {found.get('format')!r} is not {format!r}; train again "
            "with this version"
        )
    return found


@contextmanager
def readable(folder: Path, what: str) -> Iterator[None]:
    """Turn whatever a damaged artefact causes into one `UserError` that names the folder."""
    from safetensors import SafetensorError

    try:
        yield
    except UserError:
        raise
    except (
        OSError, ValueError, AttributeError, TypeError, LookupError, ArithmeticError,
        RuntimeError, MemoryError, EOFError, BadZipFile, SafetensorError,
    ) as error:  # fmt: skip
        reason = " ".join(str(error).split())[:120]
        raise UserError(
            f"{folder}: not a readable trained {what} ({reason}); copy it again or train again"
        ) from None
