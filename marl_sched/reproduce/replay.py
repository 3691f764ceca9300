"""Models replayed from their measurements, as the artifact of Pollux has them.

Step times come from `placements.csv` where the placement was measured (its nodes form a ring, so
rotations are the same placement), else from a linear interpolation of the means by (nodes,
replicas, local batch) together with `scalability.csv`. Progress per step comes from the gradient
statistics of the training runs `validation-BSZ.csv`, epoch by epoch.
Source: Qiao et al., "Pollux", OSDI 2021, and its artifact's measurements on nodes of 4 T4.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from marl_sched.errors import UserError
from marl_sched.workload.reading import read_table

MAX_EPOCHS = {
    "bert": 2, "cifar10": 100, "ncf": 10, "imagenet": 90, "deepspeech2": 80, "yolov3": 50,
}  # fmt: skip
"""Epochs after which a job of each model is done, in the artifact."""

MAX_LOCAL_BATCH = {"yolov3": 8}
"""Where it is less than the largest that was measured."""

MOST_NODES = 16
"""More nodes are as slow as so many."""

SLACK = 1e-8


class ReplayedModel:
    """One model's measurements.

    Args:
        folder: with placements.csv, scalability.csv and validation-*.csv.

    Raises:
        UserError: for a model that the artifact does not have, or a file that cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self.name = folder.name
        if self.name not in MAX_EPOCHS:
            raise UserError(f"profiles {folder}: the models are {', '.join(MAX_EPOCHS)}")
        self.max_epochs = MAX_EPOCHS[self.name]
        self._read_step_times(folder)
        self._read_training(folder)
        self._known: dict[tuple[tuple[int, ...], int], tuple[float, float]] = {}

    def _read_step_times(self, folder: Path) -> None:
        from scipy.interpolate import LinearNDInterpolator

        columns = ("local_bsz", "step_time", "sync_time")
        names, rows = _numbers(folder / "placements.csv", columns, text="placement")
        by_placement: dict[tuple[int, ...], list[np.ndarray]] = {}
        by_shape: dict[tuple[int, int, int], list[np.ndarray]] = {}
        for name, row in zip(names, rows, strict=True):
            digits = tuple(int(digit) for digit in name)
            by_placement.setdefault(digits, []).append(row)
            by_shape.setdefault((len(digits), sum(digits), int(row[0])), []).append(row[1:])
        self._measured = {
            digits: np.array(sorted(map(tuple, table))) for digits, table in by_placement.items()
        }
        shapes = sorted(by_shape)
        times = [np.mean(by_shape[shape], axis=0) for shape in shapes]
        more = ("num_nodes", "num_replicas", "local_bsz", "step_time", "sync_time")
        _, scaled = _numbers(folder / "scalability.csv", more)
        points = np.concatenate([np.array(shapes, float), scaled[:, :3]])
        self._between = LinearNDInterpolator(points, np.concatenate([times, scaled[:, 3:]]))
        local = np.unique(rows[:, 0])
        self.min_local_batch = int(local[0])
        self.max_local_batch = MAX_LOCAL_BATCH.get(self.name, int(local[-1]))

    def _read_training(self, folder: Path) -> None:
        files = {int(path.stem.split("-")[1]): path for path in folder.glob("validation-*.csv")}
        if not files:
            raise UserError(f"profiles {folder}: has no validation-*.csv")
        columns = ("progress", "iteration", "grad_sqr", "grad_var")
        self._batches = np.array(sorted(files))
        runs = [_numbers(files[batch], columns)[1] for batch in sorted(files)]
        shortest = min(map(len, runs))
        if shortest < self.max_epochs:
            raise UserError(
                f"profiles {folder}: a validation file has {shortest} epochs, and a job needs "
                f"{self.max_epochs}"
            )
        self._training = np.stack([run[: self.max_epochs] for run in runs])
        self.initial_batch = int(self._batches[0])
        self.max_batch = int(self._batches[-1])
        self.epoch_end = self._training[:, :, 0].min(axis=0)
        """(F,) progress at which each epoch ends, in iterations at the initial batch size."""

    def step_s(self, digits: tuple[int, ...], local_batch: int) -> tuple[float, float]:
        """Seconds of one step and of its synchronisation.

        Args:
            digits: GPUs on each node of the ring.
        """
        digits = min(digits[i:] + digits[:i] for i in range(len(digits)))
        key = (digits, local_batch)
        if key not in self._known:
            table = self._measured.get(digits)
            if table is not None and table[0, 0] <= local_batch <= table[-1, 0]:
                step = float(np.interp(local_batch, table[:, 0], table[:, 1]))
                sync = float(np.interp(local_batch, table[:, 0], table[:, 2]))
            else:
                shape = (min(len(digits), MOST_NODES), sum(digits), local_batch)
                step, sync = map(float, self._between([shape])[0])
            if math.isnan(step):
                raise UserError(
                    f"model {self.name!r}: {sum(digits)} GPUs on {len(digits)} nodes with local "
                    f"batch {local_batch} are outside of what was measured"
                )
            self._known[key] = step, sync
        return self._known[key]

    def at_batch(self, batch: int, column: int) -> np.ndarray:
        """(F,) a column of the training runs, interpolated between validated batch sizes."""
        i = int(np.searchsorted(self._batches, batch))
        if i == len(self._batches) or batch < self._batches[0]:
            raise UserError(
                f"model {self.name!r}: batch size {batch} is outside of the validated ones, "
                f"{self._batches[0]} to {self._batches[-1]}"
            )
        if self._batches[i] == batch:
            return np.asarray(self._training[i, :, column])
        low, high = self._batches[i - 1], self._batches[i]
        upper, lower = self._training[i, :, column], self._training[i - 1, :, column]
        return np.asarray(((batch - low) * upper + (high - batch) * lower) / (high - low))

    def iterations(self, batch: int) -> np.ndarray:
        """(F,) iterations done at the end of each epoch with this batch size."""
        return self.at_batch(batch, 1)

    def split(self, batch: int, gpus: int, accumulate: bool = False) -> tuple[int, int]:
        """Local batch and accumulation steps of a batch on so many GPUs.

        Args:
            accumulate: on one GPU take at least one step more, as to measure gradient noise.
        """
        local = math.ceil(batch / gpus - SLACK)
        steps = math.ceil(local / self.max_local_batch - SLACK) - 1
        if gpus == 1 and (accumulate or batch > self.initial_batch):
            steps = max(1, steps)
        atomic = math.ceil(local / (steps + 1) - SLACK)
        return min(atomic, self.max_batch // (gpus * (steps + 1))), steps

    def iteration_s(self, digits: tuple[int, ...], local_batch: int, steps: int) -> float:
        """Seconds of one iteration with `steps` accumulation steps before the last one."""
        step, sync = self.step_s(digits, local_batch)
        return step + (step - sync) * steps

    def progress_per_s(self, digits: tuple[int, ...], batch: int) -> np.ndarray:
        """(F,) progress per second in each epoch, for a batch size on a placement.

        gain = (var + sqr) / (var / scale + sqr) iterations at the initial batch size are worth
        one of `scale` times its size.
        """
        return self.progress_at(digits, *self.split(batch, sum(digits)))

    def progress_at(self, digits: tuple[int, ...], local: int, steps: int) -> np.ndarray:
        """The same for a batch of one GPU and accumulation steps."""
        used = sum(digits) * local * (steps + 1)
        sqr, var = self.at_batch(used, 2), self.at_batch(used, 3)
        gain = (var + sqr) / (var / (used / self.initial_batch) + sqr)
        return np.asarray(gain / self.iteration_s(digits, local, steps))


def _numbers(
    path: Path, columns: tuple[str, ...], text: str | None = None
) -> tuple[list[str], np.ndarray]:
    """A column of text, if one is asked for, and (R, C) float64 of others."""
    table = read_table(path)
    missing = [name for name in (*columns, *([text] if text else [])) if name not in table.columns]
    if missing:
        raise UserError(f"profiles {path}: row 1: no column {missing[0]!r}")
    values = np.stack([table.numbers(name) for name in columns], axis=1)
    names = [str(name) for name in table.texts(text)] if text else []
    if text:
        bad = np.array([not (name.isascii() and name.isdigit()) for name in names], dtype=bool)
        table.refuse(bad, text, "not GPUs per node as digits")
    table.check()
    return names, values
