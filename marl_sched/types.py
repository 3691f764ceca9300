"""The nouns of the project: nodes, clusters, jobs, what a scheduler sees, what it answers.

Axes: J jobs of a workload, A active jobs, N nodes, P job profiles, L levels, 4 resources.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from marl_sched.errors import UserError

RESOURCES = ("gpu", "cpu", "memory_gb", "network_gbps")
"""The resource axis of every (.., 4) array."""

ANY_GPU = "any"
"""GPU type of a cluster that names none: every model runs as on the GPU it was measured on."""

_GROUP = re.compile(r"^(\d+)x(\d+)(?::([A-Za-z0-9_.-]+))?$")


@dataclass(frozen=True)
class Node:
    """One machine.

    The defaults give every GPU a generous share of the rest (16 CPUs, 128 GB, 25 Gbit/s), so
    that only workloads which state CPU, memory or network demands are bound by them.
    """

    name: str
    num_gpus: int
    gpu_type: str = ANY_GPU
    num_cpus: float = 0.0
    memory_gb: float = 0.0
    network_gbps: float = 0.0

    @property
    def capacity(self) -> np.ndarray:
        """(4,) float64, in the order of `RESOURCES`."""
        return np.array([self.num_gpus, self.num_cpus, self.memory_gb, self.network_gbps], float)


def make_node(name: str, num_gpus: int, gpu_type: str = ANY_GPU, **given: float) -> Node:
    """A node whose unnamed resources follow from its GPUs (16 CPUs, 128 GB, 25 Gbit/s each)."""
    return Node(
        name,
        num_gpus,
        gpu_type,
        num_cpus=given.get("num_cpus", 16.0 * num_gpus),
        memory_gb=given.get("memory_gb", 128.0 * num_gpus),
        network_gbps=given.get("network_gbps", 25.0 * num_gpus),
    )


@dataclass(frozen=True)
class Cluster:
    """An ordered set of nodes."""

    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        if not self.nodes or self.num_gpus == 0:
            raise UserError("a cluster needs at least one node with a GPU, for example 16x8")

    @classmethod
    def parse(cls, text: str) -> Cluster:
        """Read `NODESxGPUS[:TYPE]` joined with `+`, or the path of a YAML file.

        Raises:
            UserError: for anything else.
        """
        if text.endswith((".yaml", ".yml")):
            return cls.from_yaml(Path(text))
        nodes: list[Node] = []
        for group in text.split("+"):
            match = _GROUP.match(group.strip())
            if match is None:
                raise UserError(
                    f"cluster {text!r}: {group!r} is not NODESxGPUS[:TYPE]; write for example "
                    "16x8, 6x4:T4+2x8:A100, or the path of a YAML file"
                )
            count, gpus, gpu_type = int(match[1]), int(match[2]), match[3] or ANY_GPU
            if count < 1 or gpus < 1:
                raise UserError(f"cluster {text!r}: {group!r} needs at least one node and one GPU")
            first = len(nodes)
            nodes += [make_node(f"node-{first + i}", gpus, gpu_type) for i in range(count)]
        return cls(tuple(nodes))

    @classmethod
    def from_yaml(cls, path: Path) -> Cluster:
        """Read a file with a list `nodes` of {count, gpus, type, cpus, memory_gb, network_gbps}."""
        import yaml

        if not path.is_file():
            raise UserError(f"cluster file {path}: no such file")
        try:
            data = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(
                f"cluster file {path}: not YAML: {' '.join(str(error).split())}"
            ) from None
        groups = data.get("nodes") if isinstance(data, dict) else None
        if not isinstance(groups, list) or not groups or set(data) != {"nodes"}:
            raise UserError(f"cluster file {path}: needs one key 'nodes' with a list of groups")
        nodes: list[Node] = []
        for index, group in enumerate(groups):
            nodes += _read_group(path, index, group, first=len(nodes))
        return cls(tuple(nodes))

    @property
    def num_gpus(self) -> int:
        return sum(node.num_gpus for node in self.nodes)

    @property
    def gpu_types(self) -> tuple[str, ...]:
        """Distinct GPU types in the order in which the nodes name them."""
        return tuple(dict.fromkeys(node.gpu_type for node in self.nodes))

    @property
    def node_type(self) -> np.ndarray:
        """(N,) int64, index of each node's GPU type in `gpu_types`."""
        types = self.gpu_types
        return np.array([types.index(node.gpu_type) for node in self.nodes], dtype=np.int64)

    @property
    def capacity(self) -> np.ndarray:
        """(N, 4) float64, in the order of `RESOURCES`."""
        return np.stack([node.capacity for node in self.nodes])

    def gpus_of_type(self, gpu_type: str) -> int:
        return sum(node.num_gpus for node in self.nodes if node.gpu_type == gpu_type)

    def __str__(self) -> str:
        groups: dict[tuple[int, str], int] = {}
        for node in self.nodes:
            key = (node.num_gpus, node.gpu_type)
            groups[key] = groups.get(key, 0) + 1
        return "+".join(
            f"{count}x{gpus}" + ("" if kind == ANY_GPU else f":{kind}")
            for (gpus, kind), count in groups.items()
        )


