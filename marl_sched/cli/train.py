"""`marl-sched train`: train a scheduler, then judge it on held-out jobs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from marl_sched.cli import options as o

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from marl_sched.config import Config
    from marl_sched.training.run import TrainResult


def train(
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/built-in"),
    algo: Annotated[str | None, typer.Option(help="ppo, dqn or es.", show_default="ppo")] = None,
    trace: o.Trace = None,
    format: o.Format = None,
    cluster: o.ClusterOption = None,
    load: o.Load = None,
    estimate_noise: o.Noise = None,
    agents: Annotated[
        str | None,
        typer.Option(help="honest, greedy, yielding or learned.", show_default="honest"),
    ] = None,
    num_env_runners: Annotated[
        int | None, typer.Option(help="Ray workers that sample.", show_default="2")
    ] = None,
    num_learners: Annotated[
        int | None,
        typer.Option(help="Ray workers that learn; 0: the driver.", show_default="0"),
    ] = None,
    num_gpus_per_learner: Annotated[
        float | None,
        typer.Option(help="Taken where there are any, else CPUs.", show_default="0"),
    ] = None,
    minutes: Annotated[float | None, typer.Option(show_default="8")] = None,
    iterations: Annotated[
        int | None, typer.Option(help="Stop after so many, without a time limit.")
    ] = None,
    seed: o.Seed = None,
    resume: Annotated[
        str, typer.Option(help="auto: go on from the last checkpoint in --out; or never.")
    ] = "never",
    address: Annotated[
        str | None, typer.Option(help="Ray cluster to join; none: start a local one.")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(help="Keep --out there too: a shared path, s3://.. or gs://.."),
    ] = None,
    skip_bad_rows: o.SkipBadRows = False,
    config: o.ConfigFile = None,
    set_: o.Settings = None,
    suite: Annotated[
        str | None,
        typer.Option(help="Train a scorer on the clusters of a suite too, with --data: training."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of the public traces that the suite names.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="Settings by name, which options and --set override: fast."),
    ] = None,
) -> None:
    """Train a scheduler on a workload and compare it with the classic ones.

    Leaves in --out the configuration, metrics.csv, checkpoints, the best policy on validation
    (best/) and evaluation.json. What is in best/ is never worse on validation than the base.
    """
    from marl_sched.cli import tables
    from marl_sched.envs.batched import load_part
    from marl_sched.errors import UserError
    from marl_sched.presets import preset_settings
    from marl_sched.training.run import check, check_places

    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file, not a folder; choose another --out")
    if resume not in ("auto", "never"):
        raise UserError(f"--resume {resume!r}: choose auto or never")
    given = o.workload_options(trace, format, cluster, load, estimate_noise, seed, skip_bad_rows)
    given |= {
        "training__algo": algo,
        "training__num_env_runners": num_env_runners,
        "training__num_learners": num_learners,
        "training__num_gpus_per_learner": num_gpus_per_learner,
        "training__minutes": minutes,
        "training__iterations": iterations,
        "training__es__suite": suite,
        "training__es__data": None if data is None else str(data.absolute()),
        "env__agents": agents,
    }
    settings = o.resolve(config=config, settings=set_, **given)
    if preset is not None:
        page = preset_settings(preset, settings.training.algo)
        settings = o.resolve(config=config, settings=set_, base=page, **given)
    if settings.training.es.suite is not None and not _has_scorer(settings):
        raise UserError("--suite: only a scorer is trained on several clusters; take --algo es")
    if data is not None and settings.training.es.suite is None:
        raise UserError("--data: only a suite reads that folder; say which, --suite training")
    if iterations is not None and minutes is None:
        # A count alone is a reproducible run: no clock ends it.
        ends = settings.training.model_copy(update={"minutes": None})
        settings = settings.model_copy(update={"training": ends})
    check_places(settings, out, storage, resume == "auto")
    with _joined(address, settings):
        part = load_part(settings, "train")
        tables.report_skipped(part.skipped)
        tables.notices.print(_describe(settings, part), highlight=False)
        check(settings)
        with tables.status("compiling the simulator (once on a machine, under a minute)"):
            _warm_up(settings)
        classic = _classic_on_validation(settings)
        result = _run_with_progress(settings, out, address, storage, resume == "auto", classic)
        _say_what_was_gained(settings, result, classic)
        _judge(settings, out)
        if storage is not None:
            from marl_sched.training.storage import Storage

            Storage(storage).finish(out)


@contextmanager
def _joined(address: str | None, settings: Config) -> Iterator[None]:
    """Be in the cluster at `address` from the start: a wrong one fails before any work."""
    if address is None:
        yield
        return
    from marl_sched.training.session import ray_session

    with ray_session(address, settings.training.num_env_runners):
        yield


def _describe(settings: Config, part: Any) -> str:
    from marl_sched.types import Cluster

    cluster = Cluster.parse(settings.cluster)
    load = part.offered_load(cluster.num_gpus)
    what: str = settings.env.actions
    if _has_scorer(settings):
        from marl_sched.training.sequences import sources

        clusters = set(settings.env.train_clusters)
        more = [(len(sources(settings)) - 1, "workloads"), (len(clusters), "cluster sizes")]
        named = [f"{count} other {kind}" for count, kind in more if count]
        scorer = " and ".join(("scorer", *named))
        what = scorer if settings.training.algo == "es" else f"{scorer}, then {what}"
    return (
        f"training {settings.training.algo.upper()} ({what}) on {part.name}: "
        f"{len(part):,} training jobs, cluster {cluster} ({cluster.num_gpus} GPUs), "
        f"offered load {load:.2f}"
    )


def _warm_up(settings: Config) -> None:
    """Compile (or load) every kernel that the runners use, and fail on bad input here."""
    if _has_scorer(settings):
        from marl_sched.envs.play import PLAYED
        from marl_sched.schedulers.dispatch import elastic_index, scorer
        from marl_sched.warm import missing, warm

        warm(missing((*PLAYED, elastic_index, scorer)), lambda done, parts: None)
    if settings.training.algo == "es":
        return
    import numpy as np

    from marl_sched.envs.batched import BatchedSchedulingEnv

    env = BatchedSchedulingEnv(settings, 1, settings.seed)
    env.reset()
    env.step(np.zeros(1, dtype=np.int64))


def _has_scorer(settings: Config) -> bool:
    """Whether evolution strategies take part."""
    return settings.training.algo == "es" or settings.training.warm_start > 0


def _classic_on_validation(settings: Config) -> dict[str, float]:
    """Mean JCT of the base and the classic schedulers on validation, s."""
    from marl_sched.evaluation.compare import part_episodes, run_classic
    from marl_sched.schedulers import get_scheduler

    episodes = part_episodes(settings, "validation", settings.training.validation_episodes)

    def mean_jct(name: str) -> float:
        runs = run_classic(settings, "validation", get_scheduler(name), episodes)
        return sum(run["avg_jct_s"] for run in runs) / len(runs)

    names = dict.fromkeys((settings.env.base, *settings.evaluation.schedulers))
    return {name: mean_jct(name) for name in names}


def _say_classic(settings: Config, classic: dict[str, float]) -> str:
    """The classic schedulers against the base, as a line for the progress view."""
    from marl_sched.cli.tables import duration

    base = settings.env.base
    figures = ", ".join(
        f"{name} {100 * (jct / classic[base] - 1):+.1f} %"
        for name, jct in classic.items()
        if name != base
    )
    return f"validation JCT: base {base} {duration(classic[base])}; {figures}"


def _run_with_progress(
    settings: Config,
    out: Path,
    address: str | None,
    storage: str | None,
    resume: bool,
    classic: dict[str, float],
) -> TrainResult:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from marl_sched.cli import tables

    tables.notices.print(_say_classic(settings, classic), highlight=False)
    tables.notices.print(
        "iteration, speed, and in % of the base: training JCT, validation, best so far",
        highlight=False,
    )
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        console=tables.notices,
    ) as progress:
        task = progress.add_task("starting Ray", total=None, left="")
        from marl_sched.training.run import train as run

        show = _Reporter(settings, progress, task)
        return run(
            settings,
            out,
            address=address,
            storage=storage,
            resume=resume,
            progress=show,
            command=o.command_line(),
        )


class _Reporter:
    """Turns rows of metrics into the progress view."""

    def __init__(self, settings: Config, progress: Progress, task: TaskID) -> None:
        self._settings = settings
        self._progress = progress
        self._task = task

    def __call__(self, row: dict[str, Any]) -> None:
        limits = self._settings.training
        left = row.get("seconds_left")
        done, total = row["iteration"], limits.iterations
        if left is not None and total is None:
            done, total = row["elapsed_s"], row["elapsed_s"] + left
        self._progress.update(
            self._task,
            description=f"iteration {row['iteration']}",
            completed=done,
            total=total,
            left="" if left is None else f"{left / 60:.1f} min left",
        )
        self._progress.console.print(self._line(row), highlight=False)

    def _line(self, row: dict[str, Any]) -> str:
        """At most 80 characters: JCTs are percent against the base, negative = shorter."""

        def signed(key: str, label: str, digits: int = 2) -> str:
            value = row.get(key)
            width = digits + 4
            shown = " " * width if value is None else f"{value:+{width}.{digits}f}"
            return f"{label} {shown}"

        rate = row.get("decisions_per_s")
        parts = [
            f"{row['iteration']:>4}",
            " " * 14 if rate is None else f"{rate:>6,.0f} decis./s",
            signed("jct_vs_base_percent", "train"),
            signed("validation_percent", "valid"),
            f"best {row['best_validation_percent']:+.2f} @{row['best_iteration']}",
        ]
        if row.get("agent_return_mean") is not None:
            parts.append(signed("agent_return_mean", "agents", 3))
        left = row.get("seconds_left")
        if left is not None:
            parts.append(f"{left / 60:.1f} min left")
        return "  ".join(parts)


def _say_what_was_gained(settings: Config, result: TrainResult, classic: dict[str, float]) -> None:
    """Print what came out on validation, and of which stage; run.json keeps the baselines.

    The baselines are judged on the same episodes; where the reward is not completion time alone,
    theirs is JCT all the same.
    """
    from marl_sched.cli import tables
    from marl_sched.training.records import RunFolder

    base, algo = settings.env.base, settings.training.algo.upper()
    gained, warm = result.best_validation, result.warm_start_validation
    text = f"kept, on validation: {gained:+.2f} % of {base} (iteration {result.best_iteration})"
    if warm is not None:
        later = gained - warm
        text += f"; of that the warm start {warm:+.2f}, " + (
            f"{algo} {later:+.2f}" if later < 0 else f"{algo} nothing: the scorer alone is kept"
        )
    against = {name: 100 * (jct / classic[base] - 1) for name, jct in classic.items()}
    folder = RunFolder(result.out)
    folder.write_run(baselines_validation=against)
    if settings.training.algo != "es":
        best = min(against, key=lambda name: against[name])
        text += f". Best baseline there: {best} {against[best]:+.2f}"
    record = folder.read_run()
    if "best_single" in record:
        text += f". Single algorithm clearly better than the base: {record['best_single']}"
    tables.notices.print(text, highlight=False)


def _judge(settings: Config, out: Path) -> None:
    """Print and keep the table on the test part."""
    from marl_sched.cli import tables
    from marl_sched.cli.evaluate import compare_schedulers
    from marl_sched.files import write_text
    from marl_sched.schedulers.scorer_file import is_scorer
    from marl_sched.training.records import RunFolder

    names = [str(out), *settings.evaluation.schedulers]
    base = RunFolder(out).base
    if base.is_dir() and not is_scorer(str(out)):
        names.insert(1, str(base))  # what the policy stands on: its own part is the difference
    if settings.env.actions != "edit" or settings.training.algo == "es":
        # A scheduler that chooses among algorithms has to beat each of them, and a corrected
        # index the index's other settings.
        names += settings.env.algorithms
    report = compare_schedulers(names, "test", None, None, {})
    write_text(out / "evaluation.json", json.dumps(report, indent=2) + "\n")
    tables.print_comparison("held-out jobs (test part)", report, mark=str(out))
