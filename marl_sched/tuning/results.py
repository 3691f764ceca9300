"""What a sweep leaves: results.parquet, summary.md, best.yaml and pictures."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from marl_sched.config import Config
from marl_sched.evaluation.compare import part_episodes
from marl_sched.evaluation.windows import with_draws
from marl_sched.files import replacing, write_text
from marl_sched.tuning.judge import (
    METRICS,
    TUNED_HERE,
    Row,
    judged_rows,
    scheduler_of,
    search_rows,
    trial_settings,
    value_text,
)
from marl_sched.tuning.outcome import Outcome
from marl_sched.tuning.page import Sweep
from marl_sched.tuning.pareto import AXES, hypervolumes, mark_front, preferred
from marl_sched.tuning.picture import draw_html
from marl_sched.tuning.plan import REWARD
from marl_sched.tuning.run import Run
from marl_sched.tuning.tradeoff import draw
from marl_sched.tuning.trial import NETWORK_SCORE, PARAM, RUN_SCORE
from marl_sched.workload.trace import Workload

Figure = Any
"""(metric, value) -> text, as tables show it."""


@dataclass
class Results:
    """A sweep's table and what is said about it."""

    title: str
    rows: list[Row]
    """The best first, failed trials last."""
    shown: dict[str, str]
    """Column -> heading of the tables that people read."""
    notes: list[str] = field(default_factory=list)
    has_picture: bool = False


def terms_of(sweep: Sweep, jobs: Workload) -> tuple[str, ...]:
    """Terms that mean something here: no job has a deadline in most traces."""
    has_deadlines = bool((jobs.deadline_s < math.inf).any())
    terms = sweep.simplex or tuple(AXES)
    return tuple(term for term in terms if term != "deadline" or has_deadlines)


def write_results(
    run: Run,
    outcomes: list[Outcome],
    workload: str,
    jobs: Workload,
    prefer: Mapping[str, float],
    figure: Figure,
) -> Results:
    """Judge everybody on held-out episodes and write what came out to the sweep's folder.

    Args:
        workload: its name, for titles.
        jobs: of the test part.
        prefer: weights of terms, for best.yaml; empty: by the sweep's own objective, or all alike.
        figure: how a metric is written.
    """
    sweep = run.sweep
    drawn = with_draws(run.config, "test")
    count = len(part_episodes(drawn, "test", drawn.evaluation.episodes))
    title = f"{sweep.title}: {workload}, {count} held-out episodes"
    if sweep.search == "baselines":
        shown = {RUN_SCORE: "valid, %"} | dict(list(METRICS.items())[:4])
        results = Results(title, search_rows(run, outcomes), shown)
        results.notes.append(
            "valid, %: mean completion time on validation against the scheduler's own defaults"
        )
        results.notes += _best_tuned(results.rows)
    else:
        terms = terms_of(sweep, jobs)
        shown = {} if sweep.simplex else {NETWORK_SCORE: "net, %"}
        objective = (sweep.common_objective or "").removeprefix("-")
        if objective.startswith("valid_"):
            metric = objective.removeprefix("valid_")
            shown[objective] = f"valid {METRICS.get(metric, metric)}"
        shown |= {AXES[term].metric: METRICS[AXES[term].metric] for term in terms}
        results = Results(title, judged_rows(run, outcomes), shown)
        if sweep.simplex:
            mark_front(results.rows, terms)
        if sweep.weighs:
            _tradeoff(run, results, terms, prefer)
        else:
            _best_trial(run, results, outcomes, figure)
        if not sweep.simplex:
            results.notes.append(
                "net, %: cost of a trial's best network on validation against the base schedule's "
                f"({run.config.env.base})"
            )
    results.rows.sort(key=_by_completion_time)
    results.notes += _remarks(outcomes, run.config)
    with replacing(run.out / "results.parquet") as temporary:
        pd.DataFrame(results.rows).to_parquet(temporary, index=False)
    return results


def _by_completion_time(row: Row) -> tuple[bool, float, str]:
    failed = row["state"] == "failed"
    return failed, 0.0 if failed else row["avg_jct_s"], row["name"]


