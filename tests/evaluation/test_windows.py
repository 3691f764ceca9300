"""Which windows and draws schedulers are judged on, and what a short trace can say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marl_sched.cli.tables import print_comparison
from marl_sched.config import Config, validate_config
from marl_sched.envs.episodes import Episode, draw_seeds, load_part
from marl_sched.evaluation.compare import job_overlap, part_episodes
from marl_sched.evaluation.entrants import load_player
from marl_sched.evaluation.learned import run_learned
from marl_sched.evaluation.suite_report import markdown
from marl_sched.evaluation.suite_run import CellRun, overview, play_cell
from marl_sched.evaluation.windows import evidence_of, with_draws
from tests.cli.program import write_trace
from tests.envs.games import config


def traced(path: Path, **changes: Any) -> Config:
    """The 60 jobs of a small file, as a whole, on a small cluster."""
    nested: dict[str, Any] = {
        "cluster": "2x4",
        "workload": {"trace": str(path)},
        "evaluation": {"episodes": 40, "jobs_per_episode": 15, "bound_episodes": 0},
    }
    for section, changed in changes.items():
        known = nested.get(section, {})
        nested[section] = {**known, **changed} if isinstance(changed, dict) else changed
    return validate_config(nested)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return write_trace(tmp_path / "jobs.csv")


def judged(settings: Config) -> dict[str, Any]:
    players = [load_player(name) for name in ("elastic_index", "srtf", "fcfs")]
    return play_cell(CellRun("x", "whole", settings), players, None, print)


def shown(report: dict[str, Any], name: str) -> dict[str, float]:
    found: dict[str, float] = report["vs_best_classic"][name]["avg_jct_percent"]
    return found


def test_windows_of_a_trace_share_no_job_and_are_played_in_several_draws(trace: Path) -> None:
    settings = with_draws(traced(trace), "whole")
    assert settings.evaluation.draws == 10
    episodes = part_episodes(settings, "whole", settings.evaluation.episodes)
    assert len(episodes) == 40 and job_overlap(episodes) == 1.0
    assert [e.first for e in episodes[:5]] == [0, 15, 30, 45, 60]
    evidence = evidence_of(settings, "whole", episodes)
    # The same jobs in every draw: four windows, not 40.
    assert evidence.windows == 4 and evidence.disjoint == 4.0
    assert with_draws(settings, "whole") is settings


def test_draws_are_of_the_same_jobs_with_other_models_and_estimates(trace: Path) -> None:
    settings = with_draws(traced(trace), "whole")
    drawn = load_part(settings, "whole")
    assert len(drawn) == 600 and len(set(drawn.job_id.tolist())) == 600
    assert (np.diff(drawn.arrival_s) >= 0).all()
    own = load_part(traced(trace), "whole")
    first, second = drawn.slice(0, 60), drawn.slice(60, 120)
    assert (first.job_id == own.job_id).all() and (first.model == own.model).all()
    assert np.allclose(np.diff(second.arrival_s), np.diff(own.arrival_s))
    assert (second.duration_s == own.duration_s).all() and (second.model != own.model).any()
    # The seed's own draw comes first: what was played before is part of it.
    episodes = [Episode(0, 15), Episode(15, 30)]
    rule = load_player("elastic_index")
    assert rule.play(settings, "whole", episodes) == rule.play(traced(trace), "whole", episodes)


def test_nearby_seeds_share_no_draw() -> None:
    seeds = [draw_seeds(seed, 40) for seed in range(5)]
    assert len({one for some in seeds for one in some}) == 200
    assert [some[0] for some in seeds] == list(range(5)) and draw_seeds(7, 1) == (7,)


def test_the_built_in_workload_has_new_jobs_in_every_draw() -> None:
    settings = config("full")
    wanted = settings.evaluation.model_copy(update={"episodes": 6})
    settings = with_draws(settings.model_copy(update={"evaluation": wanted}), "test")
    episodes = part_episodes(settings, "test", 6)
    evidence = evidence_of(settings, "test", episodes)
    assert len(episodes) == 6 and evidence.disjoint == 6.0
    part = load_part(settings, "test")
    durations = [part.duration_s[e.first : e.end].tolist() for e in episodes]
    assert len({tuple(one) for one in durations}) == 6
    # Learned schedulers play the same episodes.
    base = load_player(settings.env.base).play(settings, "test", episodes)
    commit = run_learned(settings, "test", lambda obs: np.zeros(len(obs["mask"]), int), episodes)
    assert commit == base


def test_a_trace_that_leaves_nothing_open_has_fewer_episodes(trace: Path) -> None:
    text = trace.read_text().splitlines()
    rows = [f"{text[0]},model,elastic", *(f"{row},resnet18,false" for row in text[1:])]
    exact = trace.with_name("exact.csv")
    exact.write_text("\n".join(rows) + "\n")
    report = judged(traced(exact, workload={"estimate_noise": 0.0}))
    assert report["episodes"] == 4 and report["episodes_asked"] == 40
    assert report["interval"]["draws"] == 1 and report["interval"]["windows"] == 4
    failing = with_draws(
        traced(exact, workload={"estimate_noise": 0.0}, sim={"node_mtbf_h": 10.0}), "whole"
    )
    assert failing.evaluation.draws == 10


def test_failures_differ_from_draw_to_draw_and_from_window_to_window(trace: Path) -> None:
    """All that a seed decides varies, or intervals are about one course of failures alone."""
    settings = with_draws(traced(trace, sim={"node_mtbf_h": 0.5, "node_mttr_h": 0.5}), "whole")
    episodes = [Episode(0, 15), Episode(60, 75), Episode(120, 135)]
    rule = load_player("fcfs")
    retries = [run["lost_gpu_s"] for run in rule.play(settings, "whole", episodes)]
    assert len(set(retries)) == 3
    other = settings.model_copy(update={"seed": 1})
    first = episodes[:1]
    assert rule.play(other, "whole", first) != rule.play(settings, "whole", first)


# Issue 11, 1.11b: intervals of a short trace


def test_a_few_windows_of_nearly_the_same_jobs_have_no_interval(
    trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """58 of 60 jobs: windows of nearly the same jobs, of which a seed decides the models. That was
    an interval over 3 episodes, which left out what the next seed gave."""
    report = judged(traced(trace, evaluation={"jobs_per_episode": 58}))
    assert report["episodes"] == 40 and report["interval"]["disjoint_windows"] < 1.1
    assert shown(report, "srtf")["low"] is None and shown(report, "srtf")["high"] is None
    assert "--jobs-per-episode" in report["interval"]["none_because"]
    # Whoever reads a report copes, and says so.
    whole = {"suite": "x", "what": "y", "cells": [report], "overview": overview([report])}
    page = markdown(json.loads(json.dumps(whole)), "command")
    assert "no intervals: " in page and "[-] |" in page
    print_comparison("x", report)
    assert "[-]" in capsys.readouterr().out


def test_intervals_of_several_seeds_hold_what_the_others_find(trace: Path) -> None:
    reports = [judged(traced(trace, seed=seed)) for seed in (0, 1, 2)]
    for name in ("srtf", "fcfs"):
        means = [shown(report, name)["mean"] for report in reports]
        assert len(set(means)) == 3
        for report in reports:
            found = shown(report, name)
            assert all(found["low"] < mean < found["high"] for mean in means)


def test_jobs_of_one_draw_do_not_wait_for_those_of_another(tmp_path: Path) -> None:
    path = tmp_path / "chain.csv"
    path.write_text(
        "job_id,arrival_s,duration_s,num_gpus,depends_on,deadline_s\n"
        "a,0,100,1,,1000\nb,10,100,1,a,1000\nc,20,100,1,,1000\nd,30,100,1,b c,1000\n"
    )
    settings = traced(path, evaluation={"draws": 3, "jobs_per_episode": 4})
    drawn = load_part(settings, "whole")
    assert drawn.job_id.tolist()[4:8] == ["a~1", "b~1", "c~1", "d~1"]
    waits = [drawn.parents.of(job).tolist() for job in range(12)]
    assert waits == [[], [0], [], [1, 2], [], [4], [], [5, 6], [], [8], [], [9, 10]]
    # Deadlines keep their distance from the arrival.
    assert np.allclose(drawn.deadline_s - drawn.arrival_s, np.tile([1000, 990, 980, 970], 3))
