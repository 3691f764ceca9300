"""Fetch a public trace by repository, commit and path, and verify its SHA-256."""

from __future__ import annotations

import hashlib
import io
import tarfile
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from urllib.parse import quote

from marl_sched.errors import UserError, do_you_mean, quoted
from marl_sched.files import replacing
from marl_sched.workload.sources import FILES, PublicFile

RAW_ADDRESS = "https://raw.githubusercontent.com"
"""Where GitHub serves single files as REPOSITORY/COMMIT/PATH."""

TIMEOUT_S = 30.0


def fetch(name: str, out: Path | None = None) -> tuple[Path, bool]:
    """The file `name` of the table at `out`, by default in the current folder under its name.

    A file that is there already and has the right digest is left as it is.

    Returns:
        The path, and whether anything was downloaded.

    Raises:
        UserError: for an unknown name, a different file in the way, no network, a wrong digest.
    """
    if name not in FILES:
        known = ", ".join(FILES) + do_you_mean(name, FILES)
        raise UserError(f"trace {quoted(name)} is not known; known: {known}")
    file = FILES[name]
    path = Path(name + file.suffix) if out is None else out
    wanted = file.member_sha256 or file.sha256
    if path.is_file():
        if hashlib.sha256(path.read_bytes()).hexdigest() == wanted:
            return path, False
        raise UserError(
            f"{path} is there already and is not {file.source}: its SHA-256 differs; remove it or "
            "choose another --out"
        )
    if path.exists():
        raise UserError(f"cannot write {path}: it is a folder; choose another path with --out")
    data = _download(file)
    with replacing(path) as temporary:
        temporary.write_bytes(data)
    return path, True


def address(file: PublicFile) -> str:
    """URL of a file."""
    return f"{RAW_ADDRESS}/{file.repository}/{file.commit}/{quote(file.path)}"


def _download(file: PublicFile) -> bytes:
    """The verified bytes of the trace."""
    url = address(file)
    data = download(url, file.size, file.sha256)
    if file.member:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            member = archive.extractfile(file.member)
            data = b"" if member is None else member.read()
        _verify(data, file.member_sha256, f"{url}: {file.member}")
    return data


def download(url: str, size: int, sha256: str) -> bytes:
    """The `size` bytes at `url`, which have that digest.

    Raises:
        UserError: when they cannot be had, or are others.
    """
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            data: bytes = answer.read(size + 1)
    except urllib.error.HTTPError as error:
        raise UserError(f"{url}: the server answers {error.code} {error.reason}") from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error or type(error).__name__
        raise UserError(
            f"{url}: cannot be reached ({reason}); check the network, or fetch the file elsewhere "
            f"and compare its SHA-256 with {sha256}"
        ) from None
    _verify(data, sha256, url)
    return data


def _verify(data: bytes, sha256: str, where: str) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise UserError(
            f"{where}: SHA-256 is {found}, not {sha256}: the file was changed or cut on its way; "
            "nothing was written, try again"
        )
