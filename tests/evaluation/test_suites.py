"""Suites: what they play, that they go on after a stop, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from marl_sched.config import load_config
from marl_sched.envs.episodes import load_part
from marl_sched.errors import UserError
from marl_sched.evaluation.entrants import Player, rule_player
from marl_sched.evaluation.suite_report import markdown
from marl_sched.evaluation.suite_run import CellRun, overview, play_cell
from marl_sched.evaluation.suites import BASELINES, SUITES, get_suite
from marl_sched.schedulers import get_scheduler
from tests.envs.games import config


def cell(**changes: Any) -> CellRun:
    settings = config("meta").model_copy(update=changes)
    judged = settings.evaluation.model_copy(
        update={"episodes": 4, "jobs_per_episode": 12, "bound_episodes": 3}
    )
    return CellRun("small", "test", settings.model_copy(update={"evaluation": judged}))


class Counted:
    """Players that count how often each is played."""

    def __init__(self) -> None:
        self.plays: list[str] = []

    def __call__(self, name: str) -> Player:
        player = rule_player(get_scheduler(name), name)

        def play(*arguments: Any) -> list[dict[str, float]]:
            self.plays.append(name)
            return player.play(*arguments)

        return Player(name, name, play, classic=True)


def nothing(text: str) -> None:
    pass


def test_a_cell_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    counted = Counted()
    undisturbed = play_cell(cell(), [counted("srtf"), counted("equi")], None, nothing)

    def killed(*arguments: Any) -> list[dict[str, float]]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        play_cell(cell(), [counted("srtf"), Player("equi", "equi", killed)], tmp_path, nothing)
    counted.plays.clear()
    report = play_cell(cell(), [counted("srtf"), counted("equi")], tmp_path, nothing)
    assert counted.plays == ["equi"]
    assert json.dumps(report) == json.dumps(undisturbed)
    # A third scheduler joins: nobody else is played again.
    play_cell(cell(), [counted("equi"), counted("las")], tmp_path, nothing)
    assert counted.plays == ["equi", "las"]


def test_a_record_under_other_settings_is_refused(tmp_path: Path) -> None:
    play_cell(cell(), [Counted()("srtf")], tmp_path, nothing)
    with pytest.raises(UserError, match="other settings"):
        play_cell(cell(seed=4), [Counted()("srtf")], tmp_path, nothing)
    (tmp_path / "small.json").write_text("{")
    with pytest.raises(UserError, match="not a record"):
        play_cell(cell(), [Counted()("srtf")], tmp_path, nothing)


def test_the_report_has_every_metric_and_nobody_beats_the_bound() -> None:
    counted = Counted()
    report = play_cell(cell(), [counted("srtf"), counted("elastic_index")], None, nothing)
    for metrics in report["schedulers"].values():
        assert {
            "avg_jct_s", "p50_jct_s", "p99_jct_s", "avg_slowdown", "avg_finish_time_fairness",
            "unfair_fraction", "num_restarts", "makespan_s", "gpu_useful_fraction",
        } <= set(metrics)  # fmt: skip
        assert 0.0 < metrics["gpu_useful_fraction"]["mean"] <= 1.0
    ratios = report["vs_lower_bound"]["avg_jct_ratio"]
    assert report["vs_lower_bound"]["episodes"] == 3
    assert all(ratio["low"] >= 1.0 - 1e-9 for ratio in ratios.values())
    page = markdown(
        {"suite": "x", "what": "y", "cells": [report], "overview": overview([report])}, "command"
    )
    assert "| `elastic_index` | +0.0 | best |" in page
    assert f"{ratios['srtf']['mean']:.2f} |" in page


def test_the_overview_is_a_geometric_mean() -> None:
    def with_excess(a: float, b: float) -> dict[str, Any]:
        versus = {"a": {"avg_jct_percent": {"mean": a}}, "b": {"avg_jct_percent": {"mean": b}}}
        return {"schedulers": {"a": {}, "b": {}}, "best_classic": "a", "vs_best_classic": versus}

    over = overview([with_excess(0.0, 25.0), with_excess(60.0, 0.0)])
    assert list(over) == ["b", "a"]
    assert over["b"] == pytest.approx({"mean_percent": 11.8034, "worst_percent": 25.0}, abs=1e-3)
    assert over["a"]["mean_percent"] == pytest.approx(26.4911, abs=1e-3)


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_can_be_played(name: str, shared_data: Path) -> None:
    names = [one.name for one in SUITES[name].cells]
    assert len(set(names)) == len(names)
    for one in SUITES[name].cells[:: 4 if len(names) > 8 else 1]:
        settings = load_config(options=one.settings(shared_data))
        assert len(load_part(settings, one.part)) >= 50
        if name == "held-out":
            # The machines hold the largest job.
            assert load_part(settings, one.part).skipped == {}


def test_held_out_clusters_share_no_job_with_training() -> None:
    def sources(name: str) -> set[tuple[str, str]]:
        cells = SUITES[name].cells
        return {(str(one.trace), tenant) for one in cells for tenant in one.tenants or ("",)}

    seen = sources("training")
    assert len(seen) == 9
    for name in ("held-out", "shift"):
        assert not sources(name) & seen
    assert {trace for trace, tenant in seen if not tenant} & {
        trace for trace, tenant in sources("held-out") if not tenant
    } == set()


def test_baselines_are_schedulers() -> None:
    for name in BASELINES:
        get_scheduler(name)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    one = get_suite("held-out").cells[0]
    with pytest.raises(UserError, match="--data"):
        one.settings(None)
    with pytest.raises(UserError, match=r"cluster01\.csv"):
        one.settings(tmp_path)
    with pytest.raises(UserError, match="held-out"):
        get_suite("heldout")
