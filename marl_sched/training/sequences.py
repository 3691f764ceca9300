"""Sequences of jobs that a scorer is judged on, drawn at random, and playing them.

A sequence is drawn whole before it is played: the base schedule and every network of a
generation meet the same jobs, cluster, restart costs and size estimates.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from marl_sched.config import Config, RewardWeights
from marl_sched.envs.conditions import draw_conditions, draw_weights
from marl_sched.envs.credit import cost_floor
from marl_sched.envs.episodes import episode_jobs, load_part, make_world
from marl_sched.envs.state import reward_weights
from marl_sched.errors import UserError
from marl_sched.evaluation.simulate import play_episode
from marl_sched.evaluation.suites import get_suite
from marl_sched.schedulers import Scheduler, get_scheduler, make_scorer
from marl_sched.schedulers.learned.family import shifted, theta_at
from marl_sched.schedulers.learned.guard import Ranges, merged, tally_of
from marl_sched.schedulers.learned.scorer import NUM_INDEX_PARAMS
from marl_sched.training.other_clusters import check_clusters
from marl_sched.types import Cluster

SYNTHETIC = "synthetic"
"""Name of the generator among `training.es.traces`."""

_LEAST = 0.01
"""Of the base's cost: what costs less counts as this, for its logarithm."""


@dataclass(frozen=True)
class Sequence:
    """Jobs [first, end) of a part of a trace, and the conditions that they meet."""

    part: str
    trace: str | None
    tenants: tuple[str, ...]
    cluster: str
    first: int
    end: int
    stretch: float
    restart_scale: float
    estimate_noise: float
    seed: int
    """Of the error of the estimates."""
    weights: tuple[float, ...]
    """Of the reward's terms, on the simplex."""


def base_scheduler(config: Config) -> Scheduler:
    """The schedule that a scorer starts from.

    Raises:
        UserError: where it is no elastic index, which has the scores that a scorer corrects.
    """
    base = get_scheduler(config.env.base)
    if base.name != "elastic_index":
        raise UserError(
            f"setting env.base: --algo es and warm starts begin at elastic_index, not at "
            f"{config.env.base!r}; write for example elastic_index:p=0.5 (PPO and DQN without a "
            "warm start can stand on any compiled scheduler, a trained scorer too)"
        )
    return base


def scorer_of(base: Scheduler, theta: np.ndarray) -> Scheduler:
    """The scorer of `theta`, (SIZE,) float64, see `learned.family`; the base with zeros."""
    return make_scorer(shifted(base.params, theta), theta[NUM_INDEX_PARAMS:].tolist())


@dataclass(frozen=True)
class Source:
    """Jobs to train on, and the cluster that they fill."""

    trace: str | None
    tenants: tuple[str, ...]
    cluster: str


def _own(config: Config) -> Source:
    return Source(config.workload.trace, tuple(config.workload.tenants), config.cluster)


def sources(config: Config) -> list[Source]:
    """The run's own workload, those of `training.es.traces`, and the cells of its suite."""
    es, own = config.training.es, _own(config)
    found = [own]
    for name in es.traces:
        trace = None if name == SYNTHETIC else str(Path(name).absolute())
        found.append(Source(trace, (), config.cluster))
    if es.suite is not None:
        if es.data is None:
            raise UserError(
                f"setting training.es.suite={es.suite!r}: say where its traces are with --data, "
                "the folder that `marl-sched trace fetch` fills"
            )
        for cell in get_suite(es.suite).cells:
            work = cell.settings(Path(es.data))["workload"]
            found.append(Source(work.get("trace"), cell.tenants, cell.cluster))
    return list(dict.fromkeys(found))


