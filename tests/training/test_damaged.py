"""Damaged runs: an older checkpoint with a word, or one line that names the file."""

from __future__ import annotations

import json
import logging
import pickle
import shutil
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marl_sched import files
from marl_sched.checkpoints import PROGRESS, problem_of, read_progress
from marl_sched.config import Config
from marl_sched.errors import UserError, WriteError
from marl_sched.export.checkpoint import load_checkpoint
from marl_sched.models.policy import LearnedPolicy
from marl_sched.training.records import RunFolder
from marl_sched.training.run import check_places, train
from marl_sched.training.storage import Storage
from tests.test_checkpoints import DAMAGE, Bomb
from tests.training import test_es, test_train

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]

ALGOS = ("ppo", "dqn", "es")


def settings(algo: str, iterations: int) -> Config:
    """Of a run of seconds that has a checkpoint after each iteration."""
    more = ("training.checkpoint_every=1", "env.credit=lookahead")
    take = test_es.settings if algo == "es" else partial(test_train.settings, algo)
    return take(iterations, *more)


def run(algo: str, out: Path, iterations: int, **more: Any) -> Any:
    if algo == "es":
        return train(settings(algo, iterations), out, **more)
    return test_train.run(settings(algo, iterations), out, **more)


@pytest.fixture(scope="module")
def trained(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each algorithm that has ended after two iterations."""
    found = {algo: tmp_path_factory.mktemp(algo) / "run" for algo in ALGOS}
    for algo, out in found.items():
        run(algo, out, 2)
    return found


@pytest.fixture(params=ALGOS)
def algo(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def out(algo: str, trained: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of a run, to be damaged."""
    shutil.copytree(trained[algo], tmp_path / "run")
    return tmp_path / "run"


def damaged(checkpoint: Path) -> Iterator[tuple[str, str]]:
    """Each file of `checkpoint`, damaged in each way; it is as before after each."""
    for path in [path for path in sorted(checkpoint.rglob("*")) if path.is_file()]:
        whole = path.read_bytes()
        for how, damage in DAMAGE.items():
            damage(path)
            yield str(path), how
            path.write_bytes(whole)


def said(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(record.getMessage() for record in caplog.records)


def test_a_damaged_newest_checkpoint_is_left_with_a_word(
    algo: str, out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Any file of it, gone, empty, cut or with one bit changed."""
    folder, kept = RunFolder(out), out.with_name("kept")
    newest = folder.checkpoints / "iter_2"
    shutil.copytree(newest, kept)
    looked_at = 0
    for path, how in damaged(newest):
        assert folder.latest_checkpoint() == folder.checkpoints / "iter_1"
        with caplog.at_level(logging.WARNING):
            found = folder.prepare(settings(algo, 3), resume=True, overwrite=False)
        assert found == folder.checkpoints / "iter_1", (path, how)
        assert path in said(caplog) and "going on from the checkpoint before: iter_1" in said(
            caplog
        )
        assert not newest.exists()
        caplog.clear()
        shutil.copytree(kept, newest)
        looked_at += 1
    assert looked_at >= 2 * len(DAMAGE)
    assert folder.prepare(settings(algo, 3), resume=True, overwrite=False) == newest
    assert not caplog.records


def test_where_no_checkpoint_is_whole_the_file_is_named(algo: str, out: Path) -> None:
    shutil.rmtree(out / "checkpoints" / "iter_1")
    for path, _ in damaged(out / "checkpoints" / "iter_2"):
        with pytest.raises(UserError) as refused:
            check_places(settings(algo, 3), out, None, resume=True)
        text = str(refused.value)
        assert path in text and "another --out" in text and "\n" not in text
        with pytest.raises(UserError, match="no other checkpoint is whole"):
            run(algo, out, 3, resume=True)
        break
    assert problem_of(out / "checkpoints" / "iter_2") is not None  # nothing was removed


def test_a_run_goes_on_from_the_older_one_as_it_did(
    algo: str, out: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The same iterations again: same numbers, but for DQN's replay buffer, which is not saved."""
    if algo == "dqn":
        pytest.skip("goes on with another buffer")
    run(algo, tmp_path / "whole", 3)
    (out / "checkpoints" / "iter_2" / PROGRESS).write_text("")
    (out / "metrics.csv").write_bytes((out / "metrics.csv").read_bytes() + b"3,garbled\n\xff")
    (out / "run.json").write_text('{"seed"')
    with caplog.at_level(logging.WARNING):
        assert run(algo, out, 3, resume=True).iteration == 3
    for name in ("iter_2", "metrics.csv: damaged", "run.json: damaged"):
        assert name in said(caplog)
    assert test_train.curve(out) == test_train.curve(tmp_path / "whole")
    assert json.loads((out / "run.json").read_text())["iteration"] == 3


def test_a_planted_pickle_is_not_run(algo: str, out: Path, tmp_path: Path) -> None:
    """Wherever it lies in a checkpoint, and whatever RLlib or numpy would have made of it."""
    newest = out / "checkpoints" / "iter_2"
    for name in ("algorithm_state.pkl", "learner_group/learner/rl_module/module_state.pkl"):
        (newest / name).parent.mkdir(parents=True, exist_ok=True)
        (newest / name).write_bytes(pickle.dumps(Bomb()))
    assert run(algo, out, 3, resume=True).iteration == 3
    # In place of a state, with a record that fits: its maker knows how to write one.
    elsewhere = tmp_path / "other"
    shutil.copytree(out / "checkpoints" / "iter_3", elsewhere)
    for path in elsewhere.iterdir():
        if path.suffix in (".npz", ".safetensors"):
            path.write_bytes(pickle.dumps(Bomb()))
    from marl_sched.checkpoints import seal

    seal(elsewhere, {"iteration": 4, "decisions": 1, "elapsed_s": 0.0})
    shutil.move(elsewhere, out / "checkpoints" / "iter_4")
    with pytest.raises(UserError, match="iter_4: not a readable"):
        run(algo, out, 5, resume=True)
    assert not hasattr(sys, "went_off")


@pytest.mark.parametrize("how", ["empty", "cut", "flipped", "garbled", "text"])
def test_records_that_were_damaged_do_not_end_a_run(
    trained: dict[str, Path], tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(trained["es"], tmp_path / "run")
    folder, rng = RunFolder(tmp_path / "run"), np.random.default_rng(0)
    rows = folder.rows()
    for path in (folder.metrics, folder.out / "run.json"):
        if how == "garbled":
            path.write_bytes(rng.bytes(300))
        elif how == "text":
            path.write_text("[1, 2]\n3,4\n,,\niteration,x\n")
        else:
            DAMAGE[how](path)
    with caplog.at_level(logging.WARNING):
        folder.drop_rows_after(1)
        folder.write_run(finished=None)
    assert "finished" in json.loads((folder.out / "run.json").read_text())
    assert all(row in rows for row in folder.rows() if how != "flipped")
    if how in ("empty", "garbled", "text"):
        assert "metrics.csv: damaged" in said(caplog) and "run.json: damaged" in said(caplog)
    folder.append({"iteration": 2})
    assert folder.rows()[-1]["iteration"] == 2  # below a heading


def test_two_runs_in_one_folder(out: Path, algo: str) -> None:
    if algo != "es":
        pytest.skip("one algorithm will do")
    seen: list[str] = []

    def second(row: dict[str, Any]) -> None:
        for attempt in (lambda: check_places(settings(algo, 4), out, None, True),
                        lambda: run(algo, out, 4, resume=True),
                        lambda: run(algo, out, 4, overwrite=True)):  # fmt: skip
            with pytest.raises(WriteError, match="another run is going on there"):
                attempt()
            seen.append("refused")

    assert run(algo, out, 3, resume=True, progress=second).iteration == 3
    assert seen == 3 * ["refused"]
    assert run(algo, out, 4, resume=True).iteration == 4  # it is free again


def test_what_a_damaged_storage_holds_does_not_replace_what_is_whole(
    trained: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out, shared = tmp_path / "run", tmp_path / "shared"
    shutil.copytree(trained["es"], out)
    Storage(str(shared)).finish(out)
    for name in ("iter_1", "iter_2"):
        DAMAGE["flipped"](shared / "checkpoints" / name / "es.npz")
    shutil.rmtree(out / "checkpoints" / "iter_2")
    folder = RunFolder(out, Storage(str(shared)))
    with caplog.at_level(logging.WARNING):
        found = folder.prepare(settings("es", 3), resume=True, overwrite=False)
    assert found == out / "checkpoints" / "iter_1" and "iter_2/es.npz" in said(caplog)
    # What is damaged here is mended from a storage that is whole.
    Storage(str(shared)).finish(out)
    (out / "checkpoints" / "iter_1" / "es.npz").write_bytes(b"")
    assert folder.prepare(settings("es", 3), resume=True, overwrite=False) == found


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Saves:
        def save_to_path(self, path: str) -> None:
            (Path(path) / "deep").mkdir(parents=True)
            (Path(path) / "deep" / "weights").write_bytes(b"w")

    done: list[str] = []
    rename, sync = Path.rename, files.sync

    def record_sync(path: Path) -> None:
        done.append(str(path.relative_to(tmp_path)))
        sync(path)

    def record_rename(self: Path, target: Path) -> Path:
        done.append(f"-> {target.name}")
        return rename(self, target)

    monkeypatch.setattr(files, "sync", record_sync)
    monkeypatch.setattr(Path, "rename", record_rename)
    RunFolder(tmp_path).save_checkpoint(Saves(), {"iteration": 5})
    at = done.index("-> iter_5")
    below = {"", "/deep", "/deep/weights", f"/{PROGRESS}"}
    assert {f"checkpoints/.iter_5{name}" for name in below} <= set(done[:at])
    assert done[at + 1] == "checkpoints"
    assert read_progress(tmp_path / "checkpoints" / "iter_5") == {"iteration": 5}


@pytest.mark.parametrize("name", ["ppo", "dqn"])
def test_the_network_of_a_checkpoint_needs_no_trust(trained: dict[str, Path], name: str) -> None:
    checkpoint = trained[name] / "checkpoints" / "iter_2"
    found = load_checkpoint(checkpoint)
    policy = found.trained
    assert isinstance(policy, LearnedPolicy) and policy.manifest.iteration == 2
    assert found.algo == name and found.facts()["command"] == ""
    score = test_train.score(policy.act, settings(name, 2))
    rows = RunFolder(trained[name]).rows()
    expected = pytest.approx(rows[-1]["validation_percent"], rel=1e-5)  # as it is written
    assert score == expected
    (checkpoint / PROGRESS).rename(checkpoint / "kept")
    with pytest.raises(UserError, match="no trained scheduler here"):
        load_checkpoint(checkpoint)
    (checkpoint / "kept").rename(checkpoint / PROGRESS)
