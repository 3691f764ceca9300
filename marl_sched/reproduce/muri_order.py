"""SRTF and SRSF as Muri's artifact sorts: by time left, ties as they stood at the last event."""

from __future__ import annotations

import numpy as np


class KeptOrder:
    """A list of the active jobs that is sorted anew at every event and keeps ties as they are.

    Args:
        weight: (J,) what the time left of each job counts for: 1 in SRTF, its GPUs in SRSF.
    """

    def __init__(self, weight: np.ndarray) -> None:
        self._weight = weight
        self._jobs: list[int] = []

    def rows(self, job: np.ndarray, left_s: np.ndarray) -> np.ndarray:
        """(A,) int64 rows of the active jobs in the order in which they are served.

        Args:
            job: (A,) int64, number of each active job by arrival.
            left_s: (A,) float64, seconds of work that it has left.
        """
        row = {number: i for i, number in enumerate(job.tolist())}
        new = sorted(set(row) - set(self._jobs))
        self._jobs = [number for number in self._jobs if number in row] + new
        key = left_s * self._weight[job]
        self._jobs.sort(key=lambda number: key[row[number]])
        return np.array([row[number] for number in self._jobs], dtype=np.int64)
