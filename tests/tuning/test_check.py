"""What is wrong with a page is one clear error, before any trial is run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from marl_sched import cli
from marl_sched.cli.app import app
from marl_sched.cli.tune import _settings
from marl_sched.config import Config, flat, load_config
from marl_sched.errors import UserError
from marl_sched.files import write_text
from marl_sched.tuning.check import check_not_searched, check_trials, checked, restricted
from marl_sched.tuning.page import Sweep, load_page
from marl_sched.tuning.plan import weights_as_values
from tests.tuning import pages

HEAD = "from marl_sched.tuning.page import Halving, Range, Sweep, even, log\nSWEEP = Sweep('t', "
OPTUNA = "'optuna', trials=2, minutes_per_trial=1.0"
GRID = "'grid', trials=2, minutes_per_trial=1.0"
ONE = "'grid', trials=1, minutes_per_trial=1.0"
CASE = "cases={'a': {'training.ppo.lr': 0.1}}"
SPACE = "space={'training.ppo.lr': log(1e-4, 1e-2)}"
TERMS = "simplex=('completion_time', 'fairness')"

WRONG = {
    f"{OPTUNA}, {SPACE}, trails=3": "unexpected keyword argument 'trails'",
    f"{OPTUNA}, space={{'training.ppo.lr': (1e-4, 1e-2)}}": "space.training.ppo.lr=(0.0001, 0.01)",
    f"'random', trials=2, minutes_per_trial=1.0, {SPACE}": "search='random': Input should be",
    f"'optuna', trials='many', minutes_per_trial=1.0, {SPACE}": "trials='many'",
    f"'optuna', trials='2', minutes_per_trial=1.0, {SPACE}": "trials='2': Input should be a valid",
    f"'optuna', trials=2.0, minutes_per_trial=1.0, {SPACE}": "trials=2.0: Input should be a valid",
    f"'optuna', trials=2, minutes_per_trial='1', {SPACE}": "minutes_per_trial='1': Input",
    f"{GRID}, {TERMS}, points={{'a': ['1', 0]}}": "points.a.0='1': Input should be a valid number",
    f"{GRID}, {TERMS}, conditioned='yes'": "conditioned='yes': Input should be a valid boolean",
    f"'optuna', trials=0, minutes_per_trial=1.0, {SPACE}": "trials=0: at least 1",
    f"'optuna', trials=2, minutes_per_trial=None, {SPACE}": "minutes_per_trial=None: say how long",
    OPTUNA: "needs a space or a simplex",
    GRID: "a grid needs a simplex with points, or cases",
    f"{GRID}, {SPACE}": "a grid needs a simplex",
    "'baselines', trials=2, minutes_per_trial=None": "needs schedulers",
    "'baselines', trials=2, minutes_per_trial=None, schedulers=('fastest',)": "'fastest'",
    f"{OPTUNA}, space={{'training.ppo.speed': even(0, 1)}}": "unknown setting 'training.ppo.speed'",
    f"{OPTUNA}, space={{'training.pppo.lr': even(0, 1)}}": "unknown setting 'training.pppo'",
    f"{OPTUNA}, space={{'training.ppo.lr.x': even(0, 1)}}": "'training.ppo.lr.x': lr has no parts",
    f"{OPTUNA}, space={{'lr': log(1e-4, 1e-2)}}": "lr: trials may differ in settings of env.",
    f"{OPTUNA}, space={{'workload.load': even(0.5, 1)}}": "workload.load: trials may differ",
    f"{OPTUNA}, space={{'training.ppo.lr': even(0, 1)}}": "lowest values: setting training.ppo.lr",
    f"{OPTUNA}, space={{'training.ppo.epochs': even(1, 4)}}": "setting training.ppo.epochs=",
    f"{OPTUNA}, space={{'training.ppo.lr': log(0, 1)}}": "a logarithmic range begins above 0",
    f"{OPTUNA}, space={{'training.ppo.lr': log(1, 0.1)}}": "1 to 0.1 is no range",
    f"{ONE}, simplex=(), points={{'a': (1.0, 0.0)}}, cases={{'b': {{'training.ppo.lr': 1}}}}": (
        "points are of a simplex"
    ),
    f"{GRID}, simplex=('completion_time', 'comfort')": "'comfort' is no term; known: completion",
    f"{GRID}, simplex='slowdown'": "simplex='slowdown'",
    f"{GRID}, simplex=('slowdown',)": "name two terms or more",
    f"{GRID}, {TERMS}, points={{'a': (1.0, 0.0, 0.0)}}": "points, a: 3 weights for a simplex of 2",
    f"{GRID}, {TERMS}, points={{'a': (0.0, 0.0)}}": "points, a: weights are from 0 on",
    f"{GRID}, {TERMS}, points={{'../a': (0.0, 1.0)}}": "'../a': a trial's name is of letters",
    f"{ONE}, cases={{'a': {{'training.ppo.lr': 'fast'}}}}": "case a: setting training.ppo.lr",
    f"{OPTUNA}, {SPACE}, objectives=()": "objectives: name at least one",
    f"{OPTUNA}, {SPACE}, objectives=('valid_avg_jct',)": "'valid_avg_jct' is not measured",
    f"{OPTUNA}, {SPACE}, objectives=('avg_jct_s',)": "valid_avg_jct_s",
    f"{OPTUNA}, {SPACE}, halving=Halving(rungs=(1.5,))": "halving: rungs and keep are shares of 1",
    f"{OPTUNA}, {SPACE}, {TERMS}, halving=Halving()": "halving is for an Optuna search without a",
    f"{GRID}, {TERMS}, halving=Halving()": "halving is for an Optuna search without a simplex",
    f"{GRID}, {CASE}": "trials=2: there are 1 cases, and no others to try",
    f"{ONE}, {CASE}, {TERMS}": "cases are for a grid without a simplex",
    f"'pbt', trials=1, minutes_per_trial=1.0, {SPACE}, {CASE}": "cases are for a grid without a",
    f"{GRID}, {TERMS}, points={{'draw_2': (1.0, 0.0)}}": "points, draw_2: so are points named",
    f"{ONE}, cases={{'b': {{'training.warm_start': 0.5}}}}": "case b: a sweep judges what one",
    f"{OPTUNA}, space={{'training.warm_start': even(0, 0.5)}}": "leave out training.warm_start",
    f"{OPTUNA}, {SPACE}, settings={{'training': {{'warm_start': 0.5}}}}": "a sweep judges what one",
    f"{GRID}, {TERMS}, conditioned=True, settings={{'env': {{'train_weights': ['fairness']}}}}": (
        "env.train_weights: the sweep itself trains one scheduler for its simplex"
    ),
    f"{OPTUNA}, {SPACE}, settings={{'cluster': '4x4', 'env': {{'slots': 3}}}}": "'env.slots'",
    f"'pbt', trials=2, minutes_per_trial=1.0, {SPACE}, seeds=2": "seeds and conditioned are for",
}  # fmt: skip


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_page_is_refused_before_anything_runs(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("marl_sched.cli.tune._warm_up", lambda settings: None)
    page, out = tmp_path / "own.py", tmp_path / "sweep"
    write_text(page, f"{HEAD}{text})\n")
    with pytest.raises(SystemExit) as done:
        cli.run(app, "marl-sched", ["tune", str(page), "--out", str(out)])
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert done.value.code == 2 and error.startswith("error: ") and WRONG[text] in error
    assert not out.exists()


def test_more_trials_than_cases_are_refused_on_the_command_line_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "own.py"
    write_text(page, f"{HEAD}{ONE}, {CASE})\n")
    with pytest.raises(SystemExit):
        cli.run(app, "marl-sched", ["tune", str(page), "--trials", "3", "--out", str(tmp_path)])
    assert "trials=3: there are 1 cases" in capsys.readouterr().err


def test_lists_will_do_for_tuples_and_shipped_pages_are_right() -> None:
    sweep = checked(load_page("reward_weights"), "page")
    assert sweep == load_page("reward_weights")
    lists: Any = {"simplex": ["slowdown", "fairness"], "points": {"a": [1, 3]}}
    loose = checked(Sweep("t", "grid", 2, 1, **lists), "page")
    assert loose.simplex == ("slowdown", "fairness") and loose.points == {"a": (1.0, 3.0)}
    for name in ("ppo", "dqn", "pbt", "baselines", "reward_weights"):
        sweep = checked(load_page(name), name)
        check_trials(sweep, load_config(None, [], defaults=sweep.defaults(False)), name)


def test_what_every_trial_replaces_is_refused_where_it_is_a_wish() -> None:
    everything = flat(Config().model_dump(mode="json"))  # as in the config.yaml of a run
    for name in ("ppo", "reward_weights"):
        check_not_searched(load_page(name), everything, {"training.ppo.epochs": 2}, name)
    with pytest.raises(UserError, match="--config: training.ppo.lr is searched by ppo"):
        check_not_searched(load_page("ppo"), everything | {"training.ppo.lr": 0.5}, {}, "ppo")
    one, two = {"training.ppo.lr": 0.1}, {"training.ppo.lr": 0.2, "training.ppo.clip": 0.1}
    cases: Any = {"cases": {"one": one, "two": two}}
    grid = Sweep("t", "grid", 2, 1.0, **cases)
    check_not_searched(grid, {}, {"training.ppo.clip": 0.2}, "page")
    with pytest.raises(UserError, match="--set: training.ppo.lr is searched by page"):
        check_not_searched(grid, {}, one, "page")


def test_weights_add_up_to_one_whatever_is_given() -> None:
    for given in (
        (1.0, 1.0, 1.0),
        (0.8 * 0.37, 1.2 * 0.41, 0.22),
        (1e-9, 1.0, 0.0),
        (3.0, 3.0, 1.0),
    ):
        weights = weights_as_values(("slowdown", "fairness", "utilisation"), given)
        assert sum(weights.values()) == pytest.approx(1.0, abs=1e-12)
        for weight, share in zip(weights.values(), given, strict=True):
            assert weight == pytest.approx(share / sum(given), abs=1.5e-4)


def test_terms_that_nothing_is_gained_in_are_left_out() -> None:
    sweep = load_page("reward_weights")
    kept = tuple(term for term in sweep.simplex if term != "deadline")
    less = restricted(sweep, kept, "page")
    assert less.simplex == kept and "deadline" not in less.points and len(less.points) == 7
    assert len(less.objectives) == 5 and not any("deadline" in o for o in less.objectives)
    assert restricted(sweep, sweep.simplex, "page") is sweep
    with pytest.raises(UserError, match="name two terms or more"):
        restricted(sweep, ("fairness",), "page")


@pytest.mark.slow
def test_an_own_page_anywhere(tmp_path: Path) -> None:
    """`tune FILE.py` and `python FILE.py`, in a folder that is no checkout."""
    text = Path(pages.__file__).read_text(encoding="utf-8")
    write_text(tmp_path / "mine.py", text + "from marl_sched.cli.tune import run_page\n"
               "if __name__ == '__main__':\n    run_page(__file__)\n")  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    for words in (["-m", "marl_sched", "tune", "mine.py"], ["mine.py"]):
        command = [sys.executable, *words, *pages.QUICK, "--iterations", "1", "--trials", "1"]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert "best.yaml: trial_1" in done.stderr
    assert (tmp_path / "runs" / "tune-mine" / "results.parquet").is_file()


def test_the_world_of_a_page_is_for_those_who_name_none(tmp_path: Path) -> None:
    sweep = load_page("reward_weights")

    def resolved(*settings: str, **given: Any) -> Config:
        options = {"training__iterations": 1, **given}
        return _settings(sweep, None, list(settings), options)

    own = resolved(workload__load=0.5)
    assert own.cluster == "4x4" and own.env.jobs_per_episode == 128 and own.workload.load == 0.5
    for named in (
        resolved(cluster=Config().cluster),
        resolved(f"cluster={Config().cluster}"),
        resolved(workload__trace="jobs.csv"),
    ):
        assert named.cluster == Config().cluster and named.workload.load is None
        assert named.env.jobs_per_episode is None and named.training.algo == "es"
