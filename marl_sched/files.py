"""Files: written whole or not at all, under a temporary name; read only where they have an end."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from marl_sched.errors import UserError, WriteError, in_words

LARGEST = 2 << 30
"""Bytes of a file that is read whole."""

LARGEST_TEXT = 64 << 20
"""Bytes of a file of settings, of a table of measurements, and the like."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it takes `path`'s place.

    A link stays one, and the file that it names is replaced.

    Raises:
        WriteError: when the file cannot be written, also while it is.
    """
    path = check_writable(path)
    with writing(path):
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix
        )
        os.close(handle)
    temporary = Path(name)
    try:
        with writing(path):
            yield temporary
        # mkstemp makes private files; give the result the usual permissions.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        with writing(path):
            sync(temporary)
            temporary.replace(path)
            sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what keeps `path` from being written, such as a full disk, into a `WriteError`."""
    try:
        yield
    except OSError as error:
        raise _unwritable(path, error) from None


def sync(path: Path) -> None:
    """Have the disk hold a file, or which files a folder has, also after a loss of power."""
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        # Some file systems cannot, above all for folders: they keep what they keep.
        if error.errno not in (
            errno.EINVAL,
            errno.ENOTSUP,
            errno.EBADF,
            errno.ENOSYS,
            errno.EACCES,
        ):
            raise


def move_folder(source: Path, target: Path) -> None:
    """Give a folder that is written another name beside it, in place of one that has that name.

    What is in it is on the disk before it has the name.

    Raises:
        WriteError: when that cannot be done.
    """
    with writing(target):
        for path in (*source.rglob("*"), source):
            if not path.is_symlink():
                sync(path)
        shutil.rmtree(target, ignore_errors=True)
        source.rename(target)
        sync(target.parent)


def check_writable(path: Path) -> Path:
    """Make the folder of `path` and see that a file may stand there; where links lead to.

    Raises:
        UserError: when it may not.
    """
    path = path.resolve()
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder; choose another path")
    if path.exists() and not path.is_file():
        raise UserError(f"cannot write {path}: it is no regular file; choose another path")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"cannot write {path}: its folder is read-only; choose another path")
    return path


def check_folder(path: Path) -> None:
    """See that files can be written below the folder `path`; what had to be made for it is gone.

    Raises:
        UserError: when they cannot.
    """
    path = path.resolve()
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()


def disk_is_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it comes from, is that a disk or a quota is used up.

    Libraries in other languages say so in words alone.
    """
    while error is not None:
        words = str(error)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if any(os.strerror(code) in words for code in (errno.ENOSPC, errno.EDQUOT)):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def naming_full_disk(folder: Path) -> Iterator[None]:
    """Say in one line that there is no room left for what is written below `folder`.

    Raises:
        WriteError: in place of whatever error that came to.
    """
    try:
        yield
    except WriteError:
        raise
    except Exception as error:
        if not disk_is_full(error):
            raise
        raise WriteError(
            f"cannot write {folder}: no space is left on its disk, or on that of temporary files "
            f"({tempfile.gettempdir()}); make room and go on with --resume auto"
        ) from error


def _unwritable(path: Path, error: OSError) -> WriteError:
    reason = error.strerror or str(error)
    if isinstance(error, FileExistsError | NotADirectoryError):
        reason = "part of the path is a file"
    return WriteError(f"cannot write {path}: {reason}; choose another path")


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def check_readable(path: Path, what: str, most: int = LARGEST) -> None:
    """See that `path` is a file that can be read whole.

    Devices and pipes are none: some have no end.

    Args:
        what: the file is to be, for messages: "trace", "cluster file".
        most: bytes.

    Raises:
        UserError: when it is not.
    """
    where = f"{what} {path}"
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{where}: no such file") from None
    except (OSError, ValueError) as error:  # a name that no file can have
        raise UserError(f"{where}: cannot be read: {in_words(error)}") from None
    if stat.S_ISDIR(found.st_mode):
        raise UserError(f"{where}: is a folder; give a file in it")
    if not stat.S_ISREG(found.st_mode):
        raise UserError(
            f"{where}: is no regular file but a device or a pipe; write what it gives to a file, "
            "and give that"
        )
    size = found.st_size
    if size > most:
        raise UserError(
            f"{where}: has {size / 2**20:,.0f} MiB, and at most {most >> 20:,} are read; split it"
        )


def read_bytes(path: Path, what: str, most: int = LARGEST) -> bytes:
    """The bytes of a file; arguments and errors as of `check_readable`."""
    check_readable(path, what, most)
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)  # files of /proc say that they are empty
    except OSError as error:
        raise UserError(f"{what} {path}: cannot be read: {error.strerror or error}") from None
    if len(data) > most:
        raise UserError(f"{what} {path}: has more than the {most >> 20:,} MiB that are read")
    return data


def read_text(path: Path, what: str, most: int = LARGEST_TEXT) -> str:
    """The text of a UTF-8 file; arguments and errors as of `check_readable`."""
    try:
        return read_bytes(path, what, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{what} {path}: is no UTF-8 text: {in_words(error)}") from None


def read_json(path: Path, what: str, most: int = LARGEST_TEXT) -> Any:
    """The value in a JSON file; arguments and errors as of `check_readable`.

    Python's json also takes NaN and Infinity, which its callers must not let through as numbers.
    """
    text = read_text(path, what, most)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{what} {path}: not JSON: line {error.lineno}, column {error.colno}: {error.msg}"
        ) from None
    except (ValueError, RecursionError) as error:  # a number of more than 4,300 digits
        raise UserError(f"{what} {path}: cannot be read as JSON: {in_words(error)}") from None
