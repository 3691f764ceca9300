"""Sia: the program against all its solutions, by hand, and its gangs' places."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from marl_sched.evaluation.simulate import simulate
from marl_sched.schedulers import get_scheduler
from marl_sched.schedulers.mechanisms.node_fitting import place_gangs
from marl_sched.schedulers.rules.sia import GAP, Choices, Sia, _constraints, _search, solve
from marl_sched.types import Cluster, ClusterView, NodeView
from tests.schedulers.views import JobRow, make_view

SEEDS = st.integers(0, 2**32 - 1)


def nodes_for(
    view: ClusterView,
    node_gpus: list[int],
    gpu_type: list[int],
    speed: list[list[list[float]]] | None = None,
    held: Any = None,
    **given: Any,
) -> NodeView:
    """Nodes with CPUs and memory without end; `speed` by job, type and size, default the view's."""
    capacity = np.full((len(node_gpus), 4), 1e9)
    capacity[:, 0] = node_gpus
    types = max(gpu_type) + 1
    rates = np.repeat(view.rates[:, None, :], types, axis=1)
    for i, rows in enumerate(speed or []):
        for t, row in enumerate(rows):
            rates[i, t, 1 : 1 + len(row)] = row
    shape = (view.job.size, len(node_gpus))
    given.setdefault("up", np.ones(len(node_gpus), bool))
    given.setdefault("restarts", np.zeros(view.job.size, np.int64))
    given.setdefault("allowed", np.ones((view.job.size, types), bool))
    return NodeView(
        capacity=capacity,
        gpu_type=np.array(gpu_type),
        rack=np.zeros(len(node_gpus), np.int64),
        held=np.zeros(shape, np.int64) if held is None else np.array(held, np.int64),
        rates=np.repeat(rates[..., None], 2, axis=3),
        **given,
    )


def allocate(view: ClusterView, nodes: NodeView, **params: float) -> list[list[int]]:
    allocation = Sia(**params).allocate(view, nodes)
    assert allocation.placement is not None
    np.testing.assert_array_equal(allocation.placement.sum(axis=1), allocation.gpus)
    return allocation.placement.tolist()


TWO = {"request": 1, "sizes": (1, 2)}


def test_jobs_go_where_they_gain_most() -> None:
    # Two nodes of one GPU, types 0 and 1. Job 0 is 4 times as fast on type 1, job 1 twice: costs
    # 1 + 1 / sqrt(2) against 1 / 2 + 1.
    view = make_view(2, JobRow(), JobRow())
    speed = [[[1.0], [4.0]], [[1.0], [2.0]]]
    assert allocate(view, nodes_for(view, [1, 1], [0, 1], speed)) == [[0, 1], [1, 0]]
    # Speeds are relative to a job's own slowest: a hundredfold job gains nothing by that.
    scaled = [[[1.0], [4.0]], [[100.0], [200.0]]]
    assert allocate(view, nodes_for(view, [1, 1], [0, 1], scaled)) == [[0, 1], [1, 0]]
    # Job 0 must not run on type 1.
    allowed = np.array([[True, False], [True, True]])
    nodes = nodes_for(view, [1, 1], [0, 1], speed, allowed=allowed)
    assert allocate(view, nodes) == [[1, 0], [0, 1]]


def test_a_waiting_job_costs_more_than_a_second_gpu_is_worth() -> None:
    # One node of 2 GPUs, linear speed: both at one GPU cost 2, one at two 2^-0.5 + 1.1 = 1.81!
    # A penalty of 1.1 makes the pair wait; 1.3 does not: 2.007.
    jobs = [JobRow(**TWO, rates=(1.0, 2.0)), JobRow(**TWO, rates=(1.0, 2.0))]  # type: ignore[arg-type]
    view = make_view(2, *jobs)
    nodes = nodes_for(view, [2], [0])
    assert sorted(allocate(view, nodes)) == [[0], [2]]
    assert allocate(view, nodes, idle_penalty=1.3) == [[1], [1]]
    # The more negative the power, the less a second GPU is worth: 2^-2 + 1.1 = 1.35, 2^-0.1 ...
    assert allocate(view, nodes, fairness_power=-0.1) == [[1], [1]]


