"""Options that several commands share, and how they become a configuration."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from marl_sched.config import Config, Placement, TraceFormat, load_config


def _one_of(literal: Any) -> str:
    """The values of a Literal: a, b or c."""
    *others, last = get_args(literal)
    return f"{', '.join(others)} or {last}"


Trace = Annotated[str | None, typer.Option(help="Trace file; none: the built-in workload.")]
Format = Annotated[
    str | None,
    typer.Option("--format", help=f"{_one_of(TraceFormat)}; default: by the header."),
]
ClusterOption = Annotated[
    str | None,
    typer.Option(help="NODESxGPUS[:TYPE], joined with '+', or a YAML file.", show_default="8x8"),
]
Load = Annotated[float | None, typer.Option(help="Rescale arrivals to this offered load.")]
Noise = Annotated[
    float | None,
    typer.Option(help="Log-normal sigma of the size estimates.", show_default="1.0"),
]
PlacementRule = Annotated[
    str | None,
    typer.Option(help=f"Which nodes a job gets: {_one_of(Placement)}.", show_default="consolidate"),
]
Seed = Annotated[int | None, typer.Option(help="Seed of everything random.", show_default="0")]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="YAML file of settings (`marl-sched settings` lists them)."),
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="Any setting as a.b=c; may be repeated.")
]
SkipBadRows = Annotated[
    bool, typer.Option("--skip-bad-rows", help="Count and report unusable rows and go on.")
]
SuiteData = Annotated[
    Path | None, typer.Option(help="Folder of the public traces that the suite names.")
]
Address = Annotated[str | None, typer.Option(help="Ray cluster to join; none: start a local one.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


@dataclass(frozen=True)
class Given:
    """All that a command line says about the settings: `--config`, `--set`, and the options.

    Attributes:
        options: as the keywords of `resolve`.
    """

    config: Path | None = None
    settings: list[str] | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def resolve(self, base: dict[str, Any] | None = None) -> Config:
        """The settings, `base` where nothing else is said."""
        return resolve(config=self.config, settings=self.settings, base=base, **self.options)


def resolve(
    *,
    config: Path | None,
    settings: list[str] | None,
    base: dict[str, Any] | None = None,
    **options: Any,
) -> Config:
    """Settings: `base` < the file < `--set` < options given by name.

    Args:
        options: `section__key` (or a top-level `key`) to value; None means not given.
    """
    given: dict[str, Any] = {}
    for name, value in options.items():
        if value is None:
            continue
        *sections, key = name.split("__")
        into = given
        for section in sections:
            into = into.setdefault(section, {})
        into[key] = value
    resolved = load_config(config, settings or [], defaults=base, options=given)
    _check_schedulers(resolved)
    return resolved


def without_clock(config: Config) -> Config:
    """The same run, ended by its count of iterations alone: it can be repeated exactly."""
    training = config.training.model_copy(update={"minutes": None})
    return config.model_copy(update={"training": training})


def _check_schedulers(config: Config) -> None:
    """Refuse names of schedulers that are not in the registry, naming the setting."""
    from marl_sched.errors import UserError
    from marl_sched.schedulers import get_scheduler

    named = {
        "env.base": (config.env.base,),
        "env.algorithms": config.env.algorithms,
        "evaluation.schedulers": config.evaluation.schedulers,
    }
    if not config.env.algorithms:
        raise UserError("setting env.algorithms: name at least one scheduler, for example [srtf]")
    for key, names in named.items():
        for name in names:
            try:
                get_scheduler(name)
            except UserError as error:
                raise UserError(f"setting {key}: {error}") from None


def command_line() -> str:
    """The command that is being run, for records of how something came about; no credentials."""
    from marl_sched.errors import redacted

    return "marl-sched " + shlex.join(map(redacted, sys.argv[1:]))


def workload_options(
    trace: str | None,
    format: str | None,
    cluster: str | None,
    load: float | None,
    noise: float | None,
    seed: int | None,
    skip_bad_rows: bool,
) -> dict[str, Any]:
    """The shared options by their place in the configuration, for `resolve`."""
    return {
        "workload__trace": None if trace is None else str(Path(trace).absolute()),
        "workload__format": format,
        "workload__load": load,
        "workload__estimate_noise": noise,
        "workload__skip_bad_rows": True if skip_bad_rows else None,
        "cluster": cluster,
        "seed": seed,
    }
