"""The guard of a trained scorer: states unlike those of its training are left to the index."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from marl_sched.config import load_config
from marl_sched.errors import UserError
from marl_sched.evaluation.simulate import simulate
from marl_sched.schedulers import REGISTRY, Scheduler, make_scorer, scorer_of_record
from marl_sched.schedulers.dispatch import decide
from marl_sched.schedulers.learned.guard import Guard, Ranges, Tally, merged, tally_of
from marl_sched.schedulers.learned.scorer import GLOBAL_FEATURES, LAST, initial_weights
from marl_sched.schedulers.learned.scorer_file import load_scorer, save_scorer
from marl_sched.types import Cluster, ClusterView
from marl_sched.workload import load_workload
from tests.schedulers.learned.test_scorer import record
from tests.schedulers.views import random_view

INDEX = REGISTRY["elastic_index"]
FALLBACK = INDEX.with_params({"p": 0.2, "h": 3.0, "trust": 0.7})


def scorer(seen: Ranges | None) -> Scheduler:
    weights = initial_weights(5)
    weights[LAST:] = 2.0
    return make_scorer(INDEX.params, weights.tolist(), "scorer", Guard(FALLBACK.params, seen))


def decided(rule: Scheduler, view: ClusterView) -> tuple[list[int], Tally]:
    params, target = rule.param_array, np.minimum(view.level, view.limit_level)
    decide(rule.number, view, params, target)
    return target.tolist(), tally_of(params)


def test_an_unknown_state_is_the_fallback_s() -> None:
    rng, contested, differs = np.random.default_rng(0), 0, 0
    nowhere = dict.fromkeys(GLOBAL_FEATURES, (100.0, 101.0))
    for _ in range(150):
        view = random_view(rng)
        own, free = decided(scorer(None), view)
        levels, tally = decided(scorer(nowhere), view)
        assert tally.decisions == tally.fallbacks == free.decisions
        assert free.fallbacks == 0
        if tally.decisions:
            assert levels == FALLBACK.levels(view).tolist()
            contested += 1
            differs += levels != own
        else:
            assert levels == own
    assert contested > 100 and differs > 50


def test_what_was_met_is_known_and_a_little_more() -> None:
    view = next(
        v for v in map(random_view, [np.random.default_rng(3)] * 50)
        if decided(scorer(None), v)[1].decisions
    )  # fmt: skip
    met = decided(scorer(None), view)[1].met
    assert decided(scorer(met), view)[1].fallbacks == 0
    low, high = met["asked"]
    for ends, fallbacks in (
        ((low + 0.05, high + 1.0), 0),  # within the margin of a tenth
        ((low + 0.2, high + 1.0), 1),
        ((low - 1.0, high - 0.05), 0),
        ((low - 1.0, high - 0.2), 1),
    ):
        assert decided(scorer(met | {"asked": ends}), view)[1].fallbacks == fallbacks


def test_ranges_of_several_runs() -> None:
    one = dict.fromkeys(GLOBAL_FEATURES, (0.0, 1.0))
    both = merged([one, one | {"free": (-1.0, 0.5)}])
    assert both["free"] == (-1.0, 1.0) and both["asked"] == (0.0, 1.0)


@pytest.mark.parametrize("reach, share", [(np.inf, 0.0), (-100.0, 1.0)])
def test_a_simulation_says_how_often(reach: float, share: float) -> None:
    ends = (-reach, reach) if reach > 0 else (reach, reach)
    config = load_config(overrides=["workload.synthetic.num_jobs=60", "workload.load=1.5"])
    workload = load_workload(config.workload, Cluster.parse("2x4"), 0)
    results = simulate(workload, Cluster.parse("2x4"), scorer(dict.fromkeys(GLOBAL_FEATURES, ends)))
    assert results.summary()["fallback_fraction"] == share
    assert "fallback_fraction" not in simulate(workload, Cluster.parse("2x4"), INDEX).summary()
    if share:
        plain = simulate(workload, Cluster.parse("2x4"), FALLBACK)
        np.testing.assert_array_equal(results.finish_s, plain.finish_s)


@pytest.mark.parametrize("key", ["params", "fallback", "seen"])
def test_numbers_that_decide_are_verified(tmp_path: Path, key: str) -> None:
    save_scorer(record(seen=dict.fromkeys(GLOBAL_FEATURES, (0.25, 0.5))), tmp_path)
    path = tmp_path / "manifest.json"
    data = json.loads(path.read_text())
    # In another order they are the same.
    data["params"] = dict(reversed(data["params"].items()))
    path.write_text(json.dumps(data))
    assert list(load_scorer(tmp_path).params) == list(INDEX.params)
    name = next(iter(data[key]))
    data[key][name] = [0.0, 0.5] if key == "seen" else 0.123
    path.write_text(json.dumps(data))
    with pytest.raises(UserError, match="do not match their SHA-256"):
        load_scorer(tmp_path)


def test_the_guard_is_kept_with_the_weights(tmp_path: Path) -> None:
    seen = dict.fromkeys(GLOBAL_FEATURES, (0.25, 0.5))
    save_scorer(record(seen=seen, fallback=FALLBACK.params), tmp_path)
    found = load_scorer(tmp_path)
    assert found.seen == seen and found.fallback == FALLBACK.params
    expected = Guard(FALLBACK.params, seen).array
    rule = scorer_of_record(found, "x")
    np.testing.assert_array_equal(rule.param_array[-expected.size :], expected)
    for bad, words in (
        (replace(found, seen={"free": (0.0, 1.0)}), "ranges of other features"),
        (replace(found, seen=seen | {"free": (1.0, 0.0)}), "ends before it begins"),
        (replace(found, fallback={"p": 0.5}), "parameters p instead of p, h, g, b, trust"),
        (replace(found, fallback=FALLBACK.params | {"g": np.nan}), "no numbers"),
    ):
        save_scorer(bad, tmp_path)
        with pytest.raises(UserError, match=words):
            load_scorer(tmp_path)
