"""The terms of the reward are one table."""

from __future__ import annotations

import numpy as np
import pytest

from marl_sched.config import EnvConfig, RewardWeights, load_config
from marl_sched.envs.credit import cost_floor
from marl_sched.envs.state import reward_weights
from marl_sched.errors import UserError
from marl_sched.evaluation.simulate import simulate
from marl_sched.schedulers import get_scheduler
from marl_sched.sim import columns as c
from marl_sched.terms import COLUMN, NAMES, SHORT, TERMS, Term
from marl_sched.tuning.judge import METRICS
from marl_sched.tuning.pareto import AXES
from marl_sched.types import Cluster
from marl_sched.workload import Workload


def test_whoever_lists_the_terms_lists_the_same() -> None:
    assert list(RewardWeights.model_fields) == list(NAMES) == list(AXES)
    assert list(METRICS) == [term.metric for term in TERMS]
    assert len(TERMS) == c.NUM_COST == reward_weights(EnvConfig()).size
    columns = {name: value for name, value in vars(c).items() if name.startswith("COST_")}
    assert sorted(columns.values()) == list(range(c.NUM_COST))
    assert set(SHORT.values()) <= set(NAMES)


def test_only_completion_time_counts_where_nothing_else_is_said() -> None:
    assert RewardWeights().model_dump() == {**dict.fromkeys(NAMES, 0.0), "completion_time": 1.0}


@pytest.mark.parametrize("term", TERMS, ids=NAMES)
def test_every_metric_of_a_term_is_reported(
    term: Term, small_cluster: Cluster, small_workload: Workload
) -> None:
    """All but the useful share of GPU time, which a suite works out from the bound."""
    summary = simulate(small_workload, small_cluster, get_scheduler("fcfs")).summary()
    metric = term.metric
    assert metric in summary or metric == "gpu_useful_fraction"


def test_floors() -> None:
    expected = {"fairness": 1.0, "deadline": 1.0, "preemption": 64.0}
    for name, column in COLUMN.items():
        assert cost_floor(column, 64.0) == expected.get(name, 1e-9)


def test_a_term_that_nobody_knows_is_named() -> None:
    with pytest.raises(UserError, match="comfort"):
        load_config(overrides=["env.reward.comfort=1"])
    with pytest.raises(ValueError, match="no term; known: completion_time, slowdown"):
        EnvConfig(train_weights=("comfort",))


def test_weights_are_put_on_the_simplex() -> None:
    weights = reward_weights(EnvConfig(reward=RewardWeights(completion_time=1.0, energy=3.0)))
    np.testing.assert_allclose(weights[[COLUMN["completion_time"], COLUMN["energy"]]], [0.25, 0.75])
