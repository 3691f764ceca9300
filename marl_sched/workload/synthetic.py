"""The seeded synthetic generator that stands in where no trace is given."""

from __future__ import annotations

import numpy as np

from marl_sched.config import SyntheticConfig, WorkloadConfig
from marl_sched.types import Cluster
from marl_sched.workload.arrays import names
from marl_sched.workload.assignment import assign
from marl_sched.workload.formats.raw import RawTrace, plain
from marl_sched.workload.jobs import Workload

GPU_SHARES = {1: 0.9375, 2: 0.0061, 4: 0.0277, 8: 0.0250, 16: 0.0027, 32: 0.0010}
"""Share of jobs by GPUs asked for, as in 66,156 Philly jobs of 2017 (Jeon et al., USENIX ATC
2019; file petuum/adaptdl simulator/traces/philly.csv), other counts left out."""

DAY_S = 86_400.0
SHORTEST_S = 1.0

_STREAM = 0x5F7


def generate(config: SyntheticConfig, cluster_gpus: int, seed: int) -> Workload:
    """A workload of `config.num_jobs` jobs whose offered load on `cluster_gpus` is exact.

    Models and elasticity are assigned as for a trace, with the default settings, on nodes of 8
    GPUs (one node where 8 does not divide `cluster_gpus`).
    """
    text = f"{cluster_gpus // 8}x8" if cluster_gpus % 8 == 0 else f"1x{cluster_gpus}"
    rule = WorkloadConfig()
    return assign(
        synthetic_trace(config, cluster_gpus, seed),
        Cluster.parse(text),
        seed,
        rule.elastic_fraction,
        rule.elastic_max_factor,
    )


def synthetic_trace(
    config: SyntheticConfig, cluster_gpus: int, seed: int, max_gpus: int | None = None
) -> RawTrace:
    """Arrivals, run times and GPU counts, as a trace would state them.

    Run times are log-normal, redrawn beyond `max_duration_s`; GPU counts follow `GPU_SHARES`,
    capped at the largest power of two within `max_gpus` (the cluster where None). Arrivals are a
    Poisson process whose rate swings over a day, conditioned on the number of jobs and on the time
    in which the cluster can do `load` times this work.
    """
    rng = np.random.default_rng([seed, _STREAM])
    count = config.num_jobs
    duration_s = _durations(config, rng)
    num_gpus = rng.choice(list(GPU_SHARES), size=count, p=_shares())
    limit = max_gpus or cluster_gpus
    num_gpus = np.minimum(num_gpus, 1 << (limit.bit_length() - 1)).astype(np.int64)
    span_s = float(np.dot(num_gpus, duration_s)) / (config.load * cluster_gpus)
    arrival_s = np.sort(_arrivals(config, span_s, rng))
    arrival_s = arrival_s - arrival_s[0]
    if count > 1:
        # The first and the last arrival bound the span that the load is defined on.
        arrival_s *= span_s / arrival_s[-1]
    row, job_id = np.arange(2, count + 2), names(np.arange(count))
    return plain("synthetic", "synthetic", row, job_id, arrival_s, duration_s, num_gpus)


def _shares() -> np.ndarray:
    shares = np.array(list(GPU_SHARES.values()))
    return np.asarray(shares / shares.sum())


def _durations(config: SyntheticConfig, rng: np.random.Generator) -> np.ndarray:
    """(J,) float64, seconds."""
    if config.max_duration_s <= SHORTEST_S:
        return np.full(config.num_jobs, config.max_duration_s)
    center, sigma = np.log(config.median_duration_s), config.sigma
    duration_s = np.exp(center + sigma * rng.standard_normal(config.num_jobs))
    for _ in range(20):
        long = np.flatnonzero(duration_s > config.max_duration_s)
        if not len(long):
            break
        duration_s[long] = np.exp(center + sigma * rng.standard_normal(len(long)))
    return np.asarray(np.clip(duration_s, SHORTEST_S, config.max_duration_s))


def _arrivals(config: SyntheticConfig, span_s: float, rng: np.random.Generator) -> np.ndarray:
    """(J,) float64 in [0, span_s), unordered.

    Given their number, arrivals of a Poisson process are independent with density in proportion
    to its rate, 1 + daily_cycle sin(2 pi t / day): thinned draws.
    """
    times: list[np.ndarray] = []
    missing = config.num_jobs
    while missing > 0:
        draws_s = rng.uniform(0.0, span_s, 2 * missing)
        rate = 1.0 + config.daily_cycle * np.sin(2 * np.pi * draws_s / DAY_S)
        kept = draws_s[rng.uniform(0.0, 1.0 + config.daily_cycle, len(draws_s)) < rate]
        times.append(kept[:missing])
        missing -= len(times[-1])
    return np.concatenate(times)
