"""Published measurements of training speed, read into one shape for the fit.

Four groups measured step times of data-parallel training; their tables differ in unit and layout:

* Pollux (`pollux/profiles`): seconds per step and of synchronisation, by placement and batch per
  GPU, on nodes of 4 T4; gradient statistics per epoch.
* ElasticFlow (`elasticflow/throughputs_A100`): steps/s by global batch and GPUs, nodes of 8 A100.
* Gavel (`gavel/physical_cluster_throughputs.json`): steps/s summed over workers, by batch per GPU
  and GPUs; "consolidated" is taken as one node, "unconsolidated" as one GPU per node.
* Shockwave (`shockwave/tacc_throughputs.json`): the same layout on nodes of 4 V100.

Muri measured how long a start takes (`muri/restart_overhead.csv`), by model and GPUs.
"""

from __future__ import annotations

import ast
import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from marl_sched.errors import UserError


@dataclass(frozen=True)
class Samples:
    """Measured steps of one model on one GPU type; arrays (S,) over the rows of the tables."""

    gpus: np.ndarray
    nodes: np.ndarray
    """GPUs on one node count as 1 whatever their number."""
    local_batch: np.ndarray
    """Samples per GPU and step."""
    step_s: np.ndarray
    grad_s: np.ndarray
    """Seconds of computation alone; NaN where it was not measured."""

    def __len__(self) -> int:
        return len(self.gpus)


def _samples(rows: list[tuple[float, ...]]) -> Samples:
    return Samples(*np.array(sorted(rows), dtype=float).reshape(-1, 5).T)


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the folder of measurements with --data")
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def muri_restarts(data: Path, model: str) -> tuple[np.ndarray, np.ndarray]:
    """GPUs and seconds from a start to the first step of one model, in Muri's table."""
    path = data / "muri" / "restart_overhead.csv"
    rows = [row for row in _rows(path) if row["model"] == model]
    if not rows:
        raise UserError(f"{path}: no row of model {model!r}")
    gpus = np.array([float(row["num_gpu"]) for row in rows])
    return gpus, np.array([float(row["overhead_s"]) for row in rows])


def pollux(data: Path, application: str) -> Samples:
    """Steps of one Pollux application: every placement of up to 4 nodes, and larger counts."""
    folder = data / "pollux" / "profiles" / application
    rows: list[tuple[float, ...]] = []
    for row in _rows(folder / "placements.csv"):
        # Each digit is the GPUs on one node: "24" is 2 GPUs on one node and 4 on another.
        digits = [int(digit) for digit in row["placement"]]
        rows.append((sum(digits), len(digits), *_pollux_times(row)))
    for row in _rows(folder / "scalability.csv"):
        rows.append((int(row["num_replicas"]), int(row["num_nodes"]), *_pollux_times(row)))
    return _samples(rows)


def _pollux_times(row: dict[str, str]) -> tuple[float, float, float]:
    step_s = float(row["step_time"])
    return float(row["local_bsz"]), step_s, step_s - float(row["sync_time"])


