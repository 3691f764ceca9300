"""What no schedule of an episode can go below, and how far schedulers are from it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from marl_sched.config import Config
from marl_sched.envs.episodes import Episode, load_part
from marl_sched.evaluation.bounds import FluidJobs, fluid_jobs, lower_bound
from marl_sched.evaluation.statistics import Evidence, ratio_interval
from marl_sched.perf.profiles import build_profiles
from marl_sched.types import Cluster

Runs = dict[str, list[dict[str, float]]]
"""Metrics by scheduler, one dictionary an episode."""


@dataclass(frozen=True)
class Limits:
    """Limits of some episodes, as plain data."""

    least_gpu_s: list[float]
    """(E,) GPU-seconds that the jobs need at their most efficient sizes."""
    num_gpus: int
    """GPUs of the cluster."""
    bounded: list[int]
    """(K,) episodes whose lower bound is known."""
    least_jct_s: list[float]
    """(K,) lower bound on the sum of completion times of each of these."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def add_useful(self, runs: Runs) -> None:
        """Add `gpu_useful_fraction` to the metrics: useful GPU time over all until the last end.

        Useful is what the jobs need at their most efficient sizes.
        """
        for summaries in runs.values():
            for summary, least in zip(summaries, self.least_gpu_s, strict=True):
                summary["gpu_useful_fraction"] = least / (self.num_gpus * summary["makespan_s"])

    def ratios(self, runs: Runs, evidence: Evidence) -> dict[str, Any]:
        """Mean JCT over the bound's, by scheduler, with intervals; none where no bound is.

        A run in which a job failed or was cancelled has no bound, and its scheduler no ratio.
        """
        found: dict[str, Any] = {}
        if not self.bounded:
            return {"episodes": 0, "avg_jct_ratio": found}
        bounds, told = np.array(self.least_jct_s), evidence.take(self.bounded)
        for name, summaries in runs.items():
            chosen = [summaries[e] for e in self.bounded]
            if all(s["num_finished"] == s["num_jobs"] for s in chosen):
                sums = np.array([s["avg_jct_s"] * s["num_jobs"] for s in chosen])
                ratio = ratio_interval(sums, bounds, told).as_dict()
                if ratio["low"] is not None:  # nobody is below the bound
                    ratio["low"] = max(1.0, ratio["low"])
                found[name] = ratio
        return {"episodes": len(self.bounded), "avg_jct_ratio": found}


def limits_of(config: Config, part: str, episodes: list[Episode]) -> Limits:
    """The limits of `episodes`, with the bounds of `evaluation.bound_episodes` of them."""
    num_gpus = Cluster.parse(config.cluster).num_gpus
    jobs = part_jobs(config, part)
    count = min(config.evaluation.bound_episodes, len(episodes))
    # The middles of `count` equal shares of the episodes.
    bounded = [(2 * k + 1) * len(episodes) // (2 * count) for k in range(count)]
    return Limits(
        least_gpu_s=[float(of_episode(jobs, e).least_gpu_s.sum()) for e in episodes],
        num_gpus=num_gpus,
        bounded=bounded,
        least_jct_s=[lower_bound(of_episode(jobs, episodes[e]), num_gpus) for e in bounded],
    )


def part_jobs(config: Config, part: str) -> FluidJobs:
    """All jobs of a part of the workload as the bounds see them."""
    workload, cluster = load_part(config, part), Cluster.parse(config.cluster)
    return fluid_jobs(workload, build_profiles(workload, cluster), cluster)


def of_episode(jobs: FluidJobs, episode: Episode) -> FluidJobs:
    """The jobs of `episode`, with its arrivals."""
    rows = slice(episode.first, episode.end)
    first_s = jobs.arrival_s[episode.first]
    return FluidJobs(
        arrival_s=first_s + (jobs.arrival_s[rows] - first_s) * episode.stretch,
        work_s=jobs.work_s[rows],
        gpus=jobs.gpus[rows],
        rates=jobs.rates[rows],
    )
