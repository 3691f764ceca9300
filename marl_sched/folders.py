"""Folders of the user's own, which nobody else may write to."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterable
from pathlib import Path

from marl_sched.errors import UserError

_ELSE = "or name a folder of your own by NUMBA_CACHE_DIR"


def user_cache() -> Path:
    """The user's own folder for what can be made or downloaded again.

    Raises:
        UserError: for a user without a home.
    """
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        base = named if named.is_absolute() else Path.home() / ".cache"
    except RuntimeError:
        raise UserError("you have no home folder to keep files in: set HOME") from None
    return base / "marl_sched"


def kernel_folder(name: str) -> Path:
    """The folder `name` of compiled kernels, for its owner alone; made where it is not there.

    Whoever can write there runs code as whoever loads kernels from there. It lies in the folder
    that `NUMBA_CACHE_DIR` names, else in the user's own cache.

    Raises:
        UserError: when somebody else owns the folder, or may write to it or to one around it, or
            it cannot be made.
    """
    named = os.environ.get("NUMBA_CACHE_DIR")
    wanted = (Path(named) if named else user_cache()) / name
    try:
        folder = _made(wanted)
        _check_outer(folder)
        _check(folder, [os.geteuid()])
        for own in [folder] if named else [folder, folder.parent]:
            if stat.S_IMODE(own.stat().st_mode) != 0o700:
                own.chmod(0o700)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"{wanted}: cannot keep compiled kernels there ({reason}); {_ELSE[3:]}"
        ) from None
    if not os.access(folder, os.W_OK):
        raise UserError(f"{folder}: cannot keep compiled kernels there (read-only); {_ELSE[3:]}")
    return folder


def _made(folder: Path) -> Path:
    """`folder` without links, made for its owner alone; folders around it too."""
    folder = folder.resolve()
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(mode=0o700, exist_ok=True)
    return folder


def _check_outer(folder: Path) -> None:
    """Who can write around a folder can put another one in its place, unless the sticky bit keeps
    them from it, as it does in /tmp."""
    around, *others = folder.parents
    _check(around, [0, os.geteuid()], sticky_will_do=True)
    for outer in others:
        _check(outer, None, stat.S_IWOTH, sticky_will_do=True)


def _check(
    folder: Path,
    owners: Iterable[int] | None,
    writers: int = stat.S_IWGRP | stat.S_IWOTH,
    sticky_will_do: bool = False,
) -> None:
    """Refuse a folder that others own, or may write to.

    Args:
        owners: numbers of the users who may own it; None: whoever does.
        writers: bits of its mode that must not be there.
    """
    found = folder.stat()
    if owners is not None and found.st_uid not in owners:
        raise UserError(
            f"{folder}: belongs to {_name(found.st_uid)}, who could put code of their own among "
            f"your compiled kernels; remove it, {_ELSE}"
        )
    if found.st_mode & writers and not (sticky_will_do and found.st_mode & stat.S_ISVTX):
        raise UserError(
            f"{folder}: others may write to it (mode {stat.S_IMODE(found.st_mode):o}), and so put "
            f"code of their own among your compiled kernels; empty it and `chmod go-w` it, {_ELSE}"
        )


def _name(user: int) -> str:
    try:
        return f"user {pwd.getpwuid(user).pw_name}"
    except KeyError:
        return f"user number {user}"
