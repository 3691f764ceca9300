"""The time that a run has trained for, and what is left of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Clock:
    """Seconds that a run has trained for, in this process and before it was resumed.

    It runs from `start` on, and stands still in `paused`: starting workers, compiling, and playing
    what is there without training are not counted.

    Args:
        now: seconds of a clock that never goes back.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.earlier_s = 0.0
        """In processes before this one."""
        self.now = now
        self._begun_s = now()
        self._counted_s = 0.0
        self._since: float | None = None

    def elapsed_s(self) -> float:
        return self.earlier_s + self._here_s()

    def uncounted_s(self) -> float:
        """Seconds of this clock's life in which it stood still."""
        return self.now() - self._begun_s - self._here_s()

    def _here_s(self) -> float:
        return self._counted_s + (0.0 if self._since is None else self.now() - self._since)

    def start(self) -> None:
        if self._since is None:
            self._since = self.now()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let what is done inside take no time."""
        self._counted_s, running, self._since = self._here_s(), self._since is not None, None
        try:
            yield
        finally:
            if running:
                self.start()


class Budget:
    """What is left of a run's time for learning.

    The end of a run takes time too: its last network is validated and saved. As long as the last
    validation and the last checkpoint took is set aside for that.

    Args:
        minutes: that the run may train for; None: without limit.
    """

    def __init__(self, minutes: float | None, clock: Clock) -> None:
        self._minutes = minutes
        self._clock = clock
        self.validation_s = self.checkpoint_s = 0.0

    @contextmanager
    def validating(self) -> Iterator[None]:
        """Take down how long a validation takes."""
        begun_s = self._clock.now()
        yield
        self.validation_s = self._clock.now() - begun_s

    def is_dear(self) -> bool:
        """Whether the last validation took a tenth of all the time."""
        return self._minutes is not None and self.validation_s >= 6.0 * self._minutes

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Take down how long a checkpoint takes."""
        begun_s = self._clock.now()
        yield
        self.checkpoint_s = self._clock.now() - begun_s

    def left_s(self, share: float = 1.0) -> float | None:
        """Seconds until `share` of the time is over and its end has to begin; None: no limit."""
        if self._minutes is None:
            return None
        over_s = 60.0 * share * self._minutes - self._clock.elapsed_s()
        return over_s - self.validation_s - self.checkpoint_s
