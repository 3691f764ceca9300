"""What the network of a scorer sees, as arrays: for a network that runs elsewhere than here."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from marl_sched.compiled.jit import part
from marl_sched.schedulers.learned.scorer import (
    GLOBAL_FEATURES,
    JOB_FEATURES,
    LEVEL_FEATURES,
    NUM_INDEX_PARAMS,
    add_residual,
    list_levels,
    write_features,
)
from marl_sched.schedulers.mechanisms.filling import fill_whole
from marl_sched.schedulers.rules.elastic_index import remaining_s, write_index
from marl_sched.types import ClusterView, Floats1, Floats2, Ints1, Singles1, Singles2


class ScorerInputs(NamedTuple):
    """Features of a decision on J jobs, with R levels that they may still be given."""

    globals: np.ndarray  # (G,) float32, `GLOBAL_FEATURES`
    jobs: np.ndarray  # (J, F) float32, `JOB_FEATURES`
    levels: np.ndarray  # (R, E) float32, `LEVEL_FEATURES`
    owner: np.ndarray  # (R,) int64, the job of each level
    step: np.ndarray  # (R,) int64, the level of the job that it leaves
    table: np.ndarray  # (J, L) float64, the index's scores; of the R levels alone


@part
def write_inputs(
    v: ClusterView,
    params: Floats1,
    shared: Singles1,
    jobs: Singles2,
    levels: Singles2,
    owner: Ints1,
    step: Ints1,
    table: Floats2,
) -> int:
    """Fill the arrays of a `ScorerInputs`, of which levels, owner and step have J * L rows.

    Returns:
        R, the number of these rows that are filled.
    """
    n = v.job.size
    gains = np.empty(table.shape)
    work, weight, left_s = np.empty(n), np.empty(n), remaining_s(v, params[4])
    write_index(v, params, left_s, work, weight, gains, table)
    count = list_levels(v, table, owner, step)
    owner, step = owner[:count], step[:count]
    write_features(v, left_s, work, weight, gains, owner, step, shared, jobs, levels[:count])
    return count


@part
def write_table(v: ClusterView, params: Floats1, table: Floats2) -> None:
    """Fill table (J, L) with the corrected scores by which `scorer` decides where it has to."""
    n = v.job.size
    gains = np.empty(table.shape)
    work, weight, left_s = np.empty(n), np.empty(n), remaining_s(v, params[4])
    write_index(v, params, left_s, work, weight, gains, table)
    add_residual(v, params[NUM_INDEX_PARAMS:], left_s, work, weight, gains, table)


@part
def write_target(v: ClusterView, table: Floats2, target: Ints1) -> None:
    """Fill target (J,) with the levels that the scores in table (J, L) lead to."""
    fill_whole(v, table, target)


def inputs_of(view: ClusterView, params: np.ndarray) -> ScorerInputs:
    """The features of a decision, and the scores of the index below the network."""
    jobs, levels = view.job.size, view.sizes.shape[1]
    most = jobs * levels
    shared = np.empty(len(GLOBAL_FEATURES), np.float32)
    job = np.empty((jobs, len(JOB_FEATURES)), np.float32)
    level = np.empty((most, len(LEVEL_FEATURES)), np.float32)
    owner, step = np.empty((2, most), dtype=np.int64)
    table = np.empty((jobs, levels))
    count = write_inputs(view, params, shared, job, level, owner, step, table)
    return ScorerInputs(shared, job, level[:count], owner[:count], step[:count], table)


def scores_of(view: ClusterView, params: np.ndarray) -> np.ndarray:
    """(J, L) float64, the scorer's own scores of the levels of `inputs_of`."""
    table = np.empty((view.job.size, view.sizes.shape[1]))
    write_table(view, params, table)
    return table


def levels_by(view: ClusterView, table: np.ndarray) -> np.ndarray:
    """(J,) int64, the levels that scores (J, L) lead to."""
    target = np.zeros(view.job.size, dtype=np.int64)
    write_target(view, table, target)
    return target
