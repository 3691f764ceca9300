"""The fit recovers known constants, and the shipped catalogue can be repeated."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from marl_sched.perf.catalogue import SHIPPED, Catalogue
from marl_sched.perf.fitting import fit
from marl_sched.perf.fitting.fit import fit_throughput, to_yaml, type_ratios
from marl_sched.perf.fitting.measurements import (
    Samples,
    elasticflow,
    gavel,
    pollux,
    pollux_noise_scale,
)
from marl_sched.perf.fitting.recipes import RECIPES
from marl_sched.perf.throughput import Throughput

DATA = Path(__file__).parents[3].parent / "shared" / "data"
needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason="the measured tables are not here (../shared/data)"
)

TRUE = Throughput(a_c=0.06, b_c=0.004, a_r=0.07, b_r=0.02, a_n=0.3, b_n=0.006, gamma=2.5)


def made_samples(noise: float, outliers: int = 0) -> Samples:
    gpus, spread, batch = (
        axis.ravel() for axis in np.meshgrid([1, 2, 4, 8, 16], [1, 2], [16, 32, 64, 128.0])
    )
    nodes = np.where(gpus == 1, 1, spread)
    rng = np.random.default_rng(0)
    step_s = TRUE.iteration_s(gpus, nodes, batch) * np.exp(noise * rng.standard_normal(len(gpus)))
    step_s[3 : 3 + 5 * outliers : 5] *= 10.0
    return Samples(gpus, nodes, batch, step_s, np.full(len(gpus), np.nan))


# Three rows in 40 tenfold too long: a plain squared error would be off by 120 %.
@pytest.mark.parametrize(
    ("noise", "outliers", "tolerance"), [(0, 0, 1e-3), (0.02, 0, 0.04), (0.02, 3, 0.08)]
)
def test_recovers_the_times_of_known_constants(noise, outliers, tolerance):
    clean = made_samples(0.0)
    found = fit_throughput(made_samples(noise, outliers))
    times = found.iteration_s(clean.gpus, clean.nodes, clean.local_batch)
    assert times == pytest.approx(clean.step_s, rel=tolerance)


def test_ratios_of_gpu_types_are_medians_over_common_models():
    def made(scale: float, sync: float) -> fit.Fit:
        speed = Throughput(scale, scale, sync, 0.0, sync, 0.0, 1.0)
        return fit.Fit(speed, 10.0, 1, 0.0, 0.0, "test")

    fits = {
        "a": {"T4": made(1.0, 1.0), "A100": made(0.5, 0.1)},
        "b": {"T4": made(1.0, 1.0), "A100": made(0.3, 0.2)},
        "c": {"T4": made(1.0, 1.0), "A100": made(0.4, 0.3)},
        "d": {"A100": made(9.0, 9.0)},
    }
    assert type_ratios(fits, "T4", "A100") == pytest.approx((0.4, 0.2))


def test_yaml_of_the_shipped_data_loads_as_the_same_catalogue(tmp_path):
    data = yaml.safe_load(SHIPPED.read_text())
    path = tmp_path / "again.yaml"
    path.write_text(to_yaml(data))
    assert yaml.safe_load(path.read_text()) == data
    assert Catalogue.load(path).models == Catalogue.load().models
    assert set(data["models"]) == set(RECIPES)


def test_missing_data_is_one_line_and_writes_nothing(tmp_path, capsys):
    out = tmp_path / "catalogue.yaml"
    assert fit.main(["--data", str(tmp_path), "--out", str(out)]) == 2
    assert "no such file; give the folder of measurements with --data" in capsys.readouterr().err
    assert not out.exists()


@needs_data
@pytest.mark.parametrize(
    ("model", "gpu_type"), [("vgg16", "A100"), ("lstm", "P100"), ("resnet18", "T4")]
)
def test_a_refit_gives_the_shipped_constants(model, gpu_type):
    recipe = RECIPES[model]
    samples = recipe.tables[gpu_type].read(DATA)
    again = fit.fit_table(DATA, recipe, gpu_type)
    shipped = Catalogue.load().speed(model, gpu_type)
    where = (samples.gpus, samples.nodes, samples.local_batch)
    times = again.speed.iteration_s(*where)
    assert shipped.throughput.iteration_s(*where) == pytest.approx(times, rel=0.01)
    assert shipped.median_error == pytest.approx(again.median_error, abs=0.002)
    assert shipped.p90_error == pytest.approx(again.p90_error, abs=0.005)


@needs_data
def test_the_noise_scale_needs_as_many_samples_as_the_epochs_do():
    data = yaml.safe_load(SHIPPED.read_text())
    shipped = data["models"]["resnet50"]["batch"]["noise_scale"]
    assert shipped == pytest.approx(pollux_noise_scale(DATA, "imagenet"), rel=1e-3)
    # One trajectory by hand: the run at batch 400, judged at M = 12,800.
    path = DATA / "pollux" / "profiles" / "imagenet" / "validation-400.csv"
    table = np.genfromtxt(path, delimiter=",", skip_header=1)
    weight = np.diff(table[:, 0], prepend=0.0) / table[-1, 0]
    phi = 200 * table[:, 4] / table[:, 3]
    typical = 1 / np.sum(weight / (phi + 200)) - 200
    samples_needed = np.sum(weight * (phi + 12_800) / (phi + 200))
    assert (typical + 12_800) / (typical + 200) == pytest.approx(samples_needed)


@needs_data
def test_tables_are_read_in_one_unit():
    t4 = pollux(DATA, "cifar10")
    assert len(t4) == 1512
    assert np.isfinite(t4.grad_s).all()
    first = (t4.gpus == 1) & (t4.local_batch == 32)
    assert t4.step_s[first] == pytest.approx([0.0427887], rel=1e-5)
    a100 = elasticflow(DATA, "vgg16")
    eight = (a100.gpus == 8) & (a100.local_batch == 32)
    assert a100.step_s[eight] == pytest.approx([1 / 7.996428], rel=1e-5)
    assert a100.nodes[a100.gpus == 64].tolist() == [8, 8, 8]
    # Steps/s summed over workers: ResNet-50 at 64 a GPU does 2.5465 steps/s on 4 K80.
    k80 = gavel(DATA, "ResNet-50", "k80")
    four = (k80.gpus == 4) & (k80.nodes == 1) & (k80.local_batch == 64)
    assert k80.step_s[four] == pytest.approx([4 / 2.546447], rel=1e-5)