def test_a_restart_must_pay() -> None:
    # Alone on one of 2 GPUs: a second one would cost 1 / sqrt(1.2 r) = 0.91 / sqrt(r) against 1.
    # r = (age - restarts 30) / (age + 30): at 100 s 100/130, so 1.04: stay. At 1000 s 0.93: grow.
    row = JobRow(**TWO, rates=(1.0, 1.2), held=1, restart_s=30.0)  # type: ignore[arg-type]
    for now_s, restarts, size in ((100.0, 0, 1), (1000.0, 0, 2), (1000.0, 5, 1), (20.0, 0, 2)):
        view = make_view(2, row, now_s=now_s)
        nodes = nodes_for(view, [2], [0], held=[[1]], restarts=np.array([restarts]))
        assert allocate(view, nodes) == [[size]], now_s


def test_who_keeps_its_size_keeps_its_place() -> None:
    # Age 0: no restart is charged. Job 1 holds node 1; job 0 takes what is tightest beside it.
    view = make_view(8, JobRow(request=2), JobRow(request=2, held=2))
    nodes = nodes_for(view, [4, 4], [0, 0], held=[[0, 0], [0, 2]])
    assert allocate(view, nodes) == [[0, 2], [0, 2]]
    # Node 1 closes: it moves.
    down = nodes_for(view, [4, 4], [0, 0], held=[[0, 0], [0, 2]], up=np.array([True, False]))
    assert allocate(view, down) == [[2, 0], [2, 0]]


def test_gangs_that_span_fill_whole_nodes() -> None:
    # Sizes 1 and 3 on nodes of 2: 3 would span without filling its nodes, so 1 it is; a job that
    # has nothing but 3 gets it all the same.
    view = make_view(4, JobRow(request=1, sizes=(1, 3)))
    assert allocate(view, nodes_for(view, [2, 2], [0, 0])) == [[1, 0]]
    rigid = make_view(4, JobRow(request=3))
    assert allocate(rigid, nodes_for(rigid, [2, 2], [0, 0])) == [[2, 1]]
    assert allocate(rigid, nodes_for(rigid, [1, 1], [0, 0])) == [[0, 0]]


def test_an_agents_limit_and_other_resources_bind() -> None:
    view = make_view(4, JobRow(request=4, sizes=(1, 2, 4), limit=2))
    assert allocate(view, nodes_for(view, [4], [0])) == [[2]]
    hungry = make_view(4, *[JobRow(request=1, demand=(6.0, 0.0, 0.0))] * 3)
    nodes = nodes_for(hungry, [4], [0])
    nodes.capacity[:, 1] = 13.0
    assert sum(row[0] for row in allocate(hungry, nodes)) == 2


def random_choices(rng: np.random.Generator) -> tuple[Choices, np.ndarray, np.ndarray]:
    jobs, types = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    rows = [
        (i, t, g, -float(rng.uniform(0.01, 1)))
        for i in range(jobs)
        for t in range(types)
        for g in (1, 2, 4)
        if rng.random() < 0.7
    ]
    job, kind, gpus, value = (np.array(c) for c in zip(*(rows or [(0, 0, 1, -0.5)])))  # noqa: B905
    total = np.full((types, 4), 1e9)
    total[:, 0] = rng.integers(0, 6, types)
    demand = np.zeros((jobs, 4))
    demand[:, 0] = 1.0
    if rng.random() < 0.5:
        demand[:, 1] = rng.uniform(0, 2, jobs)
        total[:, 1] = 5.0
    return Choices(job, kind, gpus, value), demand, total


@settings(max_examples=120)
@given(SEEDS)
def test_no_other_choice_is_better(seed: int) -> None:
    choices, demand, total = random_choices(np.random.default_rng(seed))
    by_job = [[-1, *np.flatnonzero(choices.job == i)] for i in np.unique(choices.job)]
    need = choices.gpus[:, None] * demand[choices.job]

    def used(picked: list[int]) -> np.ndarray:
        amount = np.zeros_like(total)
        np.add.at(amount, choices.gpu_type[picked], need[picked])
        return amount

    best = 0.0
    for combination in itertools.product(*by_job):
        picked = [int(k) for k in combination if k >= 0]
        if (used(picked) <= total + 1e-9).all():
            best = min(best, float(choices.value[picked].sum()))
    chosen = solve(choices, demand, total)
    assert len(set(choices.job[chosen])) == len(chosen)
    assert (used(chosen.tolist()) <= total + 1e-6).all()
    assert choices.value[chosen].sum() == pytest.approx(best, rel=2 * GAP, abs=1e-12)


