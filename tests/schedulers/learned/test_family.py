"""Scorers for all weights of the reward: taken at some, saved, read, and refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from marl_sched.config import Config
from marl_sched.errors import UserError
from marl_sched.schedulers import get_scheduler
from marl_sched.schedulers.learned.family import SIZE, parse_weights, shifted, theta_at
from marl_sched.schedulers.learned.scorer import NUM_INDEX_PARAMS
from marl_sched.schedulers.learned.scorer_file import (
    ScorerRecord,
    is_scorer,
    load_scorer,
    save_scorer,
)

TERMS = ("completion_time", "fairness")


def record(reward: dict[str, float]) -> ScorerRecord:
    thetas = 0.1 * np.random.default_rng(0).standard_normal((1 + len(TERMS), SIZE))
    base = get_scheduler("elastic_index:tuned").params
    config = Config.model_validate({"env": {"reward": reward}})
    return ScorerRecord(
        params=base,
        weights=tuple(thetas[0, NUM_INDEX_PARAMS:].tolist()),
        iteration=3,
        validation=-1.0,
        config=config.model_dump(mode="json"),
        fallback=base,
        terms=TERMS,
        thetas=tuple(map(tuple, thetas.tolist())),
    )


def at(name: Path, weights: str = "") -> np.ndarray:
    """(., ) float64: parameters and weights of the scheduler."""
    return get_scheduler(f"{name}:{weights}" if weights else str(name)).param_array


def test_linear_in_the_weights() -> None:
    thetas = np.random.default_rng(0).standard_normal(3 * SIZE)
    first, second = theta_at(thetas, np.array([1.0, 0.0])), theta_at(thetas, np.array([0.0, 1.0]))
    between = theta_at(thetas, np.array([0.25, 0.75]))
    np.testing.assert_allclose(between, 0.25 * first + 0.75 * second, atol=1e-12)
    np.testing.assert_allclose(theta_at(thetas, np.array([0.5, 0.5])), thetas[:SIZE])
    parts = thetas.reshape(3, SIZE)
    np.testing.assert_allclose(first, parts[0] + 0.5 * parts[1] - 0.5 * parts[2])
    np.testing.assert_array_equal(theta_at(thetas[:SIZE], np.zeros(0)), thetas[:SIZE])


def test_a_name_says_the_weights(tmp_path: Path) -> None:
    kept = record({"completion_time": 1.0})
    save_scorer(kept, tmp_path)
    assert is_scorer(f"{tmp_path}:fairness=1")
    one = load_scorer(f"{tmp_path}:fairness=3,jct=1")
    theta = theta_at(np.array(kept.thetas).ravel(), np.array([0.25, 0.75]))
    assert one.params == shifted(kept.fallback, theta) and not one.terms
    assert one.config["env"]["reward"]["fairness"] == 0.75
    np.testing.assert_array_equal(one.weights, theta[NUM_INDEX_PARAMS:])
    assert (at(tmp_path, "fairness=1") != at(tmp_path, "jct=1")).any()
    # Of those that the run's reward weighs, where none are named; evenly, where it weighs none.
    np.testing.assert_array_equal(at(tmp_path), at(tmp_path, "completion_time=1"))
    save_scorer(record({"completion_time": 0.0, "slowdown": 1.0}), tmp_path)
    np.testing.assert_array_equal(at(tmp_path), at(tmp_path, "fairness=1,jct=1"))


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ("slowdown=1", "names among jct, completion_time, fairness"),
        ("fairness", "names among"),
        ("fairness=-1", "weights from 0"),
        ("fairness=0", "one weight must be above 0"),
    ],
)
def test_weights_that_cannot_be(tmp_path: Path, weights: str, words: str) -> None:
    save_scorer(record({"completion_time": 1.0}), tmp_path)
    with pytest.raises(UserError, match=words):
        get_scheduler(f"{tmp_path}:{weights}")


def test_one_for_one_set_of_weights_takes_none(tmp_path: Path) -> None:
    save_scorer(replace(record({"completion_time": 1.0}), terms=(), thetas=()), tmp_path)
    with pytest.raises(UserError, match="for one set of weights; leave out 'fairness=1'"):
        get_scheduler(f"{tmp_path}:fairness=1")


def test_a_damaged_family_is_refused(tmp_path: Path) -> None:
    kept = record({"completion_time": 1.0})
    save_scorer(replace(kept, thetas=kept.thetas[:2]), tmp_path)
    with pytest.raises(UserError, match=f"not 3 sets of {SIZE} weights"):
        load_scorer(tmp_path)
    broken = (*kept.thetas[:2], (float("nan"),) * SIZE)
    save_scorer(replace(kept, thetas=broken), tmp_path)
    with pytest.raises(UserError, match="no numbers"):
        load_scorer(tmp_path)


def test_weights_read() -> None:
    assert parse_weights("jct=1,fairness=3", TERMS, "x") == {
        "completion_time": 0.25, "fairness": 0.75,
    }  # fmt: skip
    with pytest.raises(UserError, match="x: completion_time is named twice"):
        parse_weights("jct=0.5,completion_time=0.5", TERMS, "x")
