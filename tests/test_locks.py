"""Locks of folders: one process at a time, and none that outlives its process."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from marl_sched import locks
from marl_sched.errors import WriteError
from marl_sched.locks import LOCK, alone, check_free, scratch_folder


@contextmanager
def another_process(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A process that runs `code` until it is killed; it is waited for until it prints a line."""
    found = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )
    assert found.stdout is not None
    try:
        found.line = found.stdout.readline().strip()  # type: ignore[attr-defined]
        yield found
    finally:
        found.kill()
        found.wait()
        found.stdout.close()


HOLD = """
import sys, time
from pathlib import Path
from marl_sched.locks import alone
with alone(Path(sys.argv[1]), "another run"):
    print("held", flush=True)
    time.sleep(600)
"""
SCRATCH = """
import time
from marl_sched.locks import scratch_folder
with scratch_folder() as folder:
    (folder / "below").mkdir()
    print(folder, flush=True)
    time.sleep(600)
"""


def test_one_at_a_time_and_a_killed_one_holds_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with another_process(HOLD, tmp_path) as other:
        for attempt in (alone(tmp_path, "another run"), None):
            with pytest.raises(WriteError, match="another run is going on there") as refused:
                if attempt is None:
                    check_free(tmp_path, "another run")
                else:
                    attempt.__enter__()
            assert f"process {other.pid} on " in str(refused.value)
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert (tmp_path / LOCK).exists()  # its owner had no time to remove it
        check_free(tmp_path, "another run")
        with alone(tmp_path, "another run"), pytest.raises(WriteError, match="going on"):
            check_free(tmp_path, "another run")
    assert list(tmp_path.iterdir()) == [] and not caplog.records


def test_a_lock_of_another_machine_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """On a file system that keeps locks on each machine alone the text is all there is."""
    (tmp_path / LOCK).write_text("17 elsewhere 2026-01-02T03:04:05Z\n")
    with caplog.at_level(logging.WARNING), alone(tmp_path, "another run"):
        pass
    (record,) = caplog.records
    assert "process 17 on elsewhere since 2026-01-02T03:04:05Z" in record.getMessage()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP])
def test_without_locks_a_living_owner_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def no_locks(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with alone(tmp_path, "another run"), pytest.raises(WriteError, match="going on"):
        check_free(tmp_path, "another run")  # of this very process, which is alive
    with another_process(HOLD, tmp_path) as other:
        pass
    assert other.returncode and (tmp_path / LOCK).exists()
    with alone(tmp_path, "another run"):
        pass


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", b"1 2", b"x y z\n", b"9" * 5000])
def test_a_garbled_lock_keeps_nobody_out(tmp_path: Path, text: bytes) -> None:
    (tmp_path / LOCK).write_bytes(text)
    with alone(tmp_path, "another run"):
        pass


def test_a_folder_that_is_gone_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="cannot write"), alone(tmp_path / "none", "another"):
        pass


def test_what_a_killed_process_left_behind_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    not_ours = [tmp_path / "marl-unmarked", tmp_path / "other"]
    for folder in not_ours:
        folder.mkdir()
    (tmp_path / "marl-link").symlink_to(not_ours[1])
    with another_process(SCRATCH) as dead:
        pass
    left = Path(dead.line)  # type: ignore[attr-defined]
    assert (left / "below").is_dir()
    with another_process(SCRATCH) as alive, scratch_folder() as mine:
        assert mine.stat().st_mode & 0o777 == 0o700
        assert not left.exists()
        with scratch_folder():
            assert mine.is_dir() and Path(alive.line).is_dir()  # type: ignore[attr-defined]
    assert not mine.exists() and all(folder.is_dir() for folder in not_ours)
    assert (tmp_path / "marl-link").is_symlink()


def test_a_folder_of_another_user_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = tmp_path / "marl-theirs"
    folder.mkdir()
    (folder / locks._OWNED).write_text("")
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with scratch_folder():
        assert folder.is_dir()
    monkeypatch.undo()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with scratch_folder():
        assert not folder.exists()
