"""Strict cells of a trace file by column, and a list of what is wrong with them.

A cell that cannot be used is never guessed at: the file is refused with the row and column of the
first one, or, with `skip_bad_rows`, its row is dropped and counted. Columns are Arrow arrays and
are read whole; single cells are looked at only where a column as a whole does not parse.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from marl_sched.errors import UserError

LATEST, LONGEST = 1e13, 1e10
"""No time is later (milliseconds since 1970 are less) and no run time longer: a simulation would
never get to its end."""

MEND = "correct it, or pass --skip-bad-rows to drop such rows and count them"

CLOCK = r"^\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d{1,6})?)?$"
"""Wall-clock times that are read."""

_BLOCK = 65_536

_TRUE, _FALSE = ("true", "1", "1.0", "yes"), ("false", "0", "0.0", "no")


class Cells(Mapping[str, list[str]]):
    """Columns by name as lists of text, each made when it is asked for."""

    def __init__(self, arrays: dict[str, Any]) -> None:
        self._arrays = arrays

    def __getitem__(self, name: str) -> list[str]:
        cells: list[str] = text_array(self._arrays[name]).to_pylist()
        return cells

    def __contains__(self, name: object) -> bool:
        return name in self._arrays

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


@dataclass
class Table:
    """Cells of a trace file and the problems found so far; R rows."""

    path: Path
    arrays: dict[str, Any]
    """Arrow array (R,) by column: text from CSV, any type from Parquet; null is an empty cell."""
    row: np.ndarray
    """(R,) int64, 1-based line in the file (the header is line 1); record number in Parquet."""
    problems: list[tuple[int, str, str, str]] = field(default_factory=list)
    """(index of the row, column, reason that is counted, text that is shown)."""
    ragged: list[tuple[int, str]] = field(default_factory=list)
    """(row, what is wrong) of lines that do not have the header's number of cells."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Rows that by their nature are no job of this project: reason -> count."""

    def __len__(self) -> int:
        return len(self.row)

    @property
    def columns(self) -> Cells:
        """Cells as text by column, in the order of the file."""
        return Cells(self.arrays)

    def keep(self, mask: np.ndarray, reason: str) -> None:
        """Leave out rows where `mask` (R,) is False, counted under `reason`; before any parsing."""
        gone = int((~mask).sum())
        if gone:
            self.left_out[reason] = self.left_out.get(reason, 0) + gone
            self.arrays = {name: array.filter(mask) for name, array in self.arrays.items()}
            self.row = self.row[mask]

    def cell(self, index: int, column: str) -> str:
        """One cell as text without surrounding blanks; "" where there is no such column."""
        if column not in self.arrays:
            return ""
        text: str = text_array(self.arrays[column].slice(index, 1))[0].as_py()
        return text.strip()

    def refuse(self, mask: np.ndarray, column: str, reason: str) -> None:
        """Note that rows where `mask` (R,) is True cannot be used."""
        for index in np.flatnonzero(mask).tolist():
            cell = self.cell(index, column)
            shown = f"{cell!r} is {reason}" if cell else f"empty cell is {reason}"
            self.problems.append((index, column, reason, shown))

    def numbers(self, column: str, empty: float | None = None) -> np.ndarray:
        """(R,) float64 of a column; `empty` stands for an empty cell, None refuses it.

        Cells that are no finite number become NaN and are refused.
        """
        values, blank, bad_text = _numbers(self.arrays[column])
        if empty is None:
            bad_text = bad_text | blank
        self.refuse(bad_text, column, "not a number")
        self.refuse(~np.isfinite(values) & ~bad_text & ~blank, column, "not a finite number")
        values[~np.isfinite(values)] = np.nan
        if empty is not None:
            # An allowed default may itself be infinite: set after the check above.
            values[blank] = empty
        return values

    def times(self, column: str) -> np.ndarray:
        """(R,) float64 of a column, points in time from any origin, in any unit."""
        values = self.numbers(column)
        self.refuse(np.abs(values) > LATEST, column, f"beyond {LATEST:.0e}")
        return values

    def positive(self, column: str) -> np.ndarray:
        """(R,) float64 > 0 of a column, a length of time or a count."""
        values = self.numbers(column)
        self.refuse(values <= 0, column, "not positive")
        self.refuse(values > LONGEST, column, f"beyond {LONGEST:.0e}")
        return values

    def not_negative(self, column: str, empty: float) -> np.ndarray:
        """(R,) float64 >= 0 of a column; `empty` stands for an empty cell."""
        values = self.numbers(column, empty)
        self.refuse(values < 0, column, "negative")
        return values

    def counts(
        self, column: str, empty: int | None = None, least: int = 1, most: int = 1_000_000_000
    ) -> np.ndarray:
        """(R,) int64 in [least, most] of a column, `least` if refused; `empty` as in `numbers`."""
        values = self.numbers(column, empty=None if empty is None else np.nan)
        given = ~np.isnan(values)
        bad = given & ((values < least) | (values != np.floor(values)) | (values > most))
        limits = f"of at least {least}" if most == 1_000_000_000 else f"from {least} to {most}"
        self.refuse(bad, column, f"not a whole number {limits}")
        whole = np.where(given & ~bad, values, least).astype(np.int64)
        if empty is not None:
            whole[_blank(self.arrays[column])] = empty
        return np.asarray(whole)

    def texts(self, column: str) -> np.ndarray:
        """(R,) object, str of a column without surrounding blanks; equal cells share one str."""
        import pyarrow.compute as pc

        coded = pc.utf8_trim_whitespace(text_array(self.arrays[column])).dictionary_encode()
        names = np.empty(len(coded.dictionary), dtype=object)
        names[:] = coded.dictionary.to_pylist()
        return np.asarray(names[coded.indices.to_numpy()])

    def names(self, column: str) -> np.ndarray:
        """(R,) StringDType of a column without surrounding blanks: for texts that differ."""
        import pyarrow.compute as pc

        trimmed = pc.utf8_trim_whitespace(text_array(self.arrays[column]))
        result = np.empty(len(self), dtype=np.dtypes.StringDType())
        for lo in range(0, len(self), _BLOCK):  # never a Python str for every row at once
            result[lo : lo + _BLOCK] = trimmed.slice(lo, _BLOCK).to_pylist()
        return result

    def values(self, column: str) -> np.ndarray:
        """(R,) float64 of a column, NaN for what is no number; nothing is refused."""
        return _numbers(self.arrays[column])[0]

    def clock_s(self, column: str) -> np.ndarray:
        """(R,) float64, seconds since 1970 of wall-clock times such as 2017-10-09 06:13:03."""
        values = self.moments_s(column)
        self.refuse(np.isnan(values), column, "not a date and time like 2017-10-09 06:13:03")
        return values

    def moments_s(self, column: str) -> np.ndarray:
        """As `clock_s`, NaN for what is no time; nothing is refused."""
        import pyarrow as pa
        import pyarrow.compute as pc

        cells = pc.utf8_trim_whitespace(text_array(self.arrays[column]))
        good = pc.match_substring_regex(cells, CLOCK).to_numpy(zero_copy_only=False).astype(bool)
        values = np.full(len(self), np.nan)
        try:
            chosen = cells.filter(pa.array(good)).cast(pa.timestamp("us")).cast(pa.int64())
            values[good] = chosen.to_numpy() / 1e6
        except pa.ArrowInvalid:  # a 13th month somewhere
            for index in np.flatnonzero(good).tolist():
                try:
                    cell = np.datetime64(cells[index].as_py(), "us")
                except ValueError:
                    continue
                values[index] = cell.astype(np.int64) / 1e6
        return values

    def truth(self, column: str) -> np.ndarray:
        """(R,) int64, 1 true, 0 false, -1 empty."""
        known = {**dict.fromkeys(_TRUE, 1), **dict.fromkeys(_FALSE, 0), "": -1}
        cells = self.texts(column).tolist()
        values = np.array([known.get(cell.lower(), -2) for cell in cells], dtype=np.int64)
        self.refuse(values == -2, column, "neither true nor false")
        return values

    def usable(self, skip_bad_rows: bool) -> tuple[np.ndarray, dict[str, int]]:
        """(R,) bool, rows without a problem, and the count of the others by reason.

        Raises:
            UserError: for the first problem by row, unless rows may be skipped.
        """
        if not skip_bad_rows:
            self._raise_first(MEND)
        keep = np.ones(len(self), bool)
        counts: Counter[str] = Counter(self.left_out)
        if self.ragged:
            counts["wrong number of cells"] = len(self.ragged)
        for index, column, reason, _ in sorted(self.problems, key=lambda problem: problem[0]):
            if keep[index]:
                keep[index] = False
                counts[f"{column}: {reason}"] += 1
        return keep, dict(counts)

    def check(self) -> None:
        """Refuse the first problem by row, where no row may be skipped.

        Raises:
            UserError: naming row, column and cell.
        """
        self._raise_first("correct it")

    def _raise_first(self, mend: str) -> None:
        found = [(row, "", text) for row, text in self.ragged]
        found += [(int(self.row[i]), f", column {name!r}", t) for i, name, _, t in self.problems]
        if found:
            row, column, text = min(found, key=lambda problem: problem[0])
            raise UserError(f"trace {self.path}: row {row}{column}: {text}; {mend}")


