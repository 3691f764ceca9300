"""Several training runs side by side under Ray Tune, judged on the same held-out episodes.

A sweep is a set of named configurations (trials). Each trial is a training run of its own in
one process without env runners; its folder continues from its last checkpoint when the sweep
is restored. Ray Tune schedules the trials and remembers which have ended.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ray import tune

from marl_sched.config import Config, validate_config
from marl_sched.envs.batched import BatchedSchedulingEnv, load_part
from marl_sched.errors import UserError
from marl_sched.evaluation.compare import part_episodes, run_classic
from marl_sched.evaluation.learned import run_learned
from marl_sched.files import write_text
from marl_sched.models.policy import LearnedPolicy, load_policy
from marl_sched.perf.profiles import build_profiles
from marl_sched.schedulers import get_scheduler
from marl_sched.training.records import RunFolder
from marl_sched.training.run import train
from marl_sched.training.session import ray_session
from marl_sched.types import Cluster

Report = Callable[[str, Mapping[str, Any]], None]
"""(name of the trial, its newest figures); must pickle, as Tune saves it with the sweep."""

_SWEEP = "sweep.json"
_TUNE = "tune"
_TRIALS = "trials"
_TRIAL = "trial"
_MAY_CHANGE = ("evaluation",)
"""Sections that a restored sweep may change: they matter only after training."""


@dataclass(frozen=True)
class Trial:
    """One training run of a sweep."""

    name: str
    config: Config


@dataclass(frozen=True)
class Trained:
    """What a trial left behind."""

    trial: Trial
    folder: Path
    decisions: int
    best_iteration: int
    """0: no trained network was better than the base schedule on validation."""
    validation: float
    """Score on validation, percent of the base; lower is better."""
    policy: LearnedPolicy


def run_sweep(
    trials: list[Trial],
    out: Path,
    *,
    address: str | None = None,
    concurrent: int = 2,
    report: Report | None = None,
) -> list[Trained]:
    """Train every trial, or what is left of a sweep that `out` holds.

    Args:
        trials: with distinct names.
        out: folder of the sweep; with `address`, one that every node can write.
        address: of a Ray cluster to join; None starts a local one.
        concurrent: most trials at once, one CPU each.
        report: called as trials go on.

    Raises:
        UserError: when `out` holds another sweep, or a trial failed.
    """
    out = out.absolute()
    folder = out / _TUNE
    record = _check_same(trials, out)
    # Tune's newer output prints banners even when it is told to be silent.
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    with ray_session(address, concurrent):
        write_text(out / _SWEEP, record)
        if tune.Tuner.can_restore(str(folder)):
            tuner = tune.Tuner.restore(
                str(folder), trainable=_train_trial, resume_unfinished=True, restart_errored=True
            )
        else:
            tuner = _new_tuner(trials, out, concurrent, report)
        results = tuner.fit()
    for result in results:
        if result.error is not None:
            name = result.config[_TRIAL]["name"]
            reason = str(result.error).strip().splitlines()[-1][:200]
            raise UserError(
                f"trial {name!r} failed ({reason}); details in {result.path}; the same command "
                "tries it again"
            )
    return [_trained(trial, out / _TRIALS / trial.name) for trial in trials]


def judge(
    trained: list[Trained], classic: tuple[str, ...], config: Config, part: str = "test"
) -> dict[str, list[dict[str, float]]]:
    """Raw metrics of trained and classic schedulers on the same episodes of `part`.

    Returns:
        {name: one dictionary of metrics an episode}, as `evaluation.compare.compare` takes it;
        `gpu_useful_fraction` is added: GPU time that the jobs would need at their most
        efficient sizes, over the GPU time of the cluster until the last job ends.
    """
    episodes = part_episodes(config, part, config.evaluation.episodes)
    runs = {
        one.trial.name: run_learned(
            one.trial.config, part, one.policy.act, episodes, one.policy.demand
        )
        for one in trained
    }
    for name in classic:
        runs[name] = run_classic(config, part, get_scheduler(name), episodes)
    needed = _least_gpu_s(config, part)
    num_gpus = Cluster.parse(config.cluster).num_gpus
    for summaries in runs.values():
        for summary, episode in zip(summaries, episodes, strict=True):
            useful = needed[episode.first : episode.end].sum()
            summary["gpu_useful_fraction"] = float(useful / (num_gpus * summary["makespan_s"]))
    return runs


def _least_gpu_s(config: Config, part: str) -> np.ndarray:
    """(J,) float64 GPU-seconds that each job of `part` needs at its most efficient size."""
    workload = load_part(config, part)
    profiles = build_profiles(workload, Cluster.parse(config.cluster))
    efficiency = np.max(profiles.nominal_rates[:, 1:] / profiles.sizes[:, 1:], axis=1)
    return workload.duration_s / efficiency[profiles.job_profile]


def warm_up(config: Config) -> None:
    """Compile the kernels before all trials would, and fail on bad input with nothing written."""
    env = BatchedSchedulingEnv(config, 1, config.seed)
    env.reset()
    env.step(np.zeros(1, dtype=np.int64))


def _train_trial(space: dict[str, Any]) -> None:
    """A Tune trainable: one run in its own folder, going on where it was."""

    def report(row: Mapping[str, Any]) -> None:
        tune.report({key: value for key, value in row.items() if value is not None})

    settings = space[_TRIAL]
    config = validate_config(settings["config"])
    train(config, Path(settings["out"]), resume=True, progress=report)


def _new_tuner(
    trials: list[Trial], out: Path, concurrent: int, report: Report | None
) -> tune.Tuner:
    space = [
        {
            "name": trial.name,
            "config": trial.config.model_dump(mode="json"),
            "out": str(out / _TRIALS / trial.name),
        }
        for trial in trials
    ]
    return tune.Tuner(
        tune.with_resources(_train_trial, {"cpu": 1}),
        param_space={_TRIAL: tune.grid_search(space)},
        tune_config=tune.TuneConfig(
            max_concurrent_trials=concurrent,
            reuse_actors=False,
            trial_dirname_creator=_name_of,
            trial_name_creator=_name_of,
        ),
        run_config=tune.RunConfig(
            name=_TUNE,
            storage_path=str(out),
            verbose=0,
            callbacks=[_Reporter(report)] if report is not None else [],
        ),
    )


def _name_of(trial: Any) -> str:
    return str(trial.config[_TRIAL]["name"])


class _Reporter(tune.Callback):
    """Passes the figures of running trials on."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._report(_name_of(trial), result)


