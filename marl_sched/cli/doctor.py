"""`marl-sched doctor`: what training would find here, and what is wrong with it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from marl_sched.cli import options as o

if TYPE_CHECKING:
    from marl_sched.clusters.doctor import Findings

LABELS = {"nodes": "nodes", "cpus": "CPUs", "gpus": "GPUs"}


def doctor(
    address: Annotated[
        str | None,
        typer.Option(
            help="Ray cluster to look at; auto: the one of this machine.",
            show_default="RAY_ADDRESS",
        ),
    ] = None,
    allow_open: Annotated[
        bool, typer.Option("--allow-open", help="Take a cluster that asks for no token.")
    ] = False,
    as_json: o.Json = False,
) -> None:
    """Print versions, Ray's address and authentication, CPUs and GPUs, and what is wrong.

    Ends with exit code 2 if anything is.
    """
    from marl_sched.clusters.doctor import examine

    found = examine(address, allow_open)
    if as_json:
        typer.echo(json.dumps(asdict(found)))
    else:
        _print(found)
    if found.errors:
        raise typer.Exit(2)


def _print(found: Findings) -> None:
    from marl_sched.cli.tables import out

    def line(name: str, text: str) -> None:
        out.print(f"{name:16}{text}", highlight=False, markup=False, soft_wrap=True)

    def counts(of: dict[str, float]) -> str:
        return ", ".join(f"{value:g} {LABELS[name]}" for name, value in of.items())

    line("versions", ", ".join(f"{name} {version}" for name, version in found.versions.items()))
    token = found.authentication["token"]
    line(
        "authentication",
        f"{found.authentication['mode']}, "
        + ("no token" if token is None else f"token from {token}"),
    )
    line("here", counts(found.here))
    none = "auto: none runs" if found.auto else "none named: training starts a local one"
    line("Ray cluster", found.address or none)
    if found.cluster is not None:
        line("", counts(found.cluster))
    for message in found.warnings:
        line("warning", message)
    for message in found.errors:
        line("error", message)
    if not found.errors:
        line("", "nothing is wrong" if not found.warnings else "nothing but the above is wrong")
