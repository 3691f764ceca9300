"""The fast and the careful reading of a file agree; cells, rows and memory."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from marl_sched.errors import UserError
from marl_sched.workload import reading
from marl_sched.workload.reading import read_table

TEXT = "a,b\n1, x \n2.5,é\n-3e2,\n"


def test_both_ways_read_the_same(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(TEXT, encoding="utf-8")
    data = path.read_bytes()
    fast = reading._read_clean(path, data, ",", True)
    careful = reading._read_any(path, data, ",", True)
    assert fast is not None
    for table in (fast, careful):
        assert table.row.tolist() == [2, 3, 4]
        assert table.columns["b"] == [" x ", "é", ""]
        assert table.texts("b").tolist() == ["x", "é", ""]
        assert table.numbers("a").tolist() == [1.0, 2.5, -300.0]
        assert not table.problems


@pytest.mark.parametrize(
    ("text", "rows", "cells"),
    [
        ('a,b\n"1,5",2\n', [2], ["1,5"]),
        ('a,b\n"x\ny",2\n3,4\n', [3, 4], ["x\ny", "3"]),
        ("a,b\n1,2\n\n3,4\n", [2, 4], ["1", "3"]),
        ("a,b\r\n1,2\r\n3,4\r\n", [2, 3], ["1", "3"]),
        ("a,b\n1,2\n3\n5,6\n", [2, 4], ["1", "5"]),
        ('a|b\n1,1|"2\n3|4\n', [2, 3], ["1,1", "3"]),
        ("a,b\n1,2", [2], ["1"]),
    ],
)
def test_odd_text(tmp_path, text, rows, cells):
    path = tmp_path / "t.csv"
    path.write_text(text, newline="")
    table = read_table(path)
    assert table.row.tolist() == rows
    assert table.columns["a"] == cells


def test_bad_numbers_are_found_among_good_ones(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('a\n1\nx\n 3 \n""\nnan\n1_000\n')
    table = read_table(path)
    values = table.numbers("a", empty=7.0)
    np.testing.assert_array_equal(values, [1.0, np.nan, 3.0, 7.0, np.nan, 1000.0])
    assert [(index, reason) for index, _, reason, _ in table.problems] == [
        (1, "not a number"),
        (4, "not a finite number"),
    ]


def test_parquet_keeps_its_types(tmp_path):
    import pandas as pd

    path = tmp_path / "t.parquet"
    frame = pd.DataFrame({"i": [1, 2], "f": [0.1, None], "s": ["x", None], "t": [True, False]})
    frame.index = [5, 9]
    frame.to_parquet(path)
    table = read_table(path)
    assert list(table.columns) == ["i", "f", "s", "t"]
    assert table.numbers("i").tolist() == [1.0, 2.0]
    assert table.numbers("f", empty=-1.0).tolist() == [0.1, -1.0]
    assert table.texts("s").tolist() == ["x", ""]
    assert table.truth("t").tolist() == [1, 0]


@pytest.mark.parametrize(
    ("limit", "value", "message"),
    [
        ("MOST_JOBS", 99, "has 100 rows; at most 99 are read"),
        ("MOST_VALUES", 400, "has 500 values; at most 400 are read"),
        ("MOST_CELLS", 1 << 20, "column 's' unpacks to 95 MiB of text; at most 1 are read"),
        ("MOST_COLUMNS", 2, "has 3 columns; at most 2 are read"),
    ],
)
def test_a_small_file_that_unpacks_to_much(tmp_path, monkeypatch, limit, value, message):
    """Parquet keeps what is alike once: 100 rows, a list of three in each, a million letters."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "t.parquet"
    columns = {"i": [1] * 100, "l": [[1, 2, 3]] * 100, "s": ["x" * 1_000_000] * 100}
    pq.write_table(pa.table(columns), path, compression="zstd")
    assert path.stat().st_size < 10_000
    monkeypatch.setattr(reading, limit, value)
    with pytest.raises(UserError, match=f"^trace {path}: {message}"):
        read_table(path)


def test_times_of_the_clock(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(
        "t\n1970-01-02 00:00:01\n1970-01-01T00:01\n1970-01-01 00:00:00.25\n"
        "1970-13-01 00:00:00\nUnknown\n"
    )
    table = read_table(path)
    expected = [86_401.0, 60.0, 0.25, np.nan, np.nan]
    np.testing.assert_array_equal(table.moments_s("t"), expected)
    np.testing.assert_array_equal(table.clock_s("t"), expected)
    assert [index for index, *_ in table.problems] == [3, 4]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_a_million_jobs_take_little_memory():
    code = (
        "from pathlib import Path\n"
        "from marl_sched.config import SyntheticConfig, WorkloadConfig\n"
        "from marl_sched.types import Cluster\n"
        "from marl_sched.workload import load_workload\n"
        "config = WorkloadConfig(synthetic=SyntheticConfig(num_jobs=1_000_000))\n"
        "workload = load_workload(config, Cluster.parse('16x8'), 0)\n"
        "assert workload.job(999_999).job_id == '999999'\n"
        # Not getrusage, which counts the parent's memory before exec.
        "status = Path('/proc/self/status').read_text()\n"
        "print(status.split('VmHWM:')[1].split()[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # kB. Measured: 152 MB, of which 45 MB are the interpreter with numpy.
    assert int(done.stdout) < 300_000
