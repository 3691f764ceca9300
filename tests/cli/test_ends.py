"""How a command ends that is told to, and what it says while it works."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time

import pytest
import typer

from marl_sched.cli import run, tables

PROGRAM = """
import os, signal, sys, time
import typer
from marl_sched.cli import run

app = typer.Typer()

@app.command()
def work() -> None:
    {work}

@app.command()
def other() -> None: ...

run(app, "test", ["work"])
"""

KILL = "os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)"
WITH_RAY = f"""
    from marl_sched.training.session import ray_session
    with ray_session(None, 1):
        {KILL}
"""
HOLDING_ON = f"""
    try:
        {KILL}
    except Exception:
        time.sleep(60)
"""


@pytest.mark.parametrize(
    "work", [KILL, HOLDING_ON, pytest.param(WITH_RAY, marks=[pytest.mark.ray])]
)
def test_sigterm_is_one_line_and_143(work: str) -> None:
    """Ray's handlers, which dump the stack, are replaced where one is running."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(work=work)], capture_output=True, text=True,
        timeout=250,
    )  # fmt: skip
    assert (done.returncode, done.stderr, done.stdout) == (143, "terminated\n", "")


def test_a_full_disk_is_one_line_whatever_writes(capsys: pytest.CaptureFixture[str]) -> None:
    app = typer.Typer()

    @app.command()
    def work() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "some/file")

    with pytest.raises(SystemExit) as done:
        run(app, "test", [])
    assert done.value.code == 2
    said = capsys.readouterr().err
    assert said == "error: some/file cannot be written: no space is left on its disk\n"


def test_a_log_hears_what_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Piped output says what is done whenever it has been quiet; the innermost is told."""
    monkeypatch.setattr(tables, "QUIET_S", 0.05)
    with tables.heartbeat(lambda: "outer"):
        wait_for(capsys, "outer")
        with tables.status("inner work") as shown:
            wait_for(capsys, "inner work: 0 s so far")
            shown.update("more of it")
            wait_for(capsys, "more of it: 0 s so far")
        wait_for(capsys, "outer")


def wait_for(capsys: pytest.CaptureFixture[str], words: str) -> None:
    capsys.readouterr()
    said = ""
    for _ in range(1000):
        said += capsys.readouterr().err
        if words.split(":")[0] in said and words[-3:] in said:
            return
        time.sleep(0.01)
    raise AssertionError(f"{words!r} was not said, but {said!r}")
