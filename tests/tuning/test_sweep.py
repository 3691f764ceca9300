"""Sweeps for real: what they leave, workers that die, learning that diverges, a killed driver."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from ray.tune.error import TuneError

from marl_sched import cli
from marl_sched.cli.app import app
from marl_sched.config import Config, load_config
from marl_sched.errors import UserError, WriteError
from marl_sched.evaluation.learned import validate
from marl_sched.files import write_text
from marl_sched.models.policy import load_policy
from marl_sched.schedulers import get_scheduler
from marl_sched.training.records import RunFolder
from marl_sched.training.rllib import score_policy
from marl_sched.training.trainer import as_score
from marl_sched.tuning.feed import Feed, Reporter, run_trials, say_nothing
from marl_sched.tuning.loggers import check_loggers
from marl_sched.tuning.outcome import Outcome, read_outcome
from marl_sched.tuning.page import known_pages, load_page
from marl_sched.tuning.page import log as log_range
from marl_sched.tuning.plan import Proposal, plan_of
from marl_sched.tuning.run import Run, trial_config
from marl_sched.tuning.sweep import run_sweep
from marl_sched.tuning.trial import Job
from tests.tuning import pages

ROOT = Path(__file__).parents[2]


def settings(iterations: int, **more: str) -> Config:
    given = [word for word in pages.QUICK if "=" in word]
    given += ["training.minutes=null", f"training.iterations={iterations}"]
    given += [f"{key}={value}" for key, value in more.items()]
    return load_config(None, given, defaults=pages.SWEEP.defaults(False))


def tune(*arguments: str) -> int:
    with pytest.raises(SystemExit) as done:
        cli.run(app, "marl-sched", ["tune", *arguments])
    return int(done.value.code or 0)


def last_error(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    return error


def test_every_page_in_the_folder_is_one() -> None:
    found = known_pages()
    assert set(found) == {"reward_weights", "ppo", "dqn", "pbt", "baselines"}
    for name, path in found.items():
        sweep = load_page(name)
        resolved = load_config(None, [], defaults=sweep.defaults(False))
        values = {key: span.low for key, span in sweep.space.items()}
        trial_config(resolved, Proposal("low", values))
        assert f"marl-sched tune {name}" in path.read_text(encoding="utf-8")


def test_a_trial_has_its_values_seed_and_budget() -> None:
    values = {"training.ppo.lr": 0.5, "env.reward.fairness": 0.25, "env.reward.slowdown": 0.75}
    proposal = Proposal("t", values, seed=2, budget=3)
    config = trial_config(settings(2, seed="7"), proposal, ("fairness", "slowdown"))
    assert config.training.ppo.lr == 0.5 and config.training.iterations == 6
    assert config.training.seed == 9 and config.seed == 7
    assert config.env.reward.completion_time == 0.0 and config.env.reward.slowdown == 0.75
    # A weight that a case or a space names beside no simplex leaves the others as they are.
    reward = trial_config(settings(2), Proposal("t", {"env.reward.energy": 0.5})).env.reward
    assert reward.completion_time == 1.0 and reward.energy == 0.5
    both = proposal.values | {"env.reward.energy": 0.5}
    reward = trial_config(settings(2), Proposal("t", both), ("fairness", "slowdown")).env.reward
    assert reward.completion_time == 0.0 and reward.energy == 0.5


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
def test_a_worker_that_dies_is_replaced_and_divergence_is_a_failed_trial(tmp_path: Path) -> None:
    cases = {"lives": {"training.ppo.lr": 1e-3}, "diverges": {"training.ppo.lr": 1e30}}
    sweep = replace(
        pages.SWEEP, search="grid", space={}, halving=None, cases=cases, trials=len(cases)
    )
    killed: list[int] = []
    seen: list[float] = []

    def kill_once(name: str, figures: Mapping[str, Any]) -> None:
        if name == "lives":
            seen.append(figures.get("iteration", -1))
            if not killed and figures.get("iteration") == 1:
                killed.append(figures["pid"])
                os.kill(figures["pid"], signal.SIGKILL)

    lives, diverges = run_sweep(Run(sweep, settings(3), tmp_path / "sweep"), kill_once)
    assert killed and seen.count(3) >= 1
    assert lives.state == "done" and lives.figures["iterations"] == 3
    assert lives.figures["decisions"] == 3 * 256
    assert diverges.state == "failed" and diverges.reason.startswith("diverged: ")
    assert "nan" in diverges.reason or "inf" in diverges.reason
    assert list((tmp_path / "sweep" / "tune").rglob("events.out.tfevents.*"))


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
def test_a_trial_has_room_for_its_learner(tmp_path: Path) -> None:
    sweep = replace(
        pages.SWEEP, search="grid", space={}, halving=None, trials=1,
        cases={"one": {"training.ppo.lr": 1e-3}},
    )  # fmt: skip
    config = settings(1, **{"training.num_learners": "1", "training.num_gpus_per_learner": "1"})
    (outcome,) = run_sweep(Run(sweep, config, tmp_path / "sweep", concurrent=1))
    assert outcome.state == "done" and outcome.figures["decisions"] == 256


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
def test_weights_and_one_network_for_all_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "weights.py"
    write_text(page, "from tests.tuning.pages import WEIGHTS as SWEEP\n")
    out = tmp_path / "sweep"
    command = (str(page), *pages.QUICK, "--iterations", "1", "--out", str(out))
    assert tune(*command, "--prefer", "jct=0.2,fairness=0.8") == 0
    assert "conditioned@fair" in capsys.readouterr().out
    table = pd.read_parquet(out / "results.parquet").set_index("name")
    assert set(table.index) == {
        "jct", "fair", "conditioned@jct", "conditioned@fair", "elastic_index", "fcfs",
    }  # fmt: skip
    assert table.loc["fair", "env.reward.fairness"] == 1.0
    assert table.loc["fair", "env.reward.completion_time"] == 0.0
    # Equal compute: as many decisions as the grid's trials together.
    assert table.loc["conditioned@jct", "decisions"] == 512
    assert table.loc["jct", "decisions"] == 256
    assert (table["gpu_useful_fraction"] > 0).all() and table["non_dominated"].any()
    # Two episodes say nothing of how much they vary.
    assert table["avg_jct_s_low"].isna().all() and table["avg_jct_s_high"].isna().all()
    volumes = pd.read_parquet(out / "hypervolume.parquet").set_index("set")["hypervolume"]
    assert (volumes > 0).all() and set(volumes.index) == {"grid", "conditioned", "classic"}
    assert (out / "tradeoff.png").stat().st_size > 20_000
    html = (out / "tradeoff.html").read_text(encoding="utf-8")
    assert "conditioned@fair" in html and "fcfs" in html
    assert "| fcfs |" in (out / "summary.md").read_text(encoding="utf-8")
    best = load_config(out / "best.yaml")
    assert best.env.reward.energy == 0.0 and best.cluster == "4x4"

    # Again: nothing is trained, evaluation alone may change; another search space is refused.
    before = (out / "trials" / "fair" / "metrics.csv").read_bytes()
    assert tune(*command, "--episodes", "3") == 0
    table = pd.read_parquet(out / "results.parquet")
    assert (table["avg_jct_s_low"] <= table["avg_jct_s"]).all()
    assert (out / "trials" / "fair" / "metrics.csv").read_bytes() == before
    capsys.readouterr()
    assert tune(*command, "--load", "0.7") == 2
    assert "holds another sweep: settings: workload: load was 1.3 and now is 0.7" in last_error(
        capsys
    )
    assert tune(*command, "--seeds", "2") == 2
    assert "sweep: seeds was 1 and now is 2" in last_error(capsys)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
def test_scorers_are_swept_as_networks_are(tmp_path: Path) -> None:
    page = tmp_path / "weights.py"
    write_text(
        page,
        "from dataclasses import replace\n"
        "from marl_sched.tuning.worlds import EVOLVED\n"
        "from tests.tuning.pages import WEIGHTS\n"
        "SWEEP = replace(WEIGHTS, settings=EVOLVED)\n",
    )
    out = tmp_path / "sweep"
    few = ("--set", "training.es.pairs=3", "--set", "training.es.sequences=2")
    assert tune(str(page), *pages.QUICK, *few, "--iterations", "2", "--out", str(out)) == 0
    table = pd.read_parquet(out / "results.parquet").set_index("name")
    assert set(table.index) == {
        "jct", "fair", "conditioned@jct", "conditioned@fair", "elastic_index:tuned", "fcfs",
    }  # fmt: skip
    # Equal compute: as many jobs played as by the grid's trials together.
    decisions = table["decisions"].to_dict()
    assert decisions["conditioned@jct"] == 2 * decisions["jct"]
    # So short a training beats the base clearly for no weights. What was trained is not the base,
    # and other weights train something else.
    metrics = [pd.read_csv(out / "trials" / name / "metrics.csv") for name in ("jct", "fair")]
    scores = [tuple(rows["validation_percent"]) for rows in metrics]
    assert any(scores[0]) and any(scores[1]) and scores[0] != scores[1]
    best = load_config(out / "best.yaml")
    assert best.training.algo == "es"
    head = (out / "best.yaml").read_text(encoding="utf-8").splitlines()
    assert get_scheduler(head[1].partition("--scheduler ")[2]).guarded
    halved = [load_config(out / "trials" / name / "config.yaml") for name in ("jct", "conditioned")]
    assert halved[1].training.es.half_life == 2 * halved[0].training.es.half_life


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
def test_members_of_the_second_generation_go_on_from_their_parents(tmp_path: Path) -> None:
    """With the parent's training, their own reward weights, and scores of networks of their own."""
    run = Run(pages.PBT, settings(2), tmp_path / "sweep")
    reported: dict[str, list[float]] = {}
    outcomes = run_sweep(
        run, lambda name, row: reported.setdefault(name, []).append(row["progress"])
    )
    assert [one.state for one in outcomes] == ["done"] * 4
    best = min(outcomes[:2], key=lambda one: (one.figures["valid_avg_jct_s"], one.number))
    for parent, child in zip((best, best), outcomes[2:], strict=True):
        assert child.seed == parent.seed
        folder = RunFolder(run.trials / child.name)
        assert [row["iteration"] for row in folder.rows()] == [3, 4]
        assert [row["decisions"] for row in folder.rows()] == [3 * 256, 4 * 256]
        # Its own half of four iterations.
        assert reported[child.name] == [0.5, 1.0, 1.0]
        # Scored by a network that it trained itself, at its own weights.
        network = load_policy(folder.network)
        own = load_config(folder.out / "config.yaml")
        assert network.manifest.iteration in (3, 4) and child.figures["iterations"] == 4
        scores = [row["validation_percent"] for row in folder.rows()]
        assert child.figures["network_percent"] == pytest.approx(min(scores), rel=1e-5)
        assert as_score(score_policy(network, own, validate)).percent == pytest.approx(
            min(scores), rel=1e-5
        )
        kept = as_score(score_policy(load_policy(folder.best), own, validate)).percent
        assert child.figures["validation_percent"] == pytest.approx(kept)
    same, changed = sorted(outcomes[2:], key=lambda one: one.values != best.values)
    assert same.values == best.values != changed.values
    own = load_config(run.trials / changed.name / "config.yaml")
    assert own.training.ppo.lr == changed.values["training.ppo.lr"]
    assert own.env.reward.fairness == changed.values["env.reward.fairness"]


