"""Tuning of classic schedulers: never worse than the defaults, resumable, honest about itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from marl_sched.errors import UserError
from marl_sched.evaluation.suite_run import CellRun
from marl_sched.schedulers import REGISTRY, get_scheduler
from marl_sched.schedulers.tuned import tuned_names, tuned_params
from marl_sched.tuning import rule_search as baselines
from marl_sched.tuning.rule_search import (
    RUNGS,
    Court,
    candidates,
    known_params,
    midpoints,
    tune,
)
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


def of_cluster(name: str) -> CellRun:
    settings = config("meta")
    workload = settings.workload.model_copy(update={"tenants": (name,)})
    return CellRun(name, "validation", settings.model_copy(update={"workload": workload}))


class Told:
    """In the place of a court: sums of JCTs as given by the index's `p`, for each cluster."""

    def __init__(self, *sums: dict[float, float], early: dict[float, float] | None = None) -> None:
        self.scheduler = get_scheduler("elastic_index")
        self.cells = [of_cluster(name) for name, _ in zip("abcdef", sums, strict=False)]
        self.played = 0
        self._sums, self._early = sums, early or {}

    def sums(self, params: dict[str, float], share: float) -> list[np.ndarray]:
        p, default = params["p"], self.scheduler.params["p"]
        seen = [{**one, **self._early} if share < 1.0 else one for one in self._sums]
        return [np.array([one.get(p, one[default] * 1.5)]) for one in seen]


def with_p(*values: float) -> list[dict[str, float]]:
    return [{**get_scheduler("elastic_index").params, "p": value} for value in values]


def test_what_one_cluster_alone_speaks_for_is_not_taken() -> None:
    """p = 0.1 is 40 % shorter on one cluster and 1 % longer on the other two: -15 % on average,
    +1 % without the first. p = 0.2 is 3 % shorter on each."""
    court = Told(
        {0.6: 100.0, 0.1: 60.0, 0.2: 97.0},
        {0.6: 100.0, 0.1: 101.0, 0.2: 97.0},
        {0.6: 100.0, 0.1: 101.0, 0.2: 97.0},
    )
    found = tune(court, 3, 0, known=with_p(0.1, 0.2))  # type: ignore[arg-type]
    assert found.params["p"] == 0.2
    assert found.score_percent == pytest.approx(-3.0) == found.robust_percent
    assert found.left_out == pytest.approx(
        dict.fromkeys(("built-in-a", "built-in-b", "built-in-c"), -3.0)
    )
    # Each cluster left out in turn: a and b choose 0.1, which is 5 % longer on c; of a and c, or
    # b and c, each candidate loses on the one that does not flatter it, so the defaults stay.
    court = Told(
        {0.6: 100.0, 0.1: 90.0, 0.2: 101.0},
        {0.6: 100.0, 0.1: 90.0, 0.2: 101.0},
        {0.6: 100.0, 0.1: 105.0, 0.2: 90.0},
    )
    found = tune(court, 3, 0, known=with_p(0.1, 0.2))  # type: ignore[arg-type]
    assert found.left_out == pytest.approx(
        {"built-in-a": 0.0, "built-in-b": 0.0, "built-in-c": 5.0}
    )
    # On one cluster there is nothing to leave out.
    alone = tune(Told({0.6: 100.0, 0.1: 60.0, 0.2: 97.0}), 3, 0, known=with_p(0.1, 0.2))  # type: ignore[arg-type]
    assert alone.params["p"] == 0.1 and alone.left_out == {}
    assert alone.robust_percent == alone.score_percent == pytest.approx(-40.0)


def test_settings_that_are_known_stay_in_to_the_end() -> None:
    """0.1 is the worst on the first few sequences and the best on all."""
    court = Told({0.6: 100.0, 0.1: 90.0}, {0.6: 100.0, 0.1: 90.0}, early={0.1: 500.0})
    assert tune(court, 12, 0, known=with_p(0.1)).params["p"] == 0.1  # type: ignore[arg-type]
    trusting, shipped = known_params("elastic_index")
    assert trusting == get_scheduler("elastic_index:trust=1").params
    assert shipped == pytest.approx(get_scheduler("pretrained").params, rel=0.005)
    assert known_params("elastic_las") == known_params("hesrpt") == []


def test_between_good_settings_another_one_is_tried() -> None:
    """0.1 and 0.3 are 10 % shorter; 0.2, which nobody has drawn, 20 %."""
    court = Told({0.6: 100.0, 0.1: 90.0, 0.3: 90.0, 0.2: 80.0})
    found = tune(court, 3, 0, known=with_p(0.1, 0.3))  # type: ignore[arg-type]
    assert found.params["p"] == 0.2 and found.score_percent == pytest.approx(-20.0)
    # Geometric where the range is logarithmic; of a choice, or beside a 0, the better one's.
    between = {"p": 0.2, "h": 0.2, "g": 10.0, "b": 4.0, "trust": 0.5}
    ends = [
        dict(p=0.1, h=0.1, g=1.0, b=4.0, trust=0.0),
        dict(p=0.3, h=0.4, g=100.0, b=4.0, trust=1.0),
    ]
    assert midpoints(get_scheduler("elastic_index"), ends, []) == [pytest.approx(between)]
    assert midpoints(get_scheduler("elastic_index"), ends, [between]) == []
    tiresias = get_scheduler("tiresias")
    ends = [{**tiresias.params, "promote": 0.0}, {**tiresias.params, "promote": 9.0}]
    assert midpoints(tiresias, ends, ends) == []
    hesrpt = get_scheduler("hesrpt")
    ends = [{"p": 0.2, "slowdown": 1.0}, {"p": 0.4, "slowdown": 0.0}]
    assert midpoints(hesrpt, ends, ends) == [pytest.approx({"p": 0.3, "slowdown": 1.0})]


def test_higher_rungs_play_the_sequences_that_are_missing() -> None:
    """What was played first is not played again in the place of others."""
    params = get_scheduler("elastic_index").params
    climbing, at_once = (Court(get_scheduler("elastic_index"), cells(), None) for _ in range(2))
    for share in (1 / 6, 1 / 2, 1.0):
        climbing.sums(params, share)
    for mine, theirs in zip(climbing.sums(params, 1.0), at_once.sums(params, 1.0), strict=True):
        assert mine.tolist() == theirs.tolist() and len(set(mine.tolist())) == 6


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
            for name, value in params.items():
                search = scheduler.takes[name].search
                assert search is not None
                assert search.low <= value <= search.high or value == 0.0
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
