"""Files that are either whole or absent: written under a temporary name, then renamed."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from marl_sched.errors import UserError, WriteError


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


def _unwritable(path: Path, error: OSError) -> WriteError:
    reason = error.strerror or str(error)
    if isinstance(error, FileExistsError | NotADirectoryError):
        reason = "part of the path is a file"
    return WriteError(f"cannot write {path}: {reason}; choose another path")


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
