"""What a sweep says about its trials, whatever their values are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from marl_sched.cli import tables
from marl_sched.config import load_config
from marl_sched.envs.batched import load_part
from marl_sched.tuning import judge, results
from marl_sched.tuning.outcome import Outcome
from marl_sched.tuning.results import values_text, write_results, write_summary
from marl_sched.tuning.run import Run
from tests.tuning import pages

CASES: dict[str, dict[str, Any]] = {
    "words": {"env.credit": "shadow", "env.train_load": None, "training.ppo.lr": 1e-3},
    "lists": {"env.train_load": [0.5, 1.0], "env.algorithms": ["afs", "hesrpt"]},
}


@pytest.fixture
def unplayed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No episode is played, no network read: all have the same metrics."""
    metrics = dict.fromkeys(judge.METRICS, 1.0)

    def played(config: Any, part: str, count: int, players: list[Any]) -> list[Any]:
        return [None if player is None else [metrics] * count for player in players]

    class Network:
        play = print

    monkeypatch.setattr(judge, "_played", played)
    monkeypatch.setattr(judge, "load_network", lambda folder: Network)
    monkeypatch.setattr(results, "_write_best", lambda run, row, why: None)
    monkeypatch.setattr(results, "scheduler_of", lambda run, row: "folder")


def ended(number: int, name: str, values: dict[str, Any], **figures: float) -> Outcome:
    return Outcome(number, name, 0, values, "done", "", {"network_percent": -1.0} | figures)


@pytest.mark.usefixtures("unplayed")
@pytest.mark.parametrize("best", ["words", "lists"])
def test_values_of_cases_may_be_text_lists_and_nothing(tmp_path: Path, best: str) -> None:
    sweep = replace(pages.SWEEP, search="grid", space={}, halving=None, cases=CASES, trials=2)
    config = load_config(None, ["evaluation.episodes=2"], defaults=sweep.defaults(False))
    outcomes = [
        ended(i, name, values, network_percent=-5.0 if name == best else 0.0)
        for i, (name, values) in enumerate(CASES.items())
    ]
    run = Run(sweep, config, tmp_path)
    found = write_results(run, outcomes, "jobs", load_part(config, "test"), {})
    write_summary(found, tmp_path / "summary.md", tables.figure)
    text = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert "| words | credit=shadow train_load=null lr=0.001 |" in text
    assert '| lists | train_load=[0.5, 1.0] algorithms=["afs", "hesrpt"] |' in text
    assert f"best.yaml: {best} (network_percent -5; {values_text(CASES[best])}), " in text
    table = pd.read_parquet(tmp_path / "results.parquet").set_index("name")
    assert table.loc["words", "env.credit"] == "shadow"
    assert table.loc["lists", "env.train_load"] == "[0.5, 1.0]"
    assert table.loc["words", "training.ppo.lr"] == 1e-3
    assert table["training.ppo.lr"].isna().to_dict() == {"lists": True, "words": False} | {
        name: True for name in table.index if name not in CASES
    }


def test_values_are_shown_by_their_last_name_and_weights_of_0_not_at_all() -> None:
    values = {"env.reward.fairness": 0.0, "env.reward.slowdown": 1.0, "training.ppo.entropy": 0.0}
    assert values_text(values) == "slowdown=1 entropy=0"
    assert values_text({"name": "hesrpt tuned", "param_q": 0.25, "number": 1}) == "q=0.25"


def test_remarks_say_what_is_judged_where_nothing_learned_was_better() -> None:
    one = ended(0, "one", {}, best_iteration=0.0)
    two = ended(1, "two", {"training.algo": "es"}, best_iteration=0.0)
    three = ended(2, "three", {}, best_iteration=7.0)
    networks, scorers = results._remarks([one, two, three], "ppo")
    assert "No network was clearly better" in networks and "in one: best/ keeps" in networks
    assert scorers == (
        "Nothing learned was better than the base on validation in two: the base is judged there. "
        "Give them more --minutes-per-trial"
    )
    (every,) = results._remarks([one, one], "es")
    assert "on validation in any trial: the base is judged" in every


def test_a_network_is_named_by_its_folder_also_where_a_run_kept_none(tmp_path: Path) -> None:
    run = Run(pages.SWEEP, load_config(None, []), tmp_path)
    one, other = run.trials / "one", run.trials / "other"
    (one / "network").mkdir(parents=True)
    other.mkdir()
    assert judge.scheduler_of(run, {"name": "one"}) == str(one / "network")
    assert judge.scheduler_of(run, {"name": "other"}) == str(other)