def _check_same(trials: list[Trial], out: Path) -> str:
    """The text of sweep.json, after checking that `out` holds nothing else."""
    if len({trial.name for trial in trials}) < len(trials):
        raise UserError("two trials have the same name; give each its own")
    now = {trial.name: _lasting(trial.config) for trial in trials}
    text = json.dumps(now, indent=2) + "\n"
    path = out / _SWEEP
    if not path.is_file():
        if (out / "run.json").exists():
            raise UserError(f"{out}: holds a training run; choose another --out")
        return text
    before = json.loads(path.read_text(encoding="utf-8"))
    if before == json.loads(text):
        return text
    if list(before) != list(now):
        what = f"its trials are {', '.join(before)}"
    else:
        name = next(name for name in now if before[name] != now[name])
        key = next(key for key in now[name] if before[name].get(key) != now[name][key])
        what = f"trial {name!r} has other settings in {key!r}"
    raise UserError(
        f"{out}: holds another sweep ({what}); continue it with its own settings, or choose "
        "another --out"
    )


def _lasting(config: Config) -> dict[str, Any]:
    data = config.model_dump(mode="json")
    return {key: value for key, value in data.items() if key not in _MAY_CHANGE}


def _trained(trial: Trial, folder: Path) -> Trained:
    policy = load_policy(folder)
    score = policy.manifest.validation
    return Trained(
        trial=trial,
        folder=folder,
        decisions=int(RunFolder(folder).rows()[-1]["decisions"]),
        best_iteration=policy.manifest.iteration,
        validation=math.nan if score is None else score,
        policy=policy,
    )
