"""Running a program that starts Ray clusters where it can touch nobody else's."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
UNSHARE = ("unshare", "-m", "-p", "-n", "-f", "--mount-proc", "--kill-child")


@cache
def own_host() -> tuple[str, ...]:
    """Words in front of a command that give it a network and processes of its own.

    Where the system does not allow that, none: what is started then has ports, a token and a
    folder of its own, and ends by its process id.
    """
    words = (*UNSHARE, "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
    try:
        tried = subprocess.run([*words, "true"], capture_output=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return words if tried.returncode == 0 else ()


@contextmanager
def ray_environment(**more: str) -> Iterator[dict[str, str]]:
    """Variables for programs that start Ray: a folder and a token of their own."""
    # Not pytest's: Ray's socket paths must stay under 108 characters.
    folder = tempfile.mkdtemp(prefix="rc-", dir="/tmp")
    (Path(folder) / "ray").mkdir()
    try:
        yield {
            **{k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "RAY_JOB_ID")},
            "PYTHONPATH": str(ROOT),
            # A job's `python` is the first that the head finds.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "RAY_TMPDIR": folder,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            **more,
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_isolated(
    program: Path, *arguments: str, environment: Mapping[str, str], timeout_s: float
) -> subprocess.CompletedProcess[str]:
    """Run a Python file on a host of its own."""
    return subprocess.run(
        [*own_host(), sys.executable, str(program), *arguments],
        env=dict(environment),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
