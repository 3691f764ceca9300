"""Errors that a user can mend: one line, no traceback, exit code 2."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

_SECRETS = (
    # The last @ of a word: a password may hold one. A bucket's own path may too, after a slash.
    (re.compile(r"(?<=://)[^\s/@:]+(?::\S*)?@"), "***@"),
    (re.compile(r"(?i)(?<=[?&])([\w-]*(?:key|secret|token|password|signature)[\w-]*)=[^&\s'\"]+"),
     r"\1=***"),
)  # fmt: skip


def redacted(text: str) -> str:
    """`text` without the credentials of addresses such as s3://KEY:SECRET@BUCKET in it.

    Whatever is shown, recorded or published goes through here.
    """
    for pattern, shown in _SECRETS:
        text = pattern.sub(shown, text)
    return text


class UserError(ValueError):
    """Bad input: the message says what is wrong, where, and how to mend it; no credentials."""

    def __init__(self, message: str) -> None:
        super().__init__(redacted(message))


class WriteError(UserError):
    """A file cannot be written: no fault of what was asked for, another try may do."""


def do_you_mean(name: str, known: Iterable[str]) -> str:
    """`; do you mean X?` where one of the known names is close to `name`; else nothing."""
    near = get_close_matches(name, list(known), n=1)
    return f"; do you mean {near[0]}?" if near else ""
