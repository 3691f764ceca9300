"""Which trial comes next: grid, Optuna, population based training.

A proposal depends only on the trials that it `needs`, which are fixed by its number, and not on
who happened to end first. So a sweep repeats; and one that was killed goes on by proposing all
trials again, of which those that ended are not run twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from marl_sched.tuning.outcome import Outcome
from marl_sched.tuning.page import Halving, Range, Sweep

REWARD = "env.reward."
SCHEDULER = "scheduler"
"""Value of a trial that searches the parameters of this classic scheduler."""
CONDITIONED = "conditioned"
"""Name of the trial that trains one network for the whole simplex."""


@dataclass(frozen=True)
class Proposal:
    """A trial to run."""

    name: str
    values: dict[str, Any]
    seed: int = 0
    """Added to the experiment's, for training alone."""
    budget: int = 1
    """Multiple of the budget of a trial, with that of `parent` counted."""
    parent: str | None = None
    """Trial whose training it continues."""
    cutoffs: dict[str, float] = field(default_factory=dict)
    """Rung -> score above which the trial ends there."""


class Plan(Protocol):
    """The trials of a sweep, by number."""

    total: int
    units: int
    """Trials' worth of budget that all of it takes."""
    longest: int
    """Trials' worth of budget that has to be spent one after the other."""

    def needs(self, number: int) -> range:
        """Trials that must have ended before this one is proposed."""

    def propose(self, number: int, ended: Sequence[Outcome]) -> Proposal:
        """Trial `number`, given the outcomes of what it needs; called once each, in order."""


def plan_of(sweep: Sweep, seed: int, lag: int) -> Plan:
    """The plan of a page.

    Args:
        seed: of everything that is drawn.
        lag: a trial that is suggested knows of those that started at least so many before it;
            more than run at once, so that nobody waits for the slowest.
    """
    if sweep.search == "pbt":
        return Population(sweep, seed)
    if sweep.search == "baselines":
        return Baselines(sweep)
    return Blocks(sweep, seed, lag)


def weights_as_values(simplex: Sequence[str], weights: Iterable[float]) -> dict[str, float]:
    """Setting -> weight in ten-thousandths; together they are 1, whatever `weights` add up to."""
    given = np.array(list(weights), dtype=np.float64)
    parts = np.rint(10_000 * given / given.sum()).astype(int)
    parts[parts.argmax()] += 10_000 - parts.sum()
    return {f"{REWARD}{t}": int(part) / 10_000 for t, part in zip(simplex, parts, strict=True)}


def simplex_points(sweep: Sweep, seed: int) -> dict[str, tuple[float, ...]]:
    """Name -> weights: the page's own points, then even draws."""
    chosen: dict[str, tuple[float, ...]] = dict(list(sweep.points.items())[: sweep.trials])
    rng = np.random.default_rng(seed)
    for index in range(len(chosen), sweep.trials):
        # Dirichlet(1): even over the simplex.
        drawn = rng.dirichlet(np.ones(len(sweep.simplex)))
        chosen[f"draw_{index + 1}"] = tuple(weights_as_values(sweep.simplex, drawn).values())
    return chosen


def grid_points(sweep: Sweep, seed: int) -> list[tuple[str, dict[str, Any]]]:
    """(name, values) of the trials of a grid."""
    if not sweep.simplex:
        return [(name, dict(values)) for name, values in sweep.cases.items()]
    points = simplex_points(sweep, seed)
    return [(name, weights_as_values(sweep.simplex, w)) for name, w in points.items()]


class Blocks:
    """Grid and Optuna: the search once for each seed, after the network for all weights."""

    def __init__(self, sweep: Sweep, seed: int, lag: int) -> None:
        self._sweep, self._lag = sweep, lag
        self._first = int(sweep.conditioned)
        self._size = self._first + sweep.trials
        self.total = sweep.seeds * self._size
        self.units = sweep.seeds * sweep.trials * (1 + self._first)
        self.longest = sweep.trials if sweep.conditioned else 1
        self._points = grid_points(sweep, seed)
        optuna = sweep.search == "optuna"
        self._studies = [Study(sweep, seed + s) for s in range(sweep.seeds)] if optuna else []

    def needs(self, number: int) -> range:
        block, local = divmod(number, self._size)
        begin = block * self._size + self._first
        if self._sweep.search == "grid":
            return range(begin, begin)
        return range(begin, max(begin, block * self._size + local - self._lag + 1))

    def propose(self, number: int, ended: Sequence[Outcome]) -> Proposal:
        block, local = divmod(number, self._size)
        suffix = f"_seed{block}" if self._sweep.seeds > 1 else ""
        if local < self._first:
            values = {"env.train_weights": list(self._sweep.simplex)}
            return Proposal(CONDITIONED + suffix, values, block, budget=self._sweep.trials)
        if self._studies:
            name, values = f"trial_{local - self._first + 1}", self._studies[block].ask(ended)
        else:
            name, values = self._points[local - self._first]
        return Proposal(name + suffix, values, block, cutoffs=cutoffs(self._sweep.halving, ended))


def cutoffs(halving: Halving | None, ended: Sequence[Outcome]) -> dict[str, float]:
    """Rung -> the score that the best `keep` of those who got there have reached."""
    found = {}
    for rung in () if halving is None else halving.rungs:
        scores = [one.rungs[key] for one in ended if (key := rung_key(rung)) in one.rungs]
        if scores and halving is not None:
            found[rung_key(rung)] = float(np.percentile(scores, 100.0 * halving.keep))
    return found


def rung_key(rung: float) -> str:
    """A rung (share of the budget) as JSON's keys and `Outcome.rungs` name it."""
    return f"{rung:.4f}"


