"""Very many jobs that wait: most of them are not looked at, and nothing else changes by that."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marl_sched.schedulers import REGISTRY, get_scheduler
from marl_sched.schedulers.dispatch import decide
from marl_sched.schedulers.mechanisms.serving import FEW_WAIT
from marl_sched.schedulers.rules.elastic_index import (
    log_rank_weights,
    remaining_s,
    share_by_index,
    single_gpu_work,
)
from marl_sched.types import ANYBODY, ClusterView
from tests.schedulers.views import JobRow, make_view, random_view

COMPILED = [name for name, rule in REGISTRY.items() if rule.compiled]
SEEDS = st.integers(0, 2**32 - 1)


def crowded_view(rng: np.random.Generator) -> ClusterView:
    """A few GPUs, many of them held, and more jobs that wait than are looked at one by one."""
    num_gpus = int(rng.choice([1, 4, 40, 300]))
    count = FEW_WAIT + int(rng.integers(100, 900))
    # A round number of distinct times, so that there are ties.
    left_s = np.ceil(rng.lognormal(6, 2, count) / rng.choice([1e-3, 200.0]))
    request = np.minimum(rng.choice([1, 2, 8], count), num_gpus)
    chance, free, rows = rng.choice([0.001, 0.2]), num_gpus, []
    for i in range(count):
        sizes = (1, int(request[i])) if request[i] > 1 and rng.random() < 0.5 else ()
        held = int(request[i]) if request[i] <= free and rng.random() < chance else 0
        free -= held
        rows.append(
            JobRow(
                request=int(request[i]),
                sizes=sizes,
                held=held,
                left_s=float(left_s[i]),
                total_s=float(left_s[i]) * rng.choice([1.0, 3.0]),
                attained_gpu_s=float(rng.choice([0.0, rng.lognormal(8, 2)])),
                run_since_s=0.0 if held else float("nan"),
                arrival_s=float(i),
                restart_s=float(rng.choice([0.0, 60.0])),
                refused=not held and rng.random() < 0.1,
            )
        )
    return make_view(num_gpus, *rows, now_s=float(count), job=rng.permutation(count))


def in_turn(view: ClusterView, key: np.ndarray) -> list[int]:
    """Levels by one walk over everybody in order: whoever fits in what is left has its request."""
    levels, left = np.zeros(view.job.size, np.int64), float(view.capacity[0])
    for i in np.lexsort((view.job, key)):
        refused = view.refused_at[i] == view.releases and view.level[i] == 0
        size = view.sizes[view.profile[i], view.request_level[i]]
        if not refused and size <= left:
            levels[i], left = view.request_level[i], left - size
    return [int(level) for level in levels]


@settings(max_examples=40)
@given(SEEDS)
def test_the_index_shares_as_if_it_ranked_everybody(seed: int) -> None:
    rng = np.random.default_rng(seed)
    view = crowded_view(rng)
    rule = get_scheduler("elastic_index").with_params(
        {"p": float(rng.choice([0.0, 0.3, 0.6])), "trust": float(rng.choice([0.0, 1.0]))}
    )
    params = rule.param_array
    work, left_s = np.empty(view.job.size), remaining_s(view, params[4])
    single_gpu_work(view, left_s, work)
    expected = np.zeros(view.job.size, np.int64)
    share_by_index(view, params, left_s, log_rank_weights(work, params[0]), expected)
    np.testing.assert_array_equal(rule.levels(view), expected)


@settings(max_examples=40)
@given(SEEDS)
def test_orders_serve_as_if_they_walked_over_everybody(seed: int) -> None:
    view = crowded_view(np.random.default_rng(seed))
    assert get_scheduler("srtf").levels(view).tolist() == in_turn(view, view.est_remaining_s)
    # The shortest by its size alone, of whoever waits: running jobs come first.
    running = np.where(view.level > 0, -np.inf, view.est_total_s)
    assert get_scheduler("sjf").levels(view).tolist() == in_turn(view, running)


@settings(max_examples=60)
@given(SEEDS, st.sampled_from(COMPILED))
def test_who_may_have_changed_is_told(seed: int, name: str) -> None:
    rng = np.random.default_rng(seed)
    view = random_view(rng)
    view = view._replace(limit_level=view.num_levels[view.profile])
    rule, target = get_scheduler(name), view.level.copy()
    reach = decide(rule.number, view.with_own_scratch(), rule.param_array, target)
    assert reach == ANYBODY or 0 <= reach <= view.waiting.size
    if reach != ANYBODY:
        rest = np.setdiff1d(np.arange(target.size), view.waiting[:reach])
        np.testing.assert_array_equal(target[rest], view.level[rest])


@pytest.mark.parametrize("name", ["fcfs", "on_demand", "sjf", "qssf", "srtf", "las"])
def test_on_a_full_cluster_nobody_has_changed(name: str) -> None:
    # The running job is the shortest and the newest to service: it stays, and none can join it.
    others = [JobRow(arrival_s=1.0)] * (FEW_WAIT + 1)
    view = make_view(1, JobRow(held=1, total_s=5.0, run_since_s=0.0), *others)
    rule, target = get_scheduler(name), view.level.copy()
    assert decide(rule.number, view, rule.param_array, target) == 0
    # Whoever stands behind the head of a strict queue is not looked at.
    if name == "fcfs":
        big = make_view(2, JobRow(held=1, run_since_s=0.0), JobRow(request=2), JobRow())
        assert decide(rule.number, big, rule.param_array, big.level.copy()) == 0