def elasticflow(data: Path, table: str, gpus_per_node: int = 8) -> Samples:
    """Steps of one ElasticFlow model; a zero or empty cell was not measured."""
    rows: list[tuple[float, ...]] = []
    for row in _rows(data / "elasticflow" / "throughputs_A100" / f"{table}.csv"):
        batch = float(row.pop("global_batch_size"))
        for gpus, cell in ((int(key), float(cell or 0)) for key, cell in row.items()):
            if cell > 0:
                nodes = -(-gpus // gpus_per_node)
                rows.append((gpus, nodes, batch / gpus, 1.0 / cell, np.nan))
    return _samples(rows)


def gavel(data: Path, model: str, gpu_type: str) -> Samples:
    """Steps of one Gavel model on `k80` or `p100`, packed and spread."""
    tables = _json(data / "gavel" / "physical_cluster_throughputs.json")
    rows = _gavel_rows(tables[gpu_type], model, spread=False, gpus_per_node=8)
    rows += _gavel_rows(tables[f"{gpu_type}_unconsolidated"], model, spread=True, gpus_per_node=1)
    return _samples(rows)


def shockwave(data: Path, model: str, gpus_per_node: int = 4) -> Samples:
    """Steps of one Gavel model as measured again on V100 by the Shockwave authors."""
    table = _json(data / "shockwave" / "tacc_throughputs.json")["v100"]
    return _samples(_gavel_rows(table, model, spread=False, gpus_per_node=gpus_per_node))


def gavel_pairs(data: Path, gpu_type: str) -> list[tuple[str, str, float]]:
    """(model, its co-runner, relative speed) of every pair of jobs measured on one GPU.

    Models without their batch size, so that a pair of models has an entry for every pair of batch
    sizes. Relative speed is steps/s beside the other over steps/s alone; pairs that ran out of
    memory (zero) are left out.
    """
    table = _json(data / "gavel" / "physical_cluster_throughputs.json")[gpu_type]
    alone = {key: cells for key, cells in table.items() if ast.literal_eval(key)[1] == 1}
    return [
        (_gavel_model(mine), _gavel_model(other), pair[0] / float(cells["null"]))
        for mine, cells in alone.items()
        for other, pair in cells.items()
        if other in alone and isinstance(pair, list) and min(pair) > 0 and float(cells["null"]) > 0
    ]


def _gavel_model(key: str) -> str:
    """`ResNet-18` of `('ResNet-18 (batch size 16)', 1)`."""
    return str(ast.literal_eval(key)[0]).split(" (")[0]


def _gavel_rows(
    table: dict[str, dict[str, Any]], model: str, spread: bool, gpus_per_node: int
) -> list[tuple[float, ...]]:
    rows: list[tuple[float, ...]] = []
    for key, cell in table.items():
        name, gpus = ast.literal_eval(key)
        steps_per_s = float(cell["null"])
        # Zero: out of memory. A single GPU that is "unconsolidated" repeats the packed entry.
        if not name.startswith(f"{model} (") or steps_per_s <= 0 or (spread and gpus == 1):
            continue
        batch = float(name.split("batch size ")[1].rstrip(")"))
        rows.append((gpus, -(-gpus // gpus_per_node), batch, gpus / steps_per_s, np.nan))
    return rows


def _json(path: Path) -> dict[str, dict[str, dict[str, Any]]]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the folder of measurements with --data")
    data: dict[str, dict[str, dict[str, Any]]] = json.loads(path.read_text(encoding="utf-8"))
    return data


def pollux_batches(data: Path, application: str) -> list[int]:
    """Global batch sizes that were trained to the end, ascending."""
    folder = data / "pollux" / "profiles" / application
    return sorted(int(path.stem.split("-")[1]) for path in folder.glob("validation-*.csv"))


def pollux_noise_scale(data: Path, application: str) -> float:
    """Typical gradient noise scale phi over training, in samples.

    At a fixed batch M a whole training needs sum_r w_r (phi_r + M) / (phi_r + M0) samples over
    epochs r of progress w_r, so the one phi that needs as many, whatever M, has
    1 / (phi + M0) = mean of 1 / (phi_r + M0). It is taken on the trajectory of each batch size
    that was trained, and the median over those is returned.
    """
    batches = pollux_batches(data, application)
    scales = []
    for batch in batches:
        path = data / "pollux" / "profiles" / application / f"validation-{batch}.csv"
        table = np.array([[float(cell) for cell in row.values()] for row in _rows(path)])
        progress, sqr, var = table[:, 0], table[:, 3], table[:, 4]
        # 1 / (phi_r + M0) with phi_r = M0 var / sqr; a vanishing gradient norm means phi = inf.
        inverse_epoch = sqr / (batches[0] * (var + sqr))
        inverse = np.average(inverse_epoch, weights=np.diff(progress, prepend=0.0))
        scales.append(1.0 / inverse - batches[0])
    return float(np.median(scales))
