"""Episodes: windows of a part of the workload, and the world that they are played in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from marl_sched.config import Config, WorkloadConfig
from marl_sched.errors import UserError, do_you_mean, quoted
from marl_sched.sim.build import world_of
from marl_sched.sim.world import World
from marl_sched.types import Cluster
from marl_sched.workload import Workload, load_workload
from marl_sched.workload.trace import load_draws

PARTS = ("train", "validation", "test")
WHOLE = "whole"
"""The workload undivided, of a cluster that training saw nothing of."""


@dataclass(frozen=True)
class Episode:
    """Jobs [first, end) of a part of the workload, and the conditions that they meet."""

    first: int
    end: int
    stretch: float = 1.0
    """Factor of the gaps between arrivals."""
    restart_scale: float = 1.0
    """Factor of the world's restart costs."""
    estimate_power: float = 1.0
    """Exponent of the factors by which the world's size estimates are off."""


Quotas = tuple[tuple[str, float], ...]
"""`sim.tenant_quota`, as what a cache can compare."""


@lru_cache(maxsize=4)
def _load_whole(settings: WorkloadConfig, cluster: str, seed: int, quotas: Quotas) -> Workload:
    return load_workload(settings, Cluster.parse(cluster), seed, dict(quotas))


@lru_cache(maxsize=64)
def _load_parts(
    settings: WorkloadConfig, cluster: str, seed: int, quotas: Quotas
) -> tuple[Workload, Workload, Workload]:
    workload = _load_whole(settings, cluster, seed, quotas)
    return _split(workload, settings, Cluster.parse(cluster))


@lru_cache(maxsize=8)
def _load_drawn(
    settings: WorkloadConfig, cluster: str, seed: int, quotas: Quotas, part: str, draws: int
) -> Workload:
    machines = Cluster.parse(cluster)
    drawn = load_draws(settings, machines, draw_seeds(seed, draws), dict(quotas))
    if part != WHOLE:
        drawn = [_split(one, settings, machines)[PARTS.index(part)] for one in drawn]
    return Workload.join(drawn)


def _split(
    workload: Workload, settings: WorkloadConfig, machines: Cluster
) -> tuple[Workload, Workload, Workload]:
    """The parts of a workload, each at the configured load."""
    parts = workload.split(settings.split)
    for part, name in zip(parts, PARTS, strict=True):
        if len(part) == 0:
            raise UserError(
                f"{workload.name}: no job falls into the {name} part of {len(workload)} jobs; "
                "use a longer trace or another --set workload.split=[..]"
            )
    if settings.load is not None:
        # Each part carries the load that was asked for, not the trace's share of it.
        train, validation, test = (
            part.with_load(settings.load, machines.num_gpus) for part in parts
        )
        return train, validation, test
    return parts


def load_part(config: Config, part: str) -> Workload:
    """A chronological part of the configured workload, `train`, `validation` or `test`, or all
    of it, `whole`; where `evaluation.draws` asks for several draws, they follow each other.

    Training has the seed's own draw alone.

    Raises:
        UserError: for another part, or a workload that cannot be loaded.
    """
    if part not in (*PARTS, WHOLE):
        known = ", ".join((*PARTS, WHOLE))
        hint = do_you_mean(str(part), (*PARTS, WHOLE))
        raise UserError(f"part {quoted(part)} of the workload is none of {known}{hint}")
    quotas = tuple(sorted(config.sim.tenant_quota.items()))
    wanted = config.workload, config.cluster, config.seed, quotas
    draws = config.evaluation.draws or 1
    if part != PARTS[0] and draws > 1:
        return _load_drawn(*wanted, part, draws)
    return _load_whole(*wanted) if part == WHOLE else _load_parts(*wanted)[PARTS.index(part)]


def draw_seeds(seed: int, draws: int) -> tuple[int, ...]:
    """The seeds of an evaluation's draws: its own, and others that no nearby seed has too."""
    further = [np.random.SeedSequence([seed, k]).generate_state(1)[0] for k in range(1, draws)]
    return (seed, *(int(one) for one in further))


MIN_EPISODE_JOBS, MAX_EPISODE_JOBS = 256, 1024
FILLS = 2.0
"""An episode asks for this many times the cluster's GPUs: it starts and ends with an empty
cluster, and jobs have to compete in between."""


def episode_jobs(config: Config, part: Workload) -> int:
    """Jobs in one episode of `part`: as configured, else enough to fill the cluster."""
    jobs = config.env.jobs_per_episode
    if jobs is None:
        gpus = Cluster.parse(config.cluster).num_gpus
        wanted = int(FILLS * gpus / (part.num_gpus * part.demand[:, 0]).mean())
        jobs = min(max(wanted, MIN_EPISODE_JOBS), MAX_EPISODE_JOBS)
    return min(jobs, len(part))


def spread_episodes(part: Workload, episodes: int, jobs: int) -> list[Episode]:
    """`episodes` windows of `jobs` jobs, evenly spread over `part`, at its own arrival times."""
    jobs = min(jobs, len(part))
    starts = np.unique(np.linspace(0, len(part) - jobs, episodes).astype(int))
    return [Episode(int(first), int(first) + jobs) for first in starts]


def make_world(config: Config, part: Workload, num_envs: int, window: int) -> World:
    """A world over `part` with the configured cluster, estimates and rules."""
    cluster, noise = Cluster.parse(config.cluster), config.workload.estimate_noise
    return world_of(part, cluster, config.sim, noise, config.seed, num_envs=num_envs, window=window)
