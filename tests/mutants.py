"""Damaged inputs: valid bytes with some of them changed as people, programs and disks do it.

What is read from them is either whole and sane, or one line of error of bounded length.
`FUZZ_EXAMPLES=20000 pytest tests/workload/test_fuzz.py` tries more of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from random import Random
from typing import Any

from marl_sched.errors import LONGEST_MESSAGE, UserError

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "150"))
"""Of each test."""

EXTREMES = (
    "", " ", "0", "-0", "-1", "1", "0.5", "1e18", "-1e18", "1e300", "1e-300", "1e400", "inf",
    "-inf", "nan", "99999999999999999999", "9" * 5000, "0x10", "1_000", "1,5", "²", "٣", "１",
    "true", "None", "null", "~", "2024-01-01 00:00:00", "2024-13-01 00:00:00",
    "2024-01-01T00:00:00+08:00",
    "2024-01-01T00:00:00Z", "0000-01-01 00:00:00", "9999-12-31 23:59:59", "text", "a" * 70_000,
    "\x00", "\ud7ff", "'", '"', "[", "{a: &a [*a]}", "[" * 300, "*a", "&a", "<<: *a", "1-00:00:00",
    "cpu=1,gres/gpu=99999999999999999999", "gres/gpu=1", "a b c", "b", "%s", "=1+1", "!!int x",
)  # fmt: skip
"""Cells that something somewhere may take for more than they are."""


def damaged(data: bytes, rng: Random, separators: bytes = b",|\n :{}[]") -> bytes:
    """`data` with a few of its bytes, cells or lines changed."""
    for _ in range(rng.randint(1, 4)):
        data = rng.choice(_WAYS)(data, rng, separators)
    return data


def _flip(data: bytes, rng: Random, __: bytes) -> bytes:
    found = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        if found:
            found[rng.randrange(len(found))] = rng.randrange(256)
    return bytes(found)


def _cut(data: bytes, rng: Random, __: bytes) -> bytes:
    first, last = sorted((rng.randint(0, len(data)), rng.randint(0, len(data))))
    return data[:first] + data[last:] if rng.random() < 0.5 else data[:first]


def _repeat(data: bytes, rng: Random, __: bytes) -> bytes:
    first = rng.randint(0, len(data))
    last = min(first + rng.randint(0, 60), len(data))
    return data[:last] + data[first:last] * rng.randint(1, 3) + data[last:]


def _cell(data: bytes, rng: Random, separators: bytes) -> bytes:
    """One cell becomes an extreme."""
    edges = [i for i, byte in enumerate(data) if byte in separators]
    if not edges:
        return data
    first = rng.choice(edges) + 1
    last = next((edge for edge in edges if edge >= first), len(data))
    return data[:first] + rng.choice(EXTREMES).encode() + data[last:]


def _lines(data: bytes, rng: Random, __: bytes) -> bytes:
    """A line goes, or is there twice, or somewhere else."""
    lines = data.split(b"\n")
    line = lines.pop(rng.randrange(len(lines)))
    for _ in range(rng.randint(0, 2)):
        lines.insert(rng.randint(0, len(lines)), line)
    return b"\n".join(lines)


_WAYS = (_flip, _cut, _repeat, _cell, _cell, _cell, _lines)


def read_or_refused(read: Callable[[], Any]) -> Any:
    """What `read` gives, or None where it refuses in one line that is not too long."""
    try:
        return read()
    except UserError as error:
        text = str(error)
        assert 0 < len(text) <= LONGEST_MESSAGE
        assert "Traceback" not in text and "object at 0x" not in text
        return None
