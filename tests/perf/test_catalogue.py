"""The shipped catalogue: complete, readable, refused with a message when it is not."""

import numpy as np
import pytest

from marl_sched.errors import UserError
from marl_sched.perf.catalogue import SHIPPED, Catalogue

CATALOGUE = Catalogue.load()


def test_every_model_has_every_gpu_type_and_a_measured_primary_one():
    assert len(CATALOGUE.models) == 11
    assert CATALOGUE.gpu_types == ("K80", "P100", "V100", "T4", "A100")
    for name in CATALOGUE.models:
        model = CATALOGUE.model(name)
        assert model.speed[model.primary_type].measured
        assert model.restart_overhead_s > 0
        for speed in model.speed.values():
            assert speed.measured == (speed.median_error is not None)


def test_fit_errors_are_small_where_measured():
    errors = {
        (name, kind): (speed.median_error or 0.0, speed.p90_error or 0.0)
        for name in CATALOGUE.models
        for kind, speed in CATALOGUE.model(name).speed.items()
        if speed.measured
    }
    # Gavel's K80 rows of ResNet-18 contradict any affine compute time: 16 samples take longer
    # than 32 there.
    assert errors.pop(("resnet18", "K80"))[0] < 0.2
    assert max(median for median, _ in errors.values()) < 0.08
    assert max(p90 for _, p90 in errors.values()) < 0.22


def test_loading_is_cached_and_types_ignore_case():
    assert Catalogue.load() is CATALOGUE
    lower = CATALOGUE.goodput("bert", "a100", 4, 1)
    assert lower == CATALOGUE.goodput("bert", "A100", 4, 1)


def test_any_is_the_models_own_primary_type():
    for name in CATALOGUE.models:
        primary = CATALOGUE.model(name).primary_type
        assert CATALOGUE.goodput(name, "any", 8, 1) == CATALOGUE.goodput(name, primary, 8, 1)


def test_newer_gpus_are_faster_alone():
    for name in CATALOGUE.models:
        alone = [float(CATALOGUE.goodput(name, kind, 1, 1)) for kind in ("K80", "P100", "A100")]
        assert alone == sorted(alone), name


def test_models_scale_differently():
    gain = [
        float(CATALOGUE.goodput(name, "any", 8, 1) / CATALOGUE.goodput(name, "any", 1, 1))
        for name in CATALOGUE.models
    ]
    assert min(gain) < 2.0
    assert max(gain) > 7.0
    assert len(np.unique(np.round(gain, 1))) >= 8


def test_unknown_names_say_what_is_known():
    with pytest.raises(UserError, match="model 'alexnet' is not in the catalogue; known: resnet18"):
        CATALOGUE.goodput("alexnet", "T4", 1, 1)
    with pytest.raises(UserError, match="GPU type 'H999' .* known: K80, P100"):
        CATALOGUE.goodput("bert", "H999", 1, 1)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "a: [", "gpu_types: [T4]\nmodels: {}\n", "gpu_types: [T4]\nmodels: {x: {}}\n"],
)
def test_a_broken_catalogue_is_one_line(tmp_path, text):
    path = tmp_path / "catalogue.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match="not a catalogue") as caught:
        Catalogue.load(path)
    assert "\n" not in str(caught.value)


def test_a_missing_catalogue_is_named(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        Catalogue.load(tmp_path / "none.yaml")


def test_the_shipped_file_stays_readable():
    lines = SHIPPED.read_text().splitlines()
    assert len(lines) < 200
    assert max(map(len, lines)) < 260
