"""Experiment R4: how full a placement rule gets the Alibaba GPU cluster (openb).

All pods arrive in random order, none leaves, and a pod that fits nowhere is turned away. The
result is the share of all GPU thousandths that is held once a given share of them has been
asked for. Source: Weng et al., Beware of Fragmentation, USENIX ATC 2023, section 6.2, and the
authors' simulator, hkust-adsl/kubernetes-scheduler-simulator, whose rules are followed:

* the order of pods is drawn by the seed; pods drawn with replacement follow until the GPU demand
  reaches 130 % of the cluster (or, where the list asks for more than that, pods are left out);
* the order of nodes is drawn by the seed, and settles ties between nodes;
* FGD's mix is the list's own: kinds of pod (CPU, GPUs, share, GPU types) by falling count, up to
  the one with which 95 % of all pods are covered, weights scaled to sum 1;
* the value at p % is the mean over the arrivals after which the arrived demand, rounded to whole
  percent, is p.

The random streams are numpy's, not Go's: results agree as means over seeds, not seed by seed.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from marl_sched.errors import UserError
from marl_sched.sim.fragmentation import Mix, empty_cache, job_kinds, usual_mix
from marl_sched.sim.packing import fill
from marl_sched.sim.scoring import RULES
from marl_sched.workload.openb import WHOLE, NodeList, PodList, load_nodes, load_pods

SCHEDULERS = {
    "Random": "random",
    "DotProd": "dot_prod",
    "GpuClustering": "gpu_clustering",
    "GpuPacking": "gpu_packing",
    "BestFit": "best_fit",
    "FGD": "fgd",
}
"""Published name of each policy -> placement rule."""

NODE_LIST = "openb_node_list_gpu_node.csv"
"""Node list of the experiment, beside the pod lists."""

TUNED_LOAD = 1.3
"""GPU demand of all arrivals over the cluster's GPUs."""

MIX_COVERAGE = 0.95
"""Share of pods that FGD's mix covers at least."""


def run(
    pod_list: Path,
    node_list: Path | None = None,
    scheduler: str = "FGD",
    seeds: int | Sequence[int] = 10,
    load_percent: Sequence[float] = (90, 100),
) -> dict[str, Any]:
    """Fill the cluster once per seed.

    Args:
        node_list: default `NODE_LIST` in the folder of the pod list.
        scheduler: a published name of `SCHEDULERS`, or any placement rule of `scoring.RULES`.
        seeds: the seeds, or how many: 0, 1, ...
        load_percent: arrived GPU demand over the cluster's GPUs, percent in (0, 129].

    Returns:
        workload, scheduler, seeds, num_pods, num_nodes, num_gpus, seconds (wall time of all
        seeds, without reading the files), and `gpu_allocated_percent`: for each load a dict with
        mean_percent, sd_percent (over seeds; 0 for one) and percent, the list by seed.

    Raises:
        UserError: for an unknown scheduler, load or seed, or files that cannot be used.
    """
    rule = RULES.index(_rule_name(scheduler))
    chosen, loads = _seeds(seeds), _loads(load_percent)
    nodes = load_nodes(_node_list(pod_list, node_list))
    pods = load_pods(pod_list)
    if pods.total_gpu_milli.sum() == 0:
        raise UserError(f"pod list {pod_list}: no pod asks for a GPU")
    mix = mix_of(pods, nodes.gpu_types)
    began = time.perf_counter()
    values = np.array([_fill_once(pods, nodes, rule, mix, seed, loads) for seed in chosen])
    seconds = time.perf_counter() - began
    spread = values.std(axis=0, ddof=1) if len(chosen) > 1 else np.zeros(len(loads))
    return {
        "workload": pod_list.stem,
        "scheduler": scheduler,
        "seeds": chosen,
        "num_pods": len(pods),
        "num_nodes": len(nodes),
        "num_gpus": int(nodes.num_gpu.sum()),
        "seconds": seconds,
        "gpu_allocated_percent": {
            load: {
                "mean_percent": float(values[:, i].mean()),
                "sd_percent": float(spread[i]),
                "percent": values[:, i].tolist(),
            }
            for i, load in enumerate(loads)
        },
    }


def mix_of(pods: PodList, gpu_types: tuple[str, ...]) -> Mix:
    """The kinds of pod against which FGD judges fragments (see the module's text)."""
    rank = np.unique(pods.gpu_spec.astype(str), return_inverse=True)[1]
    mask = pods.type_mask(gpu_types)
    return usual_mix(pods.cpu_milli, pods.num_gpu, pods.gpu_milli, mask, rank, MIX_COVERAGE)


