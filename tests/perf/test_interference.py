"""The interference table: its fit by hand, its stand-ins, and that it can be repeated."""

import json

import numpy as np
import pytest

from marl_sched.errors import UserError
from marl_sched.perf.catalogue import Catalogue
from marl_sched.perf.fitting import interference_fit
from marl_sched.perf.fitting.interference_fit import CORRESPONDENCE, STAND_IN, fit, to_yaml
from marl_sched.perf.fitting.measurements import gavel_pairs
from marl_sched.perf.interference import SHIPPED, measured, table

MODELS = Catalogue.load().models


def made(folder, relative):
    """Two batch sizes of every model, alone at 8 steps/s; `relative[i][j]` beside another."""
    names = list(CORRESPONDENCE.values())
    jobs = [f"('{name} (batch size {size})', 1)" for name in names for size in (1, 2)]
    cells: dict = {job: {"null": 8.0} for job in jobs}
    for i, mine in enumerate(jobs):
        for j, other in enumerate(jobs):
            slow = 8.0 * relative[i // 2][j // 2] * (1.0 if j % 2 else 0.5)
            cells[mine][other] = [slow, 1.0]
    cells["('ResNet-18 (batch size 1)', 2)"] = {"null": 3.0, jobs[0]: [3.0, 1.0]}
    path = folder / "gavel"
    path.mkdir()
    (path / "physical_cluster_throughputs.json").write_text(
        json.dumps({"k80": cells, "p100": cells})
    )
    return folder, cells


def test_the_fit_by_hand(tmp_path):
    relative = np.linspace(0.2, 1.6, 25).reshape(5, 5)
    data, _ = made(tmp_path, relative)
    speed, pairs = fit(data)
    # Beside each batch size half or all of it, cut at 1: the median of the four is their mean.
    expected = (np.minimum(relative, 1) + np.minimum(relative / 2, 1)) / 2
    np.testing.assert_allclose(speed, expected)
    assert (pairs == 8).all()
    assert ((speed > 0) & (speed <= 1)).all()


def test_pairs_out_of_memory_and_on_more_gpus_do_not_count(tmp_path):
    data, cells = made(tmp_path, np.full((5, 5), 0.5))
    before = len(gavel_pairs(data, "k80"))
    assert before == 100
    names = list(cells)
    cells[names[0]][names[1]] = [0.0, 1.0]
    path = data / "gavel" / "physical_cluster_throughputs.json"
    path.write_text(json.dumps({"k80": cells}))
    assert len(gavel_pairs(data, "k80")) == before - 1


def test_a_pair_that_was_never_measured(tmp_path):
    data, cells = made(tmp_path, np.full((5, 5), 0.5))
    for mine in cells:
        cells[mine] = {key: cell for key, cell in cells[mine].items() if "LM" not in key}
    path = data / "gavel" / "physical_cluster_throughputs.json"
    path.write_text(json.dumps({"k80": cells, "p100": cells}))
    with pytest.raises(UserError, match="ResNet-18 beside LM on k80 is not measured"):
        fit(data)


def test_every_model_of_the_catalogue_has_an_entry():
    speed = table(MODELS)
    assert speed.shape == (len(MODELS), len(MODELS))
    assert ((speed > 0) & (speed <= 1)).all()
    assert set(CORRESPONDENCE) | set(STAND_IN) == set(MODELS)
    assert set(STAND_IN.values()) <= set(CORRESPONDENCE)


def test_stand_ins_are_marked_and_follow_their_model():
    models = ("vgg16", "resnet50", "bert", "ncf")
    speed, known = table(models), measured(models)
    assert known.tolist() == [
        [False, False, False, False],
        [False, True, False, True],
        [False, False, False, False],
        [False, True, False, True],
    ]
    np.testing.assert_array_equal(speed[0], speed[1])
    np.testing.assert_array_equal(speed[:, 0], speed[:, 1])
    assert speed[2, 3] == table(("transformer", "ncf"))[0, 1]


def test_the_order_of_the_models_is_the_callers():
    one, other = table(("lstm", "resnet18")), table(("resnet18", "lstm"))
    np.testing.assert_array_equal(one, other[::-1, ::-1])


def test_unknown_models_and_files(tmp_path):
    with pytest.raises(UserError, match="model 'alexnet' has no entry; known: resnet18"):
        table(("alexnet",))
    with pytest.raises(UserError, match="no such file"):
        table(MODELS, tmp_path / "none.yaml")
    for text in ("speed: {a: [2.0]}\nstand_in: {}\n", "speed: [\n", "speed: {a: [1, 1]}\n"):
        path = tmp_path / f"{len(text)}.yaml"
        path.write_text(text)
        with pytest.raises(UserError, match="not one .* python -m"):
            table(MODELS, path)


def test_the_shipped_table_can_be_repeated(shared_data, tmp_path, capsys):
    out = tmp_path / "table.yaml"
    assert interference_fit.main(["--data", str(shared_data), "--out", str(out)]) == 0
    assert out.read_text() == SHIPPED.read_text()
    assert to_yaml(*fit(shared_data)) == out.read_text()
    assert "resnet18: [" in capsys.readouterr().out
    assert interference_fit.main(["--data", str(tmp_path), "--out", str(out)]) == 2
