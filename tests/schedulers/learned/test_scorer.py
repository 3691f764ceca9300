"""The residual scorer: the base without a last layer, its formula with one, its file."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

from marl_sched.errors import UserError
from marl_sched.schedulers import REGISTRY, Scheduler, get_scheduler, make_scorer
from marl_sched.schedulers.learned.scorer import (
    BIAS,
    FEATURES,
    HIDDEN,
    LAST,
    NUM_WEIGHTS,
    initial_weights,
)
from marl_sched.schedulers.learned.scorer_file import (
    FORMAT,
    FORMER_FILE,
    PRETRAINED_FOLDER,
    ScorerRecord,
    is_scorer,
    load_scorer,
    save_scorer,
    weights_digest,
)
from tests.schedulers.views import JobRow, make_view, random_view

BASE = REGISTRY["elastic_index"]


def preferring(feature: str, weight: float) -> Scheduler:
    """A scorer one unit of which sees one feature alone."""
    net = np.zeros(NUM_WEIGHTS)
    net[FEATURES.index(feature) * HIDDEN] = weight
    net[LAST] = 100.0
    return make_scorer(BASE.params, net.tolist())


def test_without_a_last_layer_it_is_the_base() -> None:
    rng = np.random.default_rng(0)
    fresh = make_scorer(BASE.params, initial_weights(3).tolist())
    other = initial_weights(3)
    other[LAST:] = 1.0
    corrected, differs = make_scorer(BASE.params, other.tolist()), 0
    for _ in range(150):
        view = random_view(rng)
        np.testing.assert_array_equal(fresh.levels(view), BASE.levels(view))
        differs += bool((corrected.levels(view) != BASE.levels(view)).any())
    assert differs > 30


def test_its_parameters_are_the_index_s() -> None:
    rng = np.random.default_rng(1)
    other = BASE.with_params({"p": 0.2, "h": 3.0})
    fresh = make_scorer(other.params, initial_weights(0).tolist())
    for _ in range(50):
        view = random_view(rng)
        np.testing.assert_array_equal(fresh.levels(view), other.levels(view))


def test_features_move_gpus_to_those_who_have_them() -> None:
    long, short = JobRow(total_s=1000.0), JobRow(total_s=10.0)
    view = make_view(1, long, short)
    assert BASE.levels(view).tolist() == [0, 1]
    assert preferring("log_work", 1.0).levels(view).tolist() == [1, 0]
    assert preferring("log_work", -1.0).levels(view).tolist() == [0, 1]
    running = JobRow(total_s=1000.0, held=1, run_since_s=0.0)
    view = make_view(1, running, short)
    assert BASE.levels(view).tolist() == [0, 1]
    assert preferring("running", 1.0).levels(view).tolist() == [1, 0]
    assert preferring("held", 1.0).levels(view).tolist() == [1, 0]


def test_surprise_tells_an_estimate_that_is_too_small() -> None:
    # Both seem to be half done; the first has held its GPU for ten times as long as that takes.
    late = JobRow(total_s=100.0, left_s=50.0, attained_gpu_s=500.0, waiting_since_s=0.0)
    true = JobRow(total_s=110.0, left_s=55.0, attained_gpu_s=55.0, waiting_since_s=0.0)
    view = make_view(1, late, true, now_s=600.0)
    assert BASE.levels(view).tolist() == [1, 0]
    assert preferring("surprise", 1.0).levels(view).tolist() == [0, 1]
    assert preferring("surprise", -1.0).levels(view).tolist() == [1, 0]


@pytest.mark.parametrize("scale", [1, 7, 100])
def test_features_are_relative(scale: int) -> None:
    """All times, and all GPUs, that much larger: the same levels."""
    net = np.random.default_rng(5).standard_normal(NUM_WEIGHTS)
    # Restart costs are compared with a second where there are none.
    net[FEATURES.index("log_held_for") * HIDDEN :][:HIDDEN] = 0.0
    rule = make_scorer(BASE.params, net.tolist())

    def view(time: float, gpus: int):  # type: ignore[no-untyped-def]
        rng = np.random.default_rng(2)
        jobs = [
            JobRow(
                sizes=(gpus, 2 * gpus, 4 * gpus),
                request=gpus,
                rates=(1.0, 1.8, 3.0),
                total_s=time * float(rng.uniform(50, 5000)),
                restart_s=time * 30.0,
            )
            for _ in range(12)
        ]
        return make_view(10 * gpus, *jobs)

    expected = rule.levels(view(1.0, 1)).tolist()
    assert 0 < sum(expected) and expected != BASE.levels(view(1.0, 1)).tolist()
    assert rule.levels(view(float(scale), 1)).tolist() == expected
    assert rule.levels(view(1.0, scale)).tolist() == expected


def record(**changes: object) -> ScorerRecord:
    weights = initial_weights(4)
    weights[LAST:] = 0.3
    given = {"params": BASE.params, "weights": tuple(weights.tolist()), "iteration": 7}
    given |= {"fallback": BASE.params}
    return ScorerRecord(**{**given, "validation": -1.5, "config": {}, **changes})  # type: ignore[arg-type]


def test_a_saved_scorer_is_a_scheduler(tmp_path: Path) -> None:
    save_scorer(record(), tmp_path / "best")
    for folder in (tmp_path, tmp_path / "best"):
        assert load_scorer(folder) == record()
        rule = get_scheduler(str(folder))
        assert rule.name == str(folder) and rule.kind == "levels"
        np.testing.assert_array_equal(rule.param_array[5 : 5 + NUM_WEIGHTS], record().weights)
    assert BIAS < LAST < NUM_WEIGHTS


def test_the_manifest_has_the_digest_of_every_file(tmp_path: Path) -> None:
    save_scorer(record(iteration=3), tmp_path)
    save_scorer(record(), tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["manifest.json", "weights-7.safetensors"]
    digest = hashlib.sha256((tmp_path / "weights-7.safetensors").read_bytes()).hexdigest()
    assert manifest["files"] == {"weights-7.safetensors": digest}
    assert weights_digest(tmp_path) == digest
    assert manifest["format"] == FORMAT and manifest["algo"] == "es"
    assert manifest["params"] == BASE.params and manifest["features"] == list(FEATURES)


def test_other_and_damaged_manifests_are_refused(tmp_path: Path) -> None:
    save_scorer(record(), tmp_path)
    path = tmp_path / "manifest.json"
    text = path.read_text()
    data = json.loads(text)
    bad = {
        "instead of p, h, g, b, trust": json.dumps(data | {"params": {}}),
        "other features": json.dumps(data | {"features": ["age"]}),
        "is not 'marl_sched.scorer/2'": json.dumps(data | {"format": "marl_sched.scorer/9"}),
        "not a readable trained scorer": text[:200],
        "unexpected keyword": json.dumps(data | {"code": "x"}),
        "cannot be read": json.dumps(data | {"files": {"other.safetensors": "0"}}),
    }
    for words, content in bad.items():
        path.write_text(content)
        with pytest.raises(UserError, match=words) as error:
            get_scheduler(str(tmp_path))
        assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)
    path.write_text("[]")
    with pytest.raises(UserError, match="not a readable trained scorer"):
        load_scorer(tmp_path)
    with pytest.raises(UserError, match="holds no scorer"):
        get_scheduler(str(tmp_path))
    path.unlink()
    with pytest.raises(UserError, match="no trained scorer"):
        load_scorer(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        load_scorer(tmp_path / "none")
    with pytest.raises(UserError, match="unknown scheduler"):
        get_scheduler(str(tmp_path / "none"))


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    save_scorer(record(), tmp_path, others={"more.onnx": hashlib.sha256(b"x").hexdigest()})
    (tmp_path / "more.onnx").write_bytes(b"x")
    load_scorer(tmp_path)
    for name in ("weights-7.safetensors", "more.onnx"):
        whole = (tmp_path / name).read_bytes()
        for damaged in (whole[:-1], bytes([whole[0] ^ 1]) + whole[1:], b""):
            (tmp_path / name).write_bytes(damaged)
            with pytest.raises(UserError, match=f"{name}: does not match the SHA-256"):
                load_scorer(tmp_path)
        (tmp_path / name).write_bytes(whole)


def test_the_first_format_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "best"):
        folder.mkdir(exist_ok=True)
        (folder / FORMER_FILE).write_text("{}")
        assert is_scorer(str(tmp_path))
        with pytest.raises(UserError, match=rf"{FORMER_FILE}.*train again"):
            get_scheduler(str(tmp_path))


def test_a_pickle_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "weights.pkl").write_bytes(pickle.dumps("code"))
    with pytest.raises(UserError, match=r"holds a pickle \(weights.pkl\)"):
        load_scorer(tmp_path)
    save_scorer(record(), tmp_path)
    with pytest.raises(UserError, match=r"holds a pickle \(weights.pkl\)"):
        load_scorer(tmp_path)


def test_what_ships_is_whole_and_small() -> None:
    rule = get_scheduler("pretrained")
    assert rule.name == "pretrained"
    assert len(load_scorer("pretrained").weights) == NUM_WEIGHTS
    names = {path.name for path in PRETRAINED_FOLDER.iterdir()}
    manifest = json.loads((PRETRAINED_FOLDER / "manifest.json").read_text())
    assert set(manifest["files"]) == {"weights.safetensors", "scorer.onnx"}
    assert names >= {*manifest["files"], "manifest.json", "MODEL_CARD.md"}
    assert sum(path.stat().st_size for path in PRETRAINED_FOLDER.iterdir()) <= 2 * 1024**2
    card = (PRETRAINED_FOLDER / "MODEL_CARD.md").read_text()
    assert weights_digest("pretrained") in card
    for text in (card, json.dumps(manifest)):
        assert not re.search(r"(/home/|/root/|/work/|/tmp/|/Users/)", text)
    with pytest.raises(UserError, match="takes no parameters"):
        get_scheduler("pretrained:p=0.5")
