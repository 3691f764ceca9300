"""Exported networks beside their modules: any sizes of batch and any number of jobs."""

from __future__ import annotations

import numpy as np
import pytest

from marl_sched.models.policy import LearnedPolicy
from marl_sched.schedulers import make_scorer
from marl_sched.schedulers.learned.scorer import HIDDEN, LAST, NUM_WEIGHTS
from marl_sched.schedulers.learned.scorer_inputs import inputs_of, levels_by, scores_of
from tests.export.trained import policy_of
from tests.models.test_policy import arrays, make_policy
from tests.schedulers.learned.test_scorer import BASE, record
from tests.schedulers.views import JobRow, make_view, random_view

pytest.importorskip("onnx", reason="needs the extra `onnx`")
pytest.importorskip("onnxruntime", reason="needs the extra `onnx`")

from marl_sched.export.graph import network_graph, scorer_graph  # noqa: E402
from marl_sched.export.onnx_file import session_of  # noqa: E402
from marl_sched.export.parity import corrected, is_close_call, network_parity, scorer_parity  # noqa: E402


def run(policy: LearnedPolicy, obs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    given = {
        name: value.astype(np.int8 if name == "mask" else np.float32) for name, value in obs.items()
    }
    session = session_of(network_graph(policy).SerializeToString())
    scores, action = session.run(["scores", "action"], given)
    return scores, action


@pytest.mark.parametrize("algo", ["ppo", "dqn"])
@pytest.mark.parametrize("num_slots", [1, 6, 40])
def test_a_network_on_any_number_of_slots(algo: str, num_slots: int) -> None:
    policy, obs = make_policy(algo), arrays(num_slots)
    scores, action = run(policy, obs)
    expected = policy.scores(obs)
    assert scores.shape == expected.shape
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(action, policy.act(obs))


def test_where_the_base_won_the_action_is_commit() -> None:
    _, action = run(make_policy("ppo", is_base=True), arrays())
    assert not action.any()


def test_a_scorer_decides_as_the_rule_does() -> None:
    net = np.random.default_rng(3).standard_normal(NUM_WEIGHTS)
    session = session_of(scorer_graph(record(weights=tuple(net.tolist()))).SerializeToString())
    rule, rng = make_scorer(BASE.params, net.tolist()), np.random.default_rng(0)
    differs = same = 0
    for _ in range(60):
        view = random_view(rng)
        inputs = inputs_of(view, rule.param_array)
        table, mine = corrected(inputs, session), scores_of(view, rule.param_array)
        at = inputs.owner, inputs.step
        np.testing.assert_allclose(table[at], mine[at], rtol=0, atol=1e-5)
        np.testing.assert_array_equal(levels_by(view, mine), rule.levels(view))
        same += bool((levels_by(view, table) == rule.levels(view)).all())
        differs += bool((table[at] != inputs.table[at]).any())
    assert differs > 50
    assert same > 55  # all but those with two levels of the same score


def test_parity_finds_another_network() -> None:
    """A check that could not fail would be none."""
    net = np.random.default_rng(3).standard_normal(NUM_WEIGHTS)
    rule = make_scorer(BASE.params, net.tolist())
    other = net.copy()
    other[LAST : LAST + HIDDEN] *= 1.01
    for weights, passes in ((net, True), (other, False)):
        graph = scorer_graph(record(weights=tuple(weights.tolist())))
        found = scorer_parity(rule, session_of(graph.SerializeToString()), 12, 0)
        assert found.observations == 12
        assert found.passed is passes
    assert found.max_abs_difference > 1e-3


def test_parity_of_networks_finds_other_weights() -> None:
    game_policy = policy_of("ppo")
    session = session_of(network_graph(game_policy).SerializeToString())
    same = network_parity(game_policy, session, 60, 0)
    assert same.passed and same.observations == 60 and same.equal_actions == 1.0
    state = game_policy.state()
    state["slot_head.bias"] = state["slot_head.bias"] + np.float32(0.01)
    moved = LearnedPolicy(game_policy.manifest, state)
    assert not network_parity(moved, session, 60, 0).passed
    state["slot_head.bias"] = state["slot_head.bias"] * np.float32(np.nan)
    assert not network_parity(LearnedPolicy(game_policy.manifest, state), session, 60, 0).passed


def test_a_close_call_is_told_from_a_clear_one() -> None:
    view = make_view(1, JobRow(total_s=100.0), JobRow(total_s=100.0))
    assert is_close_call(view, np.array([[1.0], [1.0 + 1e-6]]))
    assert not is_close_call(view, np.array([[1.0], [1.1]]))
