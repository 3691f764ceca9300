"""One trial of a sweep, in a process of its own: a training run, or a search of parameters."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from marl_sched.config import Config, validate_config
from marl_sched.envs.episodes import Episode
from marl_sched.errors import WriteError
from marl_sched.evaluation.compare import part_episodes
from marl_sched.evaluation.entrants import Player
from marl_sched.evaluation.limits import limits_of
from marl_sched.evaluation.suite_run import CellRun
from marl_sched.files import write_text
from marl_sched.schedulers import get_scheduler
from marl_sched.schedulers.learned.scorer_file import is_scorer
from marl_sched.training.diverged import check_row
from marl_sched.training.records import RunFolder
from marl_sched.training.run import train
from marl_sched.tuning.outcome import Outcome
from marl_sched.tuning.plan import rung_key
from marl_sched.tuning.rule_search import Court, as_yaml, tune
from marl_sched.tuning.trained import load_kept, load_network

Report = Callable[[Mapping[str, Any]], None]

NETWORK_SCORE, RUN_SCORE = "network_percent", "validation_percent"
"""Columns of the results: validation score of a trial's best network, and of what its run keeps."""

PARAM = "param_"
"""Before a classic scheduler's parameter, in columns of the results."""


@dataclass(frozen=True, repr=False)
class Job:
    """A trial as plain data, as Ray carries it; loggers show it by its name alone."""

    number: int
    name: str
    seed: int
    values: dict[str, Any]
    config: dict[str, Any]
    folder: str
    parent: str | None
    """Folder of the trial that it continues."""
    rungs: tuple[float, ...]
    cutoffs: dict[str, float]
    budget: int = 1
    """Trials' worth of training at its end, with its parent's."""
    scheduler: str | None = None
    """A classic one whose parameters are searched; None: training."""
    candidates: int = 0

    def __repr__(self) -> str:
        return f"Job({self.name})"

    @property
    def units(self) -> int:
        """Trials' worth of training that it does itself."""
        return 1 if self.parent is not None else self.budget


class _Ended(Exception):
    """A trial ends before its budget does; `state` says how."""

    def __init__(self, state: str, reason: str) -> None:
        super().__init__(reason)
        self.state = state


