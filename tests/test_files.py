"""Files appear whole or not at all, and only where a file may stand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from marl_sched.errors import UserError
from marl_sched.files import check_folder, read_bytes, read_json, read_text, replacing, write_text


def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("old")
    link.symlink_to(real)
    write_text(link, "new")
    assert link.is_symlink() and real.read_text() == "new"


def test_what_is_no_file_is_left_alone(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(UserError, match="no regular file"):
        write_text(pipe, "text")
    with pytest.raises(UserError, match="a folder"):
        write_text(tmp_path, "text")
    assert pipe.is_fifo()


def test_a_failed_write_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(UserError, match="No space left"), replacing(path) as temporary:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")
    assert path.read_text() == "old"
    assert sorted(tmp_path.iterdir()) == [path]


def test_a_folder_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    check_folder(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "kept").mkdir()
    check_folder(tmp_path / "kept")
    assert (tmp_path / "kept").is_dir() and list((tmp_path / "kept").iterdir()) == []
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UserError, match="part of the path is a file"):
            check_folder(path)


def test_only_what_has_an_end_is_read(tmp_path: Path) -> None:
    """A device or a pipe may never end; a file of holes may fill the memory."""
    pipe, holes, folder = tmp_path / "pipe", tmp_path / "holes", tmp_path
    os.mkfifo(pipe)
    with holes.open("wb") as file:
        file.truncate(1 << 40)
    cases = {
        Path("/dev/zero"): "is no regular file but a device or a pipe; write what it gives to a",
        pipe: "is no regular file",
        holes: "has 1,048,576 MiB, and at most 2,048 are read; split it",
        folder: "is a folder; give a file in it",
        tmp_path / "none": "no such file",
        tmp_path / "none" / ("x" * 300): "cannot be read|no such file",
        tmp_path / ("x" * 300): "cannot be read: .*too long",
        holes / "below": "no such file",
    }
    for path, message in cases.items():
        with pytest.raises(UserError, match=f"^trace .*: ({message})"):
            read_bytes(path, "trace")


def test_text_and_json_are_read_or_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\xef\xbb\xbf[1, 2.5]")
    assert read_text(path, "table") == "[1, 2.5]" and read_json(path, "table") == [1, 2.5]
    for data, message in (
        (b"\xff\xfe", "is no UTF-8 text"),
        (b"[1,", "not JSON: line 1, column 4"),
        (b"[" * 100_000, "cannot be read as JSON"),
        (b"9" * 5000, "cannot be read as JSON"),
    ):
        path.write_bytes(data)
        with pytest.raises(UserError, match=f"^table {path}: {message}") as caught:
            read_json(path, "table")
        assert len(str(caught.value)) < 500
