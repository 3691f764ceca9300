"""The closed form of training speed, by hand and by its properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marl_sched.perf.throughput import BatchRange, Throughput, best_goodput

SPEED = Throughput(a_c=0.1, b_c=0.01, a_r=0.2, b_r=0.05, a_n=0.4, b_n=0.1, gamma=1.0)

seconds = st.floats(1e-5, 10.0)
speeds = st.builds(
    Throughput,
    a_c=seconds,
    b_c=seconds,
    a_r=seconds,
    b_r=seconds,
    a_n=seconds,
    b_n=seconds,
    gamma=st.floats(1.0, 10.0),
)


def test_one_gpu_only_computes():
    assert SPEED.iteration_s(1, 1, 10) == pytest.approx(0.1 + 0.01 * 10)


def test_synchronisation_within_and_across_nodes():
    assert SPEED.sync_s([1, 2, 4], 1) == pytest.approx([0.0, 0.2, 0.2 + 2 * 0.05])
    assert SPEED.sync_s([1, 2, 4], 2) == pytest.approx([0.0, 0.4, 0.4 + 2 * 0.1])


def test_accumulation_repeats_computation_but_not_synchronisation():
    once = SPEED.iteration_s(4, 2, 10)
    assert SPEED.iteration_s(4, 2, 10, accumulation=3) == pytest.approx(once + 3 * 0.2)


def test_large_gamma_hides_the_shorter_part():
    overlapping = Throughput(0.1, 0.01, 0.2, 0.05, 0.4, 0.1, gamma=10.0)
    # grad 0.2 s, sync 0.6 s: (0.2^10 + 0.6^10)^(1/10) is 0.6 to 6 digits.
    assert overlapping.iteration_s(4, 2, 10) == pytest.approx(0.6, rel=1e-5)


def test_efficiency_is_one_at_the_smallest_batch_and_halves_where_the_formula_says():
    batches = BatchRange(min_batch=100, max_batch=10_000, noise_scale=900)
    assert batches.efficiency([100, 1100]) == pytest.approx([1.0, 1000 / 2000])


def test_no_noise_scale_makes_every_sample_worth_the_same():
    assert BatchRange(100, 100, np.inf).efficiency([100, 1e6]) == pytest.approx([1.0, 1.0])


def test_fixed_batch_goodput_by_hand():
    batches = BatchRange(min_batch=64, max_batch=64, noise_scale=np.inf)
    # 4 GPUs on one node, 16 samples each: 0.26 s compute + 0.3 s synchronisation.
    assert best_goodput(SPEED, batches, 32, 4, 1) == pytest.approx(64 / (0.26 + 0.3))
    # One GPU holds 32 samples: 2 passes of 0.42 s.
    assert best_goodput(SPEED, batches, 32, 1, 1) == pytest.approx(64 / (2 * 0.42))


@given(
    speed=speeds,
    low=st.integers(1, 512),
    factor=st.integers(1, 64),
    scale=st.floats(1.0, 1e6),
    memory=st.integers(1, 512),
    gpus=st.integers(1, 64),
    nodes=st.integers(1, 2),
)
def test_search_finds_the_best_of_all_integer_batches(
    speed, low, factor, scale, memory, gpus, nodes
):
    batches = BatchRange(low, min(low * factor, 2048), scale)
    found = float(best_goodput(speed, batches, memory, gpus, nodes))
    used = min(gpus, batches.max_batch)
    batch = np.arange(max(low, used), max(batches.max_batch, used) + 1)
    worths = []
    for steps in range(1, 4):
        local = batch / (used * steps)
        time_s = speed.iteration_s(used, nodes, local, steps - 1)
        value = batch / time_s * batches.efficiency(batch)
        worths.append(value[local <= memory])
    best = max((float(worth.max()) for worth in worths if len(worth)), default=0.0)
    # The steps of the grid and the accumulation jumps between them cost a little.
    assert found >= 0.9 * best


@given(speed=speeds, gpus=st.integers(1, 128))
def test_goodput_broadcasts_and_is_positive(speed, gpus):
    batches = BatchRange(16, 64, 100.0)
    table = best_goodput(speed, batches, 8, np.array([1, gpus])[:, None], np.array([1, 2]))
    assert table.shape == (2, 2)
    assert (table > 0).all()
    assert table[0, 0] == table[0, 1]
