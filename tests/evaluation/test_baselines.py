"""Tuning of classic schedulers: never worse than the defaults, resumable, honest about itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from marl_sched.errors import UserError
from marl_sched.evaluation import baselines
from marl_sched.evaluation.baselines import RANGES, RUNGS, Court, candidates, tune
from marl_sched.evaluation.suite_run import CellRun
from marl_sched.schedulers import REGISTRY, get_scheduler
from marl_sched.schedulers.tuned import tuned_names, tuned_params
from tests.envs.games import config


def cells() -> list[CellRun]:
    settings = config("meta")
    judged = settings.evaluation.model_copy(update={"episodes": 6, "jobs_per_episode": 12})
    settings = settings.model_copy(update={"evaluation": judged})
    return [CellRun(f"noise {noise}", "validation", settings.model_copy(update={
        "workload": settings.workload.model_copy(update={"estimate_noise": noise})}))
        for noise in (0.0, 1.0)]  # fmt: skip


def test_the_best_of_all_sequences_wins_and_is_no_worse_than_the_defaults() -> None:
    scheduler = get_scheduler("elastic_index:h=1e6")  # lets nobody go: easily beaten
    court = Court(scheduler, cells(), None)
    found = tune(court, 8, seed=0)
    assert found.score_percent < 0.0
    assert found.params != scheduler.params
    mine, defaults = court.sums(found.params, 1.0), court.sums(scheduler.params, 1.0)
    assert sum(sums.size for sums in mine) == found.sequences == 12
    # The stated score, from the sums themselves.
    ratio = [m.sum() / d.sum() for m, d in zip(mine, defaults, strict=True)]
    assert found.score_percent == pytest.approx(100.0 * ((ratio[0] * ratio[1]) ** 0.5 - 1.0))
    assert found.by_cell["noise 1.0"] == pytest.approx(100.0 * (ratio[1] - 1.0))


def test_halving_spends_less_than_playing_all() -> None:
    court = Court(get_scheduler("elastic_index"), cells(), None)
    found = tune(court, 10, seed=1)
    assert found.simulated == court.played < 10 * 12
    assert RUNGS[-1][1] == 1.0


def test_a_stopped_search_goes_on_to_the_same_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = get_scheduler("hesrpt")
    undisturbed = tune(Court(scheduler, cells(), None), 6, seed=2)
    journal = tmp_path / "found.trials"

    def stop(text: str) -> None:
        if "4 of" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(Court(scheduler, cells(), journal), 6, 2, stop)
    with journal.open("a") as file:
        file.write('["cut o')
    before = Court(scheduler, cells(), journal).played
    assert before > 0
    plays = 0
    inner = baselines.Arena.play

    def counted(self: baselines.Arena, *arguments: object) -> object:
        nonlocal plays
        plays += len(arguments[1])  # type: ignore[arg-type]
        return inner(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(baselines.Arena, "play", counted)
    assert tune(Court(scheduler, cells(), journal), 6, 2) == undisturbed
    assert plays == undisturbed.simulated - before
    with pytest.raises(UserError, match="other sequences"):
        Court(scheduler, cells()[:1], journal)


def test_candidates_are_legal_and_begin_with_the_defaults() -> None:
    for scheduler in REGISTRY.values():
        if not scheduler.compiled or not scheduler.params or scheduler.name == "random":
            continue
        drawn = candidates(scheduler, 20, 0)
        assert drawn[0] == scheduler.params
        for params in drawn:
            scheduler.with_params(params)
            assert all(RANGES[name][1] <= value <= RANGES[name][2] or value == 0.0
                       for name, value in params.items())  # fmt: skip
    for name in ("equi", "random", "sia"):
        with pytest.raises(UserError, match="nothing to tune"):
            candidates(get_scheduler(name), 20, 0)


def test_shipped_parameters_are_legal_and_say_how_they_were_found() -> None:
    import yaml

    from marl_sched.schedulers.tuned import FOLDER

    assert "elastic_index" in tuned_names()
    for name in tuned_names():
        page = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
        assert page["command"].startswith(f"marl-sched tune-baseline {name} ")
        assert page["validation_jct_vs_defaults_percent"] <= 0.0
        assert get_scheduler(f"{name}:tuned").params == tuned_params(name) == page["params"]
    assert get_scheduler("elastic_index:tuned,h=9").params["h"] == 9.0
    with pytest.raises(UserError, match="elastic_index"):
        get_scheduler("equi:tuned")


def test_a_higher_rung_plays_the_sequences_that_follow() -> None:
    """Going up in steps plays each sequence once: the same as playing all of them at once."""
    params = get_scheduler("hesrpt").params
    at_once = Court(get_scheduler("hesrpt"), cells(), None)
    in_steps = Court(get_scheduler("hesrpt"), cells(), None)
    whole = at_once.sums(params, 1.0)
    for share in (1 / 6, 1 / 2, 1.0):
        sums = in_steps.sums(params, share)
        for mine, all_of_them in zip(sums, whole, strict=True):
            assert len(set(all_of_them.tolist())) == 6  # or a repeated one would not show
            np.testing.assert_array_equal(mine, all_of_them[: round(6 * share)])
    assert in_steps.played == at_once.played == 12