def arrival_order(
    demand_milli: np.ndarray, capacity_milli: int, rng: np.random.Generator
) -> np.ndarray:
    """(M,) int64, pods in order of arrival: each once, then tuned to `TUNED_LOAD`.

    Args:
        demand_milli: (J,) int64, GPU thousandths of each pod, some > 0.
    """
    limit = TUNED_LOAD * capacity_milli
    order = rng.permutation(len(demand_milli))
    total = int(demand_milli.sum())
    if total > limit:
        leaving = rng.permutation(len(order))
        left = total - np.cumsum(demand_milli[order[leaving]])
        number = int(np.searchsorted(-left, -limit, side="left")) + 1
        return np.delete(order, leaving[:number])
    parts = [order]
    while total <= limit:
        more = rng.integers(0, len(demand_milli), size=len(demand_milli))
        sums = total + np.cumsum(demand_milli[more])
        parts.append(more[sums <= limit])
        total = int(sums[-1])
    return np.concatenate(parts)


def at_load(arrived: np.ndarray, held: np.ndarray, load: float) -> float:
    """Mean of `held` (M,) over the arrivals with `arrived` (M,) rounded to `load`, percent.

    Where one arrival steps over the load, those within 1 percentage point stand in; without
    any, the last arrival below it.
    """
    rounded = np.rint(arrived)
    near = rounded == load
    if not near.any():
        near = np.abs(rounded - load) <= 1
    if not near.any():
        below = int(np.searchsorted(arrived, load))
        return float(held[below - 1]) if below > 0 else 0.0
    return float(held[near].mean())


def _fill_once(
    pods: PodList, nodes: NodeList, rule: int, mix: Mix, seed: int, loads: Sequence[float]
) -> list[float]:
    rng = np.random.default_rng(seed)
    capacity = int(nodes.num_gpu.sum()) * WHOLE
    order = arrival_order(pods.total_gpu_milli, capacity, rng)
    arrived = 100.0 * np.cumsum(pods.total_gpu_milli[order]) / capacity
    order = order[: int(np.searchsorted(arrived, max(loads) + 2.0))]
    tie = rng.permutation(len(nodes))
    draws = rng.random((len(order), 2))
    num_devices = nodes.num_gpu[tie]
    width = int(num_devices.max())
    kind = job_kinds(pods.cpu_milli, pods.num_gpu, pods.gpu_milli)
    placed = fill(
        rule,
        nodes.cpu_milli[tie],
        nodes.memory_mib[tie],
        np.where(np.arange(width) < num_devices[:, None], WHOLE, 0).astype(np.int64),
        num_devices,
        nodes.node_type[tie],
        np.zeros((len(nodes), width + 1), np.int64),
        pods.cpu_milli,
        pods.memory_mib,
        pods.num_gpu,
        pods.gpu_milli,
        pods.type_mask(nodes.gpu_types),
        kind,
        order,
        draws,
        mix,
        empty_cache(int(kind.max()) + 1, len(nodes)),
    )
    held = 100.0 * np.cumsum(np.where(placed >= 0, pods.total_gpu_milli[order], 0)) / capacity
    return [at_load(arrived[: len(order)], held, load) for load in loads]


def _rule_name(scheduler: str) -> str:
    name = SCHEDULERS.get(scheduler, scheduler)
    if name not in RULES:
        known = ", ".join([*SCHEDULERS, *sorted(set(RULES) - set(SCHEDULERS.values()))])
        raise UserError(f"scheduler {scheduler!r} places no pods; known: {known}")
    return name


def _node_list(pod_list: Path, node_list: Path | None) -> Path:
    if node_list is not None:
        return node_list
    beside = pod_list.parent / NODE_LIST
    if not beside.is_file():
        raise UserError(f"pod list {pod_list}: no {NODE_LIST} beside it; name the node list")
    return beside


def _seeds(seeds: int | Iterable[int]) -> list[int]:
    chosen = list(range(seeds)) if isinstance(seeds, int) else [int(seed) for seed in seeds]
    if not chosen or min(chosen) < 0:
        raise UserError(f"seeds {seeds!r}: give at least one, none negative")
    return chosen


def _loads(load_percent: Sequence[float]) -> list[float]:
    loads = list(load_percent)
    most = round(100 * TUNED_LOAD) - 1
    if not loads or not all(0 < load <= most and load == round(load) for load in loads):
        raise UserError(f"loads {loads}: give whole percents from 1 to {most}")
    return loads
