"""`marl-sched export` and `model-card`: what they write, and what they refuse."""

from __future__ import annotations

import builtins
import hashlib
import json
import pickle
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marl_sched.errors import UserError
from marl_sched.models.policy import LearnedPolicy, save_policy
from marl_sched.schedulers import get_scheduler
from tests.cli.program import call, files_in
from tests.export.trained import policy_of, write_runs

pytest.importorskip("onnx", reason="needs the extra `onnx`")
pytest.importorskip("onnxruntime", reason="needs the extra `onnx`")

from marl_sched.export import parity  # noqa: E402
from marl_sched.export.onnx_file import load_onnx, manifest_path  # noqa: E402

FEW = ("--observations", 30)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with a run of each algorithm."""
    return write_runs(tmp_path)


@pytest.mark.parametrize("algo", ["ppo", "dqn", "es"])
def test_a_run_becomes_an_onnx_file(
    algo: str,
    runs: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = runs / "out" / "x.onnx"
    seen = call(capsys, "export", runs / algo, "--onnx", out, *FEW)
    assert seen.code == 0, seen.err
    for words in ("x.onnx", "30 observations", "4x4", "largest absolute difference", "100.00 %"):
        assert words in seen.out
    session, manifest = load_onnx(out)
    assert manifest["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert manifest["algo"] == algo and manifest["iteration"] == 7
    assert manifest["parity"]["observations"] == 30
    assert manifest["parity"]["equal_actions"] == 1.0
    assert [value.name for value in session.get_inputs()] == list(manifest["inputs"])
    best = call(capsys, "export", runs / algo / "best", "--onnx", runs / "y.onnx", *FEW, "--json")
    assert best.code == 0
    (found,) = json.loads(best.out).values()
    assert found["sha256"] == manifest["sha256"]


def test_damaged_files_are_named(
    runs: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = runs / "x.onnx"
    assert call(capsys, "export", runs / "es", "--onnx", out, *FEW).code == 0
    whole = out.read_bytes()
    for damaged in (whole[:100], whole[:-1] + b"\0", b""):
        out.write_bytes(damaged)
        with pytest.raises(UserError, match=r"x\.onnx: does not match the SHA-256 in x\.onnx\.js"):
            load_onnx(out)
    out.write_bytes(whole)
    manifest_path(out).write_text("{")
    with pytest.raises(UserError, match="not a readable manifest"):
        load_onnx(out)
    manifest_path(out).unlink()
    with pytest.raises(UserError, match="no such file"):
        load_onnx(out)


def test_a_damaged_onnx_file_with_a_digest_that_fits(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What onnxruntime makes of it is one line, or it is a model after all."""
    out = runs / "x.onnx"
    assert call(capsys, "export", runs / "ppo", "--onnx", out, *FEW).code == 0
    whole, manifest = out.read_bytes(), json.loads(manifest_path(out).read_text())
    rng, refused = np.random.default_rng(0), 0
    for case in range(60):
        data = bytearray(whole)
        at = int(rng.integers(len(data)))
        if case % 3 == 0:
            del data[at:]
        elif case % 3 == 1:
            data[at] ^= 1 << int(rng.integers(8))
        else:
            data[at : at + 40] = rng.bytes(40)
        out.write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        manifest_path(out).write_text(json.dumps(manifest | {"sha256": digest}))
        try:
            load_onnx(out)
        except UserError as error:
            assert "x.onnx: onnxruntime cannot load it" in str(error)
            assert len(str(error)) < 500
            refused += 1
    assert refused > 20


@pytest.mark.parametrize("text", ["[1]", '"x"', "3", "{}", "[" * 10**5, "\x00"])
def test_what_is_no_manifest_of_an_onnx_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.onnx").write_bytes(b"")
    manifest_path(tmp_path / "x.onnx").write_text(text)
    with pytest.raises(UserError, match=r"x\.onnx\.json: not a readable manifest"):
        load_onnx(tmp_path / "x.onnx")


def write_rllib(folder: Path) -> Path:
    """A checkpoint as far as export looks at it."""
    policy = policy_of("ppo")
    module = folder / "learner_group" / "learner" / "rl_module" / "scheduler"
    module.mkdir(parents=True)
    (folder / "rllib_checkpoint.json").write_text("{}")
    (folder / "progress.json").write_text('{"iteration": 5}')
    state = {f"policy.{name}": value for name, value in policy.state().items()}
    state["value.head.bias"] = np.zeros(1)
    (module / "module_state.pkl").write_bytes(pickle.dumps(state))
    given = {"model_config": {"sizes": policy.manifest.sizes}}
    arguments = {"class": None, "ctor_args_and_kwargs": ((), given)}
    (module / "class_and_ctor_args.pkl").write_bytes(pickle.dumps(arguments))
    return folder


class Bomb:
    """What a pickle can do to whoever reads it."""

    def __reduce__(self) -> Any:
        return (builtins.exec, ("import sys; sys.went_off = True",))


