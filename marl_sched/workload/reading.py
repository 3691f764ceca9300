"""From a file to a `Table`: CSV, text separated by `|` (as `sacct -P` prints it), Parquet."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from marl_sched.errors import UserError
from marl_sched.workload.table import Table

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_table(path: Path) -> Table:
    """Read a CSV file, one separated by `|`, or a Parquet file by its suffix `.parquet`.

    Raises:
        UserError: for a file that is absent, empty, or no table.
    """
    if not path.exists():
        raise UserError(f"trace {path}: no such file")
    if path.is_dir():
        raise UserError(f"trace {path}: is a folder; give a file in it")
    if path.suffix.lower() == ".parquet":
        return _guarded(path, "Parquet", _read_parquet)
    return _guarded(path, "CSV text", _read_text)


def _guarded(path: Path, kind: str, read: Callable[[Path], Table]) -> Table:
    try:
        return read(path)
    except UserError:
        raise
    # Arrow's errors are ValueError, NotImplementedError and TypeError.
    except (OSError, ValueError, NotImplementedError, TypeError, csv.Error) as error:
        detail = " ".join(str(error).split())[:200]
        raise UserError(f"trace {path}: cannot be read as {kind}: {detail}") from None


def _read_text(path: Path) -> Table:
    data = path.read_bytes()
    if data.startswith(BYTE_ORDER_MARK):
        data = data[len(BYTE_ORDER_MARK) :]
    first = data[: max(data.find(b"\n"), 0)]
    separator = "|" if b"|" in first and b"," not in first else ","
    quoted = separator == ","
    table = _read_clean(path, data, separator, quoted)
    return table if table is not None else _read_any(path, data, separator, quoted)


def _read_clean(path: Path, data: bytes, separator: str, quoted: bool) -> Table | None:
    """The fast way, for text without quotes, blank lines and ragged lines; else None.

    There the i-th record is line i + 1, so that no line has to be looked at.
    """
    import pyarrow as pa
    from pyarrow import csv as pa_csv

    lone_return = data.count(b"\r") != data.count(b"\r\n")
    blank_line = data.startswith((b"\n", b"\r")) or b"\n\n" in data or b"\n\r\n" in data
    start = data.find(b"\n") + 1
    if (quoted and b'"' in data) or lone_return or blank_line or not 0 < start < len(data):
        return None
    header = [name.strip() for name in data[:start].decode("utf-8").split(separator)]
    _check_header(path, header)
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


def _read_any(path: Path, data: bytes, separator: str, quoted: bool) -> Table:
    """Line by line, with the line number of every record and ragged lines noted."""
    import io

    import pyarrow as pa

    text = io.StringIO(data.decode("utf-8"), newline="")
    if quoted:
        reader = csv.reader(text, delimiter=separator)
    else:
        reader = csv.reader(text, delimiter=separator, quoting=csv.QUOTE_NONE)
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
            wrong = f"{len(cells)} cells where the header has {len(header)}"
            ragged.append((reader.line_num, wrong))
    columns = zip(*rows, strict=True) if rows else [()] * len(header)
    arrays = {
        name: pa.array(column, pa.string()) for name, column in zip(header, columns, strict=True)
    }
    return Table(path, arrays, np.array(lines, dtype=np.int64), ragged=ragged)


def _check_header(path: Path, header: list[str]) -> None:
    if not any(header):
        raise UserError(f"trace {path}: is empty; give a file with a header line")
    repeated = [name for name, count in Counter(header).items() if count > 1]
    if repeated:
        raise UserError(f"trace {path}: row 1: column {repeated[0]!r} is there twice; remove one")


def _read_parquet(path: Path) -> Table:
    import pyarrow.parquet as pq

    found = pq.read_table(path, partitioning=None)
    # pandas keeps an index that is not 0, 1, .. as a column of this name.
    names = [name for name in found.column_names if not name.startswith("__index_level_")]
    _check_header(path, names)
    arrays = {name: _whole(found.column(name)) for name in names}
    return Table(path, arrays, np.arange(1, found.num_rows + 1))


def _whole(column: object) -> object:
    """One array of a chunked column, dictionaries resolved."""
    import pyarrow as pa

    array = column.combine_chunks()  # type: ignore[attr-defined]
    if isinstance(array, pa.ChunkedArray):  # no chunk, or more than one array can hold
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