def _settings(config: Config, source: Source) -> Config:
    """The experiment on other jobs and another cluster, at the jobs' own load."""
    own = source == _own(config)
    same = source.trace == config.workload.trace
    given = {
        "trace": source.trace,
        "tenants": source.tenants,
        "load": None,
        "format": config.workload.format if same else None,
        "skip_bad_rows": config.workload.skip_bad_rows or not own,
    }
    workload = config.workload.model_copy(update=given)
    return config.model_copy(update={"cluster": source.cluster, "workload": workload})


def at_all_weights(config: Config, drawn: list[Sequence]) -> list[list[Sequence]]:
    """The sequences at each term of `env.train_weights` alone and at all of them evenly; as they
    are without any."""
    named, every = config.env.train_weights, list(RewardWeights.model_fields)
    if not named:
        return [drawn]
    points = [[float(term == one) for term in every] for one in named]
    points.append([(term in named) / len(named) for term in every])
    return [[replace(one, weights=tuple(point)) for one in drawn] for point in points]


def check(config: Config) -> None:
    """Raise a `UserError` where the base, a trace or a cluster is not usable."""
    base_scheduler(config)
    check_clusters(config)
    for source in sources(config):
        load_part(_settings(config, source), "train")


def draw(config: Config, part: str, rng: np.random.Generator, count: int) -> list[Sequence]:
    """Sequences under conditions drawn as `training.es` and `envs.conditions` say."""
    every = sources(config)
    drawn = []
    for _ in range(count):
        source = every[rng.integers(len(every))]
        clusters = list(dict.fromkeys((source.cluster, *config.env.train_clusters)))
        source = replace(source, cluster=clusters[rng.integers(len(clusters))])
        jobs = load_part(settings := _settings(config, source), part)
        number = episode_jobs(settings, jobs)
        first = int(rng.integers(0, len(jobs) - number + 1))
        load = jobs.offered_load(Cluster.parse(source.cluster).num_gpus)
        met = draw_conditions(config, load, _home_load(config, source, load), rng)
        drawn.append(
            Sequence(
                part=part,
                trace=source.trace,
                tenants=source.tenants,
                cluster=source.cluster,
                first=first,
                end=first + number,
                stretch=met.stretch,
                restart_scale=met.restart_scale * config.sim.restart_scale,
                estimate_noise=met.estimate_noise,
                seed=int(rng.integers(2**31)),
                weights=tuple(_weights(config, rng).tolist()),
            )
        )
    return drawn


def _weights(config: Config, rng: np.random.Generator) -> np.ndarray:
    every = bool(config.env.train_weights)
    return draw_weights(config, rng) if every else reward_weights(config.env)


def _home_load(config: Config, source: Source, load: float) -> float | None:
    """The load that the run is for: as configured, else the jobs' own where it is their trace."""
    if config.workload.load is not None:
        return config.workload.load
    same = (source.trace, source.tenants) == (config.workload.trace, config.workload.tenants)
    return load if same else None


def play(
    config: Config, sequence: Sequence, theta: np.ndarray, offsets: np.ndarray
) -> tuple[np.ndarray, Ranges]:
    """What a sequence costs under the base schedule and then under scorers around one.

    Args:
        theta: (SIZE,) float64, see `scorer_of`; ((1 + K) SIZE,), a family, where the experiment
            trains for all weights: what plays is the one at the sequence's weights.
        offsets: (M, SIZE) float64, added to it.

    Returns:
        (1 + M, 7) float64 in the terms of the reward, and what the first scorer met.
    """
    settings = _settings(config, Source(sequence.trace, sequence.tenants, sequence.cluster))
    jobs = load_part(settings, sequence.part).slice(sequence.first, sequence.end)
    noise = settings.workload.model_copy(update={"estimate_noise": sequence.estimate_noise})
    sim = settings.sim.model_copy(update={"restart_scale": sequence.restart_scale})
    met = settings.model_copy(update={"workload": noise, "sim": sim, "seed": sequence.seed})
    world = make_world(met, jobs, 1, len(jobs))
    base = base_scheduler(config)
    members = theta_at(theta, trained_weights(config, sequence)) + offsets
    rules = [base, *(scorer_of(base, member) for member in members)]
    costs, params = np.empty((len(rules), world.cost.shape[1])), []
    for m, rule in enumerate(rules):
        params.append(play_episode(world, 0, 0, len(jobs), sequence.stretch, rule))
        costs[m] = world.cost[0]
    return costs, tally_of(params[1]).met