def test_pickles_are_read_only_when_trusted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = write_rllib(tmp_path / "run" / "checkpoints" / "iter_5"), tmp_path / "x.onnx"
    module = folder / "learner_group" / "learner" / "rl_module" / "scheduler"
    whole = (module / "module_state.pkl").read_bytes()
    (module / "module_state.pkl").write_bytes(pickle.dumps(Bomb()))
    seen = call(capsys, "export", folder, "--onnx", out, *FEW)
    assert seen.code == 2 and "--trust" in seen.err and "pickle" in seen.err
    assert not hasattr(sys, "went_off") and not out.exists()
    (module / "module_state.pkl").write_bytes(whole)
    seen = call(capsys, "export", folder, "--onnx", out, *FEW, "--trust")
    assert seen.code == 0, seen.err
    assert load_onnx(out)[1]["iteration"] == 5
    for damaged in (b"", whole[:50], pickle.dumps([])):
        (module / "module_state.pkl").write_bytes(damaged)
        seen = call(capsys, "export", folder, "--onnx", out, *FEW, "--trust")
        assert seen.code == 2 and "not a readable checkpoint" in seen.err
        assert "Traceback" not in seen.err


def test_a_second_stage_as_earlier_versions_wrote_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """RLlib's checkpoint lies one folder deeper where the run began by a scorer."""
    folder, out = tmp_path / "run" / "checkpoints" / "iter_5", tmp_path / "x.onnx"
    write_rllib(folder / "trainer")
    (folder / "trainer" / "progress.json").rename(folder / "progress.json")
    (folder / "stage.json").write_text('{"warm_start": false, "iterations": 5, "jobs": 1}')
    seen = call(capsys, "export", folder, "--onnx", out, *FEW)
    assert seen.code == 2 and "add --trust" in seen.err
    seen = call(capsys, "export", folder, "--onnx", out, *FEW, "--trust")
    assert seen.code == 0, seen.err
    assert load_onnx(out)[1]["iteration"] == 5


