"""What must hold of every scheduler on any view, and of some on whole simulations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marl_sched.config import SimConfig
from marl_sched.perf.profiles import ProfileTable
from marl_sched.schedulers import REGISTRY, get_scheduler
from marl_sched.schedulers.mechanisms.filling import fill_by_score
from marl_sched.schedulers.rules.elastic_index import log_rank_weights
from marl_sched.types import Cluster, ClusterView
from tests.schedulers.views import JobRow, gpus, make_view, permuted, random_view
from tests.sim.worlds import Setup, classic, make_workload, one_profile, play_compiled

SEEDS = st.integers(0, 2**32 - 1)

COMPILED = [name for name, scheduler in REGISTRY.items() if scheduler.compiled]

SKIPPING = ("on_demand", "sjf", "srtf", "srsf", "las", "tiresias", "gittins", "edf",
            "rate_monotonic", "priority", "random")  # fmt: skip
"""Orders in which whoever does not fit is passed over."""

FILLING = ("equi", "elastic_index", "hesrpt", "afs", "optimus", "themis", "elastic_fcfs",
           "elastic_srtf", "elastic_srsf", "elastic_las", "elastic_tiresias",
           "elastic_gittins")  # fmt: skip
"""Elastic rules that leave no GPU idle which would speed anybody up."""


def targets(name: str, view: ClusterView) -> np.ndarray:
    return get_scheduler(name).levels(view)


@pytest.mark.parametrize("name", COMPILED)
@settings(max_examples=100)
@given(SEEDS)
def test_levels_are_legal_and_fit_the_cluster(name: str, seed: int) -> None:
    view = random_view(np.random.default_rng(seed))
    target = targets(name, view)
    assert (target >= 0).all()
    assert (target <= view.limit_level).all()
    given_gpus = view.sizes[view.profile, target]
    assert given_gpus.sum() <= view.num_gpus
    if name != "equal":  # counts GPUs alone
        used = (given_gpus[:, None] * view.demand).sum(axis=0)
        assert (used <= view.capacity + 1e-6).all()


@pytest.mark.parametrize("name", COMPILED)
@settings(max_examples=40)
@given(SEEDS)
def test_the_same_view_in_other_rows_gets_the_same_answer(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    view = random_view(rng)
    order = rng.permutation(view.job.size)
    np.testing.assert_array_equal(targets(name, permuted(view, order)), targets(name, view)[order])


@pytest.mark.parametrize("name", [n for n in COMPILED if not REGISTRY[n].preemptive])
@settings(max_examples=40)
@given(SEEDS)
def test_who_is_not_preemptive_takes_nothing_away(name: str, seed: int) -> None:
    view = random_view(np.random.default_rng(seed))
    target = targets(name, view)
    assert (target >= np.minimum(view.level, view.limit_level)).all()


@pytest.mark.parametrize("name", [n for n in COMPILED if not REGISTRY[n].elastic])
@settings(max_examples=40)
@given(SEEDS)
def test_who_is_not_elastic_starts_whole_requests(name: str, seed: int) -> None:
    view = random_view(np.random.default_rng(seed))
    target = targets(name, view)
    started = (view.level == 0) & (target > 0)
    asked = np.minimum(view.request_level, view.limit_level)
    np.testing.assert_array_equal(target[started], asked[started])


@settings(max_examples=100)
@given(SEEDS)
def test_skipping_rules_leave_nobody_waiting_who_fits(seed: int) -> None:
    view = random_view(np.random.default_rng(seed))
    for name in SKIPPING:
        target = targets(name, view)
        used = (view.sizes[view.profile, target][:, None] * view.demand).sum(axis=0)
        asked = view.sizes[view.profile, np.minimum(view.request_level, view.limit_level)]
        for i in np.flatnonzero(target == 0):
            assert (used + asked[i] * view.demand[i] > view.capacity - 1e-6).any(), name


@pytest.mark.parametrize("name", FILLING)
@settings(max_examples=60)
@given(SEEDS)
def test_elastic_rules_leave_no_gpu_that_speeds_anybody_up(name: str, seed: int) -> None:
    view = random_view(np.random.default_rng(seed))
    target = targets(name, view)
    size, rate = view.sizes[view.profile], view.rates[view.profile]
    rows = np.arange(view.job.size)
    used = (size[rows, target][:, None] * view.demand).sum(axis=0)
    for i in np.flatnonzero(target < view.limit_level):
        step = size[i, target[i] + 1] - size[i, target[i]]
        if rate[i, target[i] + 1] > rate[i, target[i]]:
            assert (used + step * view.demand[i] > view.capacity - 1e-6).any()


@settings(max_examples=60)
@given(SEEDS)
def test_orders_follow_their_figure(seed: int) -> None:
    """Who is served before whom, restated from the definitions, where one GPU is free for all."""
    view = random_view(np.random.default_rng(seed))
    n = view.job.size
    ones = np.ones((n, 2), np.int64) * [0, 1]
    view = view._replace(
        num_gpus=1, capacity=np.array([1.0, 1e6, 1e6, 1e6]), free=np.array([1.0, 1e6, 1e6, 1e6]),
        sizes=ones, num_levels=np.ones(n, np.int64), rates=ones.astype(float),
        profile=np.arange(n), level=np.zeros(n, np.int64), request_level=np.ones(n, np.int64),
        limit_level=np.ones(n, np.int64), waiting=np.arange(n), running=np.zeros(0, np.int64),
        deadline_s=np.where(np.arange(n) % 3 > 0, view.now_s + view.est_total_s, np.inf),
        free_by_type=np.array([[1.0, 1e6, 1e6, 1e6]]), type_order=np.zeros((n, 2, 1), np.int64),
        types=np.ones(n, np.int64), gpu_type=np.zeros(n, np.int64),
    )  # fmt: skip
    window = view.deadline_s - view.arrival_s
    queue = np.digitize(view.attained_gpu_s, [3250.0, 7200.0])
    for name, figure in (
        ("srsf", view.est_remaining_s),
        ("qssf", view.est_total_s),
        ("edf", view.deadline_s),
        ("rate_monotonic", window),
        ("tiresias", queue),
    ):
        first = min(range(n), key=lambda i: (figure[i], view.job[i]))
        assert targets(name, view).nonzero()[0].tolist() == [first], name


# heSRPT: REFERENCE results for M jobs present at 0 with speed s(k) = k^p on N GPUs


@pytest.mark.parametrize("p", [0.3, 0.5, 0.6, 0.9])
def test_rank_weights_are_the_closed_form(p: float) -> None:
    work = np.random.default_rng(3).permutation(np.arange(1.0, 41.0))
    k = np.empty(40)
    k[np.argsort(-work)] = np.arange(1, 41)  # rank 1: most work
    c = 1 / (1 - p)
    expected = np.log((k**c - (k - 1) ** c) ** (1 / c))
    np.testing.assert_allclose(log_rank_weights(work, p), expected, rtol=1e-12, atol=1e-12)


def test_rank_weights_stay_finite_and_grow_at_large_ranks() -> None:
    weights = log_rank_weights(np.arange(1e5, 0, -1), 0.6)
    assert np.isfinite(weights).all()
    assert (np.diff(weights) > 0).all()


@pytest.mark.parametrize(("jobs", "each"), [(2, 4), (3, 4), (4, 4), (5, 3)])
def test_elastic_index_gives_the_optimal_shares(jobs: int, each: int) -> None:
    # p = 0.5: theta_i = N [(i/m)^2 - ((i-1)/m)^2] = N (2i-1) / m^2, jobs by work descending;
    # N = each * m^2 makes that each * (2i-1) whole GPUs: the optimum on whole GPUs too, because
    # the weighted speeds are concave and have equal slopes there.
    total = each * jobs**2
    sizes = tuple(range(1, total + 1))
    rates = tuple(np.sqrt(sizes).tolist())
    rows = [
        JobRow(request=1, sizes=sizes, rates=rates, total_s=1000.0 / (i + 1)) for i in range(jobs)
    ]
    shares = [each * (2 * i - 1) for i in range(1, jobs + 1)]
    assert gpus("elastic_index:p=0.5,h=0,g=0,b=0", make_view(total, *rows)) == shares


def best_integer_split(weights: np.ndarray, total: int) -> tuple[int, ...]:
    def value(split: tuple[int, ...]) -> float:
        return float((weights * np.sqrt(split)).sum())

    splits = itertools.product(range(total + 1), repeat=len(weights))
    return max((s for s in splits if sum(s) == total), key=value)


@pytest.mark.parametrize("total", [3, 7, 10, 13])
def test_elastic_index_is_optimal_on_whole_gpus(total: int) -> None:
    sizes = tuple(range(1, total + 1))
    rates = tuple(np.sqrt(sizes).tolist())
    rows = [JobRow(request=1, sizes=sizes, rates=rates, total_s=s) for s in (300.0, 200.0, 50.0)]
    weights = np.array([1.0, np.sqrt(3), np.sqrt(5)])  # sqrt(k^2 - (k-1)^2)
    best = best_integer_split(weights, total)
    assert gpus("elastic_index:p=0.5,h=0,g=0,b=0", make_view(total, *rows)) == list(best)


# Whole simulations


def one_server(arrival_s: list[float], duration_s: list[float], restart_s: float = 0.0) -> Setup:
    jobs = len(arrival_s)
    return Setup(
        make_workload(arrival_s, duration_s),
        one_profile(jobs, [0, 1], [(0, 0), (1, 1)], restart_s),
        Cluster.parse("1x1"),
        SimConfig(round_s=1e9),
        np.ones(jobs),
    )


def mean_jct(setup: Setup, name: str) -> float:
    played = play_compiled(setup.world(), classic(get_scheduler(name)))
    finish_s = np.array([job.finish for job in played.jobs])
    return float((finish_s - setup.workload.arrival_s).mean())


def test_srtf_is_optimal_on_one_server() -> None:
    # 0: 10 s; at 1: 4 s preempts (9 left); at 2: 1 s preempts (3 left), ends 3; job 1 ends 6;
    # at 7: 5 s preempts (8 left), ends 12; job 0 ends 20. JCTs 20, 5, 1, 5.
    setup = one_server([0, 1, 2, 7], [10, 4, 1, 5])
    assert mean_jct(setup, "srtf") == pytest.approx((20 + 5 + 1 + 5) / 4)
    # In turn: ends 10, 14, 15, 20.
    assert mean_jct(setup, "fcfs") == pytest.approx((10 + 13 + 13 + 13) / 4)
    # After job 0 the shortest first: 1 s ends 11, 4 s ends 15, 5 s ends 20.
    assert mean_jct(setup, "sjf") == pytest.approx((10 + 14 + 9 + 13) / 4)


@settings(max_examples=50)
@given(SEEDS)
def test_nothing_beats_srtf_on_one_server(seed: int) -> None:
    rng = np.random.default_rng(seed)
    jobs = int(rng.integers(2, 12))
    arrival_s = np.concatenate([[0.0], np.cumsum(rng.exponential(50.0, jobs - 1))])
    setup = one_server(arrival_s.tolist(), rng.lognormal(4, 1, jobs).tolist())
    best = mean_jct(setup, "srtf")
    for name in ("fcfs", "sjf", "las:quantum_gpu_s=20", "round_robin:slice_s=10", "random"):
        assert best <= mean_jct(setup, name) + 1e-9, name


def test_round_robin_takes_turns_over_time() -> None:
    # One GPU, rounds of 10 s, slices of 10 s, two jobs of 25 s: 0 10 20 30 40 -> 0 1 0 1 0(5) 1(5).
    setup = one_server([0, 0], [25, 25])
    setup = Setup(
        setup.workload, setup.profiles, setup.cluster, SimConfig(round_s=10.0), np.ones(2)
    )
    played = play_compiled(setup.world(), classic(get_scheduler("round_robin:slice_s=10")))
    assert [job.finish for job in played.jobs] == pytest.approx([45, 50])
    assert [job.num_preemptions for job in played.jobs] == [2, 2]


@settings(max_examples=60)
@given(SEEDS)
def test_easy_backfilling_keeps_its_promise_to_the_head(seed: int) -> None:
    """With exact estimates the head never starts after the time first reserved for it."""
    rng = np.random.default_rng(seed)
    jobs, gpus_here = 25, 8
    request = rng.choice([1, 2, 3, 5, 8], jobs)
    kinds, profile = np.unique(request, return_inverse=True)
    sizes = np.stack([np.zeros_like(kinds), kinds], axis=1)
    rates = np.ones((len(kinds), 1, 2, 2))
    rates[:, :, 0] = 0.0
    arrival_s = np.cumsum(rng.exponential(30.0, jobs))
    setup = Setup(
        make_workload(arrival_s - arrival_s[0], rng.lognormal(4.5, 1.0, jobs), num_gpus=request),
        ProfileTable(
            sizes=sizes,
            num_levels=np.ones(len(kinds), np.int64),
            request_level=np.ones(len(kinds), np.int64),
            rates=rates,
            nominal_rates=rates[:, 0, :, 0].copy(),
            restart_s=np.zeros(sizes.shape),
            job_profile=profile,
        ),
        Cluster.parse(f"1x{gpus_here}"),
        SimConfig(round_s=1e9),
        np.ones(jobs),
    )
    promised: dict[int, float] = {}
    passed = 0
    rule = classic(get_scheduler("fcfs_backfill"))

    def decide(view: ClusterView) -> dict[int, int]:
        nonlocal passed
        levels = dict(rule(view))
        waiting = [i for i in range(view.job.size) if levels[int(view.job[i])] == 0]
        if waiting:
            head = waiting[0]  # rows come by job
            running = [i for i in range(view.job.size) if i < head and i not in waiting]
            # Those who passed the head count neither for nor against it.
            running += [i for i in range(head, view.job.size) if view.level[i] > 0]
            ends = sorted(
                (view.now_s + float(view.est_remaining_s[i]), int(request[view.job[i]]))
                for i in running
            )
            free = gpus_here - sum(k for _, k in ends)
            at = view.now_s
            for end_s, k in ends:
                if free >= request[view.job[head]]:
                    break
                at, free = end_s, free + k
            promised.setdefault(int(view.job[head]), at)
            passed += any(
                levels[int(view.job[i])] > 0 and view.level[i] == 0
                for i in range(head + 1, view.job.size)
            )
        return levels

    played = play_compiled(setup.world(), decide)
    for job, at in promised.items():
        assert played.jobs[job].first_start <= at + 1e-6
    fcfs = play_compiled(setup.world(), classic(get_scheduler("fcfs")))
    if passed == 0:
        assert [j.finish for j in played.jobs] == [j.finish for j in fcfs.jobs]


@settings(max_examples=200)
@given(SEEDS)
def test_filling_by_score_is_greedy_level_by_level(seed: int) -> None:
    rng = np.random.default_rng(seed)
    view = random_view(rng)
    size, rows = view.sizes[view.profile], range(view.job.size)
    # Few distinct scores: ties go to who arrived first. Some levels are not to be had.
    table = rng.integers(0, 6, size.shape) * rng.choice([0.1, 1.0])
    table[rng.random(size.shape) < 0.1] = -np.inf
    target = np.zeros(view.job.size, dtype=np.int64)
    left, expected, rest = view.capacity[None].copy(), target.copy(), view.capacity.copy()
    fill_by_score(view, table, target, left, np.zeros(0, np.int64))
    open_rows = set(rows)
    while open_rows and rest[0] > 1e-9:
        best = None
        for i in open_rows:
            if expected[i] < view.limit_level[i] and table[i, expected[i]] > -np.inf:
                key = (-table[i, expected[i]], view.job[i])
                best = min(best, (key, i)) if best is not None else (key, i)
        if best is None:
            break
        i = best[1]
        need = (size[i, expected[i] + 1] - size[i, expected[i]]) * view.demand[i]
        if (need > rest + 1e-9).any():
            open_rows.remove(i)
            continue
        expected[i] += 1
        rest -= need
    assert target.tolist() == expected.tolist()
    np.testing.assert_allclose(left[0], rest, atol=1e-6)
