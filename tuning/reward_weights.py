"""Sweep of the reward weights: what does a scheduler give up for what?

    python tuning/reward_weights.py
    python tuning/reward_weights.py --trials 8 --minutes-per-trial 5 --out runs/weights-itp \
        --trace ../shared/data/itp/cluster05.csv --cluster 16x8

Each trial trains one scheduler with its own weights (a point of the simplex below), two trials
at a time, one core each. Then the best policy of every trial and the classic schedulers play
the same held-out episodes and are judged by raw metrics, never by their own weighted reward.

Result, in --out: results.parquet, summary.md, tradeoff.png, and trials/NAME, a run's folder
each (`marl-sched evaluate --scheduler runs/reward-weights/trials/fairness ...`).
Expected: the rigid classic schedulers take about twice as long or more; `utilisation` holds
about 2 points more of the GPU time in useful work than the base schedule (elastic_index) and
pays with 8 % longer completion times and fairness 0.75 instead of 0.5; `fairness` gains on the
base in fairness and slowdown. A trial that found nothing better takes the base schedule.
Duration with the defaults: about 4 minutes on 2 cores. The same command goes on after a kill.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from marl_sched import cli
from marl_sched.cli import options as o

if TYPE_CHECKING:
    from collections.abc import Mapping

    from marl_sched.config import Config
    from marl_sched.training.sweep import Trained

TERMS = ("completion_time", "slowdown", "fairness", "utilisation")
"""Axes of the simplex, terms of `env.reward`; the others stay at weight 0."""

POINTS: dict[str, tuple[float, float, float, float]] = {
    "completion_time": (1.0, 0.0, 0.0, 0.0),
    "fairness": (0.0, 0.0, 1.0, 0.0),
    "utilisation": (0.0, 0.0, 0.0, 1.0),
    "time_and_use": (0.5, 0.0, 0.0, 0.5),
    "slowdown": (0.0, 1.0, 0.0, 0.0),
    "balanced": (0.25, 0.25, 0.25, 0.25),
}
"""The first trials, in this order; further ones are drawn evenly from the simplex."""

SETTINGS: dict[str, Any] = {
    "cluster": "4x4",
    "workload": {"load": 1.3, "synthetic": {"max_duration_s": 86400.0}},
    "env": {
        "actions": "meta",
        "base": "elastic_index",
        "algorithms": ["elastic_index:p=0.2", "elastic_index:p=0.4", "elastic_index:h=0.1,b=1"],
        "job_slots": 16,
        "jobs_per_episode": 128,
        "train_load": [1.0, 1.5],
        "train_restart_scale": None,
        "train_estimate_noise": None,
    },
    "model": {"commit_bias": -1.0},
    "training": {
        "num_env_runners": 0,
        "validation_every": 8,
        "ppo": {"lr": 0.003, "entropy": 0.0, "batch_size": 512, "minibatch_size": 128},
    },
}
"""What differs from the project's defaults, so that a minute of training shows something: an
overload that forces a choice between objectives, a cluster small enough for many episodes a
minute, schedules that differ in what they favour (`p`: weight on short jobs, `h` and `b`: on
keeping what runs), and PPO in small quick steps. Options and --config go before it."""

METRICS = {
    "avg_jct_s": "mean JCT",
    "avg_slowdown": "slowdown",
    "avg_finish_time_fairness": "fairness rho",
    "gpu_useful_fraction": "GPUs useful",
    "gpu_allocated_fraction": "GPUs held",
}
"""Raw metrics by which everybody is judged."""


def points(trials: int, seed: int) -> dict[str, tuple[float, ...]]:
    """Name -> weights on the simplex, in the order of `TERMS`."""
    chosen: dict[str, tuple[float, ...]] = dict(list(POINTS.items())[:trials])
    rng = np.random.default_rng(seed)
    for index in range(len(chosen), trials):
        # Dirichlet(1): even over the simplex.
        drawn = rng.dirichlet(np.ones(len(TERMS)))
        chosen[f"draw_{index + 1}"] = tuple(float(w) for w in drawn.round(3))
    return chosen


def sweep(
    trials: Annotated[int, typer.Option(min=1, help="Points of the simplex.")] = 4,
    minutes_per_trial: Annotated[float, typer.Option(min=0.01)] = 1.0,
    iterations: Annotated[
        int | None, typer.Option(min=1, help="End trials after so many, without a clock.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the sweep.")] = Path("runs/reward-weights"),
    algo: Annotated[str | None, typer.Option(help="ppo or dqn.", show_default="ppo")] = None,
    trace: o.Trace = None,
    format: o.Format = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            help="NODESxGPUS[:TYPE], joined with '+', or a YAML file.",
            show_default=str(SETTINGS["cluster"]),
        ),
    ] = None,
    load: Annotated[
        float | None,
        typer.Option(help="Offered load.", show_default=str(SETTINGS["workload"]["load"])),
    ] = None,
    estimate_noise: o.Noise = None,
    seed: o.Seed = None,
    episodes: Annotated[int | None, typer.Option(min=1, show_default="20")] = None,
    concurrent: Annotated[int, typer.Option(min=1, help="Trials at once.")] = 2,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster to join; none: start a local one.")
    ] = None,
    skip_bad_rows: o.SkipBadRows = False,
    config: o.ConfigFile = None,
    set_: o.Settings = None,
) -> None:
    """Train one scheduler for each point of the reward's simplex and draw the trade-off."""
    from marl_sched.cli import tables
    from marl_sched.envs.batched import load_part
    from marl_sched.training.sweep import Trial, judge, run_sweep, warm_up

    given = o.workload_options(trace, format, cluster, load, estimate_noise, seed, skip_bad_rows)
    given |= {
        "training__algo": algo,
        "training__minutes": None if iterations is not None else minutes_per_trial,
        "training__iterations": iterations,
        "evaluation__episodes": episodes,
    }
    settings = o.resolve(config=config, settings=set_, base=SETTINGS, **given)
    if iterations is not None:
        ends = settings.training.model_copy(update={"minutes": None})
        settings = settings.model_copy(update={"training": ends})
    runs = [
        Trial(name, _weighted(settings, weights))
        for name, weights in points(trials, settings.seed).items()
    ]
    tables.report_skipped(load_part(settings, "train").skipped)
    with tables.status("compiling the simulator (once on a machine, under a minute)"):
        warm_up(settings)
    tables.notices.print(f"{trials} trials, {concurrent} at a time, in {out}", highlight=False)
    tables.notices.print(
        "cost: weighted, on validation, against the base schedule; lower is better"
    )
    trained = run_sweep(runs, out, address=address, concurrent=concurrent, report=show_progress)
    with tables.status("judging on held-out episodes"):
        judged = judge(trained, settings.evaluation.schedulers, settings)
    write_results(judged, trained, settings, out)