@settings(max_examples=15)
@given(SEEDS)
def test_fixing_by_reduced_costs_loses_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    jobs = int(rng.integers(5, 40))
    grid = np.meshgrid(range(jobs), range(3), range(6), indexing="ij")
    job, kind, size = (axis.ravel() for axis in grid)
    speed = rng.uniform(1, 4, (jobs, 3))[job, kind] * (2.0**size) ** rng.uniform(0.3, 1, jobs)[job]
    choices = Choices(job, kind, 2**size, speed**-0.5 - 1.1)
    demand = np.tile([1.0, 0.0, 0.0, 0.0], (jobs, 1))
    total = np.array([[24.0], [24.0], [16.0]]) * [1, 1, 1, 1]
    need = choices.gpus[:, None] * demand[job]
    plain = _search(choices.value, *_constraints(choices, need, total))
    ours = choices.value[solve(choices, demand, total)].sum()
    assert ours == pytest.approx(choices.value[plain].sum(), rel=2 * GAP)


@settings(max_examples=100)
@given(SEEDS)
@example(108474)  # a gang of 16 held on three nodes is in the way
def test_powers_of_two_always_find_room(seed: int) -> None:
    """Sizes that fill at most the cluster fit nodes of 8, whatever is held before."""
    rng = np.random.default_rng(seed)
    nodes = int(rng.integers(1, 6))
    capacity = np.full((nodes, 4), 1e9)
    capacity[:, 0] = 8
    zero = np.zeros(nodes, np.int64)

    def draw() -> np.ndarray:
        gpus: list[int] = []
        while sum(gpus) < 8 * nodes and len(gpus) < 12:
            over = 8 * nodes - sum(gpus)
            gpus.append(int(rng.choice([k for k in (1, 2, 4, 8, 16) if k <= over])))
        return np.array(gpus + [0] * (12 - len(gpus)))

    def place(gpus: np.ndarray, held: np.ndarray) -> np.ndarray:
        demand, kind = np.tile([1.0, 0.0, 0.0, 0.0], (12, 1)), np.zeros(12, np.int64)
        return np.asarray(place_gangs(gpus, kind, np.arange(12), demand, held, zero, capacity))

    held = np.zeros((12, nodes), np.int64)
    for _ in range(4):
        gpus = draw()
        changed = rng.random(12) < 0.5
        wanted = np.where(changed, gpus, held.sum(axis=1))
        if wanted.sum() > 8 * nodes:
            wanted = gpus
        placed = place(wanted, held)
        np.testing.assert_array_equal(placed.sum(axis=1), wanted)
        assert (placed.sum(axis=0) <= 8).all()
        # Gangs of up to a node are on one.
        assert ((placed > 0).sum(axis=1)[wanted <= 8] <= 1).all()
        held = placed


def test_moves_only_when_it_must() -> None:
    # Two nodes of 4 with 2 held on each; a gang of 4 needs one of them moved over.
    capacity = np.full((2, 4), 1e9)
    capacity[:, 0] = 4
    demand = np.tile([1.0, 0.0, 0.0, 0.0], (3, 1))
    held = np.array([[2, 0], [0, 2], [0, 0]])
    kind, node_type = np.zeros(3, np.int64), np.zeros(2, np.int64)

    def place(last: int) -> list[list[int]]:
        gpus = np.array([2, 2, last])
        placed = place_gangs(gpus, kind, np.arange(3), demand, held, node_type, capacity)
        return np.asarray(placed).tolist()

    assert place(2) == [[2, 0], [0, 2], [2, 0]]
    assert place(1) == [[2, 0], [0, 2], [1, 0]]
    assert place(4) == [[0, 2], [0, 2], [4, 0]]


def test_odd_gangs_span_rather_than_wait() -> None:
    # Three gangs of 3 on three nodes of 4, and one of 2, which fits nowhere whole.
    capacity = np.full((3, 4), 1e9)
    capacity[:, 0] = 4
    demand = np.tile([1.0, 0.0, 0.0, 0.0], (4, 1))
    held = np.zeros((4, 3), np.int64)
    gpus, kind = np.array([3, 3, 3, 2]), np.zeros(4, np.int64)
    placed = place_gangs(gpus, kind, np.arange(4), demand, held, np.zeros(3, np.int64), capacity)
    assert placed.tolist() == [[3, 0, 0], [0, 3, 0], [0, 0, 3], [1, 1, 0]]


def test_a_whole_workload_runs_under_sia() -> None:
    from marl_sched.config import SyntheticConfig, WorkloadConfig
    from marl_sched.workload import load_workload

    cluster = Cluster.parse("2x4:V100+1x8:A100")
    config = WorkloadConfig(synthetic=SyntheticConfig(num_jobs=30, load=0.9))
    workload = load_workload(config, cluster, seed=0)
    results = simulate(workload, cluster, get_scheduler("sia"))
    assert np.isfinite(results.finish_s).all()
