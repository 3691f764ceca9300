"""What is wrong with a page of `tuning/`, found before any trial is run."""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from marl_sched.config import Config, flat
from marl_sched.errors import UserError
from marl_sched.evaluation.compare import part_episodes
from marl_sched.evaluation.entrants import load_player
from marl_sched.schedulers import get_scheduler
from marl_sched.tuning.page import Sweep
from marl_sched.tuning.pareto import AXES
from marl_sched.tuning.plan import CONDITIONED, REWARD, Proposal, value_in
from marl_sched.tuning.run import trial_config
from marl_sched.tuning.trial import NETWORK_SCORE, RUN_SCORE, add_fractions

SEARCHED = ("env.", "model.", "training.")
"""Sections whose settings may differ from trial to trial: all play the same jobs on the same
cluster."""

_SHEET = TypeAdapter(Sweep)


def checked(sweep: Sweep, where: str) -> Sweep:
    """The page with lists as tuples and the like; `where` names it in errors.

    Raises:
        UserError: for a field of the wrong type, and for what does not go together.
    """
    try:
        sweep = _SHEET.validate_python(asdict(sweep))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"{where}: {field}={first['input']!r}: {first['msg']}; see marl_sched/tuning/page.py "
            "for the fields"
        ) from None
    for fault in _faults(sweep):
        raise UserError(f"{where}: {fault}")
    return sweep


def _faults(sweep: Sweep) -> Iterator[str]:
    for name in ("trials", "seeds", "population"):
        if getattr(sweep, name) < 1:
            yield f"{name}={getattr(sweep, name)}: at least 1"
    minutes = sweep.minutes_per_trial
    if sweep.search != "baselines" and not (minutes is not None and 0 < minutes < math.inf):
        yield f"minutes_per_trial={minutes}: say how long a trial trains"
    yield from _faults_of_search(sweep)
    yield from _faults_of_simplex(sweep)
    for name, span in sweep.space.items():
        if not -math.inf < span.low < span.high < math.inf:
            yield f"space, {name}: {span.low:g} to {span.high:g} is no range, low comes first"
        if span.kind == "log" and span.low <= 0:
            yield f"space, {name}: a logarithmic range begins above 0, not at {span.low:g}"
    for name in (*sweep.points, *sweep.cases):
        if re.fullmatch(r"[\w.-]+", name) is None or name.startswith((".", CONDITIONED)):
            yield f"{name!r}: a trial's name is of letters, digits and _ - . (it names a folder)"
    for name in sweep.points:
        if re.fullmatch(r"draw_\d+", name):
            yield f"points, {name}: so are points named that are drawn; take another name"
    halving = sweep.halving
    if halving is not None and not (
        0 < halving.keep < 1 and halving.rungs and all(0 < rung < 1 for rung in halving.rungs)
    ):
        yield "halving: rungs and keep are shares of 1, for example Halving((1 / 9, 1 / 3), 1 / 3)"


def _faults_of_search(sweep: Sweep) -> Iterator[str]:
    search = sweep.search
    if search == "grid" and not (sweep.simplex or sweep.cases):
        yield "a grid needs a simplex with points, or cases"
    if search in ("optuna", "pbt") and not (sweep.space or sweep.simplex):
        yield f"search={search!r} needs a space or a simplex to search"
    if search == "grid" and sweep.space:
        yield "a grid has no space: name its cases, or take search='optuna'"
    if sweep.cases and (search != "grid" or sweep.simplex):
        yield "cases are for a grid without a simplex"
    if sweep.cases and sweep.trials > len(sweep.cases):
        yield f"trials={sweep.trials}: there are {len(sweep.cases)} cases, and no others to try"
    if search == "baselines":
        if not sweep.schedulers:
            yield "search='baselines' needs schedulers"
        for name in sweep.schedulers:
            get_scheduler(name)
    if search not in ("grid", "optuna") and (sweep.seeds > 1 or sweep.conditioned):
        yield "seeds and conditioned are for a grid and an Optuna search"
    if sweep.halving is not None and (search != "optuna" or sweep.simplex):
        yield "halving is for an Optuna search without a simplex: all else is not compared so early"
    if sweep.conditioned and not sweep.simplex:
        yield "conditioned=True needs a simplex"
    if not sweep.objectives:
        yield "objectives: name at least one column of the results"


def _faults_of_simplex(sweep: Sweep) -> Iterator[str]:
    simplex = sweep.simplex
    for term in simplex:
        if term not in AXES:
            yield f"simplex: {term!r} is no term; known: {', '.join(AXES)}"
    if len(set(simplex)) < len(simplex) or len(simplex) == 1:
        yield f"simplex: {', '.join(simplex)}: name two terms or more, each once"
    if sweep.points and not simplex:
        yield "points are of a simplex: name its terms"
    for name, weights in sweep.points.items():
        if len(weights) != len(simplex):
            yield (
                f"points, {name}: {len(weights)} weights for a simplex of {len(simplex)} terms "
                f"({', '.join(simplex)})"
            )
        if not all(0 <= weight < math.inf for weight in weights) or sum(weights) <= 0:
            yield f"points, {name}: weights are from 0 on, and one is above 0"


