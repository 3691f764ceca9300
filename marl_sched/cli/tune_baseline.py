"""`marl-sched tune-baseline`: parameters of a classic scheduler, tuned on validation."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from marl_sched.cli import options as o


def tune_baseline(
    name: Annotated[str, typer.Argument(help="A classic scheduler with parameters.")],
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of public traces: tune on the suite `training`; without it and --trace, "
            "on the built-in workload."
        ),
    ] = None,
    trace: o.Trace = None,
    format: o.Format = None,
    cluster: o.ClusterOption = None,
    load: o.Load = None,
    estimate_noise: o.Noise = None,
    seed: o.Seed = None,
    budget: Annotated[int, typer.Option(min=2, help="Sets of parameters to try.")] = 64,
    episodes: Annotated[
        int | None,
        typer.Option(
            min=1, help="Sequences of each workload.", show_default="24 of the suite, else 20"
        ),
    ] = None,
    skip_bad_rows: o.SkipBadRows = False,
    config: o.ConfigFile = None,
    set_: o.Settings = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write the result to this YAML file; what was tried lies beside it (.trials): "
            "the same command goes on after a stop."
        ),
    ] = None,
    as_json: o.Json = False,
) -> None:
    """Tune the parameters of a classic scheduler, so that it is a fair opponent.

    Random search with successive halving over log-uniform ranges on validation sequences, the
    same for every candidate. A trace is tuned on at its own load, or at --load. With --data each
    candidate is judged without the cluster on which it gains most.
    """
    import yaml

    from marl_sched.cli import tables
    from marl_sched.errors import UserError
    from marl_sched.files import write_text
    from marl_sched.schedulers import get_scheduler
    from marl_sched.tuning.rule_search import Court, as_yaml, known_params, tune

    if data is not None and trace is not None:
        raise UserError("--data tunes on the suite `training`: leave out --trace, or --data")
    scheduler = get_scheduler(name)
    options = o.workload_options(trace, format, cluster, load, estimate_noise, seed, skip_bad_rows)
    given = o.Given(config, set_, options | {"evaluation__episodes": episodes})
    cells = _suite_cells(data, given) if data is not None else _own_cells(given)
    journal = None if out is None else out.with_suffix(".trials")
    with tables.status(f"tuning {name}") as shown:
        court = Court(scheduler, cells, journal)
        seed_used = cells[0].config.seed
        say = partial(_show, shown, name)
        tuned = tune(court, budget, seed_used, say, known_params(scheduler.name))
    found = as_yaml(scheduler, tuned, o.command_line())
    if out is not None:
        write_text(out, yaml.safe_dump(found, sort_keys=False))
    if as_json:
        print(json.dumps(found))
        return
    params = ",".join(f"{key}={value:g}" for key, value in tuned.params.items())
    print(f"{scheduler.name}:{params}")
    print(
        f"mean JCT on validation against the defaults: {tuned.score_percent:+.2f} % "
        f"({tuned.sequences} sequences, {len(cells)} workloads, {budget} candidates, "
        f"{tuned.simulated} simulations)"
    )
    if tuned.left_out:
        worst = max(tuned.left_out, key=lambda cluster: tuned.left_out[cluster])
        mean = sum(tuned.left_out.values()) / len(tuned.left_out)
        print(
            f"on a cluster that is left out of the choice: {mean:+.2f} % on average, "
            f"{tuned.left_out[worst]:+.2f} % on {worst}"
        )


def _suite_cells(data: Path, given: o.Given) -> list[Any]:
    from marl_sched.evaluation.suite_run import CellRun
    from marl_sched.evaluation.suites import get_suite

    suite = get_suite("training")
    return [
        CellRun(cell.name, cell.part, given.resolve(suite.settings(cell, data)))
        for cell in suite.cells
    ]


def _own_cells(given: o.Given) -> list[Any]:
    from marl_sched.cli import tables
    from marl_sched.envs.episodes import load_part
    from marl_sched.evaluation.suite_run import CellRun

    cell = CellRun("validation", "validation", given.resolve())
    tables.report_skipped(load_part(cell.config, cell.part).skipped)
    return [cell]


def _show(shown: Any, name: str, text: str) -> None:
    shown.update(f"tuning {name}: {text}")
