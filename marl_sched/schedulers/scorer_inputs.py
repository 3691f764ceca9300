"""What the network of a scorer sees, as arrays: for a network that runs elsewhere than here."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from marl_sched.jit import part
from marl_sched.schedulers.elastic_index import remaining_s, write_index
from marl_sched.schedulers.filling import fill_by_score
from marl_sched.schedulers.scorer import (
    GLOBAL_FEATURES,
    JOB_FEATURES,
    LEVEL_FEATURES,
    NUM_INDEX_PARAMS,
    add_residual,
    write_global,
    write_job,
    write_level,
)
from marl_sched.types import ClusterView, Floats1, Floats2, Floats3, Ints1


class ScorerInputs(NamedTuple):
    """Features of a decision on J active jobs of at most L levels, and the scores they correct."""

    shared: np.ndarray  # (G,) float64, `GLOBAL_FEATURES`
    jobs: np.ndarray  # (J, F) float64, `JOB_FEATURES`
    levels: np.ndarray  # (J, L, E) float64, `LEVEL_FEATURES`; 0 where there is no such level
    table: np.ndarray  # (J, L) float64, the index's scores; -inf where there is no such level


@part
def write_inputs(
    v: ClusterView,
    params: Floats1,
    shared: Floats1,
    jobs: Floats2,
    levels: Floats3,
    table: Floats2,
) -> None:
    """Fill the arrays of a `ScorerInputs`; `levels` holds 0 and `table` -inf before."""
    n = v.job.size
    gains, index = np.empty(table.shape), np.empty(table.shape)
    work, weight, left_s = np.empty(n), np.empty(n), remaining_s(v, params[4])
    write_index(v, params, left_s, work, weight, gains, index)
    log_mean, heaviest = write_global(v, left_s, work, shared), weight.max()
    gpus = max(v.capacity[0], 1.0)
    for i in range(n):
        log_work = np.log(work[i]) - log_mean
        write_job(v, i, left_s[i], log_work, weight[i] - heaviest, gpus, jobs[i])
        for k in range(v.limit_level[i]):
            if index[i, k] == -np.inf:
                break
            table[i, k] = index[i, k]
            write_level(v, i, k, gains[i, k], levels[i, k])


@part
def write_scores(v: ClusterView, params: Floats1, table: Floats2) -> None:
    """Fill table (J, L), -inf before, with the scores by which `scorer` itself decides."""
    n = v.job.size
    gains, scores = np.empty(table.shape), np.empty(table.shape)
    work, weight, left_s = np.empty(n), np.empty(n), remaining_s(v, params[4])
    write_index(v, params, left_s, work, weight, gains, scores)
    add_residual(v, params[NUM_INDEX_PARAMS:], left_s, work, weight, gains, scores)
    for i in range(n):
        for k in range(v.limit_level[i]):
            if scores[i, k] == -np.inf:
                break
            table[i, k] = scores[i, k]


@part
def write_levels(v: ClusterView, table: Floats2, target: Ints1) -> None:
    """Fill target (J,) with the levels that the scores in table (J, L) lead to."""
    target[:] = 0
    fill_by_score(v, table, target, v.capacity.copy())


def inputs_of(view: ClusterView, params: np.ndarray) -> ScorerInputs:
    """The features of a decision, and the scores of the index below the network."""
    jobs, levels = view.job.size, view.sizes.shape[1]
    made = ScorerInputs(
        shared=np.zeros(len(GLOBAL_FEATURES)),
        jobs=np.zeros((jobs, len(JOB_FEATURES))),
        levels=np.zeros((jobs, levels, len(LEVEL_FEATURES))),
        table=np.full((jobs, levels), -np.inf),
    )
    write_inputs(view, params, *made)
    return made


def scores_of(view: ClusterView, params: np.ndarray) -> np.ndarray:
    """(J, L) float64, the scorer's own scores; -inf where there is no such level."""
    table = np.full((view.job.size, view.sizes.shape[1]), -np.inf)
    write_scores(view, params, table)
    return table


def levels_by(view: ClusterView, table: np.ndarray) -> np.ndarray:
    """(J,) int64, the levels that scores (J, L) lead to."""
    target = np.zeros(view.job.size, dtype=np.int64)
    write_levels(view, table, target)
    return target
