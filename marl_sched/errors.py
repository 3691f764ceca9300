"""Errors that a user can mend: one line, no traceback, exit code 2.

What such a line quotes from somebody's file is cut here: `quoted` for one value, `listed` for
names, `in_words` for what a library said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice
from reprlib import Repr

LONGEST_MESSAGE = 2000
"""Characters of an error; a longer one loses its middle, as the mend stands at its end."""

LONGEST_QUOTE = 80
"""Characters that are shown of one value."""

MOST_NAMES = 12
"""Names that are shown of a list from somebody's file."""

_SIMILAR = 100
"""Longest name that is compared with those that are known: comparing costs its square."""

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
        super().__init__(_cut(redacted(message), LONGEST_MESSAGE))


class WriteError(UserError):
    """A file cannot be written: no fault of what was asked for, another try may do."""


_SHORT = Repr()
_SHORT.maxlevel = 4
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = _SHORT.maxset = 20
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = LONGEST_QUOTE


def quoted(value: object) -> str:
    """`value` as Python writes it, a long one without its middle."""
    # Only what can be shown is written out: the text of a value may be millions of characters.
    if isinstance(value, str) and len(value) > 2 * LONGEST_QUOTE:
        value = value[:LONGEST_QUOTE] + value[-LONGEST_QUOTE:]
    try:
        text = repr(value) if isinstance(value, str) else _SHORT.repr(value)
    except (ValueError, RecursionError):  # a number of more than 4,300 digits
        text = f"a {type(value).__name__} too large to show"
    return _cut(text, LONGEST_QUOTE)


def listed(names: Iterable[object], most: int = MOST_NAMES) -> str:
    """The first of `names`, each cut, and whether there are more."""
    found = list(islice((str(name) for name in names), most + 1))
    shown = [_cut(name, LONGEST_QUOTE) for name in found[:most]]
    return ", ".join([*shown, ".."] if len(found) > most else shown)


def in_words(error: BaseException | str) -> str:
    """What a library says, as an error or as text, on one line, cut."""
    text = str(error)[: 10 * LONGEST_QUOTE]
    return _cut(" ".join(text.split()), 2 * LONGEST_QUOTE) or type(error).__name__


def do_you_mean(name: str, known: Iterable[str]) -> str:
    """`; do you mean X?` where one of the known names is close to `name`; else nothing."""
    near = get_close_matches(name[:_SIMILAR], list(known), n=1)
    return f"; do you mean {near[0]}?" if near else ""


def _cut(text: str, most: int) -> str:
    """`text`, where it is longer than `most` characters with `..` for its middle."""
    if len(text) <= most:
        return text
    head = (most - 2) * 2 // 3
    return f"{text[:head]}..{text[head + 2 - most :]}"