def _tradeoff(
    run: Run, results: Results, terms: Sequence[str], prefer: Mapping[str, float]
) -> None:
    base = next(row for row in results.rows if row["name"] == run.config.env.base)
    alive = [row for row in results.rows if row["state"] != "failed"]
    volumes = hypervolumes(alive, base, terms, run.sweep.search)
    for name in dict.fromkeys(one["set"] for one in volumes):
        found = [one["hypervolume"] for one in volumes if one["set"] == name]
        text = f"hypervolume of {name}: {statistics.mean(found):.3f}"
        if len(found) > 1:
            each = ", ".join(f"{value:.3f}" for value in found)
            text += f" (mean of {len(found)} seeds: {each})"
        results.notes.append(text)
    results.notes.append(
        "Hypervolume: what is dominated up to 1.5 times the costs of the base schedule "
        f"({run.config.env.base}), in that of the base alone"
    )
    with replacing(run.out / "hypervolume.parquet") as temporary:
        pd.DataFrame(volumes).to_parquet(temporary, index=False)
    wanted = prefer or {term: 1.0 / len(terms) for term in terms}
    ranked = preferred(alive, base, wanted, terms)
    winner = next((row for _, row in ranked if row["kind"] != "classic"), None)
    if winner is not None:
        _write_best(run, winner, "preference " + _preference(wanted))
        words = f"best.yaml, for {_preference(wanted)}: {winner['name']}"
        words += f", --scheduler {scheduler_of(run, winner)}"
        if ranked[0][1]["kind"] == "classic":
            words += f"; the classic {ranked[0][1]['name']} suits it better still"
        results.notes.append(words)
    _draw(run, alive, terms, results.title)
    results.has_picture = True


def _draw(run: Run, rows: list[Row], terms: Sequence[str], title: str) -> None:
    for row in rows:
        # Names of every seed and point would hide the picture; the page shows them all.
        hidden = row["kind"] == "conditioned" or row.get("seed")
        row["label"] = "" if hidden else row["name"].removesuffix("_seed0")
    first = AXES[terms[0]]
    panels = [(first, AXES[term]) for term in terms[1:]]
    named = "by number" if run.sweep.search == "optuna" else "named by its reward weights"
    draw(rows, panels[-3:], run.out / "tradeoff.png", title, named)
    described = [AXES[term] for term in terms]
    draw_html(rows, panels, run.out / "tradeoff.html", title, described, named)
    for row in rows:
        del row["label"]


def _preference(weights: Mapping[str, float]) -> str:
    return ", ".join(f"{term} {weight:.2f}" for term, weight in weights.items())


def _best_tuned(rows: Sequence[Row]) -> list[str]:
    """What `--scheduler` calls the best of the tuned classic schedulers."""
    tuned = [row for row in rows if row["kind"] == "tuned" and row["state"] != "failed"]
    if not tuned:
        return []
    best = min(tuned, key=lambda row: row["valid_avg_jct_s"])
    params = [
        f"{name.removeprefix(PARAM)}={value!r}"
        for name, value in best.items()
        if name.startswith(PARAM)
    ]
    name = best["name"].removesuffix(TUNED_HERE)
    return [
        "lowest mean completion time on validation of those tuned here: --scheduler "
        f"{name}:{','.join(params)}",
        "the parameters of each are in trials/NAME/tuned.yaml, to be written in the same way",
    ]


def _best_trial(run: Run, results: Results, outcomes: list[Outcome], figure: Figure) -> None:
    """best.yaml of the trial with the lowest objective, on validation."""
    objective = run.sweep.objectives[0]
    costs = [(cost, one) for one in outcomes if (cost := one.cost(objective)) is not None]
    if not costs:
        if any(one.state != "failed" for one in outcomes):
            results.notes.append(
                f"No best.yaml: no trial has a {objective}, as the time of each was over before "
                f"its first validation. Give them more {_limit(run.config)}"
            )
        return
    cost, best = min(costs, key=lambda item: (item[0], item[1].number))
    row = next(row for row in results.rows if row["name"] == best.name)
    value = objective_figure(objective, best.figures[objective.removeprefix("-")], figure)
    _write_best(run, row, f"{objective} on validation {value}")
    equal = sum(other == cost for other, _ in costs)
    results.notes.append(
        f"best.yaml: {best.name} ({objective} {value}; {values_text(best.values)}), --scheduler "
        f"{scheduler_of(run, row)}" + (f"; {equal} trials are equal by it" if equal > 1 else "")
    )


