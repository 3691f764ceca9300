"""What is published of a run says nothing about the machine that it ran on."""

from __future__ import annotations

import re
from typing import Any

_NAME = r"[^/\s,\]'\"]+"
_ABSOLUTE = re.compile(rf"(?<![\w./~])/(?:{_NAME}/)*?({_NAME}(?:/{_NAME})?)(?=[\s,\]'\"]|$)")


def portable(value: Any) -> Any:
    """The same without the folders of this machine: absolute paths keep their last two names."""
    if isinstance(value, dict):
        return {key: portable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [portable(inner) for inner in value]
    if isinstance(value, str):
        return _ABSOLUTE.sub(r"\1", value)
    return value
