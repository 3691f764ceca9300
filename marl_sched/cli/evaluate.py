"""`marl-sched evaluate`: trained and classic schedulers on the same held-out episodes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from marl_sched.cli import options as o

if TYPE_CHECKING:
    from collections.abc import Sequence

    from marl_sched.evaluation.entrants import Player


def evaluate(
    scheduler: Annotated[
        list[str] | None,
        typer.Option(
            help="A run's folder, `pretrained`, or a classic scheduler's name, compiled or in "
            "Python (NAME:tuned for its tuned parameters); may be repeated.",
            show_default="of a suite: the tuned baselines",
        ),
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(help="Judge on a suite of clusters: quick, held-out, shift or training."),
    ] = None,
    data: o.SuiteData = None,
    trace: o.Trace = None,
    format: o.Format = None,
    cluster: o.ClusterOption = None,
    load: o.Load = None,
    estimate_noise: o.Noise = None,
    seed: o.Seed = None,
    episodes: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="At most: windows of jobs that share none, times draws of what a seed decides.",
            show_default="20",
        ),
    ] = None,
    jobs_per_episode: Annotated[
        int | None, typer.Option(min=1, show_default="as in training, at least 256")
    ] = None,
    part: Annotated[
        str, typer.Option(help="Part of the trace: test, validation, or whole.")
    ] = "test",
    skip_bad_rows: o.SkipBadRows = False,
    config: o.ConfigFile = None,
    set_: o.Settings = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write the JSON report here too; with --suite a folder, which also keeps what is "
            "finished: the same command goes on after a stop."
        ),
    ] = None,
    as_json: o.Json = False,
) -> None:
    """Compare schedulers on the same episodes, paired, with 95 % intervals.

    Episodes come from the part of the trace that training never saw; `--part whole` is for a
    trace of which it saw nothing. Without --trace and --cluster, those of the first trained
    scheduler are used. With --suite, the suite names traces, clusters and conditions.
    """
    from marl_sched.cli import tables
    from marl_sched.errors import UserError
    from marl_sched.files import write_text

    options = o.workload_options(trace, format, cluster, load, estimate_noise, seed, skip_bad_rows)
    options |= {"evaluation__episodes": episodes, "evaluation__jobs_per_episode": jobs_per_episode}
    given = o.Given(config, set_, options)
    names = list(dict.fromkeys(scheduler or ()))
    if suite is not None:
        from marl_sched.cli.evaluate_suite import evaluate_suite

        if trace is not None or cluster is not None:
            raise UserError("--suite names its own traces and clusters: leave out the others")
        evaluate_suite(suite, data, names, given, out, as_json)
        return
    if not names:
        raise UserError("--scheduler: name at least one, or take --suite quick")
    if part not in ("test", "validation", "whole"):
        raise UserError(
            f"--part {part!r}: choose test, validation or whole (training is never judged on)"
        )
    report = compare_schedulers(names, part, given)
    text = json.dumps(report)
    if out is not None:
        write_text(out, text + "\n")
    if as_json:
        print(text)
    else:
        tables.print_comparison(f"held-out jobs ({part} part)", report)


def say_which_index_is_missing(players: Sequence[Player]) -> None:
    """Name, beside trained schedulers, the indices that they should be compared with and are not:
    which of the two is the stronger one depends on the cluster."""
    from marl_sched.cli import tables
    from marl_sched.evaluation.suites import INDICES

    absent = [name for name in INDICES if name not in {player.name for player in players}]
    if absent and any(player.weights_sha256 is not None for player in players):
        tables.notices.print(
            "not among the schedulers, and often the strongest one that nobody has to train: "
            f"{', '.join(absent)}",
            highlight=False,
        )


def compare_schedulers(names: list[str], part: str, given: o.Given) -> dict[str, Any]:
    """The report of `evaluate --json` for the schedulers that are called so."""
    from marl_sched.cli import tables
    from marl_sched.envs.episodes import load_part
    from marl_sched.evaluation.entrants import load_player
    from marl_sched.evaluation.suite_run import CellRun, play_cell

    players = [load_player(name, given.resolve) for name in names]
    # Settings of the first trained scheduler, where nothing else is said.
    resolved = given.resolve(next((p.trained_on for p in players if p.trained_on), None))
    tables.report_skipped(load_part(resolved, part).skipped)
    with tables.status("evaluating") as shown:
        report = play_cell(
            CellRun("", part, resolved),
            players,
            None,
            lambda text: shown.update(f"evaluating: {text}"),
        )
    say_which_index_is_missing(players)
    return report | {
        "trace": resolved.workload.trace,
        "seed": resolved.seed,
        "agents": {player.name: player.agents for player in players},
    }
