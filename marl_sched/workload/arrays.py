"""Arrays over jobs that take no memory where all jobs have the same value."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

UNLIMITED = int(np.iinfo(np.int64).max)
"""Retries of a job that may fail as often as it will."""


def constant(value: float | int | str | bool, jobs: int) -> np.ndarray:
    """(J,) read-only array of one value, one cell in memory."""
    cell = np.array(value, dtype=object) if isinstance(value, str) else np.array(value)
    return np.broadcast_to(cell, (jobs,))


def is_constant(array: np.ndarray) -> bool:
    """True for a broadcast of one row."""
    return len(array) > 1 and array.strides[0] == 0


def pick(array: np.ndarray, index: np.ndarray) -> np.ndarray:
    """`array[index]` for an array of indices; a broadcast stays one."""
    if is_constant(array):
        return np.broadcast_to(array[0], (len(index), *array.shape[1:]))
    return np.asarray(array[index])


def shifted(times_s: np.ndarray, by_s: float | np.ndarray) -> np.ndarray:
    """`times_s + by_s`; where no time is finite, the same array."""
    if is_constant(times_s) and np.isinf(times_s[0]):
        return times_s
    return np.asarray(times_s + by_s)


def names(texts: Iterable[str] | np.ndarray) -> np.ndarray:
    """(J,) StringDType: 16 bytes each, short ones inside; a Python str would take 60 and more."""
    kind = np.dtypes.StringDType()
    return texts.astype(kind) if isinstance(texts, np.ndarray) else np.array(list(texts), kind)


def numbered(prefix: str, numbers: np.ndarray) -> np.ndarray:
    """(J,) StringDType such as row-7."""
    return np.asarray(np.strings.add(prefix, names(numbers)))
