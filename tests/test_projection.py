"""The projector: feasible for any input, and nothing changed that was feasible."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from marl_sched.projection import TOLERANCE, is_feasible, project
from marl_sched.types import RESOURCES

GPU_ONLY = np.array([1.0, 0.0, 0.0, 0.0])
BIG = np.array([1e6, 1e6, 1e6, 1e6])

anything = st.floats(allow_nan=True, allow_infinity=True, width=64)


@st.composite
def problems(draw: Any, values: Any = anything) -> tuple[np.ndarray, ...]:
    """(requested, limits, demand_per_gpu, capacity), the first of wild numbers."""
    num_jobs, num_nodes = draw(st.integers(0, 6)), draw(st.integers(1, 4))
    requested = draw(hnp.arrays(np.float64, (num_jobs, num_nodes), elements=values))
    limits = draw(hnp.arrays(np.float64, num_jobs, elements=st.integers(0, 16)))
    demand = draw(hnp.arrays(np.float64, (num_jobs, 4), elements=st.floats(0, 8)))
    demand[:, 0] = 1.0
    capacity = draw(hnp.arrays(np.float64, (num_nodes, 4), elements=st.floats(0, 64)))
    capacity[:, 0] = np.floor(capacity[:, 0])
    return requested, limits, demand, capacity


small = st.one_of(st.floats(-2, 20), st.integers(0, 12).map(float))
either = st.one_of(problems(), problems(small))


@given(either, st.booleans())
@settings(max_examples=300)
def test_feasible_for_any_request(problem: tuple[np.ndarray, ...], fractional: bool) -> None:
    requested, limits, demand, capacity = problem
    before = requested.copy()
    x = project(*problem, fractional=fractional)
    np.testing.assert_array_equal(requested, before)
    assert x.dtype == (np.float64 if fractional else np.int64)
    assert is_feasible(x, limits, demand, capacity)
    if not fractional:
        assert (x.sum(axis=1) <= limits).all()
        assert (x.sum(axis=0) <= capacity[:, 0]).all()
    assert (x[np.isnan(before) | (before <= 0)] == 0).all()
    again = project(x, limits, demand, capacity, fractional=fractional)
    np.testing.assert_array_equal(again, x)


@given(
    hnp.arrays(np.float64, (3, 2), elements=anything),
    hnp.arrays(np.float64, 3, elements=anything),
    hnp.arrays(np.float64, (3, 4), elements=anything),
    hnp.arrays(np.float64, (2, 4), elements=anything),
    st.booleans(),
)
@settings(max_examples=300)
def test_wild_limits_demands_and_capacities_break_nothing(
    requested: np.ndarray,
    limits: np.ndarray,
    demand: np.ndarray,
    capacity: np.ndarray,
    fractional: bool,
) -> None:
    x = project(requested, limits, demand, capacity, fractional=fractional)
    assert np.isfinite(x).all()
    assert (x >= 0).all()
    assert (x[~np.isfinite(demand).all(axis=1)] == 0).all()
    used = np.where(np.isfinite(demand) & (demand > 0), demand, 0.0)
    room = np.where(capacity > 0, capacity, 0.0)
    most = np.where(limits > 0, limits, 0.0)
    with np.errstate(over="ignore", under="ignore"):
        assert (x.sum(axis=1) <= most * (1 + TOLERANCE)).all()
        assert (x.T.astype(float) @ used <= room * (1 + TOLERANCE)).all()


@given(either)
def test_adding_the_requests_of_nobody_changes_nothing(problem: tuple[np.ndarray, ...]) -> None:
    requested, limits, demand, capacity = problem
    x = project(*problem)
    padded = project(
        np.vstack([requested, np.zeros((1, requested.shape[1]))]),
        np.append(limits, 4.0),
        np.vstack([demand, GPU_ONLY]),
        capacity,
    )
    np.testing.assert_array_equal(padded[:-1], x)


def one_node(requested: list[float], limits: list[float], gpus: float, **options: Any) -> list[Any]:
    capacity = BIG.copy()
    capacity[0] = gpus
    demand = np.tile(GPU_ONLY, (len(requested), 1))
    x = project(np.array(requested)[:, None], np.array(limits), demand, capacity[None], **options)
    return [value.item() for value in x[:, 0]]


def test_hand_worked_rounding() -> None:
    assert one_node([2, 1], [2, 1], 3) == [2, 1]
    assert one_node([1.5, 1.5], [2, 2], 3) == [2, 1]  # a tie goes to the lower job
    assert one_node([1.5, 1.5], [2, 2], 3, fractional=True) == [1.5, 1.5]
    assert one_node([8, 1], [8, 8], 4) == [4, 0]  # 3.56 and 0.44
    assert one_node([8, 8], [8, 8], 4) == [2, 2]
    assert one_node([np.inf, np.nan, -3, 1], [2, 2, 2, 2], 8) == [2, 0, 0, 1]
    assert one_node([0.4, 0.4, 0.4], [1, 1, 1], 8) == [1, 0, 0]  # 1.2 in all is one GPU
    assert one_node([0.5], [4], 8) == [1]
    assert one_node([1.6, 1.6], [1.9, 1.9], 8) == [1, 1]  # 1.9 whole GPUs are 1


def test_a_job_is_scaled_over_its_nodes() -> None:
    x = project(np.array([[6.0, 2.0]]), np.array([4]), GPU_ONLY[None], np.tile(BIG, (2, 1)))
    np.testing.assert_array_equal(x, [[3, 1]])


def test_only_users_of_the_overloaded_resource_give_way() -> None:
    cpu_heavy, light = np.array([1.0, 8.0, 0, 0]), GPU_ONLY
    capacity = np.array([[8.0, 16.0, 1.0, 1.0]])
    x = project(np.array([[4.0], [4.0]]), np.array([4, 4]), np.stack([cpu_heavy, light]), capacity)
    np.testing.assert_array_equal(x, [[2], [4]])


def test_resources_in_tenths_use_all_of_a_node() -> None:
    capacity = np.array([[64.0, 3.0, 1.0, 1.0]])
    demand = np.array([[1.0, 0.1, 0.0, 0.0]])
    np.testing.assert_array_equal(
        project(np.array([[30.0]]), np.array([64]), demand, capacity), [[30]]
    )


def test_a_thousand_jobs_on_many_nodes() -> None:
    rng = np.random.default_rng(0)
    requested = rng.lognormal(0.0, 1.5, (1000, 64))
    limits = rng.integers(1, 65, 1000)
    demand = np.column_stack([np.ones(1000), rng.uniform(0, 24, (1000, 3))])
    capacity = np.tile([8.0, 128.0, 128.0, 128.0], (64, 1))
    x = project(requested, limits, demand, capacity)
    assert is_feasible(x, limits, demand, capacity)
    # Largest remainder leaves little unused: at the most a few GPUs a node for lack of fit.
    assert x.sum() >= 0.5 * project(requested, limits, demand, capacity, fractional=True).sum()


def test_shapes_must_agree() -> None:
    good = (np.ones((2, 3)), np.ones(2), np.ones((2, len(RESOURCES))), np.ones((3, 4)))
    project(*good)
    for index, name in enumerate(("requested", "limits", "demand_per_gpu", "capacity")):
        bad = list(good)
        bad[index] = np.ones(7)
        with pytest.raises((ValueError, IndexError), match=f"{name}|shape"):
            project(*bad)
