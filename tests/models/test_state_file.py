"""A state as plain numbers: the same after it was written, and nothing that runs code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from marl_sched.models.state_file import STATE_FILE, load_state, save_state


@dataclass(frozen=True)
class Point:
    x: int
    y: tuple[float, ...]


PLAIN = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from([np.float32(0.1), np.int64(-3), np.uint8(7), np.bool_(True)])
    | st.sampled_from([Point(1, (0.5, float("inf")))])
    | hnp.arrays(
        st.sampled_from(["f4", "f8", "i8", "u4", "u8", "i1", "?"]), hnp.array_shapes(min_dims=0)
    )
)  # fmt: skip
NESTED = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=3) | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.integers() | st.none(), inner, max_size=3)
    ),
)  # fmt: skip


def assert_same(found: Any, given: Any) -> None:
    assert type(found) is type(given)
    if isinstance(given, dict):
        assert list(found) == list(given)
        for key in given:
            assert_same(found[key], given[key])
    elif isinstance(given, list | tuple):
        assert len(found) == len(given)
        for one, other in zip(found, given, strict=True):
            assert_same(one, other)
    elif isinstance(given, np.ndarray):
        assert found.dtype == given.dtype and found.shape == given.shape
        np.testing.assert_array_equal(found, given)
    else:
        assert found == given or (found != found and given != given)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(state=st.dictionaries(st.text(max_size=3), NESTED, max_size=4))
def test_what_is_read_is_what_was_written(tmp_path: Path, state: dict[str, Any]) -> None:
    save_state(state, tmp_path, (Point,))
    assert_same(load_state(tmp_path, (Point,)), state)


def test_states_of_random_numbers_and_tensors(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    transposed = np.arange(6.0).reshape(2, 3).T  # not as it lies in memory
    state = {"rng": rng.bit_generator.state, "torch": torch.get_rng_state(), "t": transposed}
    save_state(state, tmp_path)
    found = load_state(tmp_path)
    assert found["rng"] == state["rng"] and torch.equal(found["torch"], torch.get_rng_state())
    np.testing.assert_array_equal(found["t"], transposed)


STRANGE = (object(), {1, 2}, test_what_is_read_is_what_was_written, b"bytes", Point(1, ()))


@pytest.mark.parametrize("value", [*STRANGE, np.array(["text"]), np.array([None])])
def test_anything_else_is_refused_by_its_place(tmp_path: Path, value: Any) -> None:
    with pytest.raises(TypeError, match="^state/deep/1: a"):
        save_state({"deep": [0, value]}, tmp_path)
    assert not (tmp_path / STATE_FILE).exists()


def test_data_classes_that_are_not_known_come_as_tuples(tmp_path: Path) -> None:
    save_state({"p": Point(1, (2.0,))}, tmp_path, (Point,))
    assert load_state(tmp_path) == {"p": (1, (2.0,))}
