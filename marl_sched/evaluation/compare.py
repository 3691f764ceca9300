"""Paired comparison of schedulers on the same episodes, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from marl_sched.config import Config
from marl_sched.envs.batched import (
    BatchedSchedulingEnv,
    Episode,
    Observation,
    load_part,
    make_world,
    spread_episodes,
)
from marl_sched.evaluation.metrics import job_results
from marl_sched.evaluation.simulate import play_episode
from marl_sched.schedulers import Scheduler
from marl_sched.types import Cluster
from marl_sched.workload.trace import Workload

Act = Callable[[Observation], np.ndarray]
"""A learned scheduler: observation arrays (B, ..) -> actions (B,) int64."""

RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """Mean with a 95 % interval over episodes."""

    mean: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        return {"mean": self.mean, "low": self.low, "high": self.high}


def bootstrap(values: np.ndarray, seed: int = 0) -> Interval:
    """Mean of `values` (E,) with its percentile bootstrap interval; a point if E is 1."""
    rng = np.random.default_rng(seed)
    means = values[rng.integers(0, values.size, (RESAMPLES, values.size))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(values.mean()), float(low), float(high))


def bootstrap_ratio(ours: np.ndarray, theirs: np.ndarray, seed: int = 0) -> Interval:
    """100 (sum ours / sum theirs - 1) over paired episodes (E,), with its interval."""
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, ours.size, (RESAMPLES, ours.size))
    ratios = 100.0 * (ours[draws].sum(axis=1) / theirs[draws].sum(axis=1) - 1.0)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return Interval(100.0 * float(ours.sum() / theirs.sum() - 1.0), float(low), float(high))


def part_episodes(config: Config, part: str, episodes: int) -> tuple[Workload, list[Episode]]:
    """A part of the workload and the episodes that judge on it."""
    workload = load_part(config, part)
    jobs = config.evaluation.jobs_per_episode or config.env.jobs_per_episode
    return workload, spread_episodes(workload, episodes, jobs)


def run_classic(
    config: Config, part: str, scheduler: Scheduler, episodes: list[Episode]
) -> list[dict[str, float]]:
    """Metrics of a classic scheduler on each episode."""
    workload = load_part(config, part)
    window = max(episode.end - episode.first for episode in episodes)
    world = make_world(config, workload, 1, window)
    summaries = []
    for episode in episodes:
        play_episode(world, 0, episode.first, episode.end, episode.stretch, scheduler)
        jobs = workload.slice(episode.first, episode.end)
        summaries.append(job_results(jobs, int(world.total[0]), world.result[0]).summary())
    return summaries


def run_learned(
    config: Config, part: str, act: Act, episodes: list[Episode]
) -> list[dict[str, float]]:
    """Metrics of a learned scheduler on each episode, all played side by side."""
    jobs = max(episode.end - episode.first for episode in episodes)
    config = config.model_copy(
        update={"env": config.env.model_copy(update={"jobs_per_episode": jobs})}
    )
    env = BatchedSchedulingEnv(config, len(episodes), config.seed, part)
    env.play_fixed(act, episodes)
    return [
        job_results(
            env.workload.slice(episode.first, episode.end),
            int(env.world.total[0]),
            env.world.result[b],
        ).summary()
        for b, episode in enumerate(episodes)
    ]


def compare(
    runs: dict[str, list[dict[str, float]]], classic: tuple[str, ...], seed: int = 0
) -> dict[str, Any]:
    """The report of `evaluate --json`.

    Args:
        runs: metrics by scheduler, one dictionary an episode, episodes in the same order.
        classic: names among `runs` of classic schedulers; the best has the lowest mean JCT.
    """
    report: dict[str, Any] = {"schedulers": {}}
    for name, summaries in runs.items():
        report["schedulers"][name] = {
            metric: bootstrap(np.array([s[metric] for s in summaries], float), seed).as_dict()
            for metric in summaries[0]
        }

    def jcts(name: str) -> np.ndarray:
        return np.array([s["avg_jct_s"] for s in runs[name]])

    best = min(classic, key=lambda name: jcts(name).mean()) if classic else None
    report["best_classic"] = best
    report["vs_best_classic"] = {}
    if best is not None:
        for name in runs:
            ratio = bootstrap_ratio(jcts(name), jcts(best), seed)
            report["vs_best_classic"][name] = {"avg_jct_percent": ratio.as_dict()}
    report["episodes"] = len(next(iter(runs.values())))
    return report


def validate(act: Act, config: Config, episodes: int | None = None) -> float:
    """Mean JCT of a learned scheduler against the base schedule on validation, percent.

    Lower is better; negative means shorter completion times than the base.
    """
    count = config.training.validation_episodes if episodes is None else episodes
    _, windows = part_episodes(config, "validation", count)
    jobs = max(window.end - window.first for window in windows)
    config = config.model_copy(
        update={"env": config.env.model_copy(update={"jobs_per_episode": jobs})}
    )
    env = BatchedSchedulingEnv(config, len(windows), config.seed, "validation")
    env.play_fixed(act, windows)
    summaries = [env.episode_summary(b) for b in range(len(windows))]
    ours = sum(s["avg_jct_s"] for s in summaries)
    return 100.0 * (ours / sum(s["shadow_avg_jct_s"] for s in summaries) - 1.0)
