"""Gavel's programs: optima by hand, feasibility, and the program that need not be solved."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from marl_sched.schedulers.mechanisms import fractions


def column(*values: float) -> np.ndarray:
    return np.array(values)[:, None]


ONE = np.ones(2)


def test_one_type_by_hand() -> None:
    gpu = np.array([1.0])
    # A gang of two counts twice, and asks for two of the three GPUs.
    gang = np.array([1.0, 2.0])
    x = fractions.max_min(column(1.0, 2.0), gang, np.array([1.5]))
    assert (np.array([1.0, 2.0]) * x[:, 0]).min() == pytest.approx(0.75)
    assert gang @ x[:, 0] <= 1.5 + 1e-9
    assert fractions.max_sum(column(3.0, 1.0), ONE, gpu) == pytest.approx(column(1, 0), abs=1e-6)
    assert fractions.equal(4, np.array([2.0])) == pytest.approx(np.full((4, 1), 0.5))
    assert fractions.equal(1, np.array([2.0, 2.0])) == pytest.approx(np.full((1, 2), 0.5))
    # 100 s and 300 s of work on one GPU take 400 s; the search stops up to 5 % above.
    x = fractions.min_makespan(column(1.0, 1.0), np.array([100.0, 300.0]), ONE, gpu)[:, 0]
    within_s = fractions.search_makespan(400.0)
    assert 400.0 <= within_s <= 420.0
    assert x[0] >= 100.0 / within_s - 1e-9 and x[1] >= 300.0 / within_s - 1e-9
    assert x.sum() <= 1.0 + 1e-9


def test_everybody_has_the_best_type_where_there_is_room() -> None:
    rate = np.array([[3.0, 1.0], [1.0, 2.0], [0.0, 0.0]])
    expected = [[1, 0], [0, 1], [0, 0]]
    gang, capacity = np.array([1.0, 2.0, 1.0]), np.array([2.0, 2.0])
    left = np.array([10.0, 10.0, 10.0])
    assert fractions.max_min(rate, gang, capacity).tolist() == expected
    assert fractions.max_sum(rate, gang, capacity).tolist() == expected
    assert fractions.min_makespan(rate, left, gang, capacity).tolist() == expected
    # One GPU less and the second must share or go elsewhere.
    assert fractions.max_sum(rate, gang, np.array([2.0, 1.0])).tolist() != expected


@st.composite
def programs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Utilities (A, T), gangs (A,) and GPUs (T,), scarce and plenty."""
    jobs, types = draw(st.integers(1, 6)), draw(st.integers(2, 3))
    numbers = st.lists(st.integers(1, 9), min_size=jobs * types, max_size=jobs * types)
    utility = np.array(draw(numbers), float).reshape(jobs, types)
    gang = np.array(draw(st.lists(st.sampled_from([1, 2, 4]), min_size=jobs, max_size=jobs)), float)
    gpus = st.lists(st.integers(4, 24), min_size=types, max_size=types)
    return utility, gang, np.array(draw(gpus), float)


def best_sum(
    reward: np.ndarray, gang: np.ndarray, capacity: np.ndarray, least: float = 0.0
) -> float:
    """The optimum with every job's reward at least `least`, -inf where that cannot be."""
    jobs, types = reward.shape
    once = np.kron(np.eye(jobs), np.ones(types))
    held = np.hstack([g * np.eye(types) for g in gang])
    rows = np.vstack([once, held, -once * reward.reshape(-1)])
    most = np.concatenate([np.ones(jobs), capacity, np.full(jobs, -least)])
    solved = linprog(-reward.reshape(-1), A_ub=rows, b_ub=most, bounds=(0.0, 1.0))
    return -np.inf if solved.x is None else -float(solved.fun)


@given(programs())
def test_optima_on_several_types(
    program: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    utility, gang, capacity = program
    for x in (fractions.max_min(*program), fractions.max_sum(*program)):
        assert (x >= 0.0).all() and (x.sum(axis=1) <= 1.0 + 1e-6).all()
        assert (gang @ x <= capacity + 1e-6).all()
    x = fractions.max_sum(*program)
    assert (utility * x).sum() == pytest.approx(best_sum(*program), rel=1e-6)
    each = (utility * fractions.max_min(*program)).sum(axis=1)
    # Nothing is left over, and a little more for the least is not to be had.
    assert each.sum() == pytest.approx(best_sum(*program, least=each.min() - 1e-7), rel=1e-5)
    assert best_sum(*program, least=1.0001 * each.min() + 1e-6) == -np.inf
