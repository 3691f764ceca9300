"""What a sweep says about its trials, whatever their values are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from marl_sched.cli import tables
from marl_sched.config import load_config, save_config
from marl_sched.envs.episodes import load_part
from marl_sched.schedulers import get_scheduler
from marl_sched.tuning import judge, results
from marl_sched.tuning.outcome import Outcome
from marl_sched.tuning.results import figures_of, values_text, write_results, write_summary
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
        player = None

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
    found = write_results(run, outcomes, "jobs", load_part(config, "test"), {}, tables.figure)
    write_summary(found, tmp_path / "summary.md", tables.figure)
    text = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert "| words | credit=shadow train_load=null lr=0.001 |" in text
    assert '| lists | train_load=[0.5, 1.0] algorithms=["afs", "hesrpt"] |' in text
    assert f"best.yaml: {best} (network_percent -5.00 %; {values_text(CASES[best])}), " in text
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
    networks, scorers = results._remarks([one, two, three], load_config(None, []))
    assert "No network was clearly better" in networks and "in one: best/ keeps" in networks
    assert scorers == (
        "Nothing learned was better than the base on validation in two: the base is judged there. "
        "Give them more --minutes-per-trial"
    )
    config = load_config(
        None, ["training.algo=es", "training.minutes=null", "training.iterations=3"]
    )
    (every,) = results._remarks([one, one], config)
    assert "on validation in any trial: the base is judged" in every
    assert every.endswith("Give them more --iterations")


@pytest.mark.usefixtures("unplayed")
def test_a_raw_objective_is_shown_in_its_unit_and_ties_are_said(tmp_path: Path) -> None:
    sweep = replace(pages.SWEEP, objectives=("valid_p99_jct_s",))
    config = load_config(None, ["evaluation.episodes=2"], defaults=sweep.defaults(False))
    outcomes = [ended(i, f"trial_{i}", {}, valid_p99_jct_s=3600.0 * (1 + i // 2)) for i in range(3)]

    def found(outcomes: list[Outcome]) -> results.Results:
        jobs = load_part(config, "test")
        run = Run(sweep, config, tmp_path)
        return write_results(run, outcomes, "jobs", jobs, {}, tables.figure)

    both = found(outcomes)
    assert both.shown["valid_p99_jct_s"] == "valid p99_jct_s"
    cells = {row["name"]: figures_of(row, both.shown, tables.figure)[1] for row in both.rows}
    assert cells["trial_0"] == "1.00 h" and cells["trial_2"] == "2.00 h" and cells["fcfs"] == ""
    assert both.notes[0].startswith("best.yaml: trial_0 (valid_p99_jct_s 1.00 h; ")
    assert both.notes[0].endswith("; 2 trials are equal by it")
    (note,) = [n for n in found([ended(0, "trial_0", {})]).notes if "best.yaml" in n]
    assert note.startswith("No best.yaml: no trial has a valid_p99_jct_s, as the time of each")


def test_best_yaml_has_no_budget_of_the_sweep(tmp_path: Path) -> None:
    run = Run(pages.SWEEP, load_config(None, []), tmp_path)
    given = ["training.minutes=0.5", "training.num_env_runners=0", "evaluation.episodes=3"]
    trial = load_config(None, [*given, "training.ppo.lr=0.5"])
    (run.trials / "one").mkdir(parents=True)
    save_config(trial, run.trials / "one" / "config.yaml")
    results._write_best(run, {"name": "one"}, "a reason")
    best, usual = load_config(tmp_path / "best.yaml"), load_config(None, [])
    assert best.training.ppo.lr == 0.5 and best.training.minutes == usual.training.minutes
    assert best.training.num_env_runners == usual.training.num_env_runners
    assert best.evaluation.episodes == usual.evaluation.episodes
    text = (tmp_path / "best.yaml").read_text(encoding="utf-8")
    assert "# Trained, for `marl-sched evaluate`: --scheduler " in text


def test_a_tuned_scheduler_is_given_in_words_for_the_command_line() -> None:
    params = {"param_p": 0.123456789, "param_h": 2.0}
    rows: list[Any] = [
        {"name": "elastic_index", "kind": "classic", "state": "done", "valid_avg_jct_s": 1.0},
        {"name": "hesrpt, tuned here", "kind": "tuned", "state": "failed", "valid_avg_jct_s": 0.0},
        {
            "name": "elastic_index, tuned here",
            "kind": "tuned",
            "state": "done",
            "valid_avg_jct_s": 2.0,
        }
        | params,
    ]
    first, _ = results._best_tuned(rows)
    scheduler = get_scheduler(first.partition("--scheduler ")[2])
    assert (scheduler.params["p"], scheduler.params["h"]) == (0.123456789, 2.0)
    assert results._best_tuned(rows[:2]) == []


def test_a_network_is_named_by_its_folder_also_where_a_run_kept_none(tmp_path: Path) -> None:
    run = Run(pages.SWEEP, load_config(None, []), tmp_path)
    one, other = run.trials / "one", run.trials / "other"
    (one / "network").mkdir(parents=True)
    other.mkdir()
    assert judge.scheduler_of(run, {"name": "one"}) == str(one / "network")
    assert judge.scheduler_of(run, {"name": "other"}) == str(other)
