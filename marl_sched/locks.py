"""Folders that one process has to itself, and folders whose process is gone.

The operating system lets go of a lock when its process ends, however it does: a lock of a process
that was killed is taken over. Where a file system keeps locks on each machine alone, or none at
all, what the lock's file says is all that is known.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path

from marl_sched.errors import WriteError

LOCK = ".lock"
_SCRATCH, _OWNED = "marl-", ".owned"
_HELD = (errno.EWOULDBLOCK, errno.EACCES)


@contextmanager
def alone(folder: Path, who: str) -> Iterator[None]:
    """Keep others who ask for it out of `folder`, which is there, for the length of the block.

    Args:
        who: would be in the way, for the error's words, such as `another run`.

    Raises:
        WriteError: when another process has it, or nothing can be written there.
    """
    path = folder / LOCK
    try:
        handle = _locked(path, who)
    except OSError as error:
        raise WriteError(f"cannot write {path}: {error.strerror}; choose another path") from None
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(handle)


def check_free(folder: Path, who: str) -> None:
    """See that `alone` would have `folder` now; nothing is left behind.

    Raises:
        WriteError: as of `alone`.
    """
    if (folder / LOCK).exists():
        with alone(folder, who):
            pass


def _locked(path: Path, who: str) -> int:
    """An open handle on the lock's file, which says whose it is."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            _take(handle, path, who)
            if _is_still(path, handle):
                host, since = socket.gethostname(), datetime.now(timezone.utc)
                os.ftruncate(handle, 0)
                os.pwrite(handle, f"{os.getpid()} {host} {since:%Y-%m-%dT%H:%M:%SZ}\n".encode(), 0)
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its owner has just removed it


def _take(handle: int, path: Path, who: str) -> None:
    owner = os.pread(handle, 300, 0).decode(errors="replace").split()
    pid, host, since = owner if len(owner) == 3 else ("", "", "")
    whose = f"process {pid} on {host} since {since}" if host else "another process"
    taken = WriteError(f"{path.parent}: {who} is going on there ({whose}); wait for it to end")
    here = host == socket.gethostname()
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD or (here and _is_alive(pid)):
            raise taken from None
    if host and not here:
        logging.getLogger(__name__).warning(
            "%s: %s did not end as it should; if it is still running, stop it: not every file "
            "system keeps locks between machines", path.parent, whose,
        )  # fmt: skip


def _is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except PermissionError:
        return True
    except (OSError, ValueError, OverflowError):
        return False
    return True


def _is_still(path: Path, handle: int) -> bool:
    """Whether the file of `handle` is the one at `path`."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder of this process's own below the system's temporary one, gone after the block.

    Those that processes of this user have left behind, as they were killed, are removed first.
    """
    _sweep(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=_SCRATCH, ignore_cleanup_errors=True) as name:
        # Locked before it has its name: no other process may see it unlocked.
        fresh = Path(name) / f"{_OWNED}.new"
        with open(fresh, "w") as owned:
            with suppress(OSError):
                fcntl.flock(owned, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fresh.rename(Path(name) / _OWNED)
            yield Path(name)


def _sweep(folder: Path) -> None:
    for path in folder.glob(f"{_SCRATCH}*"):
        with suppress(OSError):
            if path.is_symlink() or path.stat().st_uid != os.geteuid():
                continue
            with open(path / _OWNED) as owned:
                fcntl.flock(owned, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
