"""`marl-sched reproduce`: published experiments, by their own rules, on our simulator."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from marl_sched.cli import reproduce_tables as show

app = typer.Typer(
    name="reproduce",
    help="Run published experiments by their own rules, on the files of those who published them.",
    no_args_is_help=True,
)

POLLUX = ("tiresias", "optimus_oracle", "pollux")
GAVEL = ("max_min_fairness", "max_sum_throughput", "min_total_duration", "gandiva_fair")
"""Run where no scheduler is named; the runner knows more."""


class ManyInputs(TyperCommand):
    """A command whose `--input a b` means `--input a --input b`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, spread(args, "--input"))


def spread(args: Iterable[str], option: str) -> list[str]:
    """Arguments in which `option` stands before each of the values that follow it."""
    result: list[str] = []
    takes, expects = False, False
    for arg in args:
        if takes and not expects and not arg.startswith("-"):
            result.append(option)
        elif not expects:
            takes = arg == option or arg.startswith(f"{option}=")
        expects = arg == option and not expects
        result.append(arg)
    return result


Input = Annotated[
    list[Path] | None,
    typer.Option(
        "--input", metavar="FILE...", help="Input; several may follow, and it may be repeated."
    ),
]
More = Annotated[list[Path] | None, typer.Argument(metavar="[FILE]...", help="More inputs.")]
Chosen = Annotated[
    list[str] | None,
    typer.Option("--scheduler", help="May be repeated.", show_default="all of the experiment"),
]
AsJson = Annotated[
    bool,
    typer.Option(
        "--json", help="One JSON object; a list of them for several inputs or schedulers."
    ),
]


