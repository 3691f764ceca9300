"""Files that are either whole or absent: written under a temporary name, then renamed."""

from __future__ import annotations

import errno
import os
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
    try:
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix
        )
        os.close(handle)
    except OSError as error:
        raise _unwritable(path, error) from None
    temporary = Path(name)
    try:
        try:
            yield temporary
        except OSError as error:
            raise _unwritable(path, error) from None
        # mkstemp makes private files; give the result the usual permissions.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from None
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
