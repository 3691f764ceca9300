"""Paired comparison of schedulers on the same episodes, with bootstrap intervals."""

from __future__ import annotations

from typing import Any

import numpy as np

from marl_sched.config import Config
from marl_sched.envs.batched import Episode, episode_jobs, load_part, spread_episodes
from marl_sched.errors import UserError
from marl_sched.evaluation.limits import Limits
from marl_sched.evaluation.statistics import bootstrap, bootstrap_ratio, resamples
from marl_sched.evaluation.suites import INDICES, TUNED_INDEX


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


def compare(
    runs: dict[str, list[dict[str, float]]],
    classic: tuple[str, ...],
    overlap: float = 1.0,
    seed: int = 0,
    limits: Limits | None = None,
) -> dict[str, Any]:
    """The report of `evaluate --json`.

    Args:
        runs: metrics by scheduler, one dictionary an episode, episodes in the same order.
        classic: names among `runs` of classic schedulers; the best has the lowest mean JCT.
        overlap: how often a job is used on average, see `job_overlap`.
        limits: of these episodes; without, nothing is said of them.

    Raises:
        UserError: where no job of an episode finished.
    """
    for name, summaries in runs.items():
        if any(summary.get("num_finished") == 0 for summary in summaries):
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

    def versus(other: str) -> dict[str, Any]:
        ratios = {name: bootstrap_ratio(jcts(name), jcts(other), draws) for name in runs}
        return {name: {"avg_jct_percent": ratio.as_dict()} for name, ratio in ratios.items()}

    report["vs_best_classic"] = {} if best is None else versus(best)
    report["vs_tuned_index"] = versus(TUNED_INDEX) if TUNED_INDEX in runs else {}
    indices = [name for name in INDICES if name in runs]
    index = min(indices, key=lambda name: jcts(name).mean(), default=None)
    report |= {"best_index": index, "vs_best_index": {} if index is None else versus(index)}
    if limits is not None:
        report["vs_lower_bound"] = limits.ratios(runs, overlap, seed)
    return report | {"episodes": len(next(iter(runs.values()))), "overlap": overlap}
