"""`marl-sched cluster`: launch files, written and checked."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(help="Launch files for clusters: write one, check some.", no_args_is_help=True)


@app.command("render")
def render(
    target: Annotated[
        str, typer.Argument(help="local, aws, gcp, rayjob, raycluster, slurm, docker; or list.")
    ],
    nodes: Annotated[
        int | None,
        typer.Option(help="Machines that sample, besides the head; with slurm all machines."),
    ] = None,
    cpus_per_node: Annotated[int | None, typer.Option(help="CPUs of each of them.")] = None,
    gpus_per_node: Annotated[
        int | None,
        typer.Option(
            help="GPUs of the machine that learns (slurm, local: of each machine); 0: none."
        ),
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Of training.", show_default="30")] = None,
    storage: Annotated[
        str | None, typer.Option(help="Where the run is kept too: a path, s3:// or gs://.")
    ] = None,
    image: Annotated[str | None, typer.Option(help="Image of the project, for Kubernetes.")] = None,
    region: Annotated[str | None, typer.Option(help="Of the cloud.")] = None,
    project: Annotated[str | None, typer.Option(help="Of Google Cloud.")] = None,
    ami: Annotated[str | None, typer.Option(help="Machine image on AWS.")] = None,
    machine: Annotated[
        str | None, typer.Option(help="Type of the cloud machines that sample.")
    ] = None,
    gpu_machine: Annotated[
        str | None, typer.Option(help="Type of the cloud machine that learns.")
    ] = None,
    hosts: Annotated[
        str | None, typer.Option(help="Your own machines as HEAD,WORKER,WORKER.")
    ] = None,
    ssh_user: Annotated[str | None, typer.Option(help="Who logs in there.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write this file instead of standard output.")
    ] = None,
) -> None:
    """Write a launch file; without options, the one that lies in clusters/."""
    from marl_sched.clusters import targets
    from marl_sched.files import write_text

    if target == "list":
        width = 2 + max(len(known.path) for known in targets.TARGETS.values())
        for known in targets.TARGETS.values():
            typer.echo(f"{known.name:12}{known.path:{width}}{known.about}")
        return
    given: dict[str, Any] = {
        "nodes": nodes, "cpus_per_node": cpus_per_node, "gpus_per_node": gpus_per_node,
        "minutes": minutes, "storage": storage, "image": image, "region": region,
        "project": project, "ami": ami, "machine": machine, "gpu_machine": gpu_machine,
        "hosts": None if hosts is None else tuple(h.strip() for h in hosts.split(",")),
        "ssh_user": ssh_user,
    }  # fmt: skip
    launch = targets.Launch(**{name: value for name, value in given.items() if value is not None})
    text = targets.render(target, launch, path=None if out is None else str(out))
    if out is None:
        sys.stdout.write(text)
    else:
        write_text(out, text)
        file = shlex.quote(str(out))
        _say(f"wrote {file}; check it with: marl-sched cluster validate {file}")
    note = targets.values(targets.TARGETS[target], launch).get("note")
    if note is not None:
        _say(f"note: {note}")


@app.command("validate")
def validate(
    files: Annotated[list[Path], typer.Argument(help="Launch files; - is standard input.")],
    crd_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder of KubeRay's ray.io_rayclusters.yaml and ray.io_rayjobs.yaml; without "
            "it they are downloaded once and kept in ~/.cache/marl_sched."
        ),
    ] = None,
) -> None:
    """Check launch files without a cloud or a cluster; exit code 2 when one is bad."""
    from marl_sched.clusters.validate import validate as check
    from marl_sched.errors import UserError

    bad = False
    for path in files:
        name = "standard input" if str(path) == "-" else str(path)
        try:
            text = _read(path)
        except UserError as error:
            bad = True
            _say(f"error: {error}")
            continue
        report = check(path, text, crd_dir)
        for problem in report.problems:
            bad = True
            _say(f"error: {name}:{problem.line}: {problem.message}")
        for note in report.notes:
            _say(f"note: {name}: {note}")
        if not report.problems:
            typer.echo(f"{name}: good ({', '.join(report.kinds)})")
    if bad:
        raise typer.Exit(2)


def _say(message: str) -> None:
    """One line for people, whatever the message holds."""
    print(" ".join(message.split()), file=sys.stderr)


@app.command("fetch")
def fetch(
    storage: Annotated[str, typer.Argument(help="What `train --storage` was given.")],
    out: Annotated[Path, typer.Option(help="Folder to copy the run to.")] = Path("runs/fetched"),
) -> None:
    """Copy a run from where `train --storage` keeps it."""
    from marl_sched.errors import UserError
    from marl_sched.training.storage import Storage

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out}: is there already and not empty; choose another --out")
    typer.echo(f"{out}: {Storage(storage, option='').fetch(out)} files")


def _read(path: Path) -> str:
    from marl_sched.clusters.validate import LONGEST
    from marl_sched.errors import UserError

    most = 4 * LONGEST + 1  # bytes of as many characters; /dev/zero has no end
    try:
        if str(path) == "-":
            return sys.stdin.buffer.read(most).decode("utf-8")
        if path.is_dir():
            raise UserError(f"{path}: is a folder; name the files in it")
        with open(path, "rb") as file:
            return file.read(most).decode("utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not text in UTF-8") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
