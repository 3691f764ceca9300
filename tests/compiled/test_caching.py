"""A damaged file of the kernels' cache costs a compilation, and never more."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

MODULE = """
import sys
import marl_sched.compiled.jit as jit
from marl_sched.compiled.jit import kernel, part

@part
def twice(x: float) -> float:
    return 2.0 * x

@kernel
def four_times(x):
    return twice(twice(x))

def main():
    assert four_times(1.5) == 6.0 and twice(2.0) == 4.0
    for one in (twice, four_times):
        print(one.__name__, sum(one.stats.cache_hits.values()),
              sum(one.stats.cache_misses.values()))
"""


def run(folder: Path) -> dict[str, tuple[int, int]]:
    """Function -> how often it was found in the cache, and how often not."""
    (folder / "compiled.py").write_text(MODULE)
    done = subprocess.run(
        [sys.executable, "-c", "import compiled; compiled.main()"],
        env={**os.environ, "NUMBA_CACHE_DIR": str(folder / "cache"),
             "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"},
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [line.split() for line in done.stdout.splitlines()]
    return {name: (int(hits), int(misses)) for name, hits, misses in rows}


FOUND = {"twice": (1, 0), "four_times": (1, 0)}
COMPILED = {"twice": (0, 1), "four_times": (0, 1)}


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("caching")
    assert run(made) == COMPILED and run(made) == FOUND
    return made


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut": cut,
    "one bit": flipped,
    "zeros": lambda data: bytes(len(data)),  # as some file systems leave it after a loss of power
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_compiled_anew(damage: str, folder: Path) -> None:
    """numba takes an empty or cut file for an error, and half an object file for machine code.

    One function loses its index, the other its code.
    """
    for name, suffix in (("twice", "nbi"), ("four_times", "nbc")):
        (path,) = (folder / "cache").rglob(f"compiled.{name}-*.{suffix}")
        path.write_bytes(DAMAGES[damage](path.read_bytes()))
    assert run(folder) == COMPILED


def test_what_was_damaged_is_mended(folder: Path) -> None:
    assert run(folder) == FOUND


def test_a_folder_in_the_place_of_a_file(folder: Path) -> None:
    """Nothing can be kept there, and everything runs."""
    (path, *_) = (folder / "cache").rglob("*.nbi")
    path.unlink()
    path.mkdir()
    name = path.name.split("-")[0].rpartition(".")[2]
    assert run(folder)[name] == (0, 1)
    path.rmdir()
    assert run(folder)[name] == (0, 1)
