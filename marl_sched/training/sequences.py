"""Sequences of jobs that a scorer is judged on, drawn at random, and playing them.

A sequence is drawn whole before it is played: the base schedule and every network of a
generation meet the same jobs, cluster, restart costs and size estimates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from marl_sched.config import Config
from marl_sched.envs.batched import episode_jobs, load_part, make_world
from marl_sched.envs.conditions import draw_conditions
from marl_sched.errors import UserError
from marl_sched.evaluation.simulate import play_episode
from marl_sched.schedulers import Scheduler, get_scheduler, make_scorer
from marl_sched.sim import columns as c
from marl_sched.types import Cluster

SYNTHETIC = "synthetic"
"""Name of the generator among `training.es.traces`."""


@dataclass(frozen=True)
class Sequence:
    """Jobs [first, end) of a part of a trace, and the conditions that they meet."""

    part: str
    trace: str | None
    cluster: str
    first: int
    end: int
    stretch: float
    restart_scale: float
    estimate_noise: float
    seed: int
    """Of the error of the estimates."""


def base_scheduler(config: Config) -> Scheduler:
    """The schedule that a scorer starts from.

    Raises:
        UserError: where it is no elastic index, which has the scores that a scorer corrects.
    """
    base = get_scheduler(config.env.base)
    if base.name != "elastic_index":
        raise UserError(
            f"setting env.base: --algo es corrects the scores of elastic_index, and "
            f"{config.env.base!r} has none; write for example elastic_index:p=0.5"
        )
    return base


def _settings(config: Config, trace: str | None, cluster: str) -> Config:
    """The experiment on another trace and cluster, at the trace's own load."""
    own = trace == config.workload.trace and cluster == config.cluster
    given = {
        "trace": trace,
        "load": None,
        "format": config.workload.format if trace == config.workload.trace else None,
        "skip_bad_rows": config.workload.skip_bad_rows or not own,
    }
    workload = config.workload.model_copy(update=given)
    return config.model_copy(update={"cluster": cluster, "workload": workload})


def _traces(config: Config) -> list[str | None]:
    more = (None if t == SYNTHETIC else str(Path(t).absolute()) for t in config.training.es.traces)
    return list(dict.fromkeys((config.workload.trace, *more)))


def check(config: Config) -> None:
    """Raise a `UserError` where the base, a trace or a cluster is not usable."""
    base_scheduler(config)
    for cluster in config.training.es.clusters:
        Cluster.parse(cluster)
    for trace in _traces(config):
        load_part(_settings(config, trace, config.cluster), "train")


def draw(config: Config, part: str, rng: np.random.Generator, count: int) -> list[Sequence]:
    """Sequences under conditions drawn as `training.es` and `envs.conditions` say."""
    es, traces = config.training.es, _traces(config)
    clusters = list(dict.fromkeys((config.cluster, *es.clusters)))
    drawn = []
    for _ in range(count):
        trace = traces[rng.integers(len(traces))]
        cluster = clusters[rng.integers(len(clusters))]
        jobs = load_part(settings := _settings(config, trace, cluster), part)
        number = episode_jobs(settings, jobs)
        first = int(rng.integers(0, len(jobs) - number + 1))
        load = jobs.offered_load(Cluster.parse(cluster).num_gpus)
        met = draw_conditions(config, load, _home_load(config, trace, load), rng)
        drawn.append(
            Sequence(
                part=part,
                trace=trace,
                cluster=cluster,
                first=first,
                end=first + number,
                stretch=met.stretch,
                restart_scale=met.restart_scale * config.sim.restart_scale,
                estimate_noise=met.estimate_noise,
                seed=int(rng.integers(2**31)),
            )
        )
    return drawn


def _home_load(config: Config, trace: str | None, load: float) -> float | None:
    """The load that the run is for: as configured, else the jobs' own where it is their trace."""
    if config.workload.load is not None:
        return config.workload.load
    return load if trace == config.workload.trace else None


def play(config: Config, sequence: Sequence, networks: np.ndarray) -> np.ndarray:
    """Sum of the JCTs of a sequence, s, by the base schedule and then by each network.

    Args:
        networks: (M, NUM_WEIGHTS) float64.

    Returns:
        (1 + M,) float64.
    """
    settings = _settings(config, sequence.trace, sequence.cluster)
    jobs = load_part(settings, sequence.part).slice(sequence.first, sequence.end)
    noise = settings.workload.model_copy(update={"estimate_noise": sequence.estimate_noise})
    sim = settings.sim.model_copy(update={"restart_scale": sequence.restart_scale})
    met = settings.model_copy(update={"workload": noise, "sim": sim, "seed": sequence.seed})
    world = make_world(met, jobs, 1, len(jobs))
    base = base_scheduler(config)
    rules = [base, *(make_scorer(base.params, network.tolist()) for network in networks)]
    sums = np.empty(len(rules))
    for m, rule in enumerate(rules):
        play_episode(world, 0, 0, len(jobs), sequence.stretch, rule)
        sums[m] = world.cost[0, c.COST_COMPLETION]
    return sums


class Players:
    """Plays sequences here, or in as many Ray tasks at a time as the run has runners.

    What comes out does not depend on who played it.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._at_once = config.training.num_env_runners
        self._task: Callable[..., Any] | None = None
        if self._at_once > 0:
            import ray

            self._task = ray.remote(num_cpus=1, max_retries=3)(play).remote

    def play(self, sequences: list[Sequence], networks: np.ndarray) -> np.ndarray:
        """(S, 1 + M) float64, `play` of each sequence."""
        if self._task is None:
            return np.stack([play(self._config, s, networks) for s in sequences])
        import ray

        config, given = ray.put(self._config), ray.put(networks)
        todo = list(enumerate(sequences))
        running: dict[Any, int] = {}
        done: dict[int, np.ndarray] = {}
        while todo or running:
            while todo and len(running) < self._at_once:
                at, sequence = todo.pop(0)
                running[self._task(config, sequence, given)] = at
            ready, _ = ray.wait(list(running))
            for reference in ready:
                done[running.pop(reference)] = ray.get(reference)
        return np.stack([done[at] for at in range(len(sequences))])
