"""What a run says of the source that it was made with."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from marl_sched.training.records import git_commit

ROOT = Path(__file__).parents[2]


def git(folder: Path, *words: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def repository(folder: Path, package: str, project: str = "marl_sched") -> Path:
    """A repository with a package in it; the package."""
    inside = folder / package
    inside.mkdir(parents=True)
    (inside / "__init__.py").write_text("")
    (inside.parent / "pyproject.toml").write_text(f'[project]\nname = "{project}"\n')
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "one")
    return inside


def test_the_commit_is_that_of_our_own_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = repository(tmp_path / "ours", "marl_sched")
    other = repository(tmp_path / "other", "other", "other")
    head = git(package, "rev-parse", "HEAD")
    assert git_commit(package) == head
    # Neither the folder that a program runs in nor what git tells its hooks names the package's.
    monkeypatch.chdir(other)
    monkeypatch.setenv("GIT_DIR", str(other.parent / ".git"))
    assert git_commit(package) == head
    monkeypatch.delenv("GIT_DIR")
    (package / "more.py").write_text("")
    assert git_commit(package) == f"{head}-dirty"


@pytest.mark.parametrize(
    ("package", "project"),
    [
        (".venv/lib/site-packages/marl_sched", "other"),
        ("third_party/marl_sched", "marl_sched"),
        ("marl_sched", "other"),
    ],
)
def test_within_somebody_elses_repository_there_is_none(
    package: str, project: str, tmp_path: Path
) -> None:
    assert git_commit(repository(tmp_path, package, project)) is None


def test_what_the_repository_does_not_hold_is_none_of_its_own(tmp_path: Path) -> None:
    package = repository(tmp_path, "marl_sched")
    installed = tmp_path / "elsewhere" / "marl_sched"
    shutil.copytree(package, installed)
    assert git_commit(installed) is None
    git(tmp_path, "rm", "-q", "--cached", "marl_sched/__init__.py")
    git(tmp_path, "commit", "-q", "-m", "two")
    assert git_commit(package) is None


def test_without_git_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = repository(tmp_path / "ours", "marl_sched")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_commit(package) is None
