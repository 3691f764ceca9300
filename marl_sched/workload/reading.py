"""From a file to a `Table`: CSV, text separated by `|` (as `sacct -P` prints it), Parquet."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from marl_sched.errors import UserError, in_words, quoted
from marl_sched.files import check_readable, read_bytes
from marl_sched.quantities import MOST_JOBS
from marl_sched.workload.foreign import content_problem
from marl_sched.workload.table import Table

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

PARQUET = b"PAR1"
"""First bytes of a Parquet file."""

MOST_COLUMNS = 10_000

MOST_VALUES = 500_000_000
"""Of a Parquet file: a few bytes there may stand for many that are alike."""

MOST_CELLS = 2 << 30
"""Bytes that the columns of a Parquet file may take once they are unpacked."""


def read_table(path: Path, what: str = "trace") -> Table:
    """Read a CSV file, one separated by `|`, or a Parquet file by its suffix `.parquet`.

    Args:
        what: the file is to be, for messages.

    Raises:
        UserError: for a file that is absent, empty, too large, or no table.
    """
    if path.suffix.lower() == ".parquet":
        check_readable(path, what)
        table = _guarded(f"{what} {path}", "Parquet", lambda: _read_parquet(path))
    else:
        data = read_bytes(path, what)
        table = _guarded(f"{what} {path}", "CSV text", lambda: _read_text(path, data))
    table.what = what
    return table


def _guarded(where: str, kind: str, read: Callable[[], Table]) -> Table:
    """What `read` gives; whatever it raises as one line that says where."""
    import pyarrow as pa

    try:
        return read()
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    # Arrow's errors are also ValueError, NotImplementedError, TypeError, KeyError and the like.
    except (OSError, ValueError, TypeError, csv.Error, pa.ArrowException, MemoryError) as error:
        raise UserError(
            f"{where}: cannot be read as {kind}: {in_words(error)}; give an undamaged CSV or "
            "Parquet file"
        ) from None


def _read_text(path: Path, data: bytes) -> Table:
    if data.startswith(PARQUET):
        raise UserError("is a Parquet file; let its name end in .parquet")
    if data.startswith(BYTE_ORDER_MARK):
        data = data[len(BYTE_ORDER_MARK) :]
    problem = content_problem(data)
    if problem is not None:
        raise UserError(problem)
    first = data[: max(data.find(b"\n"), 0)]
    separator = "|" if b"|" in first and b"," not in first else ","
    quotes = separator == ","
    table = _read_clean(path, data, separator, quotes)
    return table if table is not None else _read_any(path, data, separator, quotes)


def _read_clean(path: Path, data: bytes, separator: str, quotes: bool) -> Table | None:
    """The fast way, for text without quotes, blank lines and ragged lines; else None.

    There the i-th record is line i + 1, so that no line has to be looked at.
    """
    import pyarrow as pa
    from pyarrow import csv as pa_csv

    lone_return = data.count(b"\r") != data.count(b"\r\n")
    blank_line = data.startswith((b"\n", b"\r")) or b"\n\n" in data or b"\n\r\n" in data
    start = data.find(b"\n") + 1
    if (quotes and b'"' in data) or lone_return or blank_line or not 0 < start < len(data):
        return None
    header = [name.strip() for name in data[:start].decode("utf-8").split(separator)]
    _check_header(header)
    try:
        found = pa_csv.read_csv(
            pa.BufferReader(pa.py_buffer(data).slice(start)),
            read_options=pa_csv.ReadOptions(column_names=header, use_threads=False),
            parse_options=pa_csv.ParseOptions(delimiter=separator, quote_char=False),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid:
        return None
    arrays = {name: _whole(found.column(i)) for i, name in enumerate(header)}
    return Table(path, arrays, np.arange(2, found.num_rows + 2))


def _read_any(path: Path, data: bytes, separator: str, quotes: bool) -> Table:
    """Line by line, with the line number of every record and ragged lines noted."""
    import io

    import pyarrow as pa

    text = io.StringIO(data.decode("utf-8"), newline="")
    if quotes:
        reader = csv.reader(text, delimiter=separator)
    else:
        reader = csv.reader(text, delimiter=separator, quoting=csv.QUOTE_NONE)
    header = [name.strip() for name in next(reader, [])]
    _check_header(header)
    rows: list[list[str]] = []
    lines: list[int] = []
    ragged: list[tuple[int, str]] = []
    for cells in reader:
        if len(cells) == len(header):
            rows.append(cells)
            lines.append(reader.line_num)
        elif cells:  # a blank line is no job
            wrong = f"{len(cells)} cells where the header has {len(header)}"
            ragged.append((reader.line_num, wrong))
    columns = zip(*rows, strict=True) if rows else [()] * len(header)
    arrays = {
        name: pa.array(column, pa.string()) for name, column in zip(header, columns, strict=True)
    }
    return Table(path, arrays, np.array(lines, dtype=np.int64), ragged=ragged)


def _check_header(header: list[str]) -> None:
    if not any(header):
        raise UserError("is empty; give a file with a header line")
    if len(header) > MOST_COLUMNS:
        raise UserError(f"has {len(header):,} columns; at most {MOST_COLUMNS:,} are read")
    repeated = [name for name, count in Counter(header).items() if count > 1]
    if repeated:
        raise UserError(f"row 1: column {quoted(repeated[0])} is there twice; remove one")


def _read_parquet(path: Path) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        about = file.metadata
        if about.num_rows > MOST_JOBS:
            raise UserError(f"has {about.num_rows:,} rows; at most {MOST_JOBS:,} are read")
        # More than a value for each row and column where cells are lists.
        groups = [about.row_group(i) for i in range(about.num_row_groups)]
        values = sum(g.column(i).num_values for g in groups for i in range(g.num_columns))
        if values > MOST_VALUES:
            raise UserError(f"has {values:,} values; at most {MOST_VALUES:,} are read")
        # pandas keeps an index that is not 0, 1, .. as a column of this name.
        names = [name for name in file.schema_arrow.names if not name.startswith("__index_level_")]
        _check_header(names)
        # Texts that are alike lie in the file once; unpacked they may be more than fits.
        texts = [one.name for one in file.schema_arrow if pa.types.is_string(one.type)]
    found = pq.read_table(path, partitioning=None, columns=names, read_dictionary=texts)
    found.validate(full=True)
    _check_unpacked(found)
    arrays = {name: _whole(found.column(name)) for name in names}
    return Table(path, arrays, np.arange(1, found.num_rows + 1))


def _check_unpacked(found: Any) -> None:
    """Refuse a table whose columns of text would take too much memory."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for name in found.column_names:
        total = 0
        for chunk in found.column(name).chunks:
            if pa.types.is_dictionary(chunk.type) and pa.types.is_string(chunk.type.value_type):
                sizes = pc.binary_length(chunk.dictionary).take(chunk.indices)
                total += pc.sum(sizes.cast(pa.int64())).as_py() or 0
        if total > MOST_CELLS:
            raise UserError(
                f"column {quoted(name)} unpacks to {total >> 20:,} MiB of text; at most "
                f"{MOST_CELLS >> 20:,} are read"
            )


def _whole(column: object) -> object:
    """One array of a chunked column, dictionaries resolved."""
    import pyarrow as pa

    array = column.combine_chunks()  # type: ignore[attr-defined]
    if isinstance(array, pa.ChunkedArray):  # no chunk, or more than one array can hold
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
