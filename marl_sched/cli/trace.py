"""`marl-sched trace`: look at a trace, write a synthetic one, fetch a public one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from rich.table import Table

from marl_sched.cli import options as o
from marl_sched.config import TraceFormat, validate_config
from marl_sched.errors import UserError
from marl_sched.types import Cluster

app = typer.Typer(
    name="trace",
    help="Look at a trace, write a synthetic one, fetch a public one.",
    no_args_is_help=True,
)

CORE_COLUMNS = ("job_id", "arrival_s", "duration_s", "num_gpus")
"""What `synth` writes; models and elasticity are assigned when the file is used, as for a trace."""


@app.command()
def stats(
    file: Annotated[
        Path, typer.Argument(help="Trace: public, sacct -P, or our own CSV or Parquet.")
    ],
    cluster: Annotated[
        str | None, typer.Option(help="Also the offered load on this cluster, for example 16x8.")
    ] = None,
    form: o.Format = None,
    skip_bad_rows: o.SkipBadRows = False,
    as_json: o.Json = False,
) -> None:
    """Show what a trace holds."""
    from marl_sched.workload.formats import read_trace
    from marl_sched.workload.stats import trace_stats

    known = get_args(TraceFormat)
    if form is not None and form not in known:
        raise UserError(f"--format {form!r}: unknown format; known: {', '.join(known)}")
    where = None if cluster is None else Cluster.parse(cluster)
    found = trace_stats(read_trace(file, form, skip_bad_rows), where)
    if as_json:
        typer.echo(json.dumps(found))
    else:
        _show(found)


@app.command()
def synth(
    out: Annotated[Path, typer.Option(help="File to write: .csv or .parquet.")],
    jobs: Annotated[int, typer.Option(min=1, help="Number of jobs.")] = 6000,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same file.")] = 0,
    load: Annotated[float, typer.Option(help="Offered load on the cluster.")] = 0.9,
    cluster: Annotated[str, typer.Option(help="Cluster that the load refers to.")] = "8x8",
    as_json: o.Json = False,
) -> None:
    """Write a seeded synthetic trace in our own format."""
    from marl_sched.cli.tables import duration
    from marl_sched.workload.formats import read_trace
    from marl_sched.workload.stats import trace_stats
    from marl_sched.workload.trace import load_workload, write_trace

    if out.suffix.lower() not in (".csv", ".parquet"):
        raise UserError(f"--out {out}: the suffix must be .csv or .parquet")
    synthetic = {"num_jobs": jobs, "load": load}
    config = validate_config({"workload": {"synthetic": synthetic}}, where="trace synth")
    where = Cluster.parse(cluster)
    write_trace(load_workload(config.workload, where, seed), out, CORE_COLUMNS)
    found = trace_stats(read_trace(out), where)
    if as_json:
        typer.echo(json.dumps(found))
    else:
        typer.echo(
            f"wrote {out}: {found['num_jobs']} jobs over {duration(found['span_s'])}, "
            f"offered load {found['offered_load']:.2f} on {where}"
            if found["offered_load"] is not None
            else f"wrote {out}: {found['num_jobs']} job"
        )


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="Name of a public trace; `list` shows them.")],
    out: Annotated[
        Path | None, typer.Option(help="File to write.", show_default="NAME in this folder")
    ] = None,
    as_json: o.Json = False,
) -> None:
    """Download a public trace, pinned by commit and verified by SHA-256."""
    from marl_sched.workload import download
    from marl_sched.workload.sources import FILES

    if name == "list":
        _list_public(as_json)
        return
    path, fresh = download.fetch(name, out)
    file = FILES[name]
    if as_json:
        sha256 = file.member_sha256 or file.sha256
        found = {"name": name, "path": str(path), "sha256": sha256, "downloaded": fresh}
        typer.echo(json.dumps(found | {"source": file.source, "licence": file.licence}))
    else:
        done = "wrote" if fresh else "already there and verified:"
        typer.echo(f"{done} {path}: {file.what} (from {file.source}; licence {file.licence})")


def _list_public(as_json: bool) -> None:
    from marl_sched.cli import tables
    from marl_sched.workload.sources import FILES

    if as_json:
        typer.echo(json.dumps({name: vars(file) for name, file in FILES.items()}))
        return
    table = Table(box=None, pad_edge=False)
    for column in ("name", "what", "format", "licence", "repository"):
        table.add_column(column, no_wrap=column == "name")
    for name, file in FILES.items():
        table.add_row(name, file.what, file.format, file.licence, file.repository)
    tables.out.print(table, highlight=False)


def _show(found: dict[str, Any]) -> None:
    from marl_sched.cli import tables

    table = Table("", "", title=f"{found['trace']}", show_header=False, title_justify="left")
    for label, value in _lines(found):
        table.add_row(label, value)
    tables.out.print(table)


def _lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    from marl_sched.cli.tables import duration

    gpus, time_s = found["num_gpus"], found["duration_s"]
    lines = [
        ("jobs", f"{found['num_jobs']:,}"),
        ("rows skipped", _skipped(found["skipped"])),
        ("tenants", f"{found['num_tenants']}"),
        ("arrivals over", duration(found["span_s"])),
        ("run time, median", duration(time_s["p50"])),
        (
            "run time, 5 to 95 %",
            f"{duration(time_s['p5'])} to {duration(time_s['p95'])}",
        ),
        ("run time, longest", duration(time_s["max"])),
        ("GPUs asked, mean", f"{gpus['mean']:.2f}"),
        ("jobs by GPUs asked", ", ".join(f"{k}: {n:,}" for k, n in gpus["jobs"].items())),
        ("GPU time", f"{found['gpu_hours']:,.0f} GPU-hours"),
    ]
    for name, share in found["classes"].items():
        text = f"{share['jobs_share']:.1%} of jobs, {share['gpu_time_share']:.1%} of GPU time"
        lines.append((f"{name} jobs", text))
    if found["mean_gpus_busy"] is not None:
        lines.append(("GPUs asked at a time", f"{found['mean_gpus_busy']:,.1f} on average"))
    if "cluster" in found:
        load = found["offered_load"]
        where = f"{found['cluster']} ({found['cluster_gpus']} GPUs)"
        lines.append(("offered load", f"{'none' if load is None else f'{load:.3f}'} on {where}"))
        lines.append(("jobs that do not fit", f"{found['num_jobs_that_do_not_fit']}"))
    return lines


def _skipped(skipped: dict[str, int]) -> str:
    if not skipped:
        return "0"
    reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.items())
    return f"{sum(skipped.values())} ({reasons})"
