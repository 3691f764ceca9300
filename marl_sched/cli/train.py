"""`marl-sched train`: train a scheduler, then judge it on held-out jobs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marl_sched.cli import options as o

if TYPE_CHECKING:
    from marl_sched.config import Config


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
    minutes: Annotated[
        float | None,
        typer.Option(
            help="Minutes of training: learning, validation and checkpoints, over all resumes. "
            "Compiling, baselines, starting Ray and the table at the end are not in it.",
            show_default="8",
        ),
    ] = None,
    iterations: Annotated[
        int | None,
        typer.Option(help="Stop after N iterations instead of after --minutes."),
    ] = None,
    seed: o.Seed = None,
    resume: Annotated[
        str, typer.Option(help="auto: go on from the last checkpoint in --out; or never.")
    ] = "never",
    address: o.Address = None,
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
    data: o.SuiteData = None,
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
    from marl_sched.errors import UserError

    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file, not a folder; choose another --out")
    if resume not in ("auto", "never"):
        raise UserError(f"--resume {resume!r}: choose auto or never")
    options = o.workload_options(trace, format, cluster, load, estimate_noise, seed, skip_bad_rows)
    options |= {
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
    settings = _resolve(o.Given(config, set_, options), preset)
    _check_suite(settings, data)
    if iterations is not None and minutes is None:
        settings = o.without_clock(settings)
    with tables.heartbeat(lambda: "loading"):
        _train(settings, out, address, storage, resume == "auto")


def _resolve(given: o.Given, preset: str | None) -> Config:
    """The settings; a preset's page depends on the algorithm, which they name."""
    from marl_sched.presets import preset_settings

    settings = given.resolve()
    if preset is None:
        return settings
    return given.resolve(preset_settings(preset, settings.training.algo))


def _check_suite(settings: Config, data: Path | None) -> None:
    """Refuse options of a suite where nothing reads them."""
    from marl_sched.errors import UserError

    if settings.training.es.suite is not None and not settings.training.has_scorer:
        raise UserError("--suite: only a scorer is trained on several clusters; take --algo es")
    if data is not None and settings.training.es.suite is None:
        raise UserError("--data: only a suite reads that folder; say which, --suite training")


def _train(
    settings: Config, out: Path, address: str | None, storage: str | None, resume: bool
) -> None:
    """Train and judge, telling what goes on."""
    from marl_sched.cli import tables, train_display
    from marl_sched.envs.episodes import load_part
    from marl_sched.training.run import check, check_places
    from marl_sched.training.run import train as run

    begun_s = time.monotonic()
    check_places(settings, out, storage, resume)
    earlier = train_display.going_on(settings, out, storage) if resume else None
    if earlier is not None:
        tables.notices.print(earlier, highlight=False, markup=False)
    with _joined(address, settings):
        part = load_part(settings, "train")
        tables.report_skipped(part.skipped)
        tables.notices.print(train_display.description(settings, part), highlight=False)
        check(settings)
        with tables.status("compiling the simulator (once on a machine)") as shown:
            _warm_up(settings, shown.update)
        with tables.status("playing baselines on validation") as shown:
            classic = _classic_on_validation(settings, shown.update)
        before_s = time.monotonic() - begun_s
        with train_display.progress(settings, classic) as show:
            result = run(
                settings,
                out,
                address=address,
                storage=storage,
                resume=resume,
                progress=show,
                command=o.command_line(),
            )
        train_display.say_what_it_took(settings, result, before_s)
        train_display.say_what_was_gained(settings, result, classic)
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


def _warm_up(settings: Config, say: Callable[[str], None]) -> None:
    """Compile (or load) every kernel that the runners use, and fail on bad input here."""
    if settings.training.has_scorer:
        from marl_sched.compiled.warm import missing, warm
        from marl_sched.envs.play import PLAYED
        from marl_sched.schedulers.learned.scorer import scorer
        from marl_sched.schedulers.rules.elastic_index import elastic_index

        def tell(done: int, every: int) -> None:
            say(f"compiling the simulator, {done} of {every} parts (once on a machine)")

        parts = missing((*PLAYED, elastic_index, scorer))
        if parts:
            warm(parts, tell)
    if settings.training.algo == "es":
        return
    import numpy as np

    from marl_sched.envs.batched import BatchedSchedulingEnv

    env = BatchedSchedulingEnv(settings, 1, settings.seed)
    env.reset()
    env.step(np.zeros(1, dtype=np.int64))


def _classic_on_validation(settings: Config, say: Callable[[str], None]) -> dict[str, float]:
    """Mean JCT of the base and the classic schedulers on validation, s."""
    from marl_sched.evaluation.compare import part_episodes
    from marl_sched.evaluation.entrants import load_player

    episodes = part_episodes(settings, "validation", settings.training.validation_episodes)

    def mean_jct(name: str) -> float:
        say(f"playing baselines on validation: {name}")
        runs = load_player(name).play(settings, "validation", episodes)
        return sum(run["avg_jct_s"] for run in runs) / len(runs)

    names = dict.fromkeys((settings.env.base, *settings.evaluation.schedulers))
    return {name: mean_jct(name) for name in names}


def _judge(settings: Config, out: Path) -> None:
    """Print and keep the table on the test part."""
    from marl_sched.cli import tables, train_display
    from marl_sched.cli.evaluate import compare_schedulers
    from marl_sched.evaluation.metrics import shorter_than
    from marl_sched.evaluation.suites import INDICES
    from marl_sched.files import write_text
    from marl_sched.schedulers.learned.scorer_file import PRETRAINED, is_scorer
    from marl_sched.training.records import RunFolder

    names = [str(out), *settings.evaluation.schedulers, *INDICES, PRETRAINED]
    base = RunFolder(out).base
    if base.is_dir() and not is_scorer(str(out)):
        names.insert(1, str(base))  # what the policy stands on: its own part is the difference
    if settings.env.actions != "edit" or settings.training.algo == "es":
        # A scheduler that chooses among algorithms has to beat each of them, and a corrected
        # index the index's other settings.
        names += settings.env.algorithms
    report = compare_schedulers(list(dict.fromkeys(names)), "test", o.Given())
    report["shorter_than_trained"] = shorter_than(report, str(out))
    write_text(out / "evaluation.json", json.dumps(report, indent=2) + "\n")
    columns = tables.compared(settings.env.reward.shares)
    tables.print_comparison("held-out jobs (test part)", report, str(out), columns)
    train_display.say_what_is_better(settings, report)
