"""`marl-sched tune`: a sweep, described by a page of data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from marl_sched.cli import options as o

if TYPE_CHECKING:
    from marl_sched.config import Config
    from marl_sched.tuning.outcome import Outcome
    from marl_sched.tuning.page import Sweep
    from marl_sched.tuning.run import Run


def tune(
    page: Annotated[
        str,
        typer.Argument(
            help="A page of the project's tuning/ by its name, or a FILE.py by its path."
        ),
    ],
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="Points to try, with each seed.", show_default="the page's"),
    ] = None,
    minutes_per_trial: Annotated[
        float | None, typer.Option(min=0.01, show_default="the page's")
    ] = None,
    iterations: Annotated[
        int | None, typer.Option(min=1, help="End trials after so many, without a clock.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the sweep.", show_default="runs/tune-PAGE")
    ] = None,
    search: Annotated[
        str | None, typer.Option(help="grid or optuna, for pages that weigh rewards.")
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(min=1, help="Repeat the search with so many.", show_default="the page's"),
    ] = None,
    prefer: Annotated[
        str | None,
        typer.Option(help="What best.yaml is chosen by: fairness=0.5,jct=0.5."),
    ] = None,
    trace: o.Trace = None,
    format: o.Format = None,
    cluster: Annotated[
        str | None, typer.Option(help="NODESxGPUS[:TYPE], joined with '+', or a YAML file.")
    ] = None,
    load: o.Load = None,
    estimate_noise: o.Noise = None,
    seed: o.Seed = None,
    episodes: Annotated[
        int | None, typer.Option(min=1, help="To judge on.", show_default="20")
    ] = None,
    concurrent: Annotated[int, typer.Option(min=1, help="Trials at once.")] = 2,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster to join; none: start a local one.")
    ] = None,
    logger: Annotated[
        list[str] | None, typer.Option(help="mlflow or wandb, besides TensorBoard.")
    ] = None,
    skip_bad_rows: o.SkipBadRows = False,
    config: o.ConfigFile = None,
    set_: o.Settings = None,
) -> None:
    """Run a sweep; the same command goes on after a stop.

    Leaves in --out results.parquet, summary.md, best.yaml, trials/NAME (a run's folder each), for
    reward weights tradeoff.png and .html, and TensorBoard logs in tune/.
    """
    from marl_sched.config import named_settings
    from marl_sched.tuning.check import check_not_searched, checked
    from marl_sched.tuning.judge import parse_preference
    from marl_sched.tuning.loggers import check_loggers
    from marl_sched.tuning.page import load_page
    from marl_sched.tuning.run import Run

    sweep = checked(load_page(page), page)
    sweep = _changed(sweep, trials, minutes_per_trial, iterations, search, seeds)
    sweep = checked(sweep, page)
    wanted = {} if prefer is None else parse_preference(prefer)
    loggers = tuple(logger or ())
    check_loggers(loggers)
    given = o.workload_options(trace, format, cluster, load, estimate_noise, seed, skip_bad_rows)
    given |= {"training__iterations": iterations, "evaluation__episodes": episodes}
    settings = _settings(sweep, config, set_, given)
    check_not_searched(sweep, *named_settings(config, set_ or []), page)
    sweep = _ready(sweep, settings, wanted, page)
    out = out or Path("runs") / f"tune-{Path(page).stem}"
    run = Run(sweep, settings, out, concurrent, address, loggers)
    _judge(run, _run(run), wanted)


def _run(run: Run) -> list[Outcome]:
    """All trials, with their progress on the terminal."""
    from marl_sched.cli import tables
    from marl_sched.cli.tune_display import Display
    from marl_sched.tuning.sweep import run_sweep

    opening = f"{run.sweep.title}: {_size(run)}, in {run.out}"
    tables.notices.print(opening, highlight=False, markup=False, soft_wrap=True)
    try:
        with Display(run) as display:
            return run_sweep(run, display)
    except KeyboardInterrupt:
        tables.notices.print("stopped: the same command goes on from here")
        raise


def _judge(run: Run, outcomes: list[Outcome], wanted: Mapping[str, float]) -> None:
    """Everybody on held-out episodes: the files of the results, and the table."""
    from marl_sched.cli import tables
    from marl_sched.cli.tune_display import print_results
    from marl_sched.envs.episodes import load_part
    from marl_sched.errors import UserError
    from marl_sched.tuning.results import write_results, write_summary

    with tables.status("judging on held-out episodes"):
        jobs = load_part(run.config, "test")
        workload = _workload(run.config)
        results = write_results(run, outcomes, workload, jobs, wanted, tables.figure)
    write_summary(results, run.out / "summary.md", tables.figure)
    print_results(results)
    if outcomes and all(outcome.state == "failed" for outcome in outcomes):
        raise UserError(f"{run.out}: every trial failed; summary.md there has the reasons")


def _settings(
    sweep: Sweep, config: Path | None, set_: list[str] | None, given: dict[str, Any]
) -> Config:
    """The experiment of all trials: the page's, and what the command says instead."""
    clock = None if given["training__iterations"] else sweep.minutes_per_trial
    given = given | {"training__minutes": clock}
    own = _names_a_world(config, set_, given)
    settings = o.resolve(config=config, settings=set_, base=sweep.defaults(own), **given)
    if given["training__iterations"]:
        settings = o.without_clock(settings)
    return settings


def _names_a_world(config: Path | None, set_: list[str] | None, given: dict[str, Any]) -> bool:
    """Whether the command names a trace or a cluster."""
    unnamed = "997x1"  # as a cluster's own default may be named too
    found = o.resolve(config=config, settings=set_, base={"cluster": unnamed}, **given)
    return found.workload.trace is not None or found.cluster != unnamed


def _ready(sweep: Sweep, settings: Config, wanted: Mapping[str, float], page: str) -> Sweep:
    """The sweep as it is run; all that can be wrong with it is found here, with nothing written."""
    from marl_sched.cli import tables
    from marl_sched.envs.episodes import load_part
    from marl_sched.tuning.check import check_packages, check_trials, restricted
    from marl_sched.tuning.results import terms_of

    check_packages(sweep)
    tables.report_skipped(load_part(settings, "train").skipped)
    kept = terms_of(sweep, load_part(settings, "test"))
    if sweep.simplex and kept != sweep.simplex:
        tables.notices.print("no job has a deadline: deadline misses are not weighed")
        sweep = restricted(sweep, kept, page)
    _check_preference(sweep, wanted)
    with tables.status("compiling the simulator (once on a machine, under a minute)"):
        _warm_up(settings)
        check_trials(sweep, settings, page)
    return sweep


def _changed(
    sweep: Sweep,
    trials: int | None,
    minutes: float | None,
    iterations: int | None,
    search: str | None,
    seeds: int | None,
) -> Sweep:
    """The page with what the command says instead."""
    from marl_sched.errors import UserError

    if sweep.search == "baselines" and (minutes is not None or iterations is not None):
        raise UserError(
            "--minutes-per-trial, --iterations: the searches of this sweep end by themselves; "
            "--trials says how many sets of parameters each tries"
        )
    if search is not None and (search not in ("grid", "optuna") or not sweep.weighs):
        raise UserError(f"--search {search}: grid or optuna, for a page that weighs rewards")
    if seeds is not None and sweep.search not in ("grid", "optuna"):
        raise UserError("--seeds: only a grid and an Optuna search are repeated")
    given = {"trials": trials, "minutes_per_trial": minutes, "search": search, "seeds": seeds}
    changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    return replace(sweep, **changes)


def _check_preference(sweep: Sweep, wanted: Mapping[str, float]) -> None:
    from marl_sched.errors import UserError
    from marl_sched.tuning.pareto import check_preference

    if not wanted:
        return
    if not sweep.weighs:
        raise UserError("--prefer: for a sweep of reward weights")
    check_preference(wanted, sweep.simplex)


def _warm_up(settings: Config) -> None:
    """Compile the kernels before all trials would, and fail on bad input with nothing written."""
    import numpy as np

    from marl_sched.training.run import check

    check(settings)
    if settings.training.algo == "es":
        from marl_sched.schedulers.learned.family import SIZE
        from marl_sched.training.sequences import draw, play

        (one,) = draw(settings, "train", np.random.default_rng(settings.seed), 1)
        theta = np.zeros(SIZE * (1 + len(settings.env.train_weights)))
        play(settings, one, theta, np.zeros((1, SIZE)))
        return
    from marl_sched.envs.batched import BatchedSchedulingEnv

    env = BatchedSchedulingEnv(settings, 1, settings.seed)
    env.reset()
    env.step(np.zeros(1, dtype=np.int64))


def _size(run: Run) -> str:
    from marl_sched.tuning.plan import plan_of

    plan = plan_of(run.sweep, run.config.seed, 2 * run.concurrent)
    text = f"{_count(run.sweep, plan.total)}, {run.concurrent} at a time"
    minutes = run.config.training.minutes
    if minutes is not None and run.sweep.minutes_per_trial is not None:
        rounds = max(math.ceil(plan.units / run.concurrent), plan.longest)
        seconds = max(1, math.ceil(60 * rounds * minutes))
        most = f"{seconds / 60:.0f} minutes" if seconds >= 120 else _number(seconds, "second")
        text += f", at most {most} and their starts"
    return text


def _count(sweep: Sweep, total: int) -> str:
    """How many trials, and why so many."""
    trials = _number(total, "trial")
    if sweep.search not in ("grid", "optuna") or (sweep.seeds == 1 and not sweep.conditioned):
        return trials
    text = _number(sweep.trials, "point")
    text += f" x {sweep.seeds} seeds" if sweep.seeds > 1 else ""
    text += f" + {sweep.seeds} for all weights" if sweep.conditioned else ""
    return f"{text} = {trials}"


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _workload(settings: Config) -> str:
    trace = settings.workload.trace
    name = "built-in workload" if trace is None else Path(trace).stem
    load = "" if settings.workload.load is None else f", load {settings.workload.load:g}"
    return f"{name} on {settings.cluster}{load}"


def run_page(file: str) -> None:
    """`python tuning/NAME.py`: the command for that page."""
    import sys

    from marl_sched.cli import main

    main(["tune", file, *sys.argv[1:]])
