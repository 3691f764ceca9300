"""Fit the catalogue's constants to the published measurements.

Command, from the project's root (about 5 s):

    python -m marl_sched.perf.fitting.fit --data ../shared/data --out marl_sched/perf/catalogue.yaml

It prints a line per model and GPU type with the fit's median and 90th percentile relative error
of the step time, and writes the catalogue; the shipped one is this command's output.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from marl_sched.errors import UserError
from marl_sched.files import write_text
from marl_sched.perf.fitting.measurements import (
    Samples,
    muri_restarts,
    pollux_batches,
    pollux_noise_scale,
)
from marl_sched.perf.fitting.recipes import GPU_TYPES, RECIPES, SOURCES, ChargedRestart, Recipe
from marl_sched.perf.throughput import Throughput

SMALLEST_S, LARGEST_S = 1e-7, 1e2
"""Bounds of the constants."""
NOISE = 0.1
"""Relative error beyond which a row counts as an outlier."""
SYNC_GPUS = 8
"""GPUs at which the synchronisation of two GPU types is compared."""


@dataclass(frozen=True)
class Fit:
    """Constants with what they came from."""

    speed: Throughput
    max_local_batch: float
    num_rows: int
    median_error: float
    """Of the step time, relative."""
    p90_error: float
    source: str


def fit_throughput(samples: Samples) -> Throughput:
    """Constants with the smallest robust squared error of log step time and log compute time.

    Both logs weigh alike, as in Pollux. Constants are fitted as logarithms, hence positive; the
    soft-L1 loss keeps rows off by more than `NOISE` from pulling the rest. Three starting values of
    the overlap; the best end is kept.
    """
    from scipy.optimize import least_squares

    measured = np.isfinite(samples.grad_s)

    def residuals(x: np.ndarray) -> np.ndarray:
        speed = _unpack(x)
        step_s = speed.iteration_s(samples.gpus, samples.nodes, samples.local_batch)
        grad_s = speed.grad_s(samples.local_batch[measured])
        return np.concatenate(
            [np.log(step_s / samples.step_s), np.log(grad_s / samples.grad_s[measured])]
        )

    low, high = np.full(7, np.log(SMALLEST_S)), np.full(7, np.log(LARGEST_S))
    low[6], high[6] = 1.0, 10.0
    ends = [
        least_squares(
            residuals, _start(samples, gamma), bounds=(low, high), loss="soft_l1", f_scale=NOISE
        )
        for gamma in (1.2, 2.0, 5.0)
    ]
    return _unpack(min(ends, key=lambda end: float(end.cost)).x)


def _start(samples: Samples, gamma: float) -> np.ndarray:
    alone = samples.gpus == 1
    per_sample_s = np.median(samples.step_s[alone] / samples.local_batch[alone])
    step_s = np.median(samples.step_s[alone])
    a_c = 0.3 * np.min(samples.step_s[alone])
    shares = np.array([0.1, 0.01, 0.3, 0.02]) * step_s
    return np.concatenate([np.log([a_c, 0.7 * per_sample_s, *shares]), [gamma]])


def _unpack(x: np.ndarray) -> Throughput:
    a_c, b_c, a_r, b_r, a_n, b_n = np.exp(x[:6]).tolist()
    return Throughput(a_c, b_c, a_r, b_r, a_n, b_n, gamma=float(x[6]))


def fit_table(data: Path, recipe: Recipe, gpu_type: str) -> Fit:
    """Fit one model on one GPU type where it was measured."""
    table = recipe.tables[gpu_type]
    samples = table.read(data)
    speed = fit_throughput(samples)
    step_s = speed.iteration_s(samples.gpus, samples.nodes, samples.local_batch)
    error = np.abs(step_s / samples.step_s - 1.0)
    return Fit(
        speed,
        max_local_batch=float(samples.local_batch.max()),
        num_rows=len(samples),
        median_error=float(np.median(error)),
        p90_error=float(np.quantile(error, 0.9)),
        source=table.source,
    )


def type_ratios(fits: dict[str, dict[str, Fit]], source: str, target: str) -> tuple[float, float]:
    """How much slower `target` is than `source`: (compute, synchronisation).

    Medians over the models measured on both of the ratio of T_grad at half the smaller memory
    limit, and of T_sync of 8 GPUs, on one node and across nodes alike.
    """
    compute, sync = [], []
    for by_type in fits.values():
        if source not in by_type or target not in by_type:
            continue
        mine, other = by_type[source], by_type[target]
        batch = min(mine.max_local_batch, other.max_local_batch) / 2
        compute.append(float(other.speed.grad_s(batch) / mine.speed.grad_s(batch)))
        for nodes in (1, 2):
            times = [float(fit.speed.sync_s(SYNC_GPUS, nodes)) for fit in (other, mine)]
            sync.append(times[0] / times[1])
    return float(np.median(compute)), float(np.median(sync))


def derive(fit: Fit, compute_ratio: float, sync_ratio: float) -> Throughput:
    """Constants on a GPU type where the model was not measured."""
    speed = fit.speed
    return Throughput(
        a_c=speed.a_c * compute_ratio,
        b_c=speed.b_c * compute_ratio,
        a_r=speed.a_r * sync_ratio,
        b_r=speed.b_r * sync_ratio,
        a_n=speed.a_n * sync_ratio,
        b_n=speed.b_n * sync_ratio,
        gamma=speed.gamma,
    )


def fit_catalogue(data: Path) -> dict[str, Any]:
    """The whole catalogue as plain data, in the layout of `catalogue.yaml`."""
    fits = {
        name: {kind: fit_table(data, recipe, kind) for kind in GPU_TYPES if kind in recipe.tables}
        for name, recipe in RECIPES.items()
    }
    models = {}
    for name, recipe in RECIPES.items():
        primary = recipe.primary_type
        speeds = {}
        for kind in GPU_TYPES:
            if kind in fits[name]:
                speeds[kind] = _measured(fits[name][kind])
            else:
                speed = derive(fits[name][primary], *type_ratios(fits, primary, kind))
                speeds[kind] = _derived(speed, fits[name][primary])
        models[name] = {
            "task": recipe.task,
            "primary_type": primary,
            "batch": _batch(data, recipe),
            "restart": _restart(data, recipe),
            "speed": speeds,
        }
    return {"gpu_types": list(GPU_TYPES), "sources": SOURCES, "models": models}


def _restart(data: Path, recipe: Recipe) -> dict[str, Any]:
    given = recipe.restart
    if isinstance(given, ChargedRestart):
        return {"overhead_s": given.overhead_s, "per_doubling_s": 0.0, "source": given.source}
    gpus, overhead_s = muri_restarts(data, given.model)
    slope, at_one = np.polyfit(np.log2(gpus), overhead_s, 1)
    rounded = {"overhead_s": round(float(at_one), 2), "per_doubling_s": round(float(slope), 2)}
    return {**rounded, "source": given.source}


def _batch(data: Path, recipe: Recipe) -> dict[str, Any]:
    if recipe.pollux_application is None:
        batch = recipe.fixed_batch
        return {"min": batch, "max": batch, "noise_scale": None, "measured": False}
    batches = pollux_batches(data, recipe.pollux_application)
    scale = _round(pollux_noise_scale(data, recipe.pollux_application))
    return {"min": batches[0], "max": batches[-1], "noise_scale": scale, "measured": True}


def _measured(fit: Fit) -> dict[str, Any]:
    return {
        **_constants(fit.speed),
        "max_local_batch": int(fit.max_local_batch),
        "measured": True,
        "source": fit.source,
        "rows": fit.num_rows,
        "median_error": round(fit.median_error, 3),
        "p90_error": round(fit.p90_error, 3),
    }


def _derived(speed: Throughput, fit: Fit) -> dict[str, Any]:
    batch = int(fit.max_local_batch)
    return {**_constants(speed), "max_local_batch": batch, "measured": False}


def _constants(speed: Throughput) -> dict[str, float]:
    # Constants at the lower bound are zeros that a logarithm cannot reach.
    return {
        name: 0.0 if value < 10 * SMALLEST_S and name != "b_c" else _round(value)
        for name, value in vars(speed).items()
    }


def _round(value: float) -> float:
    return float(f"{value:.4g}")


HEADER = """\
# Speed of deep-learning training by model and GPU type. Fitted, not written by hand:
#   python -m marl_sched.perf.fitting.fit --data ../shared/data --out marl_sched/perf/catalogue.yaml
#
# speed: the constants of marl_sched/perf/throughput.py, in seconds; K GPUs, m samples per GPU:
#   T_grad = a_c + b_c m;  T_sync = a_r + b_r (K-2) on one node, a_n + b_n (K-2) across nodes;
#   T_step = (T_grad^gamma + T_sync^gamma)^(1/gamma).
#   rows, median_error, p90_error: measured steps, and the fit's relative error of their time.
#   measured: false: nobody measured this model on this GPU type. Its constants are those of the
#   primary type, compute and synchronisation each multiplied by the median ratio of the two GPU
#   types over the models that were measured on both.
# restart: seconds without progress after a start on one GPU, and more with every doubling of the
#   GPUs: a straight line through the measured ones over log2 of the GPUs, or as a study charges.
# batch: global batch sizes a job may train with. noise_scale: typical gradient noise scale phi over
#   training, in samples; the single phi that needs as many samples in a whole training as the
#   measured epochs do; median over the batch sizes trained (see measurements.py).
#   measured: false: nobody measured phi, so the batch is fixed (strong scaling at min = max).
"""


def to_yaml(catalogue: dict[str, Any]) -> str:
    """YAML with one line per model and GPU type."""
    import yaml

    class Flow(dict[str, Any]):
        pass

    class Dumper(yaml.SafeDumper):
        pass

    Dumper.add_representer(
        Flow, lambda dumper, data: dumper.represent_mapping("tag:yaml.org,2002:map", data, True)
    )
    models = {
        name: {
            **model,
            "batch": Flow(model["batch"]),
            "restart": Flow(model["restart"]),
            "speed": {kind: Flow(speed) for kind, speed in model["speed"].items()},
        }
        for name, model in catalogue["models"].items()
    }
    sources = {name: Flow(source) for name, source in catalogue["sources"].items()}
    data = {"gpu_types": catalogue["gpu_types"], "sources": sources, "models": models}
    text: str = yaml.dump(data, Dumper=Dumper, sort_keys=False, width=400)
    return HEADER + text


def main(arguments: list[str] | None = None) -> int:
    """Fit, print the errors, write the catalogue; 2 on bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m marl_sched.perf.fitting.fit", description=__doc__
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the measurements")
    parser.add_argument("--out", type=Path, required=True, help="catalogue to write")
    given = parser.parse_args(arguments)
    try:
        catalogue = fit_catalogue(given.data)
        write_text(given.out, to_yaml(catalogue))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, model in catalogue["models"].items():
        for kind, speed in model["speed"].items():
            if speed["measured"]:
                errors = f"median {speed['median_error']:6.1%}  p90 {speed['p90_error']:6.1%}"
                print(f"{name:12} {kind:5} {speed['rows']:5} rows  {errors}")
    print(f"wrote {given.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
