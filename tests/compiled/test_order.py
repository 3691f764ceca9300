"""Sorting again, selecting, and logarithms of whole arrays, against numpy's."""

from __future__ import annotations

import numpy as np
import pytest

from marl_sched.compiled.logarithm import log_each
from marl_sched.compiled.order import descending_again, rows_by, smallest_first


def test_logarithms_are_numpys() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([10.0 ** rng.uniform(-300, 300, 5000), rng.uniform(0.5, 2.0, 5000)])
    x = np.concatenate([x, [1.0, 2.0, 0.5, np.sqrt(0.5), np.nextafter(1, 0), np.nextafter(1, 2)]])
    mine = x.copy()
    log_each(mine)
    np.testing.assert_allclose(mine, np.log(x), rtol=2e-15, atol=0.0)


@pytest.mark.parametrize("most", [5, 60])
def test_an_order_is_kept_as_rows_come_go_and_change(most: int) -> None:
    rng = np.random.default_rng(most)
    order = np.zeros(most, dtype=np.int64)
    known = 0
    for _ in range(300):
        n = int(rng.integers(1, most + 1))
        key = rng.integers(0, 8, n).astype(float)
        descending_again(order, known, key)
        known = n
        expected = np.argsort(-key, kind="stable")  # equal keys by row
        assert order[:n].tolist() == expected.tolist()


@pytest.mark.parametrize("distinct", [1, 5, 10**9])
def test_rows_come_by_key_and_then_by_tie(distinct: int) -> None:
    rng = np.random.default_rng(distinct)
    for n in range(70):
        key = rng.integers(0, distinct, n).astype(float)
        key[rng.random(n) < 0.1] = rng.choice([np.inf, -np.inf])
        tie = rng.permutation(n)
        assert rows_by(key, tie).tolist() == np.lexsort((tie, key)).tolist()


def test_the_smallest_come_first() -> None:
    rng = np.random.default_rng(1)
    for _ in range(500):
        n = int(rng.integers(2, 40))
        key = rng.integers(0, 6, n).astype(float)
        key[rng.random(n) < 0.1] = np.inf
        count = int(rng.integers(1, n))
        rows = np.arange(n)
        rng.shuffle(rows)
        smallest_first(rows, count, key)
        expected = np.argsort(key, kind="stable")[:count]
        assert sorted(rows[:count].tolist()) == sorted(expected.tolist())
        assert sorted(rows.tolist()) == list(range(n))