def text_array(array: Any) -> Any:
    """An Arrow array as text, null as ""."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_string(array.type):
        array = array.cast(pa.string())
    return pc.fill_null(array, "") if array.null_count else array


def _blank(array: Any) -> np.ndarray:
    """(R,) bool, True at empty cells; a NaN in a column of numbers is one too."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_floating(array.type):
        return np.asarray(array.is_null(nan_is_null=True).to_numpy(zero_copy_only=False))
    trimmed = pc.utf8_trim_whitespace(text_array(array))
    return np.asarray(pc.equal(trimmed, "").to_numpy(zero_copy_only=False))


def _numbers(array: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values (R,) float64, NaN where there is none; empty cells; cells that are no number."""
    import pyarrow as pa
    import pyarrow.compute as pc

    bad = np.zeros(len(array), bool)
    if pa.types.is_string(array.type) and not array.null_count:
        try:  # a clean column, as most are; no blank passes
            return array.cast(pa.float64()).to_numpy().copy(), bad, bad.copy()
        except pa.ArrowInvalid:
            pass
    blank = _blank(array)
    if pa.types.is_floating(array.type) or pa.types.is_integer(array.type):
        values = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return values.astype(np.float64), blank, bad
    texts = pc.utf8_trim_whitespace(text_array(array))
    try:
        given = pc.if_else(pa.array(blank), pa.scalar(None, pa.string()), texts)
        values = given.cast(pa.float64()).to_numpy(zero_copy_only=False)
        return values.astype(np.float64), blank, bad
    except pa.ArrowInvalid:
        pass
    values = np.full(len(array), np.nan)
    for index, cell in enumerate(texts.to_pylist()):
        try:
            values[index] = float(cell) if cell else np.nan
        except ValueError:
            bad[index] = True
    return values, blank, bad
