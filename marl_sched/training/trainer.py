"""What a run asks of the one who learns, and of what it has learned."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from marl_sched.evaluation.learned import Score
from marl_sched.training.records import Row


class Candidate(Protocol):
    """A scheduler that may turn out to be the best of a run."""

    cautious: bool
    """Whether it has to be clearly better than what it would replace, see `Score`."""

    def score(self) -> Score | float:
        """Cost, as `env.reward` weighs it (by default mean JCT), against the base schedule on
        validation, percent; lower wins."""

    def save(self, folder: Path, score: float) -> None:
        """Write it, with its score on record; a reader sees all old or all new files."""


class Trainer(Protocol):
    """What learns: an RLlib algorithm, or evolution strategies."""

    def iterate(self, seconds: float | None = None) -> Row:
        """Learn for one iteration; its columns of metrics.csv, `decisions` so far among them.

        Args:
            seconds: that it may take, for which it makes itself smaller; None: as configured, so
                that nothing of it depends on clocks.

        Raises:
            Diverged: when what it has learned is no finite number.
        """

    def algorithm(self) -> str:
        """Which of ppo, dqn and es learns now."""

    def prepare(self) -> None:
        """Get ready for the next iteration; it is not counted in the time of the run."""

    def shortest_s(self) -> float:
        """Seconds of the smallest iteration that is worth making; 0 before the first."""

    def is_due(self) -> bool:
        """Whether what has been learned has to be validated before anything more is."""

    def candidate(self, iteration: int, is_base: bool) -> Candidate:
        """What has been learned so far; `is_base`: the base schedule instead."""

    def singles(self) -> dict[str, Candidate]:
        """Each algorithm that may be chosen now, played throughout, by name."""

    def best_in(self, folder: Path) -> tuple[int, Score | float]:
        """Iteration and validation score of what a candidate has saved."""

    def save_to_path(self, path: str) -> None:
        """Write all that the run goes on from into the folder `path`."""

    def restore_from_path(self, path: str) -> None:
        """Go on from there."""

    def stop(self) -> None:
        """Let go of processes."""


def as_score(score: Score | float) -> Score:
    """A plain number as the score of one episode."""
    return score if isinstance(score, Score) else Score(np.array([float(score)]))
