"""The catalogue of measured models: constants by model and GPU type, and the speed they give."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from marl_sched.errors import UserError, in_words
from marl_sched.perf.throughput import BatchRange, Throughput, best_goodput
from marl_sched.types import ANY_GPU

SHIPPED = Path(__file__).with_name("catalogue.yaml")


@dataclass(frozen=True)
class Speed:
    """One model on one GPU type."""

    throughput: Throughput
    max_local_batch: float
    """Samples that fit one GPU."""
    measured: bool
    """False: derived from the primary type by the ratio of the GPU types."""
    median_error: float | None = None
    """Relative, of the step time; None where not measured."""
    p90_error: float | None = None


@dataclass(frozen=True)
class Model:
    """One model of the catalogue."""

    name: str
    task: str
    primary_type: str
    batches: BatchRange
    restart_overhead_s: float
    """On one GPU."""
    restart_per_doubling_s: float
    """More with every doubling of the GPUs."""
    speed: dict[str, Speed]
    """By GPU type."""


class Catalogue:
    """Speed of every model on every GPU type.

    GPU types are matched without regard to case; `any` is each model's own primary type.
    """

    def __init__(self, models: dict[str, Model]) -> None:
        self._models = models
        self.models: tuple[str, ...] = tuple(models)
        first = next(iter(models.values()))
        self.gpu_types: tuple[str, ...] = tuple(first.speed)

    @classmethod
    def load(cls, path: Path | None = None) -> Catalogue:
        """The shipped catalogue, or the one at `path`; read once.

        Raises:
            UserError: when the file is absent or not a catalogue.
        """
        return _load((path or SHIPPED).resolve())

    def model(self, name: str) -> Model:
        """The entry of `name`.

        Raises:
            UserError: for a model the catalogue lacks.
        """
        if name not in self._models:
            known = ", ".join(self.models)
            raise UserError(f"model {name!r} is not in the catalogue; known: {known}")
        return self._models[name]

    def gpu_type(self, gpu_type: str) -> str:
        """`gpu_type` as the catalogue spells it, or `any`.

        Raises:
            UserError: for a GPU type the catalogue lacks.
        """
        for known in (ANY_GPU, *self.gpu_types):
            if known.lower() == gpu_type.lower():
                return known
        raise UserError(
            f"GPU type {gpu_type!r} is not in the catalogue; known: {', '.join(self.gpu_types)}, "
            "or leave the type out"
        )

    def speed(self, model: str, gpu_type: str) -> Speed:
        """Constants of `model` on `gpu_type`."""
        entry, kind = self.model(model), self.gpu_type(gpu_type)
        return entry.speed[entry.primary_type if kind == ANY_GPU else kind]

    def goodput(self, model: str, gpu_type: str, gpus: ArrayLike, nodes: ArrayLike) -> np.ndarray:
        """Samples/s x efficiency at the best batch size; `gpus` and `nodes` broadcast.

        Progress is counted in samples at the model's smallest batch, so values compare between
        GPU types and sizes of one model, not between models.
        """
        speed = self.speed(model, gpu_type)
        batches = self.model(model).batches
        return best_goodput(speed.throughput, batches, speed.max_local_batch, gpus, nodes)

    def restart_overhead_s(self, model: str, gpus: np.ndarray) -> np.ndarray:
        """Seconds without progress after a restart or a resize; `gpus` of any shape, >= 1."""
        entry = self.model(model)
        seconds = entry.restart_overhead_s + entry.restart_per_doubling_s * np.log2(gpus)
        return np.asarray(seconds, dtype=np.float64)


@lru_cache(maxsize=8)
def _load(path: Path) -> Catalogue:
    import yaml

    from marl_sched import safe_yaml

    if not path.is_file():
        raise UserError(f"catalogue {path}: no such file")
    try:
        data = safe_yaml.load(path.read_text(encoding="utf-8"))
        kinds = list(data["gpu_types"])
        models = {name: _model(name, kinds, entry) for name, entry in data["models"].items()}
        if not models or not kinds:
            raise ValueError("no models")
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"catalogue {path}: not a catalogue ({type(error).__name__}: "
            f"{in_words(error)}); write it with python -m marl_sched.perf.fitting.fit"
        ) from None
    return Catalogue(models)


def _model(name: str, kinds: list[str], entry: dict[str, Any]) -> Model:
    batch = entry["batch"]
    scale = batch["noise_scale"]
    return Model(
        name=name,
        task=str(entry["task"]),
        primary_type=str(entry["primary_type"]),
        batches=BatchRange(
            float(batch["min"]), float(batch["max"]), np.inf if scale is None else float(scale)
        ),
        restart_overhead_s=float(entry["restart"]["overhead_s"]),
        restart_per_doubling_s=float(entry["restart"]["per_doubling_s"]),
        speed={kind: _speed(entry["speed"][kind]) for kind in kinds},
    )


def _speed(entry: dict[str, Any]) -> Speed:
    constants = {name: float(entry[name]) for name in Throughput.__dataclass_fields__}
    return Speed(
        Throughput(**constants),
        max_local_batch=float(entry["max_local_batch"]),
        measured=bool(entry["measured"]),
        median_error=entry.get("median_error"),
        p90_error=entry.get("p90_error"),
    )
