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

from marl_sched.errors import UserError, quoted
from marl_sched.quantities import LATEST, LONGEST_S, MOST, MOST_COUNT
from marl_sched.workload import cells

MEND = "correct it, or pass --skip-bad-rows to drop such rows and count them"

UNIT_S = {"s": 1.0, "ms": 1e-3, "min": 60.0}
"""Seconds in the units in which a format may count."""

LEAST_AMOUNT = 1e-6
"""No amount that is not 0 is smaller."""

_BLOCK = 65_536

_TRUE, _FALSE = ("true", "1", "1.0", "yes"), ("false", "0", "0.0", "no")


class Cells(Mapping[str, list[str]]):
    """Columns by name as lists of text, each made when it is asked for."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def __getitem__(self, name: str) -> list[str]:
        found: list[str] = cells.text_array(self._table.array(name)).to_pylist()
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._table.arrays

    def __iter__(self) -> Iterator[str]:
        return iter(self._table.arrays)

    def __len__(self) -> int:
        return len(self._table.arrays)


@dataclass
class Table:
    """Cells of a trace file and the problems found so far; R rows."""

    path: Path
    arrays: dict[str, Any]
    """Arrow array (R,) by column: text from CSV, any type from Parquet; null is an empty cell."""
    row: np.ndarray
    """(R,) int64, 1-based line in the file (the header is line 1); record number in Parquet."""
    problems: list[tuple[int, str, str, str | None]] = field(default_factory=list)
    """(index of the row, column, reason that is counted, text that is shown; None: the cell and
    the reason)."""
    ragged: list[tuple[int, str]] = field(default_factory=list)
    """(row, what is wrong) of lines that do not have the header's number of cells."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Rows that by their nature are no job of this project: reason -> count."""
    what: str = "trace"
    """What the file is, for messages."""
    zoned: bool | None = None
    """Whether the times of the file have a zone; the first of them decides."""

    def __len__(self) -> int:
        return len(self.row)

    @property
    def columns(self) -> Cells:
        """Cells as text by column, in the order of the file."""
        return Cells(self)

    @property
    def where(self) -> str:
        """The file, for messages."""
        return f"{self.what} {self.path}"

    def array(self, column: str) -> Any:
        """The Arrow array of a column: text, numbers, truth values, times, or lists of text.

        Raises:
            UserError: for a column of Parquet that holds anything else.
        """
        plain = cells.plain_array(self.arrays[column])
        if plain is None:
            kind = quoted(str(self.arrays[column].type))
            raise UserError(
                f"{self.where}: column {quoted(column)} is of type {kind}, which holds no such "
                "thing; write it as numbers or text"
            )
        self.arrays[column] = plain
        return plain

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
        one = self.array(column).slice(index, 1)
        if cells.kind_of(one) == "list":
            return str(one[0].as_py())
        text: str = cells.text_array(one)[0].as_py()
        return text.strip()

    def refuse(self, mask: np.ndarray, column: str, reason: str) -> None:
        """Note that rows where `mask` (R,) is True cannot be used."""
        self.problems += [(index, column, reason, None) for index in np.flatnonzero(mask).tolist()]

    def numbers(
        self,
        column: str,
        empty: float | None = None,
        least: float = -np.inf,
        most: float = np.inf,
        unit: str | None = None,
    ) -> np.ndarray:
        """(R,) float64, finite and in [least, most], of a column.

        Cells that are no such number become NaN and are refused.

        Args:
            empty: stands for an empty cell; None refuses it.
            unit: of `UNIT_S`, of a length of time, which Parquet may state in a unit of its own;
                None for anything else.
        """
        array = self.array(column)
        self._refuse_kind(column, "" if unit is None else "length of time")
        values, blank, bad_text = cells.numbers(array, 1.0 if unit is None else UNIT_S[unit])
        if empty is None:
            bad_text = bad_text | blank
        self.refuse(bad_text, column, "not a number")
        self.refuse(~np.isfinite(values) & ~bad_text & ~blank, column, "not a finite number")
        self.refuse(np.isfinite(values) & (values > most), column, f"beyond {most:.0e}")
        self.refuse(np.isfinite(values) & (values < least), column, f"below {least:.0e}")
        values[~(np.isfinite(values) & (values >= least) & (values <= most))] = np.nan
        if empty is not None:
            # An allowed default may itself be infinite: set after the check above.
            values[blank] = empty
        return values

    def times(self, column: str, unit: str = "s", empty: float | None = None) -> np.ndarray:
        """(R,) float64 of a column, points in time from any origin, in `unit`.

        Points in time of Parquet are counted from 1970, lengths of time from any origin.
        """
        array = self.array(column)
        if cells.kind_of(array) == "point in time":
            return self._moments(column, array, UNIT_S[unit], empty)
        return self.numbers(column, empty, -LATEST, LATEST, unit)

    def _moments(
        self, column: str, array: Any, unit_s: float, empty: float | None = None
    ) -> np.ndarray:
        """(R,) float64 of a column of points in time, checked against the others' zone."""
        values, blank, _ = cells.numbers(array, unit_s)
        zoned = np.full(len(self), array.type.tz is not None)
        values[self._other_zone(column, zoned, ~blank, refuse=True)] = np.nan
        if empty is None:
            self.refuse(blank, column, "not a date and time")
        else:
            values[blank] = empty
        return values

    def _other_zone(
        self, column: str, zoned: np.ndarray, given: np.ndarray, refuse: bool
    ) -> np.ndarray:
        """(R,) bool, times `given` that have a zone where the first has none, or the reverse."""
        if self.zoned is None and given.any():
            self.zoned = bool(zoned[np.argmax(given)])
        other = given & (zoned != self.zoned)
        if refuse:
            how = "without a zone, while others have" if self.zoned else "with a zone, as no other"
            self.refuse(other, column, f"a time {how} one; write all in one way")
        return np.asarray(other)

    def _refuse_kind(self, column: str, but: str) -> None:
        """Refuse a whole column of times, but of one kind, where it is to hold something else."""
        kind = cells.kind_of(self.array(column))
        if kind in ("point in time", "length of time") and kind != but:
            raise UserError(
                f"{self.where}: column {quoted(column)} holds in each row a {kind} "
                f"({self.array(column).type}), which it must not; write {but or 'number'}s there"
            )

    def positive(self, column: str, unit: str | None = None) -> np.ndarray:
        """(R,) float64 > 0 of a column, a count, or a length of time in `unit`."""
        most = LONGEST_S if unit is None else LONGEST_S / UNIT_S[unit]
        values = self.numbers(column, most=most, unit=unit)
        self.refuse(values <= 0, column, "not positive")
        return values

    def not_negative(
        self, column: str, empty: float, most: float = MOST, unit: str | None = None
    ) -> np.ndarray:
        """(R,) float64 in [0, most] of a column; `empty` stands for an empty cell."""
        values = self.numbers(column, empty, most=most, unit=unit)
        self.refuse(values < 0, column, "negative")
        tiny = (values > 0) & (values < LEAST_AMOUNT)
        self.refuse(tiny, column, f"neither 0 nor at least {LEAST_AMOUNT:.0e}")
        return values

    def counts(
        self, column: str, empty: int | None = None, least: int = 1, most: int = MOST_COUNT
    ) -> np.ndarray:
        """(R,) int64 in [least, most] of a column, `least` if refused; `empty` as in `numbers`."""
        nothing = None if empty is None else np.nan
        values = self.numbers(column, nothing)
        given = ~np.isnan(values)
        bad = given & ((values < least) | (values != np.floor(values)) | (values > most))
        limits = f"of at least {least}" if most == MOST_COUNT else f"from {least} to {most}"
        self.refuse(bad, column, f"not a whole number {limits}")
        whole = np.where(given & ~bad, values, least).astype(np.int64)
        if empty is not None:
            whole[cells.blank(self.array(column))] = empty
        return np.asarray(whole)

    def texts(self, column: str) -> np.ndarray:
        """(R,) object, str of a column without surrounding blanks; equal cells share one str."""
        import pyarrow.compute as pc

        coded = pc.utf8_trim_whitespace(self._text(column)).dictionary_encode()
        names = np.empty(len(coded.dictionary), dtype=object)
        names[:] = coded.dictionary.to_pylist()
        return np.asarray(names[coded.indices.to_numpy()])

    def names(self, column: str) -> np.ndarray:
        """(R,) StringDType of a column without surrounding blanks: for texts that differ."""
        import pyarrow.compute as pc

        trimmed = pc.utf8_trim_whitespace(self._text(column))
        result = np.empty(len(self), dtype=np.dtypes.StringDType())
        for lo in range(0, len(self), _BLOCK):  # never a Python str for every row at once
            result[lo : lo + _BLOCK] = trimmed.slice(lo, _BLOCK).to_pylist()
        return result

    def _text(self, column: str) -> Any:
        array = self.array(column)
        if cells.kind_of(array) == "list":
            raise UserError(
                f"{self.where}: column {quoted(column)} holds lists ({array.type}), which it must "
                "not; write text"
            )
        return cells.text_array(array)

    def lists(self, column: str) -> list[list[str]]:
        """Names in each cell, R lists: separated by blanks, or a list of Parquet."""
        array = self.array(column)
        if cells.kind_of(array) != "list":
            return [cell.split() for cell in cells.text_array(array).to_pylist()]
        return [
            [name.strip() for name in names or () if name is not None and name.strip()]
            for names in array.to_pylist()
        ]

    def words(self, column: str) -> np.ndarray:
        """(R,) object, str: as `lists`, the names separated by blanks."""
        if cells.kind_of(self.array(column)) != "list":
            return self.texts(column)
        found = np.empty(len(self), dtype=object)
        found[:] = [" ".join(names) for names in self.lists(column)]
        return found

    def values(self, column: str, unit: str | None = None) -> np.ndarray:
        """(R,) float64 of a column, NaN for what is no number; nothing is refused."""
        array = self.array(column)
        self._refuse_kind(column, "" if unit is None else "length of time")
        return cells.numbers(array, 1.0 if unit is None else UNIT_S[unit])[0]

    def clock_s(self, column: str) -> np.ndarray:
        """(R,) float64, seconds since 1970 of wall-clock times such as 2017-10-09 06:13:03.

        Times with a zone are brought to UTC; those without are taken as they stand. One file must
        not mix them.
        """
        values = self.moments_s(column, refuse=True)
        noted = np.zeros(len(self), bool)
        noted[[index for index, name, *_ in self.problems if name == column]] = True
        wrong = np.isnan(values) & ~noted
        self.refuse(wrong, column, f"not a date and time {cells.CLOCK_EXAMPLES}")
        return values

    def moments_s(self, column: str, refuse: bool = False) -> np.ndarray:
        """As `clock_s`, NaN for what is no time; nothing is refused unless `refuse`."""
        array = self.array(column)
        self._refuse_kind(column, "point in time")
        if cells.kind_of(array) == "point in time":
            values, blank, _ = cells.numbers(array, 1.0)
            zoned = np.full(len(self), array.type.tz is not None)
        else:
            values, zoned = cells.moments_s(self._text(column))
        values[self._other_zone(column, zoned, ~np.isnan(values), refuse)] = np.nan
        return values

    def truth(self, column: str) -> np.ndarray:
        """(R,) int64, 1 true, 0 false, -1 empty."""
        known = {**dict.fromkeys(_TRUE, 1), **dict.fromkeys(_FALSE, 0), "": -1}
        texts = self.texts(column).tolist()
        values = np.array([known.get(text.lower(), -2) for text in texts], dtype=np.int64)
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
        found = self.first_problem()
        if found:
            raise UserError(f"{self.where}: {found}; {mend}")

    def first_problem(self) -> str:
        """Row, column and cell of the first problem by row; "" where there is none."""
        lines = min(self.ragged, default=None)
        cell = min(self.problems, key=lambda problem: problem[0], default=None)
        if cell is not None and (lines is None or self.row[cell[0]] <= lines[0]):
            index, column, reason, text = cell
            if text is None:
                shown = self.cell(index, column)
                text = f"{quoted(shown) if shown else 'empty cell'} is {reason}"
            return f"row {self.row[index]}, column {quoted(column)}: {text}"
        return "" if lines is None else f"row {lines[0]}: {lines[1]}"
