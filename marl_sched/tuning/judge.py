"""Trials and classic schedulers on the same held-out episodes, by raw metrics."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from marl_sched.config import Config, load_config
from marl_sched.evaluation.compare import part_episodes
from marl_sched.evaluation.entrants import Player, load_player, rule_player
from marl_sched.evaluation.learned import with_weights
from marl_sched.evaluation.statistics import Evidence, mean_interval
from marl_sched.evaluation.windows import evidence_of, with_draws
from marl_sched.schedulers import get_scheduler
from marl_sched.schedulers.learned.family import parse_weights
from marl_sched.schedulers.learned.scorer_file import is_scorer, load_record
from marl_sched.terms import NAMES, TERMS
from marl_sched.training.records import RunFolder
from marl_sched.tuning.outcome import Outcome
from marl_sched.tuning.page import Sweep
from marl_sched.tuning.plan import CONDITIONED, REWARD, Proposal, simplex_points
from marl_sched.tuning.run import Run, trial_config
from marl_sched.tuning.trained import load_network
from marl_sched.tuning.trial import PARAM, add_fractions

METRICS = {term.metric: term.heading for term in TERMS}
"""Raw metrics by which everybody is judged, with their headings."""

TUNED_HERE = ", tuned here"
"""Behind the name of a classic scheduler with the parameters that the sweep found."""

Row = dict[str, Any]
"""A line of results.parquet."""

Seat = tuple[Player, Config]
"""A player, and the experiment that it plays."""


def judged_rows(run: Run, outcomes: list[Outcome]) -> list[Row]:
    """A row for each trial and each classic scheduler; a network for all weights has one for each
    point of the grid.

    Each has means and 95 % intervals of `METRICS` on the test part, NaN where there is too little
    evidence for one, and their means on validation as `valid_X`: what is chosen is chosen by these.
    Failed trials have none.
    """
    config = with_draws(run.config, "test")
    rows: list[Row] = []
    players: list[Seat | None] = []
    for outcome in outcomes:
        row = _row_of(outcome)
        if outcome.state == "failed":
            rows.append(row)
            players.append(None)
            continue
        trained = load_network(run.trials / outcome.name)
        proposal = Proposal(outcome.name, outcome.values, outcome.seed)
        settings = trial_config(config, proposal, run.sweep.simplex)
        for point, weights in _points_of(run.sweep, config, outcome).items():
            at = settings if weights is None else with_weights(settings, weights)
            name = outcome.name if weights is None else f"{outcome.name}@{point}"
            shown = {f"{REWARD}{term}": w for term, w in (weights or {}).items()}
            rows.append(row | {"name": name} | shown)
            players.append((trained.player, at))
    for name in dict.fromkeys((config.env.base, *config.evaluation.schedulers)):
        rows.append({"name": name, "kind": "classic", "state": "done"})
        players.append((load_player(name), config))
    return _with_metrics(config, rows, players)


def _played(
    config: Config, part: str, count: int, players: Sequence[Seat | None]
) -> list[list[dict[str, float]] | None]:
    """Metrics of each player on each of `count` episodes of a part."""
    episodes = part_episodes(config, part, count)
    played = [None if seat is None else seat[0].play(seat[1], part, episodes) for seat in players]
    runs = {str(i): one for i, one in enumerate(played) if one is not None}
    add_fractions(config, part, runs, episodes)
    return played


def _means(played: list[dict[str, float]] | None) -> dict[str, float]:
    if played is None:
        return {}
    return {metric: float(np.mean([one[metric] for one in played])) for metric in METRICS}


def _with_metrics(config: Config, rows: list[Row], players: Sequence[Seat | None]) -> list[Row]:
    """The rows with means and intervals on the test part, and with means on validation."""
    judged = _played(config, "validation", config.training.validation_episodes, players)
    for row, figures in zip(rows, judged, strict=True):
        row |= {f"valid_{metric}": value for metric, value in _means(figures).items()}
    count = config.evaluation.episodes
    episodes = part_episodes(config, "test", count)
    evidence = evidence_of(config, "test", episodes)
    played = _played(config, "test", count, players)
    return [row | _intervals(one, evidence) for row, one in zip(rows, played, strict=True)]


def _intervals(played: list[dict[str, float]] | None, evidence: Evidence) -> Row:
    row: Row = {}
    for metric in METRICS:
        names = (metric, f"{metric}_low", f"{metric}_high")
        row |= dict.fromkeys(names, float("nan"))
        if played is not None:
            found = mean_interval(np.array([s[metric] for s in played], float), evidence)
            ends = zip(names, (found.mean, found.low, found.high), strict=True)
            row |= {name: end for name, end in ends if end is not None}
    return row


def _row_of(outcome: Outcome) -> Row:
    conditioned = outcome.name.startswith(CONDITIONED)
    # Text, lists and the like as text: columns of a Parquet file have one type.
    values = {
        key: value if value is None or isinstance(value, int | float) else value_text(value)
        for key, value in ({} if conditioned else outcome.values).items()
    }
    return {
        "name": outcome.name,
        "kind": "conditioned" if conditioned else "trained",
        "state": outcome.state,
        "reason": outcome.reason,
        "number": outcome.number,
        "seed": outcome.seed,
        **values,
        **outcome.figures,
    }


def value_text(value: Any) -> str:
    """A value of a setting as people read it: numbers short, all but text as JSON has it."""
    if isinstance(value, str):
        return value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:g}" if is_number else json.dumps(value)


def _points_of(
    sweep: Sweep, config: Config, outcome: Outcome
) -> dict[str, dict[str, float] | None]:
    """Weights at which a trial is judged; None: its own."""
    if not outcome.name.startswith(CONDITIONED):
        return {"": None}
    points = simplex_points(sweep, config.seed)
    return {n: dict(zip(sweep.simplex, weights, strict=True)) for n, weights in points.items()}


def search_rows(run: Run, outcomes: list[Outcome]) -> list[Row]:
    """A row for each tuned scheduler, `TUNED_HERE`, and one for each as it is, with figures as of
    `judged_rows`."""
    config = with_draws(run.config, "test")
    rows: list[Row] = []
    players: list[Seat | None] = []
    for outcome in outcomes:
        scheduler = get_scheduler(outcome.name)
        rows.append({"name": outcome.name, "kind": "classic", "state": "done"})
        players.append((load_player(outcome.name), config))
        rows.append(_row_of(outcome) | {"name": f"{outcome.name}{TUNED_HERE}", "kind": "tuned"})
        params = {
            name.removeprefix(PARAM): value
            for name, value in outcome.figures.items()
            if name.startswith(PARAM)
        }
        alive = outcome.state != "failed"
        tuned = rule_player(scheduler.with_params(params))
        players.append((tuned, config) if alive else None)
    return _with_metrics(config, rows, players)


def parse_preference(text: str) -> dict[str, float]:
    """`fairness=0.5,jct=0.5` as terms of the reward; they are scaled to sum to 1.

    Raises:
        UserError: when it cannot be read, or names no term.
    """
    return parse_weights(text, NAMES, f"--prefer {text!r}")


def trial_settings(run: Run, row: Mapping[str, Any]) -> Config:
    """The experiment of the trial of a row; of one for all weights with the row's as reward."""
    config = load_config(_folder_of(run, row) / "config.yaml")
    if not config.env.train_weights:
        return config
    reward = with_weights(config, _weights_of(row)).env.reward
    return config.model_copy(update={"env": config.env.model_copy(update={"reward": reward})})


def scheduler_of(run: Run, row: Mapping[str, Any]) -> str:
    """What `--scheduler` calls the trained scheduler of a row."""
    folder = _folder_of(run, row)
    if not is_scorer(str(folder)):
        network = RunFolder(folder).network
        return str(network if network.is_dir() else folder)
    if not load_record(folder).terms:
        return str(folder)
    return f"{folder}:{','.join(f'{term}={w:g}' for term, w in _weights_of(row).items() if w > 0)}"


def _weights_of(row: Mapping[str, Any]) -> dict[str, float]:
    return {
        key.removeprefix(REWARD): float(value)
        for key, value in row.items()
        if key.startswith(REWARD) and value == value
    }


def _folder_of(run: Run, row: Mapping[str, Any]) -> Path:
    """Of the trial of a row; of one for all weights, whatever the point."""
    return run.trials / str(row["name"]).partition("@")[0]
