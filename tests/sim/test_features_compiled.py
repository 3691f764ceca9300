"""The compiled simulator does what the slow reference does, whatever else goes on."""

from __future__ import annotations

import numpy as np
import pytest

from marl_sched.sim.rules import PLACEMENTS
from tests.reference import ReferenceResult
from tests.sim.compiled import PlayedFeatures, play_compiled_features, world_of
from tests.sim.features import (
    FEATURES,
    Features,
    erratic,
    play,
    random_features,
    with_rules,
)


def assert_same(ours: PlayedFeatures, reference: ReferenceResult) -> None:
    assert [e.t for e in ours.epochs] == pytest.approx([e.t for e in reference.epochs], abs=1e-6)
    for mine, theirs in zip(ours.epochs, reference.epochs, strict=True):
        assert mine.levels == theirs.levels, f"levels at {theirs.t}"
        assert mine.placements == theirs.placements, f"placements at {theirs.t}"
        assert mine.finish_at == pytest.approx(theirs.finish_at, rel=1e-9, abs=1e-6)
    jobs = zip(ours.jobs, reference.jobs, ours.accounts, reference.accounts, strict=True)
    for number, (my_job, their_job, my_account, their_account) in enumerate(jobs):
        same_job = pytest.approx(vars(their_job), rel=1e-9, abs=1e-6, nan_ok=True)
        assert vars(my_job) == same_job, f"job {number}"
        same_account = pytest.approx(vars(their_account), rel=1e-9, abs=1e-6)
        assert vars(my_account) == same_account, f"job {number}"
    gpu_s = (reference.capacity_gpu_s, reference.idle_gpu_s)
    assert (ours.capacity_gpu_s, ours.idle_gpu_s) == pytest.approx(gpu_s, rel=1e-9, abs=1e-6)


def check(features: Features, seed: int) -> None:
    decide = erratic(seed, features.rules.repack)
    assert_same(play_compiled_features(features, decide), play(features, decide))


@pytest.mark.parametrize("seed", range(80))
def test_any_mixture_of_features(seed: int) -> None:
    check(random_features(np.random.default_rng(seed)), seed)


@pytest.mark.parametrize("name", FEATURES)
def test_each_feature(name: str) -> None:
    for seed in range(5):
        rng = np.random.default_rng([seed, 2])
        check(FEATURES[name](random_features(rng), rng), seed)


@pytest.mark.parametrize("rule", PLACEMENTS)
def test_each_placement_rule(rule: str) -> None:
    for seed in range(6):
        rng = np.random.default_rng([seed, 3])
        check(with_rules(random_features(rng), placement=rule), seed)


def test_an_environment_of_a_batch_can_be_started_again() -> None:
    features = random_features(np.random.default_rng(12))
    decide = erratic(12, features.rules.repack)
    world = world_of(features, num_envs=2)
    alone = play_compiled_features(features, decide)
    for b in (1, 0, 1):
        # By their text, which has every digit: a time that never came is NaN, which equals nothing.
        assert repr(play_compiled_features(features, decide, world, b)) == repr(alone)