def _weighted(settings: Config, weights: tuple[float, ...]) -> Config:
    from marl_sched.config import RewardWeights

    # Terms that the simplex does not name are 0, completion time's default of 1 included.
    reward = RewardWeights(**dict(zip(TERMS, weights, strict=True)))
    env = settings.env.model_copy(update={"reward": reward})
    return settings.model_copy(update={"env": env})


def show_progress(name: str, figures: Mapping[str, Any]) -> None:
    """A line whenever a trial was validated."""
    from marl_sched.cli import tables

    if figures.get("validation_percent") is None:
        return
    line = f"{name:<16} iteration {figures['iteration']:>3}"
    line += f"  cost {figures['validation_percent']:+6.2f} %"
    line += f"  best {figures['best_validation_percent']:+6.2f} %"
    if figures.get("seconds_left") is not None:
        line += f"  {figures['seconds_left']:4.0f} s left"
    tables.notices.print(line, highlight=False)


def write_results(
    judged: dict[str, list[dict[str, float]]],
    trained: list[Trained],
    settings: Config,
    out: Path,
) -> None:
    """results.parquet, summary.md, tradeoff.png, and the table on the terminal."""
    import pandas as pd

    from marl_sched.evaluation.tradeoff import Axis, costs_of, draw, non_dominated
    from marl_sched.files import replacing, write_text

    jct = Axis("avg_jct_s", "mean completion time, hours", 1 / 3600)
    rho = Axis("avg_finish_time_fairness", "mean finish-time fairness rho")
    slowdown = Axis("avg_slowdown", "mean slowdown")
    useful = Axis("gpu_useful_fraction", "useful share of GPU time, %", 100, True)

    rows = table_rows(judged, trained, settings)
    front = non_dominated(costs_of(rows, (jct, rho, slowdown, useful)))
    for row, kept in zip(rows, front, strict=True):
        row["non_dominated"] = bool(kept)
    rows.sort(key=lambda row: row["avg_jct_s"])
    with replacing(out / "results.parquet") as temporary:
        pd.DataFrame(rows).to_parquet(temporary, index=False)
    title = f"Reward weights: {_workload(settings)}, {len(next(iter(judged.values())))} episodes"
    draw(rows, [(jct, rho), (jct, useful)], out / "tradeoff.png", title)
    write_text(out / "summary.md", summary(rows, title))
    print_table(rows, title)


