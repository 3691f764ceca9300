"""Paired comparisons: intervals, the report, and which jobs may be judged on."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import pytest

from marl_sched.config import Config
from marl_sched.envs.batched import BatchedSchedulingEnv
from marl_sched.envs.episodes import Episode, load_part
from marl_sched.evaluation import entrants as entrants_module
from marl_sched.evaluation import learned as learned_module
from marl_sched.evaluation.compare import compare, job_overlap, part_episodes
from marl_sched.evaluation.entrants import load_player
from marl_sched.evaluation.learned import Score, run_learned, validate
from marl_sched.evaluation.metrics import job_results
from marl_sched.evaluation.simulate import simulate
from marl_sched.schedulers import get_scheduler
from marl_sched.types import Cluster
from marl_sched.workload import Workload
from tests.envs.games import config


def commit(obs: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.zeros(len(obs["mask"]), np.int64)


def judged(**evaluation: object) -> Config:
    settings = config("full")
    return settings.model_copy(
        update={"evaluation": settings.evaluation.model_copy(update=evaluation)}
    )


# Overlap


def test_overlap_counts_how_often_a_job_is_used() -> None:
    assert job_overlap([Episode(0, 10), Episode(10, 20)]) == 1.0
    assert job_overlap([Episode(0, 10), Episode(5, 15)]) == pytest.approx(20 / 15)
    assert job_overlap([Episode(0, 10)] * 3) == 3.0


# The report


def test_the_report_has_the_shape_of_the_issue() -> None:
    runs = {
        "mine": [{"avg_jct_s": 80.0, "num_jobs": 5}, {"avg_jct_s": 100.0, "num_jobs": 5}],
        "fcfs": [{"avg_jct_s": 200.0, "num_jobs": 5}, {"avg_jct_s": 100.0, "num_jobs": 5}],
        "srtf": [{"avg_jct_s": 100.0, "num_jobs": 5}, {"avg_jct_s": 100.0, "num_jobs": 5}],
    }
    report = json.loads(json.dumps(compare(runs, ("fcfs", "srtf"))))
    assert {"schedulers", "best_classic", "vs_best_classic"} <= set(report)
    assert set(report["schedulers"]) == set(report["vs_best_classic"]) == set(runs)
    assert set(report["schedulers"]["mine"]) == {"avg_jct_s", "num_jobs"}
    assert set(report["schedulers"]["mine"]["avg_jct_s"]) == {"mean", "low", "high"}
    assert report["schedulers"]["mine"]["avg_jct_s"]["mean"] == 90.0
    assert report["best_classic"] == "srtf"
    versus = {name: v["avg_jct_percent"]["mean"] for name, v in report["vs_best_classic"].items()}
    # Negative: shorter completion times.
    assert versus == pytest.approx({"mine": -10.0, "fcfs": 50.0, "srtf": 0.0})
    # Two episodes say nothing of how much episodes vary.
    mine = report["vs_best_classic"]["mine"]["avg_jct_percent"]
    assert mine["low"] is None and mine["high"] is None
    assert "--episodes" in report["interval"]["none_because"]
    more = compare({name: run * 2 for name, run in runs.items()}, ("fcfs", "srtf"))
    mine = more["vs_best_classic"]["mine"]["avg_jct_percent"]
    assert -100.0 < mine["low"] < mine["mean"] < mine["high"]
    assert mine["mean"] == pytest.approx(-10.0)
    assert more["interval"]["none_because"] is None


def test_a_trained_scheduler_is_never_the_best_classic() -> None:
    runs = {"mine": [{"avg_jct_s": 1.0}], "fcfs": [{"avg_jct_s": 2.0}]}
    assert compare(runs, ("fcfs",))["best_classic"] == "fcfs"
    alone = compare({"mine": runs["mine"]}, ())
    assert alone["best_classic"] is None and alone["vs_best_classic"] == {}


# Episodes


def test_a_classic_run_is_a_simulation_of_each_episode() -> None:
    settings = judged(jobs_per_episode=20)
    episodes = part_episodes(settings, "test", 4)
    runs = load_player("las").play(settings, "test", episodes)
    part = load_part(settings, "test")
    cluster = Cluster.parse(settings.cluster)
    for episode, summary in zip(episodes, runs, strict=True):
        jobs = part.slice(episode.first, episode.end)
        # LAS needs no estimates, so another draw of their error changes nothing.
        again = simulate(jobs, cluster, get_scheduler("las"), settings.sim).summary()
        assert summary == pytest.approx(again)


def test_a_learned_scheduler_that_commits_is_the_base_schedule() -> None:
    settings = judged()
    episodes = part_episodes(settings, "test", 5)
    base = load_player(settings.env.base).play(settings, "test", episodes)
    assert run_learned(settings, "test", commit, episodes) == base


def test_validation_rewards_shorter_completion_times() -> None:
    settings = judged()

    def first_edit(obs: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.array([np.flatnonzero(mask)[-1] for mask in obs["mask"]])

    score = validate(first_edit, settings).percent
    episodes = part_episodes(settings, "validation", settings.training.validation_episodes)
    ours = run_learned(settings, "validation", first_edit, episodes)
    base = load_player(settings.env.base).play(settings, "validation", episodes)
    total = sum(run["avg_jct_s"] for run in ours) / sum(run["avg_jct_s"] for run in base)
    assert score == pytest.approx(100 * (total - 1))
    assert abs(score) > 0.1


def test_a_score_is_clearly_lower_by_more_than_the_error_of_the_difference() -> None:
    base = Score(np.zeros(4))
    assert Score(np.array([-1.0, -1.2, -0.8, -1.0])).clearly_beats(base)
    wide = Score(np.array([-3.0, 2.0, -3.0, 2.0]))  # mean -0.5, standard error 1.44
    assert wide.percent == -0.5 and not wide.clearly_beats(base)
    # What both have in common is no error.
    assert Score(wide.episodes - 0.1).clearly_beats(wide) and not wide.clearly_beats(wide)
    # Episodes that share jobs count for less.
    some = np.array([-2.0, 0.0, -2.0, 0.0])  # standard error 0.58
    assert Score(some).clearly_beats(base) and not Score(some, overlap=4.0).clearly_beats(base)


def test_episodes_spread_over_the_part() -> None:
    settings = judged(jobs_per_episode=20)
    episodes = part_episodes(settings, "test", 5)
    jobs = len(load_part(settings, "test"))
    assert [e.first for e in episodes] == [0, 10, 20, 30, 40]
    assert all(e.end - e.first == 20 and e.end <= jobs and e.stretch == 1.0 for e in episodes)
    # No more than there are; never more jobs than the part has.
    whole = part_episodes(judged(jobs_per_episode=10_000), "test", 5)
    assert whole == [Episode(0, jobs)]


def test_evaluation_never_touches_the_training_part(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = judged()
    training = set(BatchedSchedulingEnv(settings, 1, 0, "train").workload.job_id)
    used: dict[str, set[str]] = {}
    part = ""

    def spy(workload: Workload, num_gpus: int, result: np.ndarray, account: np.ndarray) -> object:
        used.setdefault(part, set()).update(workload.job_id)
        return job_results(workload, num_gpus, result, account)

    monkeypatch.setattr(entrants_module, "job_results", spy)
    monkeypatch.setattr(learned_module, "job_results", spy)
    for part in ("validation", "test"):
        episodes = part_episodes(settings, part, 8)
        load_player("fcfs").play(settings, part, episodes)
        run_learned(settings, part, commit, episodes)
    assert len(used["test"]) > 30 and len(used["validation"]) > 30
    assert not training & used["test"]
    assert not training & used["validation"]
    assert not used["validation"] & used["test"]
