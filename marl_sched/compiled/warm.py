"""Compiling parts ahead, on all cores: `python -m marl_sched.compiled.warm` is one worker.

What is compiled is on disk; whoever needs it then loads it in milliseconds. Workers of several
commands may run at once: files appear whole, and the same part compiled twice is the same.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from marl_sched.compiled.linking import PARTS, Part

FEWEST = 3
"""So many missing parts are worth the start of other processes."""


def missing(functions: Sequence[Any]) -> list[Part]:
    """Those of `functions` that are parts and not yet compiled on this machine."""
    parts = [function for function in functions if isinstance(function, Part)]
    return [part for part in dict.fromkeys(parts) if not part.marker.exists()]


def warm(parts: Sequence[Part], tell: Callable[[int, int], None]) -> None:
    """Compile parts, in the order given, on as many cores as there are.

    Args:
        tell: called with the number of parts that are done and of all, as they come.
    """
    tell(0, len(parts))
    workers = min(len(os.sched_getaffinity(0)), len(parts))
    if workers < 2 or len(parts) < FEWEST:
        for done, part in enumerate(parts, start=1):
            part.ready()
            tell(done, len(parts))
        return
    todo: queue.SimpleQueue[Part] = queue.SimpleQueue()
    for part in parts:
        todo.put(part)
    finished: queue.SimpleQueue[Part | None] = queue.SimpleQueue()
    processes = [_start() for _ in range(workers)]
    try:
        for process in processes:
            threading.Thread(target=_serve, args=(process, todo, finished), daemon=True).start()
        done, running = 0, workers
        while running:
            if finished.get() is None:
                running -= 1
            else:
                done += 1
                tell(done, len(parts))
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _start() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "marl_sched.compiled.warm"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def _serve(
    process: subprocess.Popen[str],
    todo: queue.SimpleQueue[Part],
    finished: queue.SimpleQueue[Part | None],
) -> None:
    """Hand parts to one worker; a part that it fails on is left to whoever needs it."""
    assert process.stdin is not None and process.stdout is not None
    try:
        while True:
            part = todo.get_nowait()
            process.stdin.write(part.symbol + "\n")
            process.stdin.flush()
            if not process.stdout.readline():
                break
            finished.put(part)
    except (queue.Empty, OSError):
        pass
    finished.put(None)


def main() -> None:
    """Compile the parts named on standard input; answer each with a line."""
    for line in sys.stdin:
        symbol = line.strip()
        import_module(symbol.rpartition(".")[0])
        PARTS[symbol].ready()
        print(symbol, flush=True)


if __name__ == "__main__":
    main()