def check_not_searched(
    sweep: Sweep, in_file: Mapping[str, Any], said: Mapping[str, Any], where: str
) -> None:
    """Refuse settings that every trial replaces by a value of its own.

    Args:
        in_file: setting -> value in the file of --config, where defaults are no wish: a run's own
            config.yaml names everything.
        said: setting -> value in --set.

    Raises:
        UserError: naming the setting.
    """
    defaults = flat(Config().model_dump(mode="json"))
    wished = {key: value for key, value in in_file.items() if defaults.get(key) != value}
    cases = [set(case) for case in sweep.cases.values()]
    searched = {*sweep.space, *(set.intersection(*cases) if cases else ())}
    for option, keys in (("--set", said), ("--config", wished)):
        for key in keys:
            if key in searched or (sweep.simplex and key.startswith(REWARD)):
                raise UserError(
                    f"{option}: {key} is searched by {where}: leave it out, or write a page of "
                    "your own (docs/tuning.md)"
                )


def check_trials(sweep: Sweep, config: Config, where: str) -> None:
    """See that trials can have what the page gives them, and that its objectives exist.

    Raises:
        UserError: naming the setting or the objective.
    """
    for key in (*sweep.space, *(key for case in sweep.cases.values() for key in case)):
        if not key.startswith(SEARCHED):
            raise UserError(
                f"{where}: {key}: trials may differ in settings of {', '.join(SEARCHED)} alone, as "
                "all play the same jobs on the same cluster"
            )
    spans = sweep.space.items()
    rng = np.random.default_rng(0)
    tried = {
        "its lowest values": {key: span.low for key, span in spans},
        "its highest values": {key: span.high for key, span in spans},
        "values between": {key: value_in(span, rng) for key, span in spans},
        **{f"case {name}": dict(case) for name, case in sweep.cases.items()},
    }
    if sweep.conditioned and config.env.train_weights:
        raise UserError(
            f"{where}: env.train_weights: the sweep itself trains one scheduler for its simplex "
            "(conditioned=True); leave this setting out"
        )
    even = {f"{REWARD}{term}": 1.0 for term in sweep.simplex}
    for name, values in tried.items():
        proposal = Proposal(f"with {name}", values | even)
        if trial_config(config, proposal, sweep.simplex, where).training.warm_start > 0:
            raise UserError(
                f"{where}, {name}: a sweep judges what one algorithm has learned: leave out "
                "training.warm_start, or take training.algo=es"
            )
    if sweep.search != "baselines":
        _check_objectives(sweep, config, where)


def _check_objectives(sweep: Sweep, config: Config, where: str) -> None:
    episodes = part_episodes(config, "validation", 1)
    runs = {"base": load_player(config.env.base).play(config, "validation", episodes)}
    add_fractions(config, "validation", runs, episodes)
    known = [NETWORK_SCORE, RUN_SCORE, *(f"valid_{metric}" for metric in runs["base"][0])]
    for objective in sweep.objectives:
        if objective.removeprefix("-") not in known:
            raise UserError(
                f"{where}: objective {objective!r} is not measured; known: {', '.join(known)} (a "
                "leading - raises one)"
            )


def check_packages(sweep: Sweep) -> None:
    """Refuse a sweep that needs what is not installed, before it begins.

    Raises:
        UserError: naming it.
    """
    needed = (["optuna"] if sweep.search == "optuna" else []) + (["plotly"] if sweep.weighs else [])
    for name in needed:
        if importlib.util.find_spec(name) is None:
            raise UserError(
                f"this sweep needs {name}, which is not installed: pip install -e '.[tuning]'"
            )


def restricted(sweep: Sweep, kept: tuple[str, ...], where: str) -> Sweep:
    """The sweep with these terms of its simplex alone; points at which nothing else counts go.

    Raises:
        UserError: when too few are left to be weighed against each other.
    """
    if kept == sweep.simplex:
        return sweep
    at = [sweep.simplex.index(term) for term in kept]
    points = {name: tuple(weights[i] for i in at) for name, weights in sweep.points.items()}
    points = {name: weights for name, weights in points.items() if sum(weights) > 0}
    gone = {AXES[term].metric for term in sweep.simplex if term not in kept}
    objectives = tuple(
        o for o in sweep.objectives if o.lstrip("-").removeprefix("valid_") not in gone
    )
    return checked(
        replace(sweep, simplex=kept, points=points, objectives=objectives),
        f"{where} (no deadlines)",
    )