@pytest.mark.parametrize("algo", ["ppo", "dqn"])
def test_a_single_algorithm_that_won_is_what_the_file_does(
    algo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is taken where it is legal, else commit: what the policy itself does."""
    policy = policy_of(algo)
    plays = replace(policy.manifest, plays=2)
    save_policy(LearnedPolicy(plays, policy.state()), tmp_path / "run" / "best")
    seen = call(capsys, "export", tmp_path / "run", "--onnx", tmp_path / "x.onnx", *FEW)
    assert seen.code == 0, seen.err
    name = policy.manifest.algorithms[1]
    assert f"always 2, {name}, or commit where that is not legal" in " ".join(seen.err.split())
    session, manifest = load_onnx(tmp_path / "x.onnx")
    assert manifest["plays"] == 2 and manifest["parity"]["equal_actions"] == 1.0
    for obs in parity.observations(policy, 24, 0):
        legal = obs["mask"][:, 2] > 0
        np.testing.assert_array_equal(session.run(["action"], obs)[0], np.where(legal, 2, 0))
        none = obs | {"mask": np.zeros_like(obs["mask"])}
        assert not session.run(["action"], none)[0].any()


@pytest.mark.parametrize("algo", ["ppo", "dqn"])
@pytest.mark.parametrize("scale", [1e24, 1e30, 3e38])
def test_a_network_that_has_diverged_is_not_exported(
    algo: str, scale: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Float32 and any tolerance that is relative would let 1e24 more or less pass."""
    policy = policy_of(algo)
    state = policy.state()
    name = next(name for name in state if name.endswith("slot_head.bias"))
    state[name] = np.full_like(state[name], scale)
    save_policy(LearnedPolicy(policy.manifest, state), tmp_path / "run" / "best")
    seen = call(capsys, "export", tmp_path / "run", "--onnx", tmp_path / "x.onnx", *FEW)
    assert seen.code == 2 and "diverged" in seen.err and "report it" not in seen.err
    assert not (tmp_path / "x.onnx").exists()


def test_a_failed_check_leaves_no_file(
    runs: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The module is changed under the check's feet."""
    true = parity.scores_of
    monkeypatch.setattr(parity, "scores_of", lambda view, params: true(view, params) + 1e-3)
    before = files_in(runs)
    seen = call(capsys, "export", runs / "es", "--onnx", runs / "x.onnx", *FEW)
    assert seen.code == 2 and "not written" in seen.err and "differs" in seen.err
    assert files_in(runs) == before


CASES = {
    "nothing to write": (["@es"], ["--onnx", "--pretrained"]),
    "no such folder": (["@none", "--onnx", "@x.onnx"], ["none", "no such folder", "train"]),
    "no run": (["@empty", "--onnx", "@x.onnx"], ["empty", "no trained scheduler here"]),
    "a file": (["@file", "--onnx", "@x.onnx"], ["file", "no trained scheduler here"]),
    "a foreign pickle": (["@foreign", "--onnx", "@x.onnx"], ["foreign", "pickle", "model.pt"]),
    "trusted, but nothing of ours": (
        ["@foreign", "--onnx", "@x.onnx", "--trust"], ["foreign", "pickle", "model.pt"],
    ),
    "another ending": (["@es", "--onnx", "@x.bin"], ["x.bin", ".onnx"]),
    "out is a folder": (["@es", "--onnx", "@d.onnx"], ["d.onnx", "folder"]),
    "the first format": (["@former", "--onnx", "@x.onnx"], ["scorer.json", "train again"]),
    "evolution's checkpoint": (["@iter_3", "--onnx", "@x.onnx"], ["iter_3", "run's folder"]),
    "ships no network": (["@ppo", "--pretrained", "@p"], ["PPO", "--onnx"]),
    "results of nothing": (
        ["@es", "--pretrained", "@p", "--results", "@empty"], ["empty", "no report.json"],
    ),
    "results without a card": (
        ["@es", "--onnx", "@x.onnx", "--results", "@empty"], ["--results", "model-card"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_one_line_and_nothing_written(
    case: str,
    runs: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("empty", "foreign", "former", "iter_3", "d.onnx"):
        (runs / name).mkdir()
    (runs / "file").write_text("x")
    (runs / "foreign" / "model.pt").write_bytes(pickle.dumps("x"))
    (runs / "former" / "scorer.json").write_text("{}")
    (runs / "iter_3" / "es.npz").write_bytes(b"x")
    arguments, words = CASES[case]
    before = files_in(runs)
    given = [f"{runs}/{text[1:]}" if text.startswith("@") else text for text in arguments]
    seen = call(capsys, "export", *given, *FEW)
    assert seen.code == 2 and seen.out == ""
    assert len(seen.err.splitlines()) == 1 and seen.err.startswith("error: ")
    for word in words:
        assert word in seen.err, (word, seen.err)
    assert files_in(runs) == before


def test_without_the_libraries(
    runs: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    seen = call(capsys, "export", runs / "es", "--onnx", runs / "x.onnx")
    assert seen.code == 2 and "onnxruntime" in seen.err and "pip install" in seen.err


SMALL = ("--set", "workload.synthetic.num_jobs=400", "--cluster", "2x4")


def test_a_run_becomes_what_ships_and_its_card_has_the_results(
    runs: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = runs / "es"
    (run / "run.json").write_text(json.dumps({"command": f"marl-sched train --out {run}"}))
    seen = call(
        capsys, "evaluate", "--suite", "quick", "--out", runs / "results", "--episodes", 3,
        "--scheduler", run, "--scheduler", "elastic_index:tuned", "--scheduler", "equi",
        "--set", "evaluation.bound_episodes=0",
    )  # fmt: skip
    assert seen.code == 0, seen.err
    folder = runs / "shipped"
    seen = call(capsys, "export", run, "--pretrained", folder, "--results", runs / "results", *FEW)
    assert seen.code == 0, seen.err
    assert sorted(path.name for path in folder.iterdir()) == [
        "MODEL_CARD.md", "manifest.json", "scorer.onnx", "scorer.onnx.json", "weights.safetensors",
    ]  # fmt: skip
    assert get_scheduler(str(folder)).weights == get_scheduler(str(run)).weights
    load_onnx(folder / "scorer.onnx")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["command"].startswith("marl-sched train --out ")
    assert str(runs) not in json.dumps(manifest)
    card = (folder / "MODEL_CARD.md").read_text()
    report = json.loads((runs / "results" / "report.json").read_text())
    for cell in report["cells"]:
        found = cell["vs_tuned_index"][str(run)]["avg_jct_percent"]
        interval = f"{found['mean']:+.1f} [{found['low']:+.1f}, {found['high']:+.1f}]"
        assert f"| {cell['cell']} | {cell['cluster']} | 3 | {interval} |" in card
    assert "Placeholder" not in card and "Suites without results here: `training`" in card
    # The same folder again, and the card alone, are the same.
    assert card == call(capsys, "model-card", folder, "--results", runs / "results").out


def test_results_of_other_weights_make_no_card(
    runs: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cell = {"cell": "a", "weights_sha256": {"x": "0" * 64}, "schedulers": {}}
    report = {"suite": "quick", "what": "", "cells": [cell]}
    (runs / "report.json").write_text(json.dumps(report))
    seen = call(capsys, "model-card", runs / "es", "--results", runs)
    assert seen.code == 2 and "these weights did not take part in quick" in seen.err
    (runs / "report.json").write_text("[]")
    seen = call(capsys, "model-card", runs / "es", "--results", runs)
    assert seen.code == 2 and "not the report of a suite" in seen.err


def test_what_ships_is_a_scheduler_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    listed = call(capsys, "simulate", "--scheduler", "list")
    assert "pretrained  [levels, preemptive, elastic]" in listed.out
    report = json.loads(call(capsys, "simulate", "--scheduler", "pretrained", "--json", *SMALL).out)
    assert report["num_finished"] == 400
    seen = call(
        capsys, "evaluate", "--scheduler", "pretrained", "--scheduler", "equi", "--episodes", 2,
        "--json", *SMALL, "--set", "env.base=pretrained",
    )  # fmt: skip
    assert seen.code == 0, seen.err
    assert json.loads(seen.out)["best_classic"] == "equi"
