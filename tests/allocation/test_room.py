"""What fits into the room that is left: by GPU type, by quota, beside nodes about to go."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marl_sched.schedulers import REGISTRY, get_scheduler
from marl_sched.types import ClusterView
from tests.schedulers.views import JobRow, gpus, make_view, random_view

SEEDS = st.integers(0, 2**32 - 1)
COMPILED = [name for name, scheduler in REGISTRY.items() if scheduler.compiled]
WHOLE = [name for name in COMPILED if not REGISTRY[name].elastic]


@pytest.mark.parametrize("name", ["on_demand", "sjf", "srtf", "drf", "fcfs_backfill"])
def test_gpus_of_two_types_are_not_added_up(name: str) -> None:
    # 3 GPUs of type 0 and 4 of type 1 are free: a gang of 6 fits neither, one of 2 fits.
    low = [JobRow(5, held=5, kind=0, left_s=9.0), JobRow(4, held=4, kind=1, left_s=9.0)]
    view = make_view(16, *low, JobRow(6), JobRow(2, total_s=5.0), by_type=(8, 8))
    assert gpus(name, view) == [5, 4, 0, 2]


def test_a_strict_queue_stops_at_the_first_that_fits_no_type() -> None:
    view = make_view(16, JobRow(5, held=5), JobRow(12), JobRow(2), by_type=(8, 8))
    assert gpus("fcfs", view) == [5, 0, 0]


def test_priority_displaces_on_a_type_where_that_helps() -> None:
    # Job 2 needs 6: on type 0 job 0 would have to go, on type 1 job 1. Its fastest is 1.
    low = [JobRow(5, held=5, kind=0), JobRow(4, held=4, kind=1)]
    high = JobRow(6, priority=9.0)
    first = make_view(16, *low, replace(high, types=(0, 1)), by_type=(8, 8))
    assert gpus("priority", first) == [0, 4, 6]
    second = make_view(16, *low, replace(high, types=(1, 0)), by_type=(8, 8))
    assert gpus("priority", second) == [5, 0, 6]
    # Nobody goes where the slower type is free.
    idle = make_view(24, *low, replace(high, types=(0, 1, 2)), by_type=(8, 8, 8))
    assert gpus("priority", idle) == [5, 4, 6]


def test_a_job_runs_on_types_that_it_allows() -> None:
    wants = JobRow(4, types=(1,))
    view = make_view(12, wants, wants, JobRow(4), by_type=(8, 4))
    for name in ("on_demand", "srtf", "fcfs_backfill", "conservative_backfill", "equal", "afs"):
        assert gpus(name, view) == [4, 0, 4], name


def test_a_head_reserves_gpus_of_its_type_alone() -> None:
    # The head may use type 0 alone, which is free at 50. The long job 3 may not use type 0, where
    # it would delay the head, but type 1; the short job 4 may use type 0.
    view = make_view(
        8,
        JobRow(2, held=2, left_s=50.0),
        JobRow(4, types=(0,)),
        JobRow(2, held=2, left_s=90.0, kind=1),
        JobRow(2, total_s=500.0),
        JobRow(2, total_s=40.0, types=(0,)),
        JobRow(1, total_s=500.0, types=(0,)),
        by_type=(4, 4),
    )
    for name in ("fcfs_backfill", "conservative_backfill"):
        assert gpus(name, view) == [2, 0, 2, 2, 2, 0], name


def test_an_elastic_job_moves_to_a_type_with_room_for_all_of_it() -> None:
    # It begins on type 0 and grows beyond its 2 GPUs only on type 1.
    row = JobRow(1, sizes=(1, 2, 4), rates=(1.0, 1.9, 3.5))
    view = make_view(6, row, by_type=(2, 4))
    for name in ("elastic_index", "equi", "afs", "optimus", "hesrpt", "themis", "pollux"):
        assert gpus(name, view) == [4], name


@pytest.mark.parametrize("name", ["on_demand", "sjf", "fcfs_backfill", "conservative_backfill"])
def test_a_quota_holds_back_and_takes_nothing(name: str) -> None:
    # Tenant 1 may hold 6 and holds 2: its head of 5 waits, others and its own small one do not.
    rows = [
        JobRow(5, tenant=1),
        JobRow(2, held=2, tenant=1, left_s=5000.0),
        JobRow(3, tenant=0, total_s=10.0),
    ]
    assert gpus(name, make_view(8, *rows, quota={1: 6})) == [0, 2, 3]
    # Without a quota the head is the first, but for its size: job 2 is over sooner.
    expected = [0, 2, 3] if name == "sjf" else [5, 2, 0]
    assert gpus(name, make_view(8, *rows)) == expected


def test_in_a_queue_a_quota_stops_its_tenant_alone() -> None:
    # FCFS: job 1 of tenant 1 is over the quota of 2; job 2 of the same tenant does not pass it.
    rows = [JobRow(3, tenant=1), JobRow(1, tenant=1), JobRow(2, tenant=0)]
    view = make_view(8, *rows, quota={1: 2})
    for name in ("fcfs", "fcfs_backfill", "conservative_backfill"):
        assert gpus(name, view) == [0, 0, 2], name
    assert gpus("on_demand", view) == [0, 1, 2]


def test_who_comes_first_displaces_within_a_quota() -> None:
    rows = [JobRow(2, held=2, tenant=1), JobRow(2, tenant=1, priority=1.0)]
    assert gpus("priority", make_view(8, *rows, quota={1: 3})) == [0, 2]
    assert gpus("priority", make_view(8, *rows, quota={1: 4})) == [2, 2]


def test_nobody_is_displaced_for_gpus_that_go_away() -> None:
    # 4 GPUs; job 0 holds 2 on a node under notice: stopping it gives nobody anything.
    low, high = JobRow(2, held=2, leaving=2), JobRow(4, priority=1.0)
    assert gpus("priority", make_view(4, low, high)) == [2, 0]
    assert gpus("priority", make_view(4, replace(low, leaving=0), high)) == [0, 4]


@pytest.mark.parametrize("name", COMPILED)
def test_who_found_no_node_is_passed_over(name: str) -> None:
    waits = JobRow(2, refused=True)
    if name == "equal":
        pytest.skip("counts GPUs alone")
    strict = name in ("fcfs", "qssf")
    assert gpus(name, make_view(4, waits, JobRow(3))) == [0, 0 if strict else 3]


def with_types(view: ClusterView, rng: np.random.Generator) -> ClusterView:
    """A random view's jobs on GPUs of up to three types, some of them with quotas."""
    types, n = int(rng.integers(1, 4)), view.job.size
    kind = rng.integers(0, types, n)
    held = view.sizes[view.profile, view.level][:, None] * view.demand
    free = rng.uniform(0.0, 1.0, (types, 4)) * view.capacity
    free[:, 0] = np.floor(free[:, 0])
    order = rng.permuted(np.tile(np.arange(types), (*view.sizes.shape, 1)), axis=2)
    allowed = rng.integers(1, 1 << types, n) | 1 << kind
    quota = np.floor(rng.uniform(0, view.num_gpus, 4)) if rng.random() < 0.5 else np.empty(0)
    tenant_held = np.zeros(quota.size, np.int64)
    if quota.size:
        np.add.at(tenant_held, view.tenant, (1000 * held[:, 0]).astype(np.int64))
        quota = np.maximum(quota, tenant_held / 1000)
    return view._replace(
        free_by_type=free, free=free.sum(axis=0), capacity=free.sum(axis=0) + held.sum(axis=0),
        num_gpus=int(free[:, 0].sum() + held[:, 0].sum()), types=allowed, gpu_type=kind,
        type_order=order, tenant_quota=quota, tenant_held=tenant_held,
        tenant_tally=np.zeros((2, quota.size + 1), np.int64),
    )  # fmt: skip


