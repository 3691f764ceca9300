"""Paired comparison of schedulers on the same episodes, with bootstrap intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from marl_sched.config import Config
from marl_sched.envs.batched import Episode, episode_jobs, load_part, make_world, spread_episodes
from marl_sched.errors import UserError
from marl_sched.evaluation.metrics import job_results
from marl_sched.evaluation.simulate import play_episode
from marl_sched.schedulers import Scheduler

RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """Mean with a 95 % interval over episodes."""

    mean: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        return {"mean": self.mean, "low": self.low, "high": self.high}


def resamples(episodes: int, overlap: float, seed: int) -> np.ndarray:
    """Bootstrap draws (RESAMPLES, m) of episode indices, m = episodes / overlap.

    Episodes that share jobs carry less evidence: as many are drawn as would be disjoint.
    """
    size = max(1, round(episodes / overlap))
    return np.random.default_rng(seed).integers(0, episodes, (RESAMPLES, size))


def bootstrap(values: np.ndarray, draws: np.ndarray) -> Interval:
    """Mean of `values` (E,) with its percentile bootstrap interval over `draws`."""
    means = values[draws].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(values.mean()), float(low), float(high))


def bootstrap_ratio(ours: np.ndarray, theirs: np.ndarray, draws: np.ndarray) -> Interval:
    """100 (sum ours / sum theirs - 1) over paired episodes (E,), with its interval."""
    ratios = 100.0 * (ours[draws].sum(axis=1) / theirs[draws].sum(axis=1) - 1.0)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return Interval(100.0 * float(ours.sum() / theirs.sum() - 1.0), float(low), float(high))


def part_episodes(config: Config, part: str, episodes: int) -> list[Episode]:
    """The episodes of a part of the workload on which schedulers are judged."""
    workload = load_part(config, part)
    jobs = config.evaluation.jobs_per_episode
    if jobs is None:
        jobs = episode_jobs(config, workload)
    return spread_episodes(workload, episodes, jobs)


def job_overlap(episodes: list[Episode]) -> float:
    """How often a job is used, on average: above 1 the episodes are not independent."""
    jobs = sum(episode.end - episode.first for episode in episodes)
    distinct = np.zeros(max(episode.end for episode in episodes), dtype=bool)
    for episode in episodes:
        distinct[episode.first : episode.end] = True
    return jobs / int(distinct.sum())


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
        summaries.append(
            job_results(jobs, int(world.total[0]), world.result[0], world.account[0]).summary()
        )
    return summaries


def compare(
    runs: dict[str, list[dict[str, float]]],
    classic: tuple[str, ...],
    overlap: float = 1.0,
    seed: int = 0,
) -> dict[str, Any]:
    """The report of `evaluate --json`.

    Args:
        runs: metrics by scheduler, one dictionary an episode, episodes in the same order.
        classic: names among `runs` of classic schedulers; the best has the lowest mean JCT.
        overlap: how often a job is used on average, see `job_overlap`.

    Raises:
        UserError: where no job of an episode finished.
    """
    for name, summaries in runs.items():
        if any(summary["num_finished"] == 0 for summary in summaries):
            raise UserError(
                f"scheduler {name!r}: in some episode no job finished, all failed or were "
                "cancelled; there is nothing to compare"
            )
    draws = resamples(len(next(iter(runs.values()))), overlap, seed)
    report: dict[str, Any] = {"schedulers": {}}
    for name, summaries in runs.items():
        report["schedulers"][name] = {
            metric: bootstrap(np.array([s[metric] for s in summaries], float), draws).as_dict()
            for metric in summaries[0]
        }

    def jcts(name: str) -> np.ndarray:
        return np.array([s["avg_jct_s"] for s in runs[name]])

    best = min(classic, key=lambda name: jcts(name).mean()) if classic else None
    report["best_classic"] = best
    report["vs_best_classic"] = {}
    if best is not None:
        for name in runs:
            ratio = bootstrap_ratio(jcts(name), jcts(best), draws)
            report["vs_best_classic"][name] = {"avg_jct_percent": ratio.as_dict()}
    return report | {"episodes": len(next(iter(runs.values()))), "overlap": overlap}