class Study:
    """Optuna's TPE sampler, told of outcomes in the order of trials."""

    STARTUP = 4
    """Random trials before the first model: sweeps here are small."""

    def __init__(self, sweep: Sweep, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._sweep = sweep
        self._told = 0
        self._asked: list[Any] = []
        self._failed = optuna.trial.TrialState.FAIL
        self._study = optuna.create_study(
            sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=self.STARTUP),
            directions=["minimize"] * len(sweep.objectives),
        )

    def ask(self, ended: Sequence[Outcome]) -> dict[str, Any]:
        """The next values, knowing of the first trials' outcomes `ended`."""
        for outcome in ended[self._told :]:
            self._tell(self._asked[self._told], outcome)
            self._told += 1
        trial = self._study.ask()
        self._asked.append(trial)
        values: dict[str, Any] = {}
        for name, span in self._sweep.space.items():
            drawn = trial.suggest_float(name, span.low, span.high, log=span.kind == "log")
            values[name] = float(f"{drawn:.3g}")
        if self._sweep.simplex:
            # Minus logarithms of even draws, normalised, are even over the simplex.
            drawn = [trial.suggest_float(t, 0.001, 0.999) for t in self._sweep.simplex]
            shares = -np.log(drawn)
            values |= weights_as_values(self._sweep.simplex, shares)
        return values

    def _tell(self, trial: Any, outcome: Outcome) -> None:
        costs = [outcome.cost(objective) for objective in self._sweep.objectives]
        if any(cost is None or not math.isfinite(cost) for cost in costs):
            self._study.tell(trial, state=self._failed)
        else:
            self._study.tell(trial, costs)


class Baselines:
    """One search for each classic scheduler."""

    def __init__(self, sweep: Sweep) -> None:
        self._schedulers = sweep.schedulers
        self.total = self.units = len(sweep.schedulers)
        self.longest = 1

    def needs(self, number: int) -> range:
        return range(0)

    def propose(self, number: int, ended: Sequence[Outcome]) -> Proposal:
        name = self._schedulers[number]
        return Proposal(name, {SCHEDULER: name})


class Population:
    """Population based training, generation by generation.

    A member of a generation goes on with its own training, except for the worst quarter (one of
    four members; those that failed are the worst): each of these goes on from a member drawn from
    the best quarter, with its network, optimiser and counters, under changed values: each
    of them times 0.8 or 1.2 within its range, or, one time in four, drawn anew; weights are scaled
    to sum to 1 again. When all have failed, all are drawn anew. Source: Jaderberg et al.,
    "Population based training of neural networks", 2017 (truncation selection, with a quarter in
    the place of a fifth; all members of a generation are compared at once, so that it repeats).
    """

    RESAMPLE = 0.25
    FACTORS = (0.8, 1.2)

    def __init__(self, sweep: Sweep, seed: int) -> None:
        self._sweep, self._seed = sweep, seed
        self._size = min(sweep.population, sweep.trials)
        self.total = self.units = sweep.trials
        self.longest = math.ceil(sweep.trials / self._size)

    def needs(self, number: int) -> range:
        generation = number // self._size
        return range(max(0, generation - 1) * self._size, generation * self._size)

    def propose(self, number: int, ended: Sequence[Outcome]) -> Proposal:
        generation, member = divmod(number, self._size)
        rng = np.random.default_rng([self._seed, number])
        name = f"generation_{generation + 1}_member_{member + 1}"
        alive = [one for one in ended if self._cost(one) < math.inf]
        if not alive:
            return Proposal(name, self._drawn(rng), member)
        ranked = sorted(ended, key=lambda one: (self._cost(one), one.number))
        quarter = max(1, len(ended) // 4)
        own = ended[member]
        worst = own in ranked[-quarter:] and len(ended) > 1
        if not worst and own in alive:
            return Proposal(name, own.values, own.seed, own.budget + 1, own.name)
        parent = ranked[int(rng.integers(min(quarter, len(alive))))]
        values = self._changed(parent.values, rng)
        return Proposal(name, values, parent.seed, parent.budget + 1, parent.name)

    def _cost(self, outcome: Outcome) -> float:
        cost = outcome.cost(self._sweep.objectives[0])
        return math.inf if cost is None or math.isnan(cost) else cost

    def _drawn(self, rng: np.random.Generator) -> dict[str, Any]:
        values: dict[str, Any] = {k: value_in(span, rng) for k, span in self._sweep.space.items()}
        if self._sweep.simplex:
            shares = rng.dirichlet(np.ones(len(self._sweep.simplex)))
            values |= weights_as_values(self._sweep.simplex, shares)
        return values

    def _changed(self, values: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        fresh = self._drawn(rng)

        def changed(name: str) -> float:
            drawn = rng.random() < self.RESAMPLE
            factor = self.FACTORS[int(rng.integers(2))]
            return float(fresh[name] if drawn else values[name] * factor)

        new: dict[str, Any] = {}
        for name, span in self._sweep.space.items():
            new[name] = float(f"{min(max(changed(name), span.low), span.high):.3g}")
        if self._sweep.simplex:
            shares = np.array([changed(f"{REWARD}{term}") for term in self._sweep.simplex])
            new |= weights_as_values(self._sweep.simplex, shares)
        return new


def value_in(span: Range, rng: np.random.Generator) -> float:
    """A value of three digits out of `span`."""
    if span.kind == "log":
        value = math.exp(rng.uniform(math.log(span.low), math.log(span.high)))
    else:
        value = float(rng.uniform(span.low, span.high))
    return float(f"{value:.3g}")
