"""The command tree."""

from __future__ import annotations

import typer

from marl_sched.cli import (
    cluster,
    doctor,
    evaluate,
    export,
    reproduce,
    settings,
    simulate,
    trace,
    train,
    tune,
    tune_baseline,
)

app = typer.Typer(
    name="marl-sched",
    help="Train, judge and run schedulers for deep-learning jobs that share GPUs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("tune")(tune.tune)
app.command("tune-baseline")(tune_baseline.tune_baseline)
app.command("export")(export.export)
app.command("model-card")(export.model_card)
app.command("simulate")(simulate.simulate)
app.command("doctor")(doctor.doctor)
app.command("settings")(settings.settings)
app.add_typer(cluster.app, name="cluster")
app.add_typer(trace.app, name="trace")
app.add_typer(reproduce.app, name="reproduce")


@app.callback(invoke_without_command=True)
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    if version:
        from marl_sched import __version__

        typer.echo(__version__)
        raise typer.Exit
