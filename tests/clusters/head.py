"""Starts a Ray head, runs a Python file's `main` beside it, ends the head; for test_jobs.py.

    python head.py MODULE ARGUMENT ..

`RAY_AUTH_MODE` says whether the head asks for the token.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

START_S = 120.0


@dataclass(frozen=True)
class Head:
    """Where a head listens."""

    address: str
    dashboard: str


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def head(num_cpus: int = 2) -> Iterator[Head]:
    """A head in a process group of its own, which ends with the block."""
    names = ("port", "dashboard-port", "dashboard-agent-listen-port", "ray-client-server-port")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    command = [
        str(Path(sys.executable).with_name("ray")), "start", "--head", "--block",
        "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", "--include-dashboard=true",
        f"--num-cpus={num_cpus}", "--disable-usage-stats",
        f"--temp-dir={os.environ['RAY_TMPDIR']}/ray",
        *(f"--{name}={port}" for name, port in ports.items()),
    ]  # fmt: skip
    log = Path(os.environ["RAY_TMPDIR"], "head.log")
    with open(log, "w") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink, start_new_session=True)
    try:
        _wait(process, log)
        yield Head(f"127.0.0.1:{ports['port']}", f"http://127.0.0.1:{ports['dashboard-port']}")
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _wait(process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        if "Ray runtime started" in log.read_text():
            return
        time.sleep(0.5)
    raise RuntimeError(f"the head did not start: {log.read_text()[-2000:]}")


if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())
    importlib.import_module(sys.argv[1]).main(*sys.argv[2:])
