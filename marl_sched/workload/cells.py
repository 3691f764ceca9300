"""What the cells of a column are, whatever their type in the file: numbers, times, text.

Columns are Arrow arrays (R,), and null is an empty cell.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from marl_sched.quantities import whole

CLOCK = (
    r"^(?P<minute>\d{4}-\d\d-\d\d[ T]\d\d:\d\d)(?::(?P<second>\d\d(?:\.\d{1,9})?))?"
    r"(?P<zone> ?(?:Z|UTC|GMT|[+-]\d\d(?::?\d\d)?))?$"
)
"""Wall-clock times that are read, with or without a zone."""

CLOCK_EXAMPLES = "like 2017-10-09 06:13:03 or 2017-10-09T06:13:03+08:00"

_MOST_OFFSET_H = 14  # of the zones of the world


def plain_array(array: Any) -> Any:
    """The array as text, numbers, truth values, times or lists of text; None for other types."""
    import pyarrow as pa

    kind, types = array.type, pa.types
    usable = types.is_string(kind) or types.is_integer(kind) or types.is_boolean(kind)
    if usable or types.is_float64(kind) or types.is_timestamp(kind) or types.is_duration(kind):
        return array
    target = _target(kind)
    try:
        return None if target is None else array.cast(target, safe=not types.is_decimal(kind))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # bytes that are no text
        return None


def _target(kind: Any) -> Any:
    """The type that a column of another type is read as; None where it cannot be read."""
    import pyarrow as pa

    types = pa.types
    if types.is_floating(kind) or types.is_decimal(kind):
        return pa.float64()
    if types.is_date(kind):
        return pa.timestamp("ms")
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        inside = kind.value_type
        named = types.is_string(inside) or types.is_integer(inside) or types.is_null(inside)
        return pa.list_(pa.string()) if named or types.is_large_string(inside) else None
    text = types.is_large_string(kind) or types.is_string_view(kind) or types.is_null(kind)
    binary = types.is_binary(kind) or types.is_large_binary(kind)
    return pa.string() if text or binary else None


def kind_of(array: Any) -> str:
    """A `point in time`, a `length of time`, a `list`, or `plain`, of a `plain_array`."""
    import pyarrow as pa

    if pa.types.is_timestamp(array.type):
        return "point in time"
    if pa.types.is_duration(array.type):
        return "length of time"
    return "list" if pa.types.is_list(array.type) else "plain"


def text_array(array: Any) -> Any:
    """A `plain_array` but lists as text, null as ""."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_string(array.type):
        array = array.cast(pa.string())
    return pc.fill_null(array, "") if array.null_count else array


def blank(array: Any) -> np.ndarray:
    """(R,) bool, True at empty cells; a NaN in a column of numbers is one too."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_floating(array.type):
        return np.asarray(array.is_null(nan_is_null=True).to_numpy(zero_copy_only=False))
    if kind_of(array) != "plain":
        return np.asarray(array.is_null().to_numpy(zero_copy_only=False))
    trimmed = pc.utf8_trim_whitespace(text_array(array))
    return np.asarray(pc.equal(trimmed, "").to_numpy(zero_copy_only=False))


def numbers(array: Any, unit_s: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values (R,) float64, NaN where there is none; empty cells; cells that are no number.

    Times of Parquet, which know their unit, are given in units of `unit_s` seconds.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    bad = np.zeros(len(array), bool)
    if pa.types.is_string(array.type) and not array.null_count:
        try:  # a clean column, as most are; no blank passes
            return array.cast(pa.float64()).to_numpy().copy(), bad, bad.copy()
        except pa.ArrowInvalid:
            pass
    empty = blank(array)
    kind = kind_of(array)
    if kind in ("point in time", "length of time"):
        ticks_per_s = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[array.type.unit]
        ticks = array.cast(pa.int64()).cast(pa.float64(), safe=False)
        values = ticks.to_numpy(zero_copy_only=False) / (ticks_per_s * unit_s)
        return values.astype(np.float64), empty, bad
    if kind == "list":
        return np.full(len(array), np.nan), empty, ~empty
    if pa.types.is_floating(array.type) or pa.types.is_integer(array.type):
        values = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return values.astype(np.float64), empty, bad
    texts = pc.utf8_trim_whitespace(text_array(array))
    try:
        given = pc.if_else(pa.array(empty), pa.scalar(None, pa.string()), texts)
        values = given.cast(pa.float64()).to_numpy(zero_copy_only=False)
        return values.astype(np.float64), empty, bad
    except pa.ArrowInvalid:
        pass
    values = np.full(len(array), np.nan)
    for index, cell in enumerate(texts.to_pylist()):
        try:
            values[index] = float(cell) if cell else np.nan
        except ValueError:
            bad[index] = True
    return values, empty, bad


def moments_s(array: Any) -> tuple[np.ndarray, np.ndarray]:
    """Seconds since 1970 (R,) float64 of wall-clock times as text, NaN for others; zoned (R,) bool.

    A time with a zone is brought to UTC, one without is taken as it stands.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    cells = pc.utf8_trim_whitespace(text_array(array))
    parts = pc.extract_regex(cells, CLOCK)
    good = np.asarray(parts.is_valid().to_numpy(zero_copy_only=False))
    values, zoned = np.full(len(array), np.nan), np.zeros(len(array), bool)
    if not good.any():
        return values, zoned
    chosen = parts.filter(pa.array(good))
    minute, second, zone = (chosen.field(name) for name in ("minute", "second", "zone"))
    seconds = pc.if_else(pc.equal(second, ""), "0", second).cast(pa.float64()).to_numpy()
    offset_s = _of_distinct(zone, _offset_s)
    # In whole microseconds, so that what a text says is rounded once.
    whole_us = _minutes_s(minute) * 1e6 + np.round(seconds * 1e6) - offset_s * 1e6
    values[good] = np.where(seconds < 60.0, whole_us, np.nan) / 1e6
    zoned[good] = pc.not_equal(zone, "").to_numpy(zero_copy_only=False)
    return values, zoned


def _minutes_s(minute: Any) -> np.ndarray:
    """(R,) float64, seconds since 1970 of texts such as 2017-10-09 06:13; NaN for no such day."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        whole_s = pc.binary_join_element_wise(minute, "00", ":").cast(pa.timestamp("s"))
        return np.asarray(whole_s.cast(pa.int64()).to_numpy()).astype(np.float64)
    except pa.ArrowInvalid:  # a 13th month somewhere
        return _of_distinct(minute, _minute_s)


def _minute_s(text: str) -> float:
    try:
        return float(np.datetime64(text, "s").astype(np.int64))
    except ValueError:
        return np.nan


def _offset_s(zone: str) -> float:
    """Seconds that a zone is ahead of UTC; 0 for none, NaN for one that does not exist."""
    digits = zone.strip().lstrip("+-").replace(":", "")
    hours, minutes = whole(digits[:2]), whole(digits[2:] or "0")
    if hours is None or minutes is None:  # Z, UTC, GMT
        return 0.0
    if hours > _MOST_OFFSET_H or minutes > 59:
        return np.nan
    return (-1.0 if "-" in zone else 1.0) * (3600.0 * hours + 60.0 * minutes)


def _of_distinct(texts: Any, of: Any) -> np.ndarray:
    """(R,) float64, `of` each text, called once for those that are alike."""
    coded = texts.dictionary_encode()
    found = np.array([of(text) for text in coded.dictionary.to_pylist()], dtype=np.float64)
    return np.asarray(found[coded.indices.to_numpy()])