PAGES = {
    # Which page, the trial and checkpoint after which the driver is killed, rows of the table.
    "SWEEP": ("trial_1", "iter_1", 5),
    "PBT": ("generation_2_member_1", "iter_4", 6),
}


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("ray_local")
@pytest.mark.parametrize("which", PAGES)
def test_killed_and_started_again_ends_as_if_undisturbed(tmp_path: Path, which: str) -> None:
    """The driver starts a Ray of its own, which ends with it."""
    name, checkpoint, num_rows = PAGES[which]
    page = tmp_path / "page.py"
    write_text(page, f"from tests.tuning.pages import {which} as SWEEP\n")
    arguments = [str(page), *pages.QUICK, "--iterations", "3"]
    command = [sys.executable, "-m", "marl_sched", "tune", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    log_file = tmp_path / "killed.log"

    def start(out: Path) -> subprocess.Popen[bytes]:
        with log_file.open("ab") as log:
            return subprocess.Popen(
                [*command, "--out", str(out)], cwd=ROOT, env=environment, stdout=log, stderr=log
            )

    killed, plain = tmp_path / "killed", tmp_path / "plain"
    process = start(killed)
    first = killed / "trials" / name
    while not list(first.glob(f"checkpoints/{checkpoint}")) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, log_file.read_text()
    ended = [read_outcome(path) for path in (killed / "trials").iterdir()]
    assert ended.count(None) >= 1
    assert start(killed).wait() == 0, log_file.read_text(encoding="utf-8")[-2000:]
    assert tune(*arguments, "--out", str(plain)) == 0
    again, undisturbed = (pd.read_parquet(out / "results.parquet") for out in (killed, plain))
    assert len(again) == num_rows
    pd.testing.assert_frame_equal(again, undisturbed)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no-such-page"], "known: baselines, dqn, pbt, ppo, reward_weights"),
        (["ppo", "--trials", "0"], "--trials"),
        (["ppo", "--trace", "no-such.csv"], "no-such.csv"),
        (["ppo", "--set", "training.ppo.speed=1"], "unknown setting 'training.ppo.speed'"),
        (["ppo", "--set", "training.ppo.lr=0.1"], "training.ppo.lr is searched by ppo: leave it"),
        (["reward_weights", "--set", "env.reward={energy: 1}"], "env.reward.energy is searched"),
        (["ppo", "--logger", "csv"], "known: mlflow, wandb"),
        (["ppo", "--prefer", "jct=1"], "for a sweep of reward weights"),
        (["ppo", "--search", "grid"], "--search grid"),
        (["pbt", "--seeds", "2"], "--seeds"),
        (["baselines", "--minutes-per-trial", "1"], "--minutes-per-trial"),
        (["reward_weights", "--prefer", "speed=1"], "--prefer 'speed=1'"),
        (
            ["reward_weights", "--prefer", "deadline=1"],
            "does not weigh deadline; it weighs",
        ),
        (["ppo", "--address", "127.0.0.1:1"], "127.0.0.1:1"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Another test of this process may have joined one, which would be taken.
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    assert tune(*arguments, "--out", str(tmp_path / "sweep")) == 2
    assert words in last_error(capsys)
    assert not (tmp_path / "sweep").exists()


def test_a_logger_that_is_not_installed_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="wandb is not installed; pip install wandb"):
        check_loggers(("wandb",))


def test_a_key_that_is_missing_is_said_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wandb = SimpleNamespace(api=SimpleNamespace(api_key=None))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    monkeypatch.setattr("importlib.import_module", lambda name: wandb)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with pytest.raises(UserError, match="no key for Weights & Biases.*WANDB_MODE=offline"):
        check_loggers(("wandb",))
    monkeypatch.setenv("WANDB_MODE", "offline")
    check_loggers(("wandb",))
    monkeypatch.delenv("WANDB_MODE")
    wandb.api.api_key = "of wandb login"
    check_loggers(("wandb",))


def test_ctrl_c_ends_with_one_line_more_and_130(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(run: Run, say: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("marl_sched.tuning.sweep.run_sweep", interrupted)
    assert tune("ppo", "--out", str(tmp_path / "sweep")) == 130
    last = capsys.readouterr().err.strip().splitlines()[-2:]
    assert last == ["stopped: the same command goes on from here", "interrupted"]


def test_a_full_disk_is_found_behind_what_tune_makes_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(error: Exception) -> Any:
        def fit(*arguments: object) -> None:
            try:
                raise error
            except Exception:
                raise TuneError("Traceback ..")  # noqa: B904  as Tune does

        return fit

    run: Any = Run(pages.SWEEP, settings(1), tmp_path)
    full = OSError(errno.ENOSPC, "No space left on device", "metrics.csv")
    for error in (full, WriteError("No space left on device; choose another path")):
        monkeypatch.setattr("marl_sched.tuning.feed._fit", fails(error))
        with pytest.raises(WriteError, match="No space left on device.*; the same command goes on"):
            run_trials(run, run, [])
    monkeypatch.setattr("marl_sched.tuning.feed._fit", fails(ValueError("a mistake of ours")))
    with pytest.raises(TuneError):
        run_trials(run, run, [])


def test_pages_that_are_none_are_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.py"
    for text, words in (
        ("SWEEP = 1", "has no SWEEP"),
        ("import nothing_there", "cannot be loaded"),
    ):
        write_text(page, text)
        with pytest.raises(UserError, match=words):
            load_page(str(page))


def test_a_name_runs_no_file_of_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shipped page by its name, a file by its path: `tuning/ppo.py` of a folder that somebody
    else filled must not run because of the name `ppo`."""
    ours = load_page("ppo")
    planted = tmp_path / "tuning"
    planted.mkdir()
    for name in ("ppo", "mine"):
        write_text(planted / f"{name}.py", "raise SystemExit('ran')")
    monkeypatch.chdir(tmp_path)
    assert load_page("ppo") == ours
    with pytest.raises(UserError, match=r"no sweep 'mine'.* for the file here say tuning/mine.py"):
        load_page("mine")
    write_text(planted / "mine.py", "from marl_sched.tuning.page import *\nSWEEP = 1")
    for path in ("tuning/mine.py", "./tuning/mine.py", str(planted / "mine.py")):
        with pytest.raises(UserError, match="has no SWEEP"):
            load_page(path)
    for path in ("tuning/none.py", "tuning/mine", "./ppo", "ppo.py"):
        with pytest.raises(UserError, match="no such file; pages by name: baselines"):
            load_page(path)


def test_folders_of_others_and_changed_spaces_are_refused(tmp_path: Path) -> None:
    run = Run(pages.SWEEP, settings(1), tmp_path)
    record = {"sweep": pages.SWEEP.as_record(), "settings": settings(1).model_dump(mode="json")}
    del record["settings"]["evaluation"]
    write_text(tmp_path / "sweep.json", json.dumps(record | {"lag": 4}))
    wider = replace(pages.SWEEP, space={"training.ppo.lr": log_range(1e-3, 1.0)})
    with pytest.raises(UserError, match="space: training.ppo.lr: high was 0.01 and now is 1.0"):
        run_sweep(replace(run, sweep=wider))
    write_text(tmp_path / "sweep.json", json.dumps(record | {"lag": 4, "title": "slow"}))
    with pytest.raises(UserError, match="holds the sweep 'slow', and this one is 'quick'; choose"):
        run_sweep(replace(run, sweep=wider))
    # More trials may follow, in a single search and in a population, but not in fewer members.
    assert replace(pages.SWEEP, trials=9).as_record() == pages.SWEEP.as_record()
    assert replace(pages.PBT, trials=8).as_record() == pages.PBT.as_record()
    assert replace(pages.PBT, trials=1).as_record() != pages.PBT.as_record()
    write_text(tmp_path / "run.json", "{}")
    with pytest.raises(UserError, match="holds a training run"):
        run_sweep(run)


def test_what_followed_from_a_trial_that_ended_otherwise_has_to_go(tmp_path: Path) -> None:
    """The folder of a trial of the first generation is deleted, and it is run again."""
    run = Run(pages.PBT, settings(1), tmp_path)

    def end(job: Job, jct_s: float) -> None:
        figures = {"valid_avg_jct_s": jct_s}
        outcome = Outcome(job.number, job.name, job.seed, job.values, "done", "", figures)
        outcome.write(Path(job.folder))

    def fresh() -> Feed:
        return Feed(run, plan_of(run.sweep, 0, 4), Reporter(say_nothing))

    feed = fresh()
    for number in range(4):
        end(feed.suggest(str(number))["job"], 100.0 + number)
    again = fresh()
    assert again.only_old() and len(again.all_outcomes()) == 4
    first = run.trials / "generation_1_member_1"
    shutil.rmtree(first)
    feed = fresh()
    job = feed.suggest("again")["job"]
    assert job.folder == str(first)
    end(job, 100.0)
    assert fresh().only_old()  # as before: all that followed still does
    end(job, 900.0)
    words = (
        "generation_2_member_1: ended under other values.* delete generation_2_member_1, "
        "generation_2_member_2$"
    )
    with pytest.raises(UserError, match=words):
        feed.suggest("next")
    with pytest.raises(UserError, match=words):
        fresh().only_old()


def test_what_does_not_fit_is_said_as_it_is_however_tune_wraps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(*arguments: object) -> None:
        try:
            raise UserError("delete it")
        except UserError:
            raise TuneError("Traceback ..")  # noqa: B904  as Tune does

    run: Any = Run(pages.SWEEP, settings(1), tmp_path)
    monkeypatch.setattr("marl_sched.tuning.feed._fit", fit)
    with pytest.raises(UserError, match="^delete it$"):
        run_trials(run, run, [])
