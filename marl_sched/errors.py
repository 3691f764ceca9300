"""Errors that a user can mend: one line, no traceback, exit code 2."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """Bad input: the message says what is wrong, where, and how to mend it."""


class WriteError(UserError):
    """A file cannot be written: no fault of what was asked for, another try may do."""


def do_you_mean(name: str, known: Iterable[str]) -> str:
    """`; do you mean X?` where one of the known names is close to `name`; else nothing."""
    near = get_close_matches(name, list(known), n=1)
    return f"; do you mean {near[0]}?" if near else ""
