"""Progress as Muri's artifact counts it: in iterations, in its order of arithmetic.

Its rules order jobs by times that are often the same but for rounding, so that one unit in the
last place decides who runs. The simulator keeps work in seconds; here the artifact's own sum is
kept beside it, and the simulator is told what is left before each decision.
"""

from __future__ import annotations

import numpy as np

from marl_sched.types import ClusterView


class Progress:
    """Iterations left of every job, and which of them run.

    Args:
        iterations: (J,) float64, of each job of the workload.
        iteration_s: (J,) float64, seconds that one takes.
        overhead_s: (J,) float64, pause of a running job at every event.
    """

    def __init__(
        self, iterations: np.ndarray, iteration_s: np.ndarray, overhead_s: np.ndarray
    ) -> None:
        self._left = iterations.astype(np.float64)
        self._iteration_s = iteration_s
        self._overhead_s = overhead_s
        self._running = np.zeros(len(iterations), dtype=bool)
        self._booked_s = 0.0

    def book(self, now_s: float) -> None:
        """Count what running jobs have done since the last event."""
        jobs = np.flatnonzero(self._running)
        worked_s = np.maximum(now_s - self._booked_s - self._overhead_s[jobs], 0.0)
        self._left[jobs] -= worked_s / self._iteration_s[jobs]
        self._booked_s = now_s

    def runs(self, view: ClusterView) -> None:
        """Note the jobs that hold GPUs in `view`: they run until the next event."""
        self._running[:] = False
        self._running[view.job[view.level > 0]] = True

    def left_s(self, job: np.ndarray) -> np.ndarray:
        """Seconds of work left of jobs (n,)."""
        return np.asarray(self._left[job] * self._iteration_s[job])
