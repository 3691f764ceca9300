"""Training on several nodes: spread, placed, kept elsewhere, and going on when one dies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.clusters.isolated import ray_environment, run_isolated

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

PROGRAM = Path(__file__).with_name("several_nodes.py")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    base = tmp_path_factory.mktemp("nodes")
    return base / "out", base / "shared"


@pytest.fixture(scope="module")
def seen(folders: tuple[Path, Path]) -> dict[str, Any]:
    """What the scenario printed."""
    out, storage = folders
    with ray_environment() as environment:
        done = run_isolated(PROGRAM, str(out), str(storage), environment=environment, timeout_s=580)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if "waited_for" in found:
        pytest.fail(f"did not come in time: {found['waited_for']}")
    return found


def test_runners_are_spread_over_the_nodes(seen: dict[str, Any]) -> None:
    assert seen["runners"] == sorted(seen["nodes"])


def test_the_learner_is_where_its_resource_is(seen: dict[str, Any]) -> None:
    assert list(seen["learners"].values()) == [seen["head"]]


def test_learners_take_gpus_where_there_are_any(seen: dict[str, Any]) -> None:
    assert seen["gpus"] == 1.0
    assert seen["asked"] == [1.0, 0.5, 0.0]
    assert "the cluster has 1" in seen["too_many"]


def test_training_goes_on_when_a_node_dies(seen: dict[str, Any]) -> None:
    assert seen["victim"] not in seen["after_loss"] and len(seen["after_loss"]) == 2
    assert seen["first"] <= seen["lost_at"] < len(seen["rows"]) - 1
    # The same learner throughout: what it has learned is not lost.
    assert seen["learners_at_the_end"] == seen["learners"]
    iterations, decisions = zip(*seen["rows"], strict=True)
    assert list(iterations) == list(range(len(iterations)))
    rounds = [after - before for before, after in zip(decisions, decisions[1:], strict=False)]
    # Every update had its whole batch: only what was in flight on the lost node is gone.
    assert min(rounds) >= 768


def test_a_node_that_comes_is_used(seen: dict[str, Any]) -> None:
    kept = sorted(set(seen["nodes"]) - {seen["victim"]})
    assert seen["after_loss"] == kept
    assert seen["at_the_end"] == sorted([*kept, seen["new"]])


def test_checkpoints_are_elsewhere_too(seen: dict[str, Any], folders: tuple[Path, Path]) -> None:
    out, storage = folders
    here = sorted(path.name for path in (out / "checkpoints").iterdir())
    assert here == sorted(path.name for path in (storage / "checkpoints").iterdir())
    last = max(int(name.removeprefix("iter_")) for name in here)
    assert last in (seen["rows"][-1][0], seen["rows"][-1][0] - 1)
    assert (storage / "checkpoints" / f"iter_{last}" / "progress.json").is_file()
    assert (storage / "best").is_dir()
