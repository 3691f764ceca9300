"""A checkpoint is whole, or the file that is not is named."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marl_sched.checkpoints import (
    PROGRESS,
    Damaged,
    folders_in,
    parse_progress,
    problem_of,
    read_progress,
    seal,
)

FACTS = {"iteration": 3, "decisions": 7, "elapsed_s": 1.5}


def write(folder: Path, **files: bytes) -> Path:
    for name, data in (files or {"a": b"weights", "deep/b": b"more"}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    seal(folder, FACTS)
    return folder


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "gone": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "cut": cut,
    "flipped": flip,
}


def test_what_was_sealed_is_read(tmp_path: Path) -> None:
    assert read_progress(write(tmp_path)) == FACTS
    assert problem_of(tmp_path) is None


@pytest.mark.parametrize("name", ["a", "deep/b", PROGRESS])
@pytest.mark.parametrize("how", DAMAGE)
def test_any_damage_is_seen_and_its_file_named(tmp_path: Path, name: str, how: str) -> None:
    write(tmp_path)
    DAMAGE[how](tmp_path / name)
    assert str(tmp_path / name) in (problem_of(tmp_path) or "")


def test_a_folder_that_is_gone_is_seen(tmp_path: Path) -> None:
    write(tmp_path)
    shutil.rmtree(tmp_path / "deep")
    assert str(tmp_path / "deep" / "b") in (problem_of(tmp_path) or "")


@given(st.data())
def test_a_record_of_any_other_bytes_is_refused(data: st.DataObject) -> None:
    """All that can be done to `progress.json`: another length, another byte, another text."""
    record: dict[str, Any] = {**FACTS, "files": {"a": "0" * 64}}
    from marl_sched.checkpoints import _digest

    whole = json.dumps({**record, "sha256": _digest(record)})
    assert parse_progress(whole, "x") == record
    at = data.draw(st.integers(0, len(whole) - 1))
    put = data.draw(st.text(max_size=3))
    other = whole[:at] + put + whole[at + data.draw(st.integers(0, 60)) :]
    try:
        found = parse_progress(other, "x")
    except Damaged as error:
        assert str(error).startswith("x: ")
    else:
        assert found == record  # blanks between words


@pytest.mark.parametrize(
    "text", ["", "[]", "3", "null", '{"sha256": 1}', "[" * 10**5, '{"a": NaN}']
)
def test_what_is_no_record(text: str) -> None:
    with pytest.raises(Damaged, match="x: cut short, damaged or of an earlier version"):
        parse_progress(text, "x")


class Bomb:
    """Sets a flag when it is unpickled."""

    def __reduce__(self) -> Any:
        return (exec, ("import sys; sys.went_off = True",))


@pytest.mark.parametrize("name", ["algorithm_state.pkl", "learner_group/state.pkl"])
def test_a_pickle_is_refused_unread(tmp_path: Path, name: str) -> None:
    """Also one that a whole record names: whoever planted it may have written that too."""
    write(tmp_path, **{name: pickle.dumps(Bomb())})
    problem = problem_of(tmp_path) or ""
    assert f"{tmp_path / name}: a pickle" in problem
    assert not hasattr(sys, "went_off")


def test_folders_by_their_number(tmp_path: Path) -> None:
    for name in ("iter_10", "iter_9", "iter_x", ".iter_11", "iter_"):
        (tmp_path / name).mkdir()
    (tmp_path / "iter_12").write_text("a file")
    assert [path.name for path in folders_in(tmp_path)] == ["iter_9", "iter_10"]
    assert folders_in(tmp_path / "none") == []