def run_job(job: Job, report: Report) -> Outcome:
    """Run a trial, or what is left of it, and keep its outcome in its folder.

    What a trial does wrong ends it as `failed`: it would do so again. Errors of machines
    (`OSError`, a file that cannot be written) go up, and Ray Tune tries again.
    """
    folder = Path(job.folder)
    config = validate_config(job.config)
    outcome = Outcome(job.number, job.name, job.seed, job.values, "done", budget=job.budget)
    try:
        if job.scheduler is not None:
            outcome = replace(outcome, figures=_search_parameters(job, config, report))
        else:
            _inherit(job, folder)
            outcome = _train(job, config, folder, outcome, report)
    except (OSError, WriteError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        outcome = replace(outcome, state="failed", reason=reason)
    outcome.write(folder)
    return outcome


def _train(job: Job, config: Config, folder: Path, outcome: Outcome, report: Report) -> Outcome:
    def watch(row: Mapping[str, Any]) -> None:
        check_row(row, row["iteration"])
        own = 1.0 - (1.0 - _progress(config, row)) * job.budget / job.units
        report({"progress": max(0.0, own), "units": job.units, **row})
        _check_rungs(job, config, folder)

    try:
        train(config, folder, resume=True, progress=watch, command=f"trial {job.name}")
    except _Ended as end:
        outcome = replace(outcome, state=end.state, reason=str(end))  # type: ignore[arg-type]
        if end.state == "failed":
            return outcome
    rows = RunFolder(folder).rows()
    best = _best_network(rows)
    if not rows or (best is None and config.training.algo != "es"):
        first = "iteration" if not rows or rows[-1]["iteration"] == 0 else "validation"
        reason = f"its time was over before its first {first}: it needs more of it"
        return replace(outcome, state="failed", reason=reason)
    kept = load_kept(folder)
    # What was inherited may have been saved under other reward weights: the run knows better.
    kept_score = RunFolder(folder).read_run().get("best_validation", kept.validation)
    figures = {
        "iterations": rows[-1]["iteration"],
        "decisions": rows[-1]["decisions"],
        "best_iteration": float(kept.iteration),
        RUN_SCORE: kept_score,
        NETWORK_SCORE: best,
    } | raw_on_validation(config, load_network(folder).player)
    figures = {key: float(value) for key, value in figures.items() if value is not None}
    budget = 0 if RunFolder(folder).latest_checkpoint() is None else job.budget
    return replace(outcome, figures=figures, rungs=_rungs(job, config, rows), budget=budget)


def raw_on_validation(config: Config, player: Player) -> dict[str, float]:
    """`valid_X`: mean of each raw metric X of a scheduler over the validation episodes."""
    episodes = part_episodes(config, "validation", config.training.validation_episodes)
    runs = {"policy": player.play(config, "validation", episodes)}
    add_fractions(config, "validation", runs, episodes)
    played = runs["policy"]
    return {
        f"valid_{metric}": sum(one[metric] for one in played) / len(played) for metric in played[0]
    }


def add_fractions(
    config: Config, part: str, runs: dict[str, list[dict[str, float]]], episodes: list[Episode]
) -> None:
    """Add `gpu_useful_fraction` to metrics by scheduler."""
    unbounded = config.evaluation.model_copy(update={"bound_episodes": 0})
    config = config.model_copy(update={"evaluation": unbounded})
    limits_of(config, part, episodes).add_useful(runs)


def _inherit(job: Job, folder: Path) -> None:
    """Start from where the parent's training was: its checkpoint, and the best policy of PPO or
    DQN, which the run scores again.

    Not its best network and records: they may be of other reward weights. Nor its best scorer: the
    score on record is of the parent's, and the run begins with what the checkpoint has.
    """
    if job.parent is None or folder.is_dir():
        return
    source = RunFolder(Path(job.parent))
    checkpoint = source.latest_checkpoint()
    if checkpoint is None:
        source.check_whole()
        return  # its time was over before its first iteration: there is nothing to go on from
    temporary = folder.with_name(f".{folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(checkpoint, temporary / "checkpoints" / checkpoint.name)
    if not is_scorer(str(source.best)):
        shutil.copytree(source.best, temporary / "best")
    temporary.rename(folder)


def _progress(config: Config, row: Mapping[str, Any]) -> float:
    """Share of the budget that is spent."""
    limits = config.training
    shares = [0.0]
    if limits.iterations is not None:
        shares.append(row["iteration"] / limits.iterations)
    if limits.minutes is not None:
        shares.append(row["elapsed_s"] / (60.0 * limits.minutes))
    return min(1.0, max(shares))


def _best_network(rows: list[dict[str, Any]]) -> float | None:
    """Lowest validation score of a network; iteration 0 is the base schedule."""
    scores = [r["validation_percent"] for r in rows if r["iteration"] > 0]
    return min((score for score in scores if score is not None), default=None)


def _rungs(job: Job, config: Config, rows: list[dict[str, Any]]) -> dict[str, float]:
    """Rungs that were reached, and the best network until then."""
    found = {}
    for rung in job.rungs:
        at = next((i for i, row in enumerate(rows) if _progress(config, row) >= rung), None)
        best = None if at is None else _best_network(rows[: at + 1])
        if best is not None:
            found[rung_key(rung)] = best
    return found


def _check_rungs(job: Job, config: Config, folder: Path) -> None:
    if not job.cutoffs:
        return
    for rung, best in _rungs(job, config, RunFolder(folder).rows()).items():
        if best > job.cutoffs.get(rung, math.inf):
            raise _Ended(
                "stopped",
                f"at {float(rung):.0%} of its budget its best network was at {best:+.2f} %, "
                f"the better ones at {job.cutoffs[rung]:+.2f} % or less",
            )


def _search_parameters(job: Job, config: Config, report: Report) -> dict[str, float]:
    """Tune a classic scheduler, as `marl-sched tune-baseline` does."""
    assert job.scheduler is not None
    folder = Path(job.folder)
    scheduler = get_scheduler(job.scheduler)
    steps = 0

    def say(text: str) -> None:
        nonlocal steps
        steps += 1
        # The later rungs keep 3 and 1 of ten.
        report({"progress": min(1.0, steps / (1.4 * job.candidates)), "note": text})

    court = Court(scheduler, [CellRun("validation", "validation", config)], folder / "plays.trials")
    tuned = tune(court, job.candidates, config.seed, say)
    command = f"marl-sched tune-baseline {job.scheduler} --budget {job.candidates}"
    write_text(
        folder / "tuned.yaml", yaml.safe_dump(as_yaml(scheduler, tuned, command), sort_keys=False)
    )
    return {
        "validation_percent": tuned.score_percent,
        "simulated": float(tuned.simulated),
        **{f"{PARAM}{name}": value for name, value in tuned.params.items()},
    }
