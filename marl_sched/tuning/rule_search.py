"""Tuning the parameters of a classic scheduler: random search with successive halving.

Candidates are the scheduler's own defaults, settings that it is known by, and random draws from
the ranges that its parameters declare. Every candidate plays the same few sequences of every cell;
the better ones play more (`RUNGS`); the last of them, and the `midpoints` of the best, play all,
and the best on these is taken. With g_c the mean over the cells of cluster c of
log(sum of JCTs / that of the defaults), a candidate's score on C clusters is

    max over the cluster l that is left out of  1/(C-1) sum_{c != l} g_c

which leaves out the cluster that flatters it most: what one cluster alone speaks for is not taken.
(Leaving out the third of them that flatters it most chose worse for clusters left out in turn.)
Source of the halving: Jamieson and Talwalkar, "Non-stochastic best arm identification", AISTATS
2016.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from marl_sched.errors import UserError
from marl_sched.evaluation.compare import part_episodes
from marl_sched.evaluation.entrants import Arena
from marl_sched.evaluation.suite_run import CellRun
from marl_sched.evaluation.suites import BASELINES, TUNED, TUNED_INDEX
from marl_sched.files import write_text
from marl_sched.schedulers import Scheduler, get_scheduler
from marl_sched.schedulers.learned.scorer_file import PRETRAINED

RUNGS = ((1.0, 1 / 6), (0.3, 1 / 2), (0.1, 1.0))
"""Share of the candidates that get so far, and share of the sequences that they then play."""

PARENTS = 5
"""The best before the last rung, between each two of which one more candidate is tried."""

RECORD = "marl_sched.tuning/1"

_STREAM = 0x7B


def draw(scheduler: Scheduler, rng: np.random.Generator) -> dict[str, float]:
    """Random parameters, three significant digits each."""
    return {
        name: param.search.draw(rng)
        for name, param in scheduler.takes.items()
        if param.search is not None
    }


def candidates(
    scheduler: Scheduler, budget: int, seed: int, known: Sequence[dict[str, float]] = ()
) -> list[dict[str, float]]:
    """`budget` sets of parameters: the defaults, those that are `known`, random ones.

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
    given = [dict(scheduler.params), *(dict(params) for params in known)]
    return [*given, *(draw(scheduler, rng) for _ in range(budget - len(given)))]


def known_params(name: str) -> list[dict[str, float]]:
    """Settings of scheduler `name` that are known to be good: those among `BASELINES`, but for its
    defaults and the tuned ones, and those of the index below the scorer that ships."""
    listed = [one for one in BASELINES if one.startswith(f"{name}:") and TUNED not in one]
    found = [get_scheduler(one).params for one in listed]
    if name == TUNED_INDEX.removesuffix(TUNED):
        shipped = get_scheduler(PRETRAINED).params
        found.append({key: float(f"{value:.3g}") for key, value in shipped.items()})
    return found


@dataclass(frozen=True)
class Tuned:
    """The outcome of a search."""

    params: dict[str, float]
    score_percent: float
    """Mean JCT on validation against the defaults, geometric mean over cells."""
    robust_percent: float
    """The same without the cluster that flatters it most: what it was chosen by."""
    candidates: int
    sequences: int
    """Played by the winner, over all cells."""
    simulated: int
    """Played by all candidates together: the budget that was spent."""
    by_cell: dict[str, float]
    """Mean JCT against the defaults in each cell, percent."""
    left_out: dict[str, float]
    """Each cluster left out in turn: the mean JCT there, percent, of what the others choose in the
    same way. What tuning is worth on a cluster that it has not seen, but for the rungs before the
    last, where all clusters narrowed the field. Empty where there is one cluster alone."""


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
    court: Court,
    budget: int,
    seed: int,
    say: Callable[[str], None] = lambda text: None,
    known: Sequence[dict[str, float]] = (),
) -> Tuned:
    """Search `budget` candidates; the defaults and those that are `known` stay in to the end, so
    that what is found is no worse than any of them by the score that is said above."""
    alive = candidates(court.scheduler, budget, seed, known)
    kept = alive[: 1 + len(known)]
    ranked = alive
    for rung, (part, share) in enumerate(RUNGS):
        # First among those that go on, whatever their scores: those that stay in.
        alive = [*kept, *(params for params in ranked if params not in kept)]
        alive = alive[: max(len(kept) + 1, math.ceil(part * budget))]
        if share == 1.0:
            alive += midpoints(court.scheduler, ranked[: min(PARENTS, len(alive))], alive)
        ranked = _ranked(court, alive, share, say, f"rung {rung + 1}")
    logs = [_logs(court, params, 1.0) for params in ranked]
    sums, defaults = court.sums(ranked[0], 1.0), court.sums(kept[0], 1.0)
    cells = [cell.name for cell in court.cells]
    return Tuned(
        params=ranked[0],
        score_percent=_percent(np.mean(list(logs[0].values()))),
        robust_percent=_percent(robust(logs[0])),
        candidates=budget,
        sequences=sum(one.size for one in sums),
        simulated=court.played,
        by_cell={n: _percent(_log(m, t)) for n, m, t in zip(cells, sums, defaults, strict=True)},
        left_out={cluster: _percent(log) for cluster, log in _left_out(logs).items()},
    )


