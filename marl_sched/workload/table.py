"""Strict reading of a trace file: cells by column, and a list of what is wrong with them.

A cell that cannot be used is never guessed at: the file is refused with the row and column of the
first one, or, with `skip_bad_rows`, its row is dropped and counted.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from marl_sched.errors import UserError

MEND = "correct it, or pass --skip-bad-rows to drop such rows and count them"


@dataclass
class Table:
    """Cells of a trace file, as text, and the problems found so far; R rows."""

    path: Path
    columns: dict[str, list[str]]
    row: np.ndarray
    """(R,) int64, 1-based line in the file (the header is line 1); record number in Parquet."""
    problems: list[tuple[int, str, str, str]] = field(default_factory=list)
    """(index of the row, column, reason that is counted, text that is shown)."""
    ragged: list[tuple[int, str]] = field(default_factory=list)
    """(row, what is wrong) of lines that do not have the header's number of cells."""

    def __len__(self) -> int:
        return len(self.row)

    def refuse(self, mask: np.ndarray, column: str, reason: str) -> None:
        """Note that rows where `mask` (R,) is True cannot be used."""
        for index in np.flatnonzero(mask).tolist():
            cell = self.columns[column][index].strip() if column in self.columns else ""
            shown = f"{cell!r} is {reason}" if cell else f"empty cell is {reason}"
            self.problems.append((index, column, reason, shown))

    def numbers(self, column: str, empty: float | None = None) -> np.ndarray:
        """(R,) float64 of a column; `empty` stands for an empty cell, None refuses it.

        Cells that are no finite number become NaN and are refused.
        """
        cells = self.columns[column]
        try:
            values = np.array(cells, dtype=np.str_).astype(np.float64)
            bad_text = np.zeros(len(cells), bool)
        except ValueError:
            values, bad_text = _parse(cells, empty)
        self.refuse(bad_text, column, "not a number")
        self.refuse(~np.isfinite(values) & ~bad_text, column, "not a finite number")
        values[~np.isfinite(values)] = np.nan
        if empty is not None:
            # An allowed default may itself be infinite: set after the check above.
            values[np.array([not cell.strip() for cell in cells], dtype=bool)] = empty
        return values

    def positive(self, column: str) -> np.ndarray:
        """(R,) float64 > 0 of a column."""
        values = self.numbers(column)
        self.refuse(values <= 0, column, "not positive")
        return values

    def counts(self, column: str, empty: int | None = None) -> np.ndarray:
        """(R,) int64 >= 1 of a column; `empty` as in `numbers`. 1 where refused."""
        values = self.numbers(column, None if empty is None else float(empty))
        given = np.isfinite(values) & (values != (np.nan if empty is None else empty))
        bad = given & ((values < 1) | (values != np.floor(values)) | (values > 1e9))
        self.refuse(bad, column, "not a whole number of at least 1")
        return np.asarray(np.where(bad | np.isnan(values), 1.0, values).astype(np.int64))

    def texts(self, column: str) -> np.ndarray:
        """(R,) object, str of a column without surrounding blanks."""
        result = np.empty(len(self), dtype=object)
        result[:] = [cell.strip() for cell in self.columns[column]]
        return result

    def usable(self, skip_bad_rows: bool) -> tuple[np.ndarray, dict[str, int]]:
        """(R,) bool, rows without a problem, and the count of the others by reason.

        Raises:
            UserError: for the first problem by row, unless rows may be skipped.
        """
        if not skip_bad_rows:
            self._raise_first()
        keep = np.ones(len(self), bool)
        counts: Counter[str] = Counter()
        if self.ragged:
            counts["wrong number of cells"] = len(self.ragged)
        for index, column, reason, _ in sorted(self.problems, key=lambda problem: problem[0]):
            if keep[index]:
                keep[index] = False
                counts[f"{column}: {reason}"] += 1
        return keep, dict(counts)

    def _raise_first(self) -> None:
        found = [(row, "", text) for row, text in self.ragged]
        found += [(int(self.row[i]), f", column {name!r}", t) for i, name, _, t in self.problems]
        if found:
            row, column, text = min(found, key=lambda problem: problem[0])
            raise UserError(f"trace {self.path}: row {row}{column}: {text}; {MEND}")


def _parse(cells: list[str], empty: float | None) -> tuple[np.ndarray, np.ndarray]:
    values, bad = np.full(len(cells), np.nan), np.zeros(len(cells), bool)
    for index, cell in enumerate(cells):
        if empty is not None and not cell.strip():
            values[index] = 0.0
            continue
        try:
            values[index] = float(cell)
        except ValueError:
            bad[index] = True
    return values, bad


def read_table(path: Path) -> Table:
    """Read a CSV file, or a Parquet file by its suffix `.parquet`.

    Raises:
        UserError: for a file that is absent, empty, or no table.
    """
    if not path.exists():
        raise UserError(f"trace {path}: no such file")
    if path.is_dir():
        raise UserError(f"trace {path}: is a folder; give a file in it")
    if path.suffix.lower() == ".parquet":
        return _read_parquet(path)
    return _guarded(path, "CSV text", _read_csv)


def _guarded(path: Path, kind: str, read: Callable[[Path], Table]) -> Table:
    try:
        return read(path)
    except UserError:
        raise
    except (OSError, ValueError, csv.Error) as error:
        detail = " ".join(str(error).split())[:200]
        raise UserError(f"trace {path}: cannot be read as {kind}: {detail}") from None


def _read_csv(path: Path) -> Table:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        header = [name.strip() for name in next(reader, [])]
        _check_header(path, header)
        rows: list[list[str]] = []
        lines: list[int] = []
        ragged: list[tuple[int, str]] = []
        for cells in reader:
            if len(cells) == len(header):
                rows.append(cells)
                lines.append(reader.line_num)
            elif cells:  # a blank line is no job
                text = f"{len(cells)} cells where the header has {len(header)}"
                ragged.append((reader.line_num, text))
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in header]
    cells_by_name = dict(zip(header, columns, strict=True))
    return Table(path, cells_by_name, np.array(lines, dtype=np.int64), ragged=ragged)


def _check_header(path: Path, header: list[str]) -> None:
    if not any(header):
        raise UserError(f"trace {path}: is empty; give a file with a header line")
    repeated = [name for name, count in Counter(header).items() if count > 1]
    if repeated:
        raise UserError(f"trace {path}: row 1: column {repeated[0]!r} is there twice; remove one")


def _read_parquet(path: Path) -> Table:
    import pandas as pd

    def read(file: Path) -> Table:
        frame = pd.read_parquet(file)
        frame = frame.astype(object).where(frame.notna(), None)
        columns = {str(name): [_text(cell) for cell in frame[name]] for name in frame.columns}
        _check_header(file, list(columns))
        return Table(file, columns, np.arange(1, len(frame) + 1))

    return _guarded(path, "Parquet", read)


def _text(cell: Any) -> str:
    # repr keeps every digit of a float; a missing value is an empty cell.
    if cell is None:
        return ""
    return repr(float(cell)) if isinstance(cell, float) else str(cell)