@app.command(cls=ManyInputs)
def muri(
    input: Input = None,
    more: More = None,
    scheduler: Chosen = None,
    cluster: Annotated[str, typer.Option(help="NODESxGPUS.")] = "8x8",
    overheads: Annotated[
        Path | None,
        typer.Option(
            help="CSV of measured start overheads (model, num_gpu, overhead_s).",
            show_default="10 s for all",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Muri (SIGCOMM 2022): srtf, srsf, tiresias_l on a trace of its artifact."""
    from marl_sched.reproduce.muri import SCHEDULERS, run

    names = _chosen(scheduler, SCHEDULERS)

    def one(path: Path, name: str) -> dict[str, Any]:
        return run(path, name, cluster, overheads)

    show.jobs(_all(_inputs(input, more), names, one), as_json)


@app.command(cls=ManyInputs)
def pollux(
    input: Input = None,
    more: More = None,
    scheduler: Chosen = None,
    profiles: Annotated[
        Path | None,
        typer.Option(
            help="Folder of measurements, one folder a model.",
            show_default="profiles beside the workload or its folder",
        ),
    ] = None,
    cluster: Annotated[str, typer.Option(help="NODESxGPUS.")] = "16x4",
    seed: Annotated[int, typer.Option(min=0, help="Of Pollux' search.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Pollux (OSDI 2021): tiresias, optimus_oracle, pollux on workloads of its artifact."""
    from marl_sched.reproduce import experiment
    from marl_sched.reproduce.files import pollux_profiles

    names, run = _chosen(scheduler, POLLUX), experiment("pollux").run

    def one(path: Path, name: str) -> dict[str, Any]:
        return dict(run(path, profiles or pollux_profiles(path), name, cluster, seed=seed))

    show.jobs(_all(_inputs(input, more), names, one), as_json)


@app.command(cls=ManyInputs)
def gavel(
    input: Input = None,
    more: More = None,
    scheduler: Chosen = None,
    throughputs: Annotated[
        Path | None,
        typer.Option(
            help="JSON of measured steps/s.", show_default="the only one beside the trace"
        ),
    ] = None,
    profiles: Annotated[
        Path | None,
        typer.Option(
            help="JSON of planned seconds per epoch, a record a job.",
            show_default="the only one beside the trace; without one, from the throughputs",
        ),
    ] = None,
    cluster: Annotated[
        str, typer.Option(help="GPUs, by type as in 32:16:8 (v100:p100:k80), or NODESxGPUS[:TYPE].")
    ] = "32",
    round_s: Annotated[float, typer.Option("--round-s", help="Length of a round.")] = 120.0,
    overheads: Annotated[
        Path | None,
        typer.Option(
            help="Measured seconds of writing or loading a checkpoint: go by the rounds of a real "
            "cluster, in place of the published simulator's.",
            show_default="20 s a restart",
        ),
    ] = None,
    first_jobs: Annotated[
        int,
        typer.Option(min=1, help="With --overheads: jobs there when the first round begins."),
    ] = 1,
    overtime: Annotated[
        float,
        typer.Option(help="With --overheads: end a job after so many times its planned run time."),
    ] = 1.5,
    seed: Annotated[int, typer.Option(min=0, help="Of ties and of drawn overheads.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Gavel (OSDI 2020), as Shockwave (NSDI 2023) ran it: rounds of fractions from an LP.

    The trace, the throughputs and the per-epoch profile may all stand behind --input.
    """
    from marl_sched.errors import UserError
    from marl_sched.reproduce import experiment
    from marl_sched.reproduce.files import gavel_cluster, gavel_files

    module = experiment("gavel")
    names, run = _chosen(scheduler, GAVEL, known=module.SCHEDULERS), module.run
    if not 0.0 < round_s < float("inf"):
        raise UserError(f"--round-s {round_s:g}: must be a number of seconds > 0")
    if not 0.0 < overtime < float("inf"):
        raise UserError(f"--overtime {overtime:g}: must be a number > 0")
    real = None if overheads is None else module.RealCluster(overheads, first_jobs, overtime)
    files = {each.trace: each for each in gavel_files(_inputs(input, more), throughputs, profiles)}
    machines = gavel_cluster(cluster)

    def one(path: Path, name: str) -> dict[str, Any]:
        each = files[path]
        return run(path, each.throughputs, each.profile, name, machines, round_s, seed, real)

    show.jobs(_all(list(files), names, one), as_json)


@app.command(cls=ManyInputs)
def openb(
    input: Input = None,
    more: More = None,
    scheduler: Chosen = None,
    nodes: Annotated[
        Path | None,
        typer.Option(
            help="Node list.", show_default="openb_node_list_gpu_node.csv beside the pod list"
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Orders of arrival: seeds 0, 1, ...")] = 10,
    load: Annotated[
        list[int] | None,
        typer.Option(
            help="Arrived GPU demand in percent of the cluster; may be repeated.",
            show_default="100",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fragmentation (FGD, ATC 2023): GPUs that placement rules fill in Alibaba's cluster."""
    from marl_sched.reproduce.openb import SCHEDULERS, run

    names = _chosen(
        [SCHEDULERS.get(name, name) for name in scheduler or []],
        ("random", "best_fit", "dot_prod", "gpu_packing", "gpu_clustering", "fgd"),
    )
    loads = load or [100]

    def one(path: Path, name: str) -> dict[str, Any]:
        return run(path, nodes, name, seeds, loads)

    show.allocation(_all(_inputs(input, more), names, one), as_json)


@app.command(cls=ManyInputs)
def hesrpt(
    input: Input = None,
    more: More = None,
    scheduler: Chosen = None,
    cluster: Annotated[
        str | None, typer.Option(help="NODESxGPUS, of which the GPUs count.", show_default="8x8")
    ] = None,
    gpus: Annotated[int | None, typer.Option(min=1, help="Number of GPUs instead.")] = None,
    p: Annotated[float, typer.Option("--p", help="k GPUs are k^p times as fast as one.")] = 0.5,
    weights: Annotated[
        str, typer.Option(help="none: sum of completion times; slowdown: over the sizes.")
    ] = "none",
    column: Annotated[
        str | None,
        typer.Option(
            help="Column of the seconds on one GPU.", show_default="size, or duration_s x gpus^p"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """HeSRPT's closed form: the optimum for jobs that are all there at time 0."""
    from marl_sched.errors import UserError
    from marl_sched.reproduce.hesrpt import run
    from marl_sched.types import Cluster

    names = _chosen(scheduler, ("hesrpt",))
    if gpus is not None and cluster is not None:
        raise UserError("--gpus and --cluster: give one of them")
    number = gpus if gpus is not None else Cluster.parse(cluster or "8x8").num_gpus

    def one(path: Path, name: str) -> dict[str, Any]:
        return run(path, number, p, weights, column)

    show.optimum(_all(_inputs(input, more), names, one), as_json)


@app.command()
def report(
    data: Annotated[Path, typer.Option(help="Folder with the data, one folder a source.")],
    out: Annotated[Path, typer.Option(help="Markdown file to write.")] = Path(
        "docs/reproductions.md"
    ),
) -> None:
    """Run every experiment whose inputs and published results lie in --data; write a page."""
    from marl_sched.cli import tables
    from marl_sched.files import write_text
    from marl_sched.reproduce.report import report as write

    def say(text: str) -> None:
        tables.notices.print(text, highlight=False, markup=False)

    write_text(out, write(data, say))
    say(f"wrote {out}")


def _inputs(given: list[Path] | None, more: list[Path] | None) -> list[Path]:
    """The distinct inputs in the order given."""
    paths = list(dict.fromkeys([*(given or []), *(more or [])]))
    if not paths:
        raise typer.BadParameter("give at least one --input FILE")
    return paths


def _chosen(
    given: list[str] | None, usual: Iterable[str], known: Iterable[str] | None = None
) -> list[str]:
    """The schedulers to run: those named, else the usual ones."""
    from marl_sched.errors import UserError

    known = list(usual if known is None else known)
    for name in given or []:
        if name not in known:
            raise UserError(f"--scheduler {name!r}: this experiment has {', '.join(known)}")
    return list(dict.fromkeys(given or usual))


def _all(
    paths: list[Path], names: list[str], one: Callable[[Path, str], dict[str, Any]]
) -> list[dict[str, Any]]:
    """Every scheduler on every input; each result with `scheduler` and `input` in front."""
    from marl_sched.cli import tables

    found = []
    for path in paths:
        for name in names:
            with tables.status(f"{name} on {path.name} (the first run on a machine compiles)"):
                result = one(path, name)
            found.append({**result, "scheduler": name, "input": str(path)})
    return found
