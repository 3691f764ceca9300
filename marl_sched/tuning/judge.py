"""Trials and classic schedulers on the same held-out episodes, by raw metrics."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from marl_sched.config import Config, RewardWeights
from marl_sched.envs.batched import Episode
from marl_sched.errors import UserError
from marl_sched.evaluation.compare import Arena, job_overlap, part_episodes
from marl_sched.evaluation.learned import run_learned, with_weights
from marl_sched.evaluation.statistics import bootstrap, resamples
from marl_sched.models.policy import load_policy
from marl_sched.schedulers import get_scheduler
from marl_sched.tuning.outcome import Outcome
from marl_sched.tuning.page import Sweep
from marl_sched.tuning.plan import CONDITIONED, REWARD, Proposal, simplex_points
from marl_sched.tuning.run import Run, trial_config
from marl_sched.tuning.trial import PARAM, add_fractions, judged_folder

METRICS = {
    "avg_jct_s": "mean JCT",
    "avg_slowdown": "slowdown",
    "avg_finish_time_fairness": "rho",
    "gpu_useful_fraction": "useful",
    "deadline_missed_fraction": "missed",
    "overhead_gpu_s": "restarts",
}
"""Raw metrics by which everybody is judged, in the order of the terms of the simplex: rho is of
finish-time fairness, `useful` the useful share of GPU time, `restarts` what they cost."""

Row = dict[str, Any]
"""A line of results.parquet."""


def judged_rows(run: Run, outcomes: list[Outcome]) -> list[Row]:
    """A row for each trial and each classic scheduler, with means and 95 % intervals on the test
    part; a network for all weights has a row for each point of the grid. Failed trials have no
    metrics."""
    config, part = run.config, "test"
    episodes = part_episodes(config, part, config.evaluation.episodes)
    rows: list[Row] = []
    played: list[list[dict[str, float]] | None] = []
    for outcome in outcomes:
        row = _row_of(outcome)
        if outcome.state == "failed":
            rows.append(row)
            played.append(None)
            continue
        policy = load_policy(judged_folder(run.trials / outcome.name))
        proposal = Proposal(outcome.name, outcome.values, outcome.seed)
        settings = trial_config(config, proposal)
        for point, weights in _points_of(run.sweep, config, outcome).items():
            at = settings if weights is None else with_weights(settings, weights)
            name = outcome.name if weights is None else f"{outcome.name}@{point}"
            shown = {f"{REWARD}{term}": w for term, w in (weights or {}).items()}
            rows.append(row | {"name": name} | shown)
            played.append(run_learned(at, part, policy.act, episodes, policy.demand))
    arena = Arena(config, part, episodes)
    for name in dict.fromkeys((config.env.base, *config.evaluation.schedulers)):
        rows.append({"name": name, "kind": "classic", "state": "done"})
        played.append(arena.play(get_scheduler(name)))
    return _with_metrics(config, episodes, rows, played)


def _with_metrics(
    config: Config,
    episodes: list[Episode],
    rows: list[Row],
    played: list[list[dict[str, float]] | None],
) -> list[Row]:
    draws = resamples(len(episodes), job_overlap(episodes), config.seed)
    runs = {str(i): one for i, one in enumerate(played) if one is not None}
    add_fractions(config, "test", runs, episodes)
    return [row | _intervals(one, draws) for row, one in zip(rows, played, strict=True)]


def _intervals(played: list[dict[str, float]] | None, draws: np.ndarray) -> Row:
    row: Row = {}
    for metric in METRICS:
        if played is None:
            row |= dict.fromkeys((metric, f"{metric}_low", f"{metric}_high"), float("nan"))
            continue
        found = bootstrap(np.array([s[metric] for s in played], float), draws)
        row |= {metric: found.mean, f"{metric}_low": found.low, f"{metric}_high": found.high}
    return row


def _row_of(outcome: Outcome) -> Row:
    conditioned = outcome.name.startswith(CONDITIONED)
    values = {k: v for k, v in outcome.values.items() if not isinstance(v, list)}
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


def _points_of(
    sweep: Sweep, config: Config, outcome: Outcome
) -> dict[str, dict[str, float] | None]:
    """Weights at which a trial is judged; None: its own."""
    if not outcome.name.startswith(CONDITIONED):
        return {"": None}
    points = simplex_points(sweep, config.seed)
    return {n: dict(zip(sweep.simplex, weights, strict=True)) for n, weights in points.items()}


def search_rows(run: Run, outcomes: list[Outcome]) -> list[Row]:
    """A row for each tuned scheduler, `NAME tuned`, and one for each as it is, on the test part."""
    config, part = run.config, "test"
    episodes = part_episodes(config, part, config.evaluation.episodes)
    arena = Arena(config, part, episodes)
    rows: list[Row] = []
    played: list[list[dict[str, float]] | None] = []
    for outcome in outcomes:
        scheduler = get_scheduler(outcome.name)
        rows.append({"name": outcome.name, "kind": "classic", "state": "done"})
        played.append(arena.play(scheduler))
        rows.append(_row_of(outcome) | {"name": f"{outcome.name} tuned", "kind": "tuned"})
        params = {
            name.removeprefix(PARAM): value
            for name, value in outcome.figures.items()
            if name.startswith(PARAM)
        }
        alive = outcome.state != "failed"
        played.append(arena.play(scheduler.with_params(params)) if alive else None)
    return _with_metrics(config, episodes, rows, played)


def parse_preference(text: str) -> dict[str, float]:
    """`fairness=0.5,jct=0.5` as terms of the reward; they are scaled to sum to 1.

    Raises:
        UserError: when it cannot be read, or names no term.
    """
    known = {"jct": "completion_time", **{term: term for term in RewardWeights.model_fields}}
    del known["energy"]
    found: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        try:
            weight = float(value)
        except ValueError:
            weight = -1.0
        if name.strip() not in known or not 0 <= weight < float("inf"):
            raise UserError(
                f"--prefer {text!r}: write NAME=WEIGHT,.. with weights from 0 and names among "
                f"{', '.join(known)}"
            )
        found[known[name.strip()]] = weight
    total = sum(found.values())
    if total <= 0:
        raise UserError(f"--prefer {text!r}: one weight must be above 0")
    return {term: weight / total for term, weight in found.items()}


def load_trial_config(run: Run, row: Mapping[str, Any]) -> Path:
    """config.yaml of the trial of a row; of a network for all weights, whatever the point."""
    return run.trials / str(row["name"]).partition("@")[0] / "config.yaml"
