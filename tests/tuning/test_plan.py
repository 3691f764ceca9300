"""What is proposed next: the simplex, Optuna, generations; the same however trials end."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from marl_sched.config import load_config
from marl_sched.errors import UserError
from marl_sched.tuning.outcome import FILE, Outcome, read_outcome
from marl_sched.tuning.page import Halving, Sweep, even, load_page, log
from marl_sched.tuning.plan import Plan, Proposal, cutoffs, plan_of, simplex_points
from marl_sched.tuning.run import Run
from marl_sched.tuning.sweep import RECORD, _check_same
from tests.tuning import pages

SPACE = {"training.ppo.lr": log(1e-4, 1e-2), "training.ppo.entropy": even(0.0, 0.02)}
OPTUNA = Sweep("t", "optuna", trials=9, minutes_per_trial=1.0, space=SPACE)
PBT = replace(OPTUNA, search="pbt", trials=12, population=4, simplex=("slowdown", "fairness"))


def result(number: int, proposal: Proposal, score: float, **more: object) -> Outcome:
    figures = {"network_percent": score}
    outcome = Outcome(number, proposal.name, proposal.seed, proposal.values, "done", "", figures)
    outcome = replace(outcome, budget=proposal.budget)
    return replace(outcome, **more)  # type: ignore[arg-type]


def distance(proposal: Proposal) -> float:
    """From the best step size, in factors of e."""
    return abs(math.log(proposal.values["training.ppo.lr"] / 2e-3))


def play(plan: Plan, worst: int | None = None) -> list[Proposal]:
    """Proposals, where a trial scores by its `distance` and `worst` fails."""
    outcomes: list[Outcome] = []
    proposals = []
    for number in range(plan.total):
        needed = plan.needs(number)
        assert needed.stop <= number
        proposal = plan.propose(number, [outcomes[i] for i in needed])
        score = distance(proposal)
        outcome = result(number, proposal, score)
        if number == worst:
            outcome = replace(outcome, state="failed", figures={})
        proposals.append(proposal)
        outcomes.append(outcome)
    return proposals


@pytest.mark.parametrize("sweep", [OPTUNA, PBT, replace(OPTUNA, seeds=2)], ids=lambda s: s.search)
def test_the_same_outcomes_give_the_same_proposals(sweep: Sweep) -> None:
    first = play(plan_of(sweep, 0, lag=4))
    assert first == play(plan_of(sweep, 0, lag=4)) != play(plan_of(sweep, 1, lag=4))
    assert len({one.name for one in first}) == len(first)
    for one in first:
        assert 1e-4 <= one.values["training.ppo.lr"] <= 1e-2
        assert 0.0 <= one.values["training.ppo.entropy"] <= 0.02


def test_optuna_learns_from_what_it_is_told_and_survives_failures() -> None:
    sweep = replace(OPTUNA, trials=40)
    early = late = 0.0
    for seed in range(4):
        errors = [distance(one) for one in play(plan_of(sweep, seed, 4), worst=3)]
        early, late = early + sum(errors[:10]), late + sum(errors[30:])
    assert late < 0.7 * early


def test_optuna_draws_weights_on_the_simplex_for_several_objectives() -> None:
    page = replace(load_page("reward_weights"), search="optuna", conditioned=False, seeds=1)
    plan = plan_of(page, 0, lag=2)
    outcomes: list[Outcome] = []
    for number in range(plan.total):
        one = plan.propose(number, [outcomes[i] for i in plan.needs(number)])
        weights = [one.values[f"env.reward.{term}"] for term in page.simplex]
        assert sum(weights) == pytest.approx(1.0, abs=1e-3) and min(weights) >= 0.0
        names = [name.removeprefix("-") for name in page.objectives]
        figures = {name: weight for name, weight in zip(names, weights, strict=True)}
        outcomes.append(result(number, one, 0.0, figures=figures))


def test_a_grid_starts_with_its_points_and_repeats() -> None:
    page = replace(load_page("reward_weights"), trials=10)
    chosen = simplex_points(page, seed=0)
    assert list(chosen)[:8] == list(page.points) and len(chosen) == 10
    for weights in chosen.values():
        assert sum(weights) == pytest.approx(1.0, abs=0.003) and min(weights) >= 0.0
    assert chosen == simplex_points(page, seed=0) != simplex_points(page, seed=1)
    plan = plan_of(page, 0, lag=4)
    proposals = [plan.propose(number, []) for number in range(plan.total)]
    assert plan.total == 22 and plan.units == 40
    assert [one.budget for one in proposals[:3]] == [10, 1, 1]
    assert proposals[0].values == {"env.train_weights": list(page.simplex)}
    assert {one.seed for one in proposals} == {0, 1}


def test_generations_go_on_from_the_best() -> None:
    proposals = play(plan_of(PBT, 0, lag=4), worst=5)
    assert [one.parent for one in proposals[:4]] == [None] * 4
    for generation in (1, 2):
        before = proposals[4 * generation - 4 : 4 * generation]
        now = proposals[4 * generation : 4 * generation + 4]
        assert all(one.budget == generation + 1 for one in now)
        parents = [one.parent for one in now]
        assert parents.count(before[0].name) + parents.count(before[1].name) >= 1
        exploited = [one for one, old in zip(now, before, strict=True) if one.parent != old.name]
        assert len(exploited) == 1
        best = min(
            (old for i, old in enumerate(before) if (generation, i) != (2, 1)),
            key=distance,
        )
        assert exploited[0].parent == best.name and exploited[0].values != best.values
    # The one that failed is not continued.
    assert "generation_2_member_2" not in [one.parent for one in proposals]
    for one in proposals:
        weights = [one.values["env.reward.slowdown"], one.values["env.reward.fairness"]]
        assert sum(weights) == pytest.approx(1.0, abs=1e-3)


def test_a_child_has_the_budget_of_its_parent_and_one_more() -> None:
    """Also where the parent began anew, as all before it had failed, or trained nothing."""
    plan = plan_of(PBT, 0, lag=4)
    first = [plan.propose(number, []) for number in range(4)]
    failed = [result(i, one, 0.0, state="failed", figures={}) for i, one in enumerate(first)]
    second = [plan.propose(4 + i, failed) for i in range(4)]
    assert [(one.parent, one.budget) for one in second] == [(None, 1)] * 4
    ended = [result(4 + i, one, float(i)) for i, one in enumerate(second)]
    third = [plan.propose(8 + i, ended) for i in range(4)]
    assert all(one.parent is not None and one.budget == 2 for one in third)
    ended[0] = replace(ended[0], budget=0)
    again = plan.propose(8, ended)
    assert again.parent == ended[0].name and again.budget == 1


def test_cutoffs_are_of_trials_that_got_there() -> None:
    proposal = Proposal("a", {})
    outcomes = [
        result(i, proposal, 0.0, rungs={"0.3333": score, **({"0.5000": 9.0} if i == 0 else {})})
        for i, score in enumerate((3.0, 1.0, 2.0))
    ]
    halving = Halving(rungs=(1 / 3, 0.5, 0.9), keep=1 / 3)
    assert cutoffs(halving, outcomes) == {"0.3333": pytest.approx(5 / 3), "0.5000": 9.0}
    assert cutoffs(halving, []) == cutoffs(None, outcomes) == {}


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"number": 1}', "[" * 10**5])
def test_damaged_records_are_judged_again_or_named(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A trial's outcome follows from its folder; which sweep it is does not."""
    (tmp_path / FILE).write_text(text)
    assert read_outcome(tmp_path) is None
    assert f"{tmp_path / FILE}: damaged" in caplog.text
    (tmp_path / RECORD).write_text(text)
    with pytest.raises(UserError, match=r"sweep\.json: damaged .* another --out"):
        _check_same(Run(pages.SWEEP, load_config(), tmp_path))
