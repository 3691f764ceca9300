"""Tuning the parameters of a classic scheduler: random search with successive halving.

Candidates are the scheduler's own defaults and random draws from the ranges that its parameters
declare. Every candidate plays the same few sequences of every cell; the better ones play more
(`RUNGS`), until the best on all of them is taken. The score is the mean over cells of
log(sum of JCTs / that of the defaults).
Source of the halving: Jamieson and Talwalkar, "Non-stochastic best arm identification", AISTATS
2016.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from marl_sched.errors import UserError
from marl_sched.evaluation.compare import Arena, part_episodes
from marl_sched.evaluation.suite_run import CellRun
from marl_sched.files import write_text
from marl_sched.schedulers import Scheduler

RUNGS = ((1.0, 1 / 6), (0.3, 1 / 2), (0.1, 1.0))
"""Share of the candidates that get so far, and share of the sequences that they then play."""

RECORD = "marl_sched.tuning/1"

_STREAM = 0x7B


def draw(scheduler: Scheduler, rng: np.random.Generator) -> dict[str, float]:
    """Random parameters, three significant digits each."""
    return {
        name: param.search.draw(rng)
        for name, param in scheduler.takes.items()
        if param.search is not None
    }


def candidates(scheduler: Scheduler, budget: int, seed: int) -> list[dict[str, float]]:
    """`budget` sets of parameters, the defaults first.

    Raises:
        UserError: for a scheduler without parameters that can be drawn.
    """
    unknown = [name for name, param in scheduler.takes.items() if param.search is None]
    if not scheduler.params or unknown or not scheduler.compiled:
        raise UserError(
            f"scheduler {scheduler.name!r} has nothing to tune"
            + (f" (no range for {', '.join(unknown)})" if unknown else "")
        )
    rng = np.random.default_rng([seed, _STREAM])
    return [dict(scheduler.params), *(draw(scheduler, rng) for _ in range(budget - 1))]


@dataclass(frozen=True)
class Tuned:
    """The outcome of a search."""

    params: dict[str, float]
    score_percent: float
    """Mean JCT on validation against the defaults, geometric mean over cells."""
    candidates: int
    sequences: int
    """Played by the winner, over all cells."""
    simulated: int
    """Played by all candidates together: the budget that was spent."""
    by_cell: dict[str, float]
    """Mean JCT against the defaults in each cell, percent."""


class Court:
    """Sequences of several cells on which parameters are compared; what was played is kept."""

    def __init__(self, scheduler: Scheduler, cells: list[CellRun], journal: Path | None) -> None:
        self.scheduler = scheduler
        self.cells = cells
        self._arenas = [_arena(cell) for cell in cells]
        self._order = [
            np.random.default_rng(cell.config.seed).permutation(len(arena.episodes))
            for cell, arena in zip(cells, self._arenas, strict=True)
        ]
        text = json.dumps([RECORD, scheduler.name, *(cell.fingerprint() for cell in cells)])
        self._journal = _Journal(journal, hashlib.sha256(text.encode()).hexdigest())

    @property
    def played(self) -> int:
        """Sequences simulated so far, kept ones included."""
        return sum(len(found) for found in self._journal.found.values())

    def sums(self, params: dict[str, float], share: float) -> list[np.ndarray]:
        """Sum of JCTs, hours, of each of the first `share` of each cell's sequences."""
        return [
            self._cell_sums(number, params, max(1, round(share * len(arena.episodes))))
            for number, arena in enumerate(self._arenas)
        ]

    def _cell_sums(self, number: int, params: dict[str, float], count: int) -> np.ndarray:
        key = json.dumps([self.cells[number].name, params], sort_keys=True)
        found = self._journal.found.get(key, [])
        if len(found) < count:
            arena = self._arenas[number]
            chosen = [arena.episodes[e] for e in self._order[number][len(found) : count]]
            played = arena.play(self.scheduler.with_params(params), chosen)
            more = [one["avg_jct_s"] * one["num_finished"] / 3600.0 for one in played]
            self._journal.add(key, more)
            found = self._journal.found[key]
        return np.array(found[:count])


def tune(
    court: Court, budget: int, seed: int, say: Callable[[str], None] = lambda text: None
) -> Tuned:
    """Search `budget` candidates; the defaults stay in to the end, so the result is no worse."""
    alive = candidates(court.scheduler, budget, seed)
    defaults = alive[0]
    scores: list[float] = []
    for rung, (kept, share) in enumerate(RUNGS):
        alive = alive[: max(2, math.ceil(kept * budget))]
        scores = []
        for number, params in enumerate(alive):
            scores.append(_score(court.sums(params, share), court.sums(defaults, share)))
            say(f"rung {rung + 1}, {number + 1} of {len(alive)}, best {min(scores):+.2f} %")
        order = np.argsort(scores, kind="stable")
        alive, scores = [alive[i] for i in order], [scores[i] for i in order]
        if defaults in alive:
            # First among those that go on, whatever its score.
            at = alive.index(defaults)
            alive.insert(0, alive.pop(at))
            scores.insert(0, scores.pop(at))
    best = alive[int(np.argmin(scores))]
    mine, theirs = court.sums(best, 1.0), court.sums(defaults, 1.0)
    names = [cell.name for cell in court.cells]
    ratios = [_score([m], [t]) for m, t in zip(mine, theirs, strict=True)]
    return Tuned(
        params=best,
        score_percent=_score(mine, theirs),
        candidates=budget,
        sequences=sum(sums.size for sums in mine),
        simulated=court.played,
        by_cell=dict(zip(names, ratios, strict=True)),
    )


def _score(mine: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    """Mean JCT against the defaults, percent, geometric mean over cells."""
    logs = [math.log(m.sum() / t.sum()) for m, t in zip(mine, theirs, strict=True)]
    return 100.0 * math.expm1(sum(logs) / len(logs))


def _arena(cell: CellRun) -> Arena:
    episodes = part_episodes(cell.config, cell.part, cell.config.evaluation.episodes)
    return Arena(cell.config, cell.part, episodes)


class _Journal:
    """Sums of JCTs by cell and parameters, a line appended for each play."""

    def __init__(self, path: Path | None, fingerprint: str) -> None:
        self.found: dict[str, list[float]] = {}
        self._path = path
        if path is None:
            return
        if not path.is_file():
            write_text(path, fingerprint + "\n")
            return
        first, *lines = path.read_text(encoding="utf-8").split("\n")
        if first != fingerprint:
            raise UserError(
                f"{path}: the record of a search on other sequences; delete it, or choose "
                "another --out"
            )
        for line in lines[:-1]:  # what follows the last newline was cut off
            key, more = json.loads(line)
            self.found.setdefault(key, []).extend(more)
        # A line that was cut off goes, so that the next one starts at its beginning.
        write_text(path, "\n".join([first, *lines[:-1]]) + "\n")

    def add(self, key: str, more: list[float]) -> None:
        self.found.setdefault(key, []).extend(more)
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps([key, more]) + "\n")


def as_yaml(scheduler: Scheduler, tuned: Tuned, command: str) -> dict[str, Any]:
    """What is written to --out, and committed for the schedulers that ship tuned."""
    return {
        "scheduler": scheduler.name,
        "command": command,
        "params": tuned.params,
        "defaults": scheduler.params,
        "validation_jct_vs_defaults_percent": round(tuned.score_percent, 2),
        "candidates": tuned.candidates,
        "sequences_of_the_best": tuned.sequences,
        "sequences_simulated": tuned.simulated,
        "by_cell_percent": {name: round(value, 2) for name, value in tuned.by_cell.items()},
    }