def _read_group(path: Path, index: int, group: Any, first: int) -> list[Node]:
    names = {"count": 1, "gpus": None, "type": ANY_GPU, "cpus": None, "memory_gb": None}
    names["network_gbps"] = None
    where = f"cluster file {path}: nodes[{index}]"
    if not isinstance(group, dict) or "gpus" not in group:
        raise UserError(f"{where}: needs at least 'gpus', for example {{count: 4, gpus: 8}}")
    unknown = sorted(set(group) - set(names))
    if unknown:
        raise UserError(f"{where}: unknown key {unknown[0]!r}; known: {', '.join(names)}")
    given: dict[str, float] = {}
    for key, field in (
        ("cpus", "num_cpus"),
        ("memory_gb", "memory_gb"),
        ("network_gbps", "network_gbps"),
    ):
        if key in group:
            value = group[key]
            if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
                raise UserError(f"{where}: {key} must be a number >= 0, not {value!r}")
            given[field] = float(value)
    count, gpus = group.get("count", 1), group["gpus"]
    for key, value in (("count", count), ("gpus", gpus)):
        if isinstance(value, bool) or not isinstance(value, int) or value < (key == "count"):
            raise UserError(f"{where}: {key} must be a whole number, not {value!r}")
    kind = str(group.get("type", ANY_GPU))
    return [make_node(f"node-{first + i}", gpus, kind, **given) for i in range(count)]


@dataclass(frozen=True)
class Job:
    """One deep-learning training job: a unit of work, and a player of the multi-agent game.

    `duration_s` is its run time alone on `num_gpus` GPUs packed on as few nodes as possible.
    A rigid job runs on exactly `num_gpus` (R_i); an elastic one on any allowed size between
    `min_gpus` and `max_gpus`.
    """

    job_id: str
    arrival_s: float
    duration_s: float
    num_gpus: int
    model: str = ""
    min_gpus: int = 1
    max_gpus: int = 1
    elastic: bool = False
    priority: float = 0.0
    tenant: str = ""
    deadline_s: float = float("inf")

    def delayed(self, seconds: float) -> Job:
        """The same job arriving `seconds` later."""
        return replace(self, arrival_s=self.arrival_s + seconds)


class ClusterView(NamedTuple):
    """All that a scheduler may see at one decision epoch; arrays over the A active jobs.

    True sizes are not here: `est_*` carry the estimate's error, unless the view was made for
    a scheduler that declares itself clairvoyant. The level of a job indexes its profile's
    allowed sizes; level 0 holds no GPU. A NamedTuple, so that compiled and plain Python
    schedulers read the same fields.
    """

    now_s: float
    num_gpus: int  # GPUs of the whole cluster
    capacity: np.ndarray  # (4,) float64, whole cluster, order of RESOURCES
    sizes: np.ndarray  # (P, L) int64, GPUs at each level, sizes[:, 0] == 0
    num_levels: np.ndarray  # (P,) int64, highest legal level of the profile
    rates: np.ndarray  # (P, L) float64, progress in isolated seconds per second
    job: np.ndarray  # (A,) int64, index of the job in the workload: unique, by arrival
    profile: np.ndarray  # (A,) int64 in [0, P)
    level: np.ndarray  # (A,) int64, level held now
    request_level: np.ndarray  # (A,) int64, level whose size is the request R_i, >= 1
    limit_level: np.ndarray  # (A,) int64, highest level that the job's agent accepts, >= 1
    arrival_s: np.ndarray  # (A,) float64
    attained_gpu_s: np.ndarray  # (A,) float64, GPU-seconds held so far
    run_since_s: np.ndarray  # (A,) float64, start of the current hold; NaN while waiting
    waiting_since_s: np.ndarray  # (A,) float64, arrival or last preemption
    est_total_s: np.ndarray  # (A,) float64, isolated run time on the request, with error
    est_remaining_s: np.ndarray  # (A,) float64, isolated seconds left, with error
    restart_s: np.ndarray  # (A,) float64, cost of the next (re)start or resize
    demand: np.ndarray  # (A, 4) float64, per GPU, order of RESOURCES; demand[:, 0] == 1
    priority: np.ndarray  # (A,) float64, higher runs first
    tenant: np.ndarray  # (A,) int64
    deadline_s: np.ndarray  # (A,) float64, +inf without one


@dataclass(frozen=True)
class Allocation:
    """What a scheduler answers: GPUs for each active job, in the order of the view.

    Shapes: gpus (A,) int64, each an allowed size of its job.
    """

    gpus: np.ndarray
