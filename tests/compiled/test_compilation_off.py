"""With NUMBA_DISABLE_JIT=1 everything is plain Python, for a debugger, and does the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.program import call

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "words",
    [
        ("--scheduler", "srtf"),
        ("--scheduler", "elastic_index", "--set", "sim.node_mtbf_h=20",
         "--set", "sim.sharing=time_slice", "--set", "sim.network_contention=true"),
    ],
)  # fmt: skip
def test_results_are_the_same(
    words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """To the last bit: the log of events has every time and every allocation."""
    command = ["simulate", *words, "--cluster", "2x4", "--set", "workload.synthetic.num_jobs=20"]
    compiled, plain = tmp_path / "compiled.parquet", tmp_path / "plain.parquet"
    assert call(capsys, *command, "--events", compiled).code == 0
    done = subprocess.run(
        [sys.executable, "-m", "marl_sched", *command, "--events", str(plain)],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert plain.stat().st_size > 1000
    assert plain.read_bytes() == compiled.read_bytes()