def trained_weights(config: Config, sequence: Sequence) -> np.ndarray:
    """(K,) float64 the sequence's weights of the terms of `env.train_weights`."""
    every = dict(zip(RewardWeights.model_fields, sequence.weights, strict=True))
    return np.array([every[term] for term in config.env.train_weights])


def log_ratios(costs: np.ndarray, sequences: list[Sequence]) -> np.ndarray:
    """What scorers cost against the base schedule, in logarithms.

        log(1 + sum_j w_j (C_j - C_j of the base) / C_j of the base)

    with the weights of each sequence; with the default weights that is log(JCT / JCT of the base).

    Args:
        costs: (S, 1 + M, 7) float64, the base's first.

    Returns:
        (S, M) float64.
    """
    gpus = [Cluster.parse(one.cluster).num_gpus for one in sequences]
    floors = np.array([[cost_floor(j, n) for j in range(costs.shape[2])] for n in gpus])
    weights = np.array([one.weights for one in sequences]) / np.maximum(costs[:, 0], floors)
    ratios = 1.0 + np.einsum("sj,smj->sm", weights, costs[:, 1:] - costs[:, :1])
    found: np.ndarray = np.log(np.maximum(ratios, _LEAST))
    return found


LEAST_TASK = 32
"""Scorers of a task, or more: each task plays the base schedule too and costs the driver time."""

Played = tuple[np.ndarray, Ranges]


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

    def play(
        self, sequences: list[Sequence], theta: np.ndarray, offsets: np.ndarray
    ) -> tuple[np.ndarray, Ranges]:
        """(S, 1 + M, 7) float64, `play` of each sequence, and what the first scorer met in all."""
        if self._task is None:
            played = [play(self._config, s, theta, offsets) for s in sequences]
        else:
            played = self._spread(sequences, theta, offsets)
        return np.stack([costs for costs, _ in played]), merged([met for _, met in played])

    def parts(self, num_sequences: int, num_scorers: int) -> int:
        """Tasks that a sequence is played in: with fewer sequences than runners as many as make two
        for each runner, unless these get small."""
        if num_sequences >= self._at_once:
            return 1
        wanted = math.ceil(2 * self._at_once / num_sequences)
        return max(1, min(wanted, num_scorers // LEAST_TASK))

    def _spread(
        self, sequences: list[Sequence], theta: np.ndarray, offsets: np.ndarray
    ) -> list[Played]:
        import ray

        parts = np.array_split(offsets, self.parts(len(sequences), len(offsets)))
        config, middle = ray.put(self._config), ray.put(theta)
        given = [ray.put(part) for part in parts]
        todo = [(s, part) for s in range(len(sequences)) for part in range(len(parts))]
        at = iter(todo)
        running: dict[Any, tuple[int, int]] = {}
        done: dict[tuple[int, int], Played] = {}
        while len(done) < len(todo):
            for s, part in islice(at, self._at_once - len(running)):
                assert self._task is not None
                running[self._task(config, sequences[s], middle, given[part])] = s, part
            ready, _ = ray.wait(list(running))
            for reference in ready:
                done[running.pop(reference)] = ray.get(reference)
        return [_joined([done[s, p] for p in range(len(parts))]) for s in range(len(sequences))]


def _joined(parts: list[Played]) -> Played:
    """One sequence's costs from those of its parts, each with the base's in front."""
    costs, met = parts[0]
    return np.concatenate([costs, *(more[1:] for more, _ in parts[1:])]), met