def fits_on_types(view: ClusterView, target: np.ndarray) -> bool:
    """Whether some choice of types holds: running jobs that keep their level stay; by search."""
    gpus_asked = view.sizes[view.profile, target]
    stays = (target == view.level) & (target > 0)
    left = view.free_by_type.copy()
    for i in np.flatnonzero(view.level):
        if not stays[i]:
            size = view.sizes[view.profile[i], view.level[i]]
            left[view.gpu_type[i]] += size * view.demand[i]
    todo = [i for i in np.flatnonzero(target) if not stays[i]]
    todo.sort(key=lambda i: -gpus_asked[i])

    def search(at: int) -> bool:
        if at == len(todo):
            return True
        i = todo[at]
        need = gpus_asked[i] * view.demand[i]
        for kind in range(len(left)):
            if view.types[i] >> kind & 1 and (need <= left[kind] + 1e-6).all():
                left[kind] -= need
                if search(at + 1):
                    return True
                left[kind] += need
        return False

    return search(0)


@pytest.mark.parametrize("name", WHOLE)
@settings(max_examples=60)
@given(SEEDS)
def test_what_is_asked_fits_types_and_quotas(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    view = with_types(random_view(rng, max_jobs=9), rng)
    target = get_scheduler(name).levels(view)
    assert fits_on_types(view, target)
    asked = view.sizes[view.profile, target]
    for tenant in range(view.tenant_quota.size):
        assert asked[view.tenant == tenant].sum() <= view.tenant_quota[tenant] + 1e-6
    if not get_scheduler(name).preemptive:
        assert (target >= np.minimum(view.level, view.limit_level)).all()


@pytest.mark.parametrize("name", COMPILED)
@settings(max_examples=40)
@given(SEEDS)
def test_a_quota_that_nobody_reaches_changes_nothing(name: str, seed: int) -> None:
    """The ways with and without types and quotas agree where neither matters."""
    if name == "equal":
        pytest.skip("counts GPUs alone, but with quotas all that fits")
    view = random_view(np.random.default_rng(seed))
    quota = np.full(4, 1e6)
    bounded = view._replace(
        tenant_quota=quota,
        tenant_held=np.zeros(4, np.int64),
        tenant_tally=np.zeros((2, 5), np.int64),
    )
    rule = get_scheduler(name)
    np.testing.assert_array_equal(rule.levels(bounded), rule.levels(view))


@settings(max_examples=40)
@given(SEEDS)
def test_a_rule_may_be_asked_twice(seed: int) -> None:
    """The scratch in a view carries nothing from one decision to the next."""
    rng = np.random.default_rng(seed)
    view = with_types(random_view(rng), rng)
    for name in ("on_demand", "srtf", "elastic_index", "fcfs_backfill"):
        first = get_scheduler(name).levels(view)
        np.testing.assert_array_equal(get_scheduler(name).levels(view), first)