def _ranked(
    court: Court,
    alive: list[dict[str, float]],
    share: float,
    say: Callable[[str], None],
    rung: str,
) -> list[dict[str, float]]:
    """The candidates by their score on a share of the sequences, the best first."""
    scores: list[float] = []
    for number, params in enumerate(alive, start=1):
        scores.append(robust(_logs(court, params, share)))
        say(f"{rung}, {number} of {len(alive)}, best {_percent(min(scores)):+.2f} %")
    return [alive[i] for i in np.argsort(scores, kind="stable")]


def midpoints(
    scheduler: Scheduler, parents: Sequence[dict[str, float]], there: Sequence[dict[str, float]]
) -> list[dict[str, float]]:
    """What lies between each two of `parents`, the better one first, but for those that are
    `there` already: where good settings lie far apart, those between are often better than both."""
    found: list[dict[str, float]] = []
    for one, other in combinations(parents, 2):
        params = {
            name: param.search.between(one[name], other[name])
            for name, param in scheduler.takes.items()
            if param.search is not None
        }
        if params not in found and params not in there:
            found.append(params)
    return found


def robust(logs: dict[str, float]) -> float:
    """A candidate's score, see above, from its g_c by cluster; g itself of one cluster."""
    values = sorted(logs.values())
    return float(np.mean(values[1:] if len(values) > 1 else values))


def _left_out(logs: Sequence[dict[str, float]]) -> dict[str, float]:
    """g_c of the candidate that is best on all clusters but c, for each c."""
    clusters = list(logs[0])
    if len(clusters) == 1:
        return {}

    def elsewhere(log: dict[str, float], cluster: str) -> float:
        return robust({other: value for other, value in log.items() if other != cluster})

    return {c: min(logs, key=lambda log, c=c: elsewhere(log, c))[c] for c in clusters}  # type: ignore[misc]


def _logs(court: Court, params: dict[str, float], share: float) -> dict[str, float]:
    """g_c by cluster, over a share of the sequences of each of its cells."""
    found: dict[str, list[float]] = {}
    pairs = zip(court.sums(params, share), court.sums(court.scheduler.params, share), strict=True)
    for cell, (mine, theirs) in zip(court.cells, pairs, strict=True):
        found.setdefault(cluster_of(cell), []).append(_log(mine, theirs))
    return {cluster: float(np.mean(logs)) for cluster, logs in found.items()}


def cluster_of(cell: CellRun) -> str:
    """Whose jobs a cell plays, at whatever load: a trace, or some of its tenants."""
    work = cell.config.workload
    name = "built-in" if work.trace is None else Path(work.trace).stem
    return "-".join((name, *work.tenants))


def _log(mine: np.ndarray, theirs: np.ndarray) -> float:
    return math.log(mine.sum() / theirs.sum())


def _percent(log: float | np.floating[Any]) -> float:
    return 100.0 * math.expm1(log)


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
        "without_its_best_cluster_percent": round(tuned.robust_percent, 2),
        "candidates": tuned.candidates,
        "sequences_of_the_best": tuned.sequences,
        "sequences_simulated": tuned.simulated,
        "left_out_percent": {name: round(value, 2) for name, value in tuned.left_out.items()},
        "by_cell_percent": {name: round(value, 2) for name, value in tuned.by_cell.items()},
    }
