"""Node and device choices against hand-computed scores; FGD against a plain-Python twin."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marl_sched.sim import scoring as s
from marl_sched.sim.devices import ANY_TYPE, MILLI, NO_DEVICE, Demand, fits, take
from marl_sched.sim.fragmentation import (
    Mix,
    empty_cache,
    expected_fragment,
    fgd_score,
    job_kinds,
    touch,
    usual_mix,
)
from tests.sim.stock import Stock

LARGEST = (128000, 8000)
IDLE = np.full(8, 1000)
SHARE = Demand(6000, 0, 1, 460, ANY_TYPE)
PAIR = Demand(6000, 0, 2, MILLI, ANY_TYPE)
CPU_ONLY = Demand(6000, 0, 0, 0, 0)

MIX = Mix(
    cpu=np.array([2, 2, 20, 1]),
    num_gpu=np.array([1, 2, 1, 0]),
    gpu_milli=np.array([500, 1000, 100, 0]),
    type_mask=np.array([ANY_TYPE, ANY_TYPE, ANY_TYPE, ANY_TYPE]),
    weight=np.array([0.5, 0.25, 0.125, 0.125]),
)
NO_DRAW = (0.0, 0.0)


def place(
    rule: str, stock: Stock, job: Demand, draw: tuple[float, float] = NO_DRAW
) -> tuple[int, int]:
    return stock.choose(rule, job, draw, MIX, 0, empty_cache(1, len(stock.cpu)))


def test_best_fit_score() -> None:
    # Left over: (90000/128000 + 7540/8000) / 2 = 0.8228125.
    assert s.best_fit_score(96000, IDLE, SHARE, *LARGEST) == 17
    # (90000/128000 + 6000/8000) / 2 = 0.7265625.
    assert s.best_fit_score(96000, IDLE, PAIR, *LARGEST) == 27


def test_dot_prod_score() -> None:
    # 0.75 * 0.046875 + 1 * 0.0575 = 0.09265625; half of it from 1 is 0.953671875.
    assert s.dot_prod_score(96000, IDLE, SHARE, *LARGEST) == 95
    # 0.03515625 + 0.25 = 0.28515625.
    assert s.dot_prod_score(96000, IDLE, PAIR, *LARGEST) == 85


def test_gpu_packing_score() -> None:
    assert s.gpu_packing_score(IDLE, 8, SHARE) == 25
    assert s.gpu_packing_score(np.array([1000, 1000, 0, 0]), 2, SHARE) == 31
    used = np.array([1000, 1000, 300, 0])
    assert s.gpu_packing_score(used, 4, PAIR) == 48
    assert s.gpu_packing_score(used, 4, SHARE) == 49  # 300 is too little: an idle device
    assert s.gpu_packing_score(used, 4, SHARE._replace(gpu_milli=250)) == 97
    assert s.gpu_packing_score(np.array([999, 0]), 2, SHARE) == 91
    assert s.gpu_packing_score(used, 4, CPU_ONLY) == 0


def test_gpu_clustering_score() -> None:
    free = np.array([1000, 1000, 0, 0, 0, 0, 0, 0])  # floor(25 * 6000 / 8000) = 18
    alone, both = np.zeros(9, np.int64), np.zeros(9, np.int64)
    alone[0] = both[0] = 3
    both[2] = 1
    assert s.gpu_clustering_score(free, alone, SHARE, 8000) == 93
    assert s.gpu_clustering_score(free, both, SHARE, 8000) == 68
    assert s.gpu_clustering_score(free, both, PAIR, 8000) == 68
    assert s.gpu_clustering_score(free, alone, PAIR, 8000) == 18
    assert s.gpu_clustering_score(IDLE, np.zeros(9, np.int64), PAIR, 8000) == 25
    assert s.gpu_clustering_score(free, alone, CPU_ONLY, 8000) == 0


def test_expected_fragment() -> None:
    free = np.array([1000, 400])
    # 500 fits and leaves 400 unusable; a pair, 20 CPUs and no GPU can use none of the 1400.
    assert expected_fragment(10, free, 0, MIX) == pytest.approx(
        0.5 * 400 + (0.25 + 0.125 + 0.125) * 1400
    )
    elsewhere = MIX._replace(type_mask=np.full(4, 0b10))
    assert expected_fragment(10, free, 0, elsewhere) == pytest.approx(1400)


def test_fgd_takes_the_device_with_the_steepest_fall() -> None:
    free = np.array([1000, 400])
    # 900 before. On device 1: 0.5 * 0 + 0.5 * 1000 = 500; on device 0: 0.5 * 400 + 500 = 700.
    job = Demand(1, 0, 1, 400, ANY_TYPE)
    assert fgd_score(10, free, 0, job, MIX) == (int(100 / (1 + math.exp(-0.4))), 1)
    assert free.tolist() == [1000, 400]
    # No CPU left for any job: all of [600, 400] or [1000, 0] is lost alike, so device 0.
    assert fgd_score(10, free, 0, job._replace(cpu=10), MIX)[1] == 0
    # A whole GPU leaves [0, 400], which nobody can use: 900 -> 400.
    whole = Demand(1, 0, 1, MILLI, ANY_TYPE)
    assert fgd_score(10, free, 0, whole, MIX) == (int(100 / (1 + math.exp(-0.5))), NO_DEVICE)
    # Without a GPU and without harm: no change at all is 50; taking the CPUs: 900 -> 1400.
    assert fgd_score(10, free, 0, Demand(1, 0, 0, 0, 0), MIX)[0] == 50
    assert fgd_score(10, free, 0, Demand(9, 0, 0, 0, 0), MIX)[0] == int(100 / (1 + math.e**0.5))


def worn() -> Stock:
    """Node 0 idle with 4 GPUs, node 1 with shares [600, 1000], node 2 idle with 2 GPUs."""
    stock = Stock(cpu=[16, 8, 16], memory=[9, 9, 9], num_gpu=[4, 2, 2])
    take(*stock.written, 1, Demand(4, 1, 1, 400, ANY_TYPE), 0)
    return stock


@pytest.mark.parametrize(
    ("rule", "draw", "expected"),
    [
        ("first_fit", (0, 0), (0, 0)),
        ("best_fit", (0, 0), (1, 0)),
        ("spread", (0, 0), (0, 0)),
        ("random", (0.5, 0.9), (1, 1)),
        ("random", (0.99, 0), (2, 0)),
        ("dot_prod", (0, 0), (1, 0)),
        ("gpu_packing", (0, 0), (1, 0)),
        ("gpu_clustering", (0, 0), (1, 0)),
    ],
)
def test_where_a_share_goes(
    rule: str, draw: tuple[float, float], expected: tuple[int, int]
) -> None:
    assert place(rule, worn(), Demand(2, 1, 1, 300, ANY_TYPE), draw) == expected


@pytest.mark.parametrize(
    ("rule", "node"),
    [("best_fit", 2), ("spread", 0), ("gpu_packing", 2), ("gpu_clustering", 2), ("fgd", 0)],
)
def test_where_a_pair_goes(rule: str, node: int) -> None:
    """Under fgd both idle nodes lose 0.25 x 2000: a tie, which goes to node 0."""
    assert place(rule, worn(), Demand(2, 1, 2, MILLI, ANY_TYPE)) == (node, NO_DEVICE)


@pytest.mark.parametrize("rule", s.RULES)
def test_nowhere_to_go(rule: str) -> None:
    assert place(rule, worn(), Demand(2, 1, 5, MILLI, ANY_TYPE)) == (-1, NO_DEVICE)
    assert place(rule, worn(), Demand(2, 1, 1, 300, 0b10)) == (-1, NO_DEVICE)


@pytest.mark.parametrize("rule", [rule for rule in s.RULES if rule != "random"])
def test_ties_go_to_the_first_node(rule: str) -> None:
    stock = Stock(cpu=[8, 8, 8], memory=[9, 9, 9], num_gpu=[2, 2, 2])
    assert place(rule, stock, Demand(2, 1, 1, MILLI, ANY_TYPE)) == (0, NO_DEVICE)


@pytest.mark.parametrize("rule", s.RULES)
def test_nodes_may_be_slices_of_a_larger_array_in_other_units(rule: str) -> None:
    """CPUs and GB as floats, two columns of one (N, 4) array: the same choice."""
    stock, job = worn(), Demand(2, 1, 1, 300, ANY_TYPE)
    expected = place(rule, stock, job, (0.4, 0.2))
    free = np.zeros((3, 4))
    free[:, 1], free[:, 2] = stock.cpu, stock.memory
    stock.cpu, stock.memory = free[:, 1], free[:, 2]
    assert place(rule, stock, job._replace(cpu=2.0, memory=1.0), (0.4, 0.2)) == expected


def test_random_draws_evenly_among_nodes_with_room() -> None:
    stock = worn()
    job = Demand(2, 1, 2, MILLI, ANY_TYPE)
    nodes = [place("random", stock, job, (u, 0))[0] for u in (0, 0.49, 0.5, 0.99)]
    assert nodes == [0, 0, 2, 2]


def test_the_usual_mix_covers_most_jobs_and_prefers_larger_requests_on_a_tie() -> None:
    cpu = np.array([4] * 5 + [2] * 2 + [8] * 2 + [1])
    gpus, milli = np.ones(10, np.int64), np.full(10, 1000)
    mask = np.full(10, ANY_TYPE)
    mix = usual_mix(cpu, gpus, milli, mask, coverage=0.7)
    assert mix.cpu.tolist() == [4, 8]
    assert mix.weight == pytest.approx([5 / 7, 2 / 7])
    assert usual_mix(cpu, gpus, milli, mask, coverage=0.71).cpu.tolist() == [4, 8, 2]
    # What jobs say about GPU types tells them apart.
    mask[:2] = 0b1
    assert usual_mix(cpu, gpus, milli, mask, coverage=1.0).cpu.tolist() == [4, 8, 4, 2, 1]
    assert job_kinds(cpu, gpus, milli).tolist() == [2] * 5 + [1] * 2 + [3] * 2 + [0]


# The twin: lists and loops, nothing shared with the kernels.


def twin_fragment(cpu: int, free: list[int], gpu_type: int, mix: Mix) -> float:
    fragment = 0.0
    for m_cpu, m_gpus, m_milli, m_mask, weight in zip(*(a.tolist() for a in mix), strict=True):
        usable = [share for share in free if share >= m_milli]
        runs = m_gpus > 0 and cpu >= m_cpu and m_mask >> gpu_type & 1 and len(usable) >= m_gpus
        fragment += weight * (sum(free) - sum(usable) if runs else sum(free))
    return fragment


def twin_fgd(stock: Stock, job: Demand, mix: Mix) -> tuple[int, int]:
    """Every node and device is tried; the best whole score wins, the first among equals."""
    options = []
    for n in range(len(stock.cpu)):
        free, kind = stock.device_free[n].tolist(), int(stock.node_type[n])
        if not fits(stock.cpu[n], stock.memory[n], np.array(free), kind, job):
            continue
        before = twin_fragment(int(stock.cpu[n]), free, kind, mix)
        whole = [g for g, share in enumerate(free) if share == MILLI][: job.num_gpu]
        if job.num_gpu == 1 and job.gpu_milli < MILLI:
            trials = [([g], g) for g, share in enumerate(free) if share >= job.gpu_milli]
        else:
            trials = [(whole, NO_DEVICE)]
        for taken, device in trials:
            left = [share - job.gpu_milli * (g in taken) for g, share in enumerate(free)]
            after = twin_fragment(int(stock.cpu[n] - job.cpu), left, kind, mix)
            score = int(100 / (1 + math.exp(-(before - after) / 1000)))
            options.append((-score, n, device))
    if not options:
        return -1, NO_DEVICE
    _, node, device = min(options)
    return node, device


@st.composite
def demands(draw: st.DrawFn) -> Demand:
    gpus, milli = draw(
        st.one_of(
            st.tuples(st.sampled_from([1, 2, 4]), st.just(MILLI)),
            st.tuples(st.just(1), st.sampled_from([100, 300, 460, 500, 700])),
            st.just((0, 0)),
        )
    )
    mask = draw(st.sampled_from([ANY_TYPE, ANY_TYPE, 0b01, 0b10])) if gpus else ANY_TYPE
    return Demand(draw(st.integers(0, 5)), 1, gpus, milli, mask)


@given(arriving=st.lists(demands(), min_size=1, max_size=25))
def test_fgd_is_its_twin_with_and_without_the_cache(arriving: list[Demand]) -> None:
    stock = Stock([8, 12, 12, 16], [30, 30, 30, 12], [1, 2, 4, 4], [0, 1, 1, 0])
    cpu, _, gpus, milli, mask = (
        np.array(column, np.int64) for column in zip(*arriving, strict=True)
    )
    mix, kinds = usual_mix(cpu, gpus, milli, mask), job_kinds(cpu, gpus, milli)
    cache = empty_cache(int(kinds.max()) + 1, 4)
    for kind, job in zip(kinds.tolist(), arriving, strict=True):
        for n in range(4):
            got = expected_fragment(stock.cpu[n], stock.device_free[n], stock.node_type[n], mix)
            twin = twin_fragment(
                int(stock.cpu[n]), stock.device_free[n].tolist(), int(stock.node_type[n]), mix
            )
            assert got == pytest.approx(twin, abs=1e-9)
        expected = twin_fgd(stock, job, mix)
        assert stock.choose("fgd", job, NO_DRAW, mix, kind, cache) == expected
        assert stock.choose("fgd", job, NO_DRAW, mix, -1, cache) == expected
        if expected[0] >= 0:
            take(*stock.written, expected[0], job, expected[1])
            touch(cache, expected[0])