def table_rows(
    judged: dict[str, list[dict[str, float]]], trained: list[Trained], settings: Config
) -> list[dict[str, Any]]:
    """One row a scheduler: mean and 95 % interval of each raw metric."""
    from marl_sched.evaluation.compare import job_overlap, part_episodes
    from marl_sched.evaluation.statistics import bootstrap, resamples

    episodes = part_episodes(settings, "test", settings.evaluation.episodes)
    draws = resamples(len(episodes), job_overlap(episodes), settings.seed)
    of_trial = {one.trial.name: one for one in trained}
    rows = []
    for name, summaries in judged.items():
        row: dict[str, Any] = {"name": name, "kind": "trained" if name in of_trial else "classic"}
        one = of_trial.get(name)
        for term in TERMS:
            row[f"weight_{term}"] = getattr(one.trial.config.env.reward, term) if one else None
        row["decisions"] = one.decisions if one else None
        row["best_iteration"] = one.best_iteration if one else None
        row["validation_percent"] = one.validation if one else None
        for metric in METRICS:
            found = bootstrap(np.array([s[metric] for s in summaries], float), draws)
            row |= {metric: found.mean, f"{metric}_low": found.low, f"{metric}_high": found.high}
        rows.append(row)
    return rows


def summary(rows: list[dict[str, Any]], title: str) -> str:
    """The results as a page of Markdown."""
    lines = [
        f"# {title}",
        "",
        "![trade-off](tradeoff.png)",
        "",
        "| scheduler | weights | " + " | ".join(METRICS.values()) + " | non-dominated |",
        "|---|---|" + "---:|" * len(METRICS) + ":---:|",
    ]
    for row in rows:
        cells = [row["name"], _weights(row), *_figures(row), "yes" if row["non_dominated"] else ""]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        f"Weights: {', '.join(TERMS)}. Non-dominated: nobody is as good in JCT, fairness, "
        "slowdown and useful GPUs and better in one of them.",
    ]
    same = [row["name"] for row in rows if row["best_iteration"] == 0]
    if same:
        lines += [
            "",
            f"No network beat the base schedule on validation in: {', '.join(same)}; "
            "these take the base schedule. Give them more --minutes-per-trial.",
        ]
    return "\n".join(lines) + "\n"


def print_table(rows: list[dict[str, Any]], title: str) -> None:
    from rich import box
    from rich.table import Table

    from marl_sched.cli import tables

    table = Table(title=title, caption="* non-dominated", box=box.SIMPLE_HEAD)
    table.add_column("scheduler", no_wrap=True)
    for heading in METRICS.values():
        table.add_column(heading, justify="right")
    for row in rows:
        name = row["name"] + (" *" if row["non_dominated"] else "")
        table.add_row(name, *_figures(row), style="bold" if row["kind"] == "trained" else None)
    tables.out.print(table)


def _figures(row: dict[str, Any]) -> list[str]:
    from marl_sched.cli.tables import figure

    return [figure(metric, row[metric]) for metric in METRICS]


def _weights(row: dict[str, Any]) -> str:
    if row["kind"] == "classic":
        return ""
    return " ".join(f"{row[f'weight_{term}']:g}" for term in TERMS)


def _workload(settings: Config) -> str:
    trace = settings.workload.trace
    name = "built-in workload" if trace is None else Path(trace).stem
    load = "" if settings.workload.load is None else f", load {settings.workload.load:g}"
    return f"{name} on {settings.cluster}{load}"


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
app.command()(sweep)

if __name__ == "__main__":
    cli.run(app, "reward_weights.py")
