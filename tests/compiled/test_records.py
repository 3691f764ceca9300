"""Records: what Python hands to compiled code is checked before its memory is read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from marl_sched.schedulers import REGISTRY
from marl_sched.types import ClusterView
from tests.schedulers.views import random_view

RULES = ("fcfs", "priority", "srtf", "fcfs_backfill", "elastic_index", "drf")


def some_view() -> ClusterView:
    """A random view in which several jobs wait and several run, and a tenant has a quota."""
    rng = np.random.default_rng(3)
    for _ in range(1000):
        view = random_view(rng)
        if min(view.waiting.size, view.running.size) >= 2:
            return view._replace(
                tenant=np.zeros_like(view.tenant),
                tenant_quota=np.array([1e6, np.inf]),
                tenant_held=np.zeros(2, np.int64),
                tenant_tally=np.zeros((2, 3), np.int64),
            )
    raise AssertionError("no such view")


def wrong_values(view: ClusterView, name: str) -> list[Any]:
    """Values of a field that compiled code must not get to see."""
    value = getattr(view, name)
    if not isinstance(value, np.ndarray):
        return [None, "7", np.zeros(1), 1j]
    other = np.float64 if value.dtype == np.int64 else np.int64
    swapped = value.astype(value.dtype.newbyteorder())
    return [
        np.zeros(value.shape, other),
        value.astype(np.int32 if value.dtype == np.int64 else np.float32),
        swapped,
        value[None],
        np.repeat(value, 2, axis=-1)[..., ::2],
        value.tolist(),
        None,
    ]


@pytest.mark.parametrize("name", ClusterView._fields)
@pytest.mark.parametrize("rule", RULES)
def test_a_field_of_the_wrong_type_is_a_type_error(rule: str, name: str) -> None:
    view = some_view()
    before = REGISTRY[rule].levels(view)
    for wrong in wrong_values(view, name):
        with pytest.raises(TypeError, match=rf"ClusterView\.{name} must be a"):
            REGISTRY[rule].levels(view._replace(**{name: wrong}))
    # The process lives, and so does the rule.
    np.testing.assert_array_equal(REGISTRY[rule].levels(view), before)


@pytest.mark.parametrize("name", sorted(ClusterView.axes()))
def test_fields_that_disagree_about_the_number_of_jobs_are_a_type_error(name: str) -> None:
    view = some_view()
    short = np.ascontiguousarray(getattr(view, name)[:-1])
    with pytest.raises(TypeError, match="entries along axis"):
        REGISTRY["priority"].levels(view._replace(**{name: short}))  # type: ignore[arg-type]


def test_every_array_of_a_view_has_its_axes_named() -> None:
    view = some_view()
    arrays = {name for name in view._fields if isinstance(getattr(view, name), np.ndarray)}
    assert arrays - set(ClusterView.axes()) == {
        "waiting", "running", "tenant_quota", "tenant_held", "tenant_tally",
    }  # fmt: skip
    assert all(len(axes) == getattr(view, name).ndim for name, axes in ClusterView.axes().items())
