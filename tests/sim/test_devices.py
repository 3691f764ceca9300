"""Taking and giving back whole devices and shares, by hand and over random sequences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marl_sched.sim import devices as d
from marl_sched.sim.devices import ANY_TYPE, MILLI, NO_DEVICE, Demand
from marl_sched.sim.fragmentation import Mix, empty_cache, touch
from marl_sched.sim.scoring import RULES
from tests.sim.stock import Stock


@pytest.mark.parametrize(
    ("free", "num_gpu", "gpu_milli", "expected"),
    [
        ([1000, 999], 1, 1000, True),
        ([1000, 999], 2, 1000, False),
        ([1000, 1000], 2, 1000, True),
        ([300, 400], 1, 400, True),
        # Two halves are no whole: a share takes one device.
        ([300, 400], 1, 401, False),
        ([0, 0], 0, 0, True),
    ],
)
def test_devices_suffice(free: list[int], num_gpu: int, gpu_milli: int, expected: bool) -> None:
    assert d.devices_suffice(np.array(free), num_gpu, gpu_milli) == expected


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        (Demand(4, 8, 1, 600, ANY_TYPE), True),
        (Demand(5, 8, 1, 600, ANY_TYPE), False),
        (Demand(4, 9, 1, 600, ANY_TYPE), False),
        (Demand(4, 8, 1, 601, ANY_TYPE), False),
        (Demand(4, 8, 1, 600, 0b100), True),
        (Demand(4, 8, 1, 600, 0b011), False),
        # Without a GPU no type matters.
        (Demand(4, 8, 0, 0, 0), True),
    ],
)
def test_a_job_fits_by_cpu_memory_devices_and_type(job: Demand, expected: bool) -> None:
    assert d.fits(4, 8, np.array([0, 600]), 2, job) == expected


def test_device_of_a_share() -> None:
    free = np.array([1000, 500, 1000, 300, 500])
    assert d.first_device(free, 400) == 0
    assert d.tightest_device(free, 400) == 1
    assert d.tightest_device(free, 300) == 3
    assert d.freest_device(free, 400) == 0
    assert [d.drawn_device(free, 400, u) for u in (0.0, 0.25, 0.5, 0.99)] == [0, 1, 2, 4]
    for pick in (d.first_device, d.tightest_device, d.freest_device):
        assert pick(free, 1001) == NO_DEVICE
    assert d.drawn_device(free, 1001, 0.5) == NO_DEVICE


def test_take_and_give_back() -> None:
    stock = Stock(cpu=[10, 20], memory=[100, 200], num_gpu=[1, 3])
    share, pair = Demand(2, 30, 1, 250, ANY_TYPE), Demand(5, 50, 2, MILLI, ANY_TYPE)
    first = d.take(*stock.written, 1, share, 0)
    assert first == 0b001
    # Device 0 is touched, so the pair takes the next two.
    second = d.take(*stock.written, 1, pair, NO_DEVICE)
    assert second == 0b110
    assert stock.device_free.tolist() == [[1000, 0, 0], [750, 0, 0]]
    assert stock.cpu.tolist() == [10, 13] and stock.memory.tolist() == [100, 120]
    assert stock.residents.tolist() == [[0, 0, 0, 0], [1, 0, 1, 0]]
    d.give_back(*stock.written, 1, pair, second)
    d.give_back(*stock.written, 1, share, first)
    assert stock.is_empty()


def test_a_job_without_a_gpu_takes_no_device() -> None:
    stock = Stock(cpu=[10], memory=[100], num_gpu=[2])
    job = Demand(3, 7, 0, 0, 0)
    assert d.take(*stock.written, 0, job, NO_DEVICE) == 0
    assert (stock.device_free == 1000).all() and stock.residents.sum() == 0
    d.give_back(*stock.written, 0, job, 0)
    assert stock.is_empty()


def jobs() -> st.SearchStrategy[Demand]:
    whole = st.tuples(st.integers(1, 4), st.just(MILLI))
    share = st.tuples(st.just(1), st.integers(1, MILLI - 1))
    gpus = st.one_of(whole, share, st.just((0, 0)))
    return st.builds(
        lambda cpu, memory, gpu, mask: Demand(cpu, memory, gpu[0], gpu[1], mask),
        st.integers(0, 6),
        st.integers(0, 6),
        gpus,
        st.sampled_from([ANY_TYPE, 0b01, 0b10]),
    )


@given(
    rule=st.sampled_from(RULES),
    steps=st.lists(st.tuples(jobs(), st.floats(0, 0.999)), min_size=1, max_size=40),
)
def test_nothing_over_capacity_and_whole_devices_whole(
    rule: str, steps: list[tuple[Demand, float]]
) -> None:
    """Jobs come and now and then one goes; what is free and what is held add up at all times."""
    stock = Stock(cpu=[8, 8, 16], memory=[8, 16, 16], num_gpu=[1, 4, 4], node_type=[0, 1, 0])
    mix = Mix(
        np.array([1, 2]),
        np.array([1, 2]),
        np.array([500, MILLI]),
        np.array([ANY_TYPE, 0b10]),
        np.array([0.75, 0.25]),
    )
    cache = empty_cache(1, 3)
    running: list[tuple[int, Demand, int]] = []
    for job, u in steps:
        if running and u < 0.3:
            node, gone, held = running.pop(int(u * 10 * len(running)) % len(running))
            d.give_back(*stock.written, node, gone, held)
            touch(cache, node)
        node, device = stock.choose(rule, job, (u, 0.999 - u), mix, -1, cache)
        able = [
            d.fits(stock.cpu[n], stock.memory[n], stock.device_free[n], stock.node_type[n], job)
            for n in range(3)
        ]
        assert (node >= 0) == any(able)
        if node < 0:
            continue
        assert able[node]
        before = stock.device_free[node].copy()
        held = d.take(*stock.written, node, job, device)
        running.append((node, job, held))
        devices = [g for g in range(4) if held >> g & 1]
        assert len(devices) == job.num_gpu
        if job.gpu_milli == MILLI:
            assert (before[devices] == MILLI).all()
        stock.check(running)
    for node, job, held in running:
        d.give_back(*stock.written, node, job, held)
    assert stock.is_empty()