def objective_figure(objective: str, value: float, figure: Figure) -> str:
    """What a search lowers or raises, as people read it."""
    if objective.endswith("_percent"):
        return f"{value:+.2f} %"
    return str(figure(objective.removeprefix("-").removeprefix("valid_"), value))


_BUDGET = {"training": ("minutes", "iterations", "num_env_runners"), "evaluation": ("episodes",)}
"""Settings of a sweep that are no business of a run of its own."""


def _write_best(run: Run, row: Mapping[str, Any], why: str) -> None:
    """The trial's settings, as `train --config` takes them, without the sweep's budget, and where
    they come from."""
    config = trial_settings(run, row)
    head = f"# {row['name']} of the sweep {run.sweep.title!r}, by {why}.\n"
    where = "" if config.training.algo == "es" else ", for `marl-sched evaluate`"
    head += f"# Trained{where}: --scheduler {scheduler_of(run, row)}\n"
    data = config.model_dump(mode="json")
    for section, names in _BUDGET.items():
        for name in names:
            del data[section][name]
    text = yaml.safe_dump(data, sort_keys=False)
    write_text(run.out / "best.yaml", head + text)


def _limit(config: Config) -> str:
    """The option that ends trials."""
    return "--iterations" if config.training.minutes is None else "--minutes-per-trial"


def _remarks(outcomes: list[Outcome], config: Config) -> list[str]:
    """Why trials ended early or failed, and where nothing that was learned is kept."""
    algo = config.training.algo  # of trials that have none of their own
    found = [f"{one.name} failed: {one.reason}" for one in outcomes if one.state == "failed"]
    stopped = [one for one in outcomes if one.state == "stopped"]
    if stopped:
        found.append(
            f"{len(stopped)} of {len(outcomes)} trials ended early, as others were better at the "
            f"same share of their budget; for example {stopped[0].name}: {stopped[0].reason}"
        )
    whole = [one for one in outcomes if one.state == "done"]
    same = [one for one in whole if one.figures.get("best_iteration") == 0]
    for is_es in (False, True):
        names = [o.name for o in same if (o.values.get("training.algo", algo) == "es") == is_es]
        if names:
            who = "any trial" if len(names) == len(whole) else ", ".join(names)
            found.append(
                f"{_NOTHING_LEARNED[is_es].format(who=who)}. Give them more {_limit(config)}"
            )
    return found


_NOTHING_LEARNED = (
    "No network was clearly better than the base schedule and each single algorithm on validation "
    "in {who}: best/ keeps one of these there, while the network is judged here",
    "Nothing learned was better than the base on validation in {who}: the base is judged there",
)
"""Of networks of PPO and DQN, and of scorers of evolution strategies."""


def write_summary(results: Results, path: Path, figure: Figure) -> None:
    """The results as a page of Markdown."""
    lines = [f"# {results.title}", ""]
    lines += ["![trade-off](tradeoff.png)", ""] if results.has_picture else []
    marked = any(row.get("non_dominated") for row in results.rows)
    headings = ["scheduler", "values", *results.shown.values()]
    lines.append("| " + " | ".join([*headings, *["non-dominated"] * marked, "state"]) + " |")
    lines.append("|---|---|" + "---:|" * len(results.shown) + ":---:|" * marked + "---|")
    for row in results.rows:
        cells = [row["name"], values_text(row), *figures_of(row, results.shown, figure)]
        cells += ["yes" if row["non_dominated"] else ""] if marked else []
        lines.append("| " + " | ".join([*cells, row["state"]]) + " |")
    lines += ["", *(f"- {note}." for note in results.notes)]
    write_text(path, "\n".join(lines) + "\n")


def figures_of(row: Row, shown: Mapping[str, str], figure: Figure) -> list[str]:
    """Cells of the columns `shown`, empty where a row has no figure."""
    return [
        "" if row.get(name) is None else f"{row[name]:+.2f}" if name.endswith("_percent")
        else figure(name.removeprefix("valid_"), row[name])
        for name in shown
    ]  # fmt: skip


def values_text(values: Mapping[str, Any]) -> str:
    """What a trial had, of its values or its row: settings by their last name, weights above 0."""
    parts = []
    for key, value in values.items():
        is_setting = "." in key or key.startswith(PARAM)
        if is_setting and not (key.startswith(REWARD) and value == 0):
            name = key.rpartition(".")[2].removeprefix(PARAM)
            parts.append(f"{name}={value_text(value)}")
    return " ".join(parts)
