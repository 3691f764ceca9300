"""Paired comparison of schedulers on the same episodes, with 95 % intervals."""

from __future__ import annotations

from typing import Any

import numpy as np

from marl_sched.config import Config
from marl_sched.envs.episodes import Episode, episode_jobs, load_part, spread_episodes
from marl_sched.errors import UserError
from marl_sched.evaluation.limits import Limits
from marl_sched.evaluation.statistics import (
    LEAST_WINDOWS,
    METHOD,
    Evidence,
    mean_interval,
    percent_interval,
)
from marl_sched.evaluation.suites import INDICES, TUNED_INDEX


def part_episodes(config: Config, part: str, episodes: int) -> list[Episode]:
    """The episodes, at most so many, of a part of the workload on which schedulers are judged.

    Of several draws each has the same windows, which share no job; where that is a single one,
    each draw has another, evenly spread over the part.
    """
    workload = load_part(config, part)
    draws = min(config.evaluation.draws or 1, episodes)
    size = len(workload) // (config.evaluation.draws or 1)
    jobs = min(config.evaluation.jobs_per_episode or episode_jobs(config, workload), size)
    if draws == 1:
        return spread_episodes(workload.slice(0, size), episodes, jobs)
    windows = min(episodes // draws, size // jobs)
    if windows == 1:
        starts = np.linspace(0, size - jobs, draws).astype(int)[:, None]
    else:
        starts = np.linspace(0, size - jobs, windows).astype(int)[None, :]
    firsts = (size * np.arange(draws)[:, None] + starts).ravel().tolist()
    return [Episode(first, first + jobs) for first in firsts]


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
    evidence: Evidence | None = None,
    limits: Limits | None = None,
) -> dict[str, Any]:
    """The report of `evaluate --json`.

    Args:
        runs: metrics by scheduler, one dictionary an episode, episodes in the same order.
        classic: names among `runs` of classic schedulers; the best has the lowest mean JCT.
        evidence: which episodes share jobs, see `windows.evidence_of`; None: none do.
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
    episodes = len(next(iter(runs.values())))
    evidence = evidence or Evidence.apart(episodes)

    def values(name: str, metric: str) -> np.ndarray:
        return np.array([summary[metric] for summary in runs[name]], float)

    report: dict[str, Any] = {"schedulers": {}}
    for name, summaries in runs.items():
        report["schedulers"][name] = {
            metric: mean_interval(values(name, metric), evidence).as_dict()
            for metric in summaries[0]
        }
    jcts = {name: values(name, "avg_jct_s") for name in runs}
    best = min(classic, key=lambda name: jcts[name].mean()) if classic else None
    rare: dict[str, list[str]] = {}

    def versus(other: str) -> dict[str, Any]:
        found = {name: percent_interval(jcts[name], jcts[other], evidence) for name in runs}
        rare[other] = [name for name, interval in found.items() if interval.rare]
        return {name: {"avg_jct_percent": interval.as_dict()} for name, interval in found.items()}

    report["best_classic"] = best
    report["vs_best_classic"] = {} if best is None else versus(best)
    report["vs_tuned_index"] = versus(TUNED_INDEX) if TUNED_INDEX in runs else {}
    indices = [name for name in INDICES if name in runs]
    index = min(indices, key=lambda name: jcts[name].mean(), default=None)
    report |= {"best_index": index, "vs_best_index": {} if index is None else versus(index)}
    if limits is not None:
        report["vs_lower_bound"] = limits.ratios(runs, evidence)
    report["interval"] = _about_intervals(evidence) | {"hangs_on_one_window": rare}
    return report | {"episodes": episodes, "overlap": evidence.overlap}


def _about_intervals(evidence: Evidence) -> dict[str, Any]:
    """What the intervals of a report are, or why there are none."""
    none = None
    if not evidence.enough:
        none = (
            f"the episodes are as much evidence as {evidence.disjoint:.1f} without common jobs, "
            f"and an interval takes {LEAST_WINDOWS}: take more --episodes as far as the jobs go, "
            "shorter ones (--jobs-per-episode), or a longer trace"
        )
    return {
        "method": METHOD,
        "about": "other jobs of this workload, and other draws of what a seed decides",
        "windows": evidence.windows,
        "disjoint_windows": evidence.disjoint,
        "none_because": none,
    }
