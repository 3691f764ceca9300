"""Ending on SIGTERM as on Ctrl-C: what has to be undone is, and one line says so."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(BaseException):
    """SIGTERM has come. Not an `Exception`, so that nobody takes it for a failure to go on from."""


def end_on_sigterm() -> None:
    """Let SIGTERM raise `Terminated` in the main thread; a second one ends the process at once.

    Only the main thread may set handlers; elsewhere nothing is done.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)


@contextmanager
def sigterm_kept() -> Iterator[None]:
    """Bring `end_on_sigterm` back, where it was in force, after others have set handlers.

    Ray does when it starts, and one of them dumps the stack.
    """
    ours = signal.getsignal(signal.SIGTERM) is _terminate
    yield
    if ours:
        end_on_sigterm()


def _terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise Terminated
