"""Compiled kernels lie where nobody else can write: who can, runs code as who loads them."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from marl_sched import folders
from marl_sched.errors import UserError
from marl_sched.folders import kernel_folder, user_cache

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A user with a home and no wishes."""
    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_the_folder_is_the_users_own(home: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        folder = kernel_folder("kernels-1")
    finally:
        os.umask(before)
    assert folder == home / ".cache" / "marl_sched" / "kernels-1"
    assert mode(folder) == mode(folder.parent) == 0o700
    assert kernel_folder("kernels-1") == folder


def test_it_lies_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be passed over, by its specification
    assert user_cache() == tmp_path / "home" / ".cache" / "marl_sched"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert kernel_folder("k") == tmp_path / "xdg" / "marl_sched" / "k"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "named"))
    assert kernel_folder("k") == tmp_path / "named" / "k"
    # What the user made for others to read stays so; the kernels in it are the user's alone.
    (tmp_path / "named").chmod(0o755)
    assert mode(kernel_folder("k")) == 0o700 and mode(tmp_path / "named") == 0o755


def test_a_folder_that_others_may_only_read_is_closed(home: Path) -> None:
    folder = kernel_folder("k")
    for path in (folder, folder.parent):
        path.chmod(0o755)
    assert mode(kernel_folder("k")) == mode(folder.parent) == 0o700


@pytest.mark.parametrize("bits", [0o770, 0o707, 0o777, 0o720, 0o702])
@pytest.mark.parametrize("where", ["folder", "around", "named"])
def test_a_folder_that_others_may_write_is_refused(
    where: str, bits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if where == "named":
        monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "named"))
    folder = kernel_folder("k")
    changed = folder if where == "folder" else folder.parent
    changed.chmod(bits)
    with pytest.raises(UserError, match=f"{changed}: others may write to it") as error:
        kernel_folder("k")
    assert "NUMBA_CACHE_DIR" in str(error.value) and "\n" not in str(error.value)
    assert mode(changed) == bits  # what somebody may have put there is not made to look trusted


def test_further_out_only_who_can_rename_it_matters(home: Path) -> None:
    folder = kernel_folder("k")
    home.chmod(0o775)  # a group of the user alone, as many systems have it
    assert kernel_folder("k") == folder
    home.chmod(0o777)
    with pytest.raises(UserError, match=f"{home}: others may write to it"):
        kernel_folder("k")
    home.chmod(0o1777)  # as /tmp
    assert kernel_folder("k") == folder


@pytest.mark.parametrize("named", [False, True])
def test_a_folder_that_others_own_is_refused(
    named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if named:
        monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    folder = kernel_folder("k")
    monkeypatch.setattr(folders.os, "geteuid", lambda: os.getuid() + 12_345)
    with pytest.raises(UserError, match="belongs to user"):
        kernel_folder("k")
    assert folder.is_dir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("where", ["folder", "named"])
def test_a_folder_that_was_planted_is_refused(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a temporary folder that all may write: whoever came first made ours."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "named"))
    planted = tmp_path / "named" / ("k" if where == "folder" else "")
    planted.mkdir(parents=True)
    os.chown(planted, 54_321, -1)
    with pytest.raises(UserError, match=f"{planted}: belongs to user number 54321"):
        kernel_folder("k")


def test_a_link_is_followed_before_it_is_judged(home: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    cache = home / ".cache"
    cache.mkdir(parents=True)
    (cache / "marl_sched").symlink_to(shared)
    with pytest.raises(UserError, match=f"{shared}: others may write to it"):
        kernel_folder("k")


def test_where_no_folder_can_be_made(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.write_text("a file")
    with pytest.raises(UserError, match="cannot keep compiled kernels there .* NUMBA_CACHE_DIR"):
        kernel_folder("k")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError))
    with pytest.raises(UserError, match="no home folder"):
        kernel_folder("k")


def test_the_program_says_so_in_one_line(tmp_path: Path) -> None:
    """Any command that compiles ends before it loads anything from there."""
    tmp_path.chmod(0o777)
    done = subprocess.run(
        [sys.executable, "-m", "marl_sched", "simulate", "--scheduler", "fcfs"],
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: {tmp_path}: others may write to it (mode 777)")
