"""A sweep as a page of data: what is searched, how, and with which budget."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Strict

import marl_sched
from marl_sched.config import merge
from marl_sched.errors import UserError, do_you_mean

Search = Literal["grid", "optuna", "pbt", "baselines"]

Count = Annotated[int, Strict()]
Number = Annotated[float, Strict()]
"""Not the text of one, and no bool."""


@dataclass(frozen=True)
class Range:
    """Values that a setting may take: `even` or `log` between two bounds."""

    kind: Literal["even", "log"]
    low: Number
    high: Number


def even(low: float, high: float) -> Range:
    """All values between alike."""
    return Range("even", low, high)


def log(low: float, high: float) -> Range:
    """All factors alike: as often in 0.01 to 0.1 as in 0.1 to 1."""
    return Range("log", low, high)


@dataclass(frozen=True)
class Halving:
    """Early end of poor trials of an Optuna search without a simplex, all of which have one
    objective: asynchronous successive halving.

    A trial that reaches one of the `rungs` (shares of its budget) ends there unless its best
    network on validation so far is among the best `keep` of those that got there. It is compared
    with the trials that had to have ended when it started (`plan.lag`), not with whoever happens
    to be faster: so a sweep repeats, and a sweep that was killed ends as one that was not.
    Source: Li et al., "A system for massively parallel hyperparameter tuning" (ASHA), MLSys 2020.
    """

    rungs: tuple[Number, ...] = (1 / 9, 1 / 3)
    keep: Number = 1 / 3


@dataclass(frozen=True)
class Sweep:
    """All of a sweep but where its results go."""

    title: str
    search: Search
    """`grid`: `points`, then even draws from the simplex, or `cases`; `optuna`: its TPE; `pbt`:
    population based training; `baselines`: the parameters of classic schedulers."""
    trials: Count
    """Points tried with each seed, of `cases` at most as many as there are; with `baselines` the
    sets of parameters of each scheduler."""
    minutes_per_trial: Number | None
    """Training time of a trial; with `pbt` of one generation of a member, with `baselines` None:
    its trials end by themselves."""
    objectives: tuple[str, ...] = ("network_percent",)
    """Columns of the results that the search lowers; a leading `-` raises one. `network_percent`
    is the validation score of a trial's best network; `valid_X` a raw metric X of that
    network, on validation."""
    world: Mapping[str, Any] = field(default_factory=dict)
    """Settings of workload, cluster and episodes that stand where nobody names a trace or a
    cluster."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What differs from the project's defaults; options and --config go before it."""
    space: Mapping[str, Range] = field(default_factory=dict)
    """Setting, as in --set, and its range."""
    simplex: tuple[str, ...] = ()
    """Terms of `env.reward` whose weights are searched too: together they are 1."""
    points: Mapping[str, tuple[Number, ...]] = field(default_factory=dict)
    """First points of a grid, by name, in the order of `simplex`."""
    cases: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Trials of a grid without a simplex, by name: setting, as in --set, and its value."""
    seeds: Count = 1
    """The whole search is repeated with as many seeds of training."""
    conditioned: Annotated[bool, Strict()] = False
    """Also train, with each seed, one network for the whole simplex, in the time of all trials."""
    halving: Halving | None = None
    population: Count = 4
    """Members of a generation of `pbt`."""
    schedulers: tuple[str, ...] = ()
    """What `baselines` tunes."""

    @property
    def weighs(self) -> bool:
        """Whether trials differ in their reward weights, each with its own objective: then there
        is a trade-off to show."""
        return bool(self.simplex) and self.search in ("grid", "optuna")

    @property
    def common_objective(self) -> str | None:
        """The one figure by which all trials can be compared; None where there is none."""
        alone = len(self.objectives) == 1 and self.search != "baselines"
        return self.objectives[0] if alone else None

    def defaults(self, own_world: bool) -> dict[str, Any]:
        """What the page sets, nested; without `world` where jobs and cluster are somebody's own."""
        found: dict[str, Any] = {}
        merge(found, {} if own_world else dict(self.world))
        merge(found, dict(self.settings))
        return found

    def as_record(self) -> dict[str, Any]:
        """What must not change while a sweep goes on, as JSON has it."""
        record = asdict(self)
        del record["title"], record["world"], record["settings"]  # the experiment has them
        if self.search == "pbt":
            record["population"] = min(self.population, self.trials)
        alone = self.search in ("grid", "optuna") and self.seeds == 1 and not self.conditioned
        if alone or self.search == "pbt":
            del record["trials"]  # more of them may follow
        return record


def known_pages() -> dict[str, Path]:
    """Name -> file of the pages that come with the project, in `tuning/` of its checkout.

    Those of the working folder are none: a name must not run code that somebody put there.
    """
    checkout = Path(marl_sched.__file__).resolve().parents[1]
    if not (checkout / "pyproject.toml").is_file():  # installed, beside other people's packages
        return {}
    return {path.stem: path for path in sorted((checkout / "tuning").glob("*.py"))}


def is_file_name(name: str) -> bool:
    """Whether `name` says where a file is, and is not the name of a page."""
    return name.endswith(".py") or os.sep in name


def load_page(name: str) -> Sweep:
    """The `SWEEP` of one of our pages by its name, or of a file by its path.

    Raises:
        UserError: when there is no such page, it has none, or one with other fields.
    """
    path = Path(name) if is_file_name(name) else known_pages().get(name)
    if path is None or not path.is_file():
        known = ", ".join(known_pages()) or "none without a checkout of the project: name a FILE.py"
        if is_file_name(name):
            raise UserError(f"{name}: no such file; pages by name: {known}")
        here = Path("tuning") / f"{name}.py"
        hint = f"; for the file here say {here}" if here.is_file() else ""
        raise UserError(
            f"no sweep {name!r}{do_you_mean(name, known_pages())}; known: {known}{hint}"
        )
    spec = importlib.util.spec_from_file_location(f"sweep_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"{path}: cannot be loaded ({type(error).__name__}: {error})") from None
    sweep = getattr(module, "SWEEP", None)
    if not isinstance(sweep, Sweep):
        raise UserError(f"{path}: has no SWEEP = Sweep(..); see tuning/ppo.py for one")
    return sweep
