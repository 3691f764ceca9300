"""The nouns of the project: nodes, clusters, jobs, what a scheduler sees, what it answers.

Axes: J jobs of a workload, A active jobs, N nodes, T GPU types, P job profiles, L levels, 4
resources.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeAlias

import numpy as np

from marl_sched.errors import UserError, quoted
from marl_sched.quantities import (
    MOST,
    MOST_GPUS,
    MOST_NODES,
    MOST_TYPES,
    is_number,
    is_whole,
    whole,
)

RESOURCES = ("gpu", "cpu", "memory_gb", "network_gbps")
"""The resource axis of every (.., 4) array."""

ANYBODY = -1
"""Of how far a decision reaches among the jobs that wait: any job may have another level now."""

Floats1: TypeAlias = Annotated[np.ndarray, "float64", 1]
Floats2: TypeAlias = Annotated[np.ndarray, "float64", 2]
Floats3: TypeAlias = Annotated[np.ndarray, "float64", 3]
Floats4: TypeAlias = Annotated[np.ndarray, "float64", 4]
Ints1: TypeAlias = Annotated[np.ndarray, "int64", 1]
Ints2: TypeAlias = Annotated[np.ndarray, "int64", 2]
Ints3: TypeAlias = Annotated[np.ndarray, "int64", 3]
Flags1: TypeAlias = Annotated[np.ndarray, "bool", 1]
Flags2: TypeAlias = Annotated[np.ndarray, "bool", 2]
Words4: TypeAlias = Annotated[np.ndarray, "uint64", 4]
Bytes2: TypeAlias = Annotated[np.ndarray, "int8", 2]
Singles1: TypeAlias = Annotated[np.ndarray, "float32", 1]
Singles2: TypeAlias = Annotated[np.ndarray, "float32", 2]
Singles3: TypeAlias = Annotated[np.ndarray, "float32", 3]
"""Arrays that kernels read as fields of a record: their element type and number of axes."""

ANY_GPU = "any"
"""GPU type of a cluster that names none: every model runs as on the GPU it was measured on."""

DEFAULT_PER_GPU = {"cpus": 16.0, "memory_gb": 128.0, "network_gbps": 25.0}
"""What a node has for each of its GPUs where nothing is said, by key of a cluster file."""

_GROUP = re.compile(r"([0-9]+)x([0-9]+)(?::([A-Za-z0-9_.-]{1,100}))?")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_GROUP_KEYS = ("count", "gpus", "type", *DEFAULT_PER_GPU, "rack")


@dataclass(frozen=True)
class Node:
    """One machine.

    Where a cluster says nothing of the rest, every GPU has a generous share of it
    (`DEFAULT_PER_GPU`), so that only workloads which state CPU, memory or network demands are
    bound by them.
    """

    name: str
    num_gpus: int
    gpu_type: str = ANY_GPU
    num_cpus: float = 0.0
    memory_gb: float = 0.0
    network_gbps: float = 0.0
    rack: str = ""

    @property
    def capacity(self) -> np.ndarray:
        """(4,) float64, in the order of `RESOURCES`."""
        return np.array([self.num_gpus, self.num_cpus, self.memory_gb, self.network_gbps], float)


def make_node(
    name: str, num_gpus: int, gpu_type: str = ANY_GPU, rack: str = "", **given: float
) -> Node:
    """A node whose unnamed resources follow from its GPUs, by `DEFAULT_PER_GPU`."""
    return Node(
        name,
        num_gpus,
        gpu_type,
        num_cpus=given.get("num_cpus", DEFAULT_PER_GPU["cpus"] * num_gpus),
        memory_gb=given.get("memory_gb", DEFAULT_PER_GPU["memory_gb"] * num_gpus),
        network_gbps=given.get("network_gbps", DEFAULT_PER_GPU["network_gbps"] * num_gpus),
        rack=rack,
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
        groups = [_parse_group(text, group) for group in text.split("+")]
        return cls(_nodes_of(f"cluster {quoted(text)}", groups))

    @classmethod
    def from_yaml(cls, path: Path) -> Cluster:
        """Read a file with a list `nodes` of groups.

        A group has `gpus` and, if need be, count, type, cpus, memory_gb, network_gbps, rack.
        """
        from marl_sched import safe_yaml

        where = f"cluster file {path}"
        data = safe_yaml.read(path, "cluster file")
        groups = data.get("nodes") if isinstance(data, dict) else None
        if not isinstance(groups, list) or not groups or set(data) != {"nodes"}:
            raise UserError(f"{where}: needs one key 'nodes' with a list of groups")
        read = [_read_group(f"{where}: nodes[{i}]", group) for i, group in enumerate(groups)]
        return cls(_nodes_of(where, read))

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
        types = {name: t for t, name in enumerate(self.gpu_types)}
        return np.array([types[node.gpu_type] for node in self.nodes], dtype=np.int64)

    @property
    def racks(self) -> tuple[str, ...]:
        """Distinct racks in the order in which the nodes name them; one "" where they do not."""
        return tuple(dict.fromkeys(node.rack for node in self.nodes))

    @property
    def node_rack(self) -> np.ndarray:
        """(N,) int64, index of each node's rack in `racks`."""
        racks = {name: i for i, name in enumerate(self.racks)}
        return np.array([racks[node.rack] for node in self.nodes], dtype=np.int64)

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


@dataclass(frozen=True)
class _Group:
    """Nodes that are alike."""

    count: int
    gpus: int
    kind: str = ANY_GPU
    rack: str = ""
    given: dict[str, float] = field(default_factory=dict)
    """Resources that are not as by default, by field of `Node`."""


def _parse_group(text: str, group: str) -> _Group:
    where = f"cluster {quoted(text)}: {quoted(group)}"
    match = _GROUP.fullmatch(group.strip())
    if match is None:
        raise UserError(
            f"{where} is not NODESxGPUS[:TYPE]; write for example 16x8, 6x4:T4+2x8:A100, or the "
            "path of a YAML file"
        )
    count, gpus = whole(match[1]), whole(match[2])
    if count is None or count > MOST_NODES:
        raise UserError(f"{where} has more than {MOST_NODES:,} nodes")
    if gpus is None or gpus > MOST_GPUS:
        raise UserError(f"{where} has more than {MOST_GPUS:,} GPUs a node")
    if count < 1 or gpus < 1:
        raise UserError(f"{where} needs at least one node and one GPU")
    return _Group(count, gpus, match[3] or ANY_GPU)


def _read_group(where: str, group: Any) -> _Group:
    if not isinstance(group, dict) or "gpus" not in group:
        raise UserError(f"{where}: needs at least 'gpus', for example {{count: 4, gpus: 8}}")
    unknown = sorted(set(group) - set(_GROUP_KEYS))
    if unknown:
        known = ", ".join(_GROUP_KEYS)
        raise UserError(f"{where}: unknown key {quoted(unknown[0])}; known: {known}")
    limits = {"count": (1, MOST_NODES), "gpus": (0, MOST_GPUS)}
    for key, (least, most) in limits.items():
        if not is_whole(group.get(key, 1), least, most):
            raise UserError(
                f"{where}: {key} must be a whole number from {least} to {most:,}, not "
                f"{quoted(group[key])}"
            )
    given: dict[str, float] = {}
    for key in DEFAULT_PER_GPU:
        if key in group:
            if not is_number(group[key], 0, MOST):
                raise UserError(
                    f"{where}: {key} must be a number >= 0 and at most {MOST:.0e}, not "
                    f"{quoted(group[key])}"
                )
            given["num_cpus" if key == "cpus" else key] = float(group[key])
    kind, rack = _name(where, "type", group, ANY_GPU), _name(where, "rack", group, "")
    return _Group(group.get("count", 1), group["gpus"], kind, rack, given)


def _name(where: str, key: str, group: dict[str, Any], default: str) -> str:
    value = group.get(key, default)
    # 4090 is a number to YAML, and the name of a GPU.
    text = str(value) if is_whole(value, 0, MOST_NODES) else value
    known = isinstance(text, str) and (_NAME.fullmatch(text) or key == "rack" and len(text) <= 100)
    if not known:
        raise UserError(
            f"{where}: {key} must be a name such as A100, not {quoted(value)}; write it in quotes "
            "where YAML takes it for something else"
        )
    return str(text)


def _nodes_of(where: str, groups: list[_Group]) -> tuple[Node, ...]:
    """The nodes of the groups, numbered through.

    Raises:
        UserError: for more than any cluster has.
    """
    types = dict.fromkeys(group.kind for group in groups)
    if len(types) > MOST_TYPES:
        raise UserError(f"{where}: has {len(types)} GPU types; at most {MOST_TYPES} work")
    for what, most, total in (
        ("nodes", MOST_NODES, sum(group.count for group in groups)),
        ("GPUs", MOST_GPUS, sum(group.count * group.gpus for group in groups)),
    ):
        if total > most:
            raise UserError(f"{where}: has {total:,} {what}, more than {most:,}")
    if not any(group.gpus for group in groups):
        raise UserError(f"{where}: a cluster needs at least one node with a GPU")
    nodes: list[Node] = []
    for group in groups:
        first = len(nodes)
        nodes += [
            make_node(f"node-{first + i}", group.gpus, group.kind, group.rack, **group.given)
            for i in range(group.count)
        ]
    return tuple(nodes)


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


class ClusterView(NamedTuple):
    """All that a scheduler may see at one decision epoch; arrays over the A active jobs.

    True sizes are not here: `est_*` carry the estimate's error, unless the view was made for
    a scheduler that declares itself clairvoyant. The level of a job indexes its profile's
    allowed sizes; level 0 holds no GPU. A NamedTuple, so that compiled and plain Python
    schedulers read the same fields.
    """

    now_s: float
    num_gpus: int  # GPUs of the whole cluster, down nodes too
    capacity: Floats1  # (4,) float64, of the nodes that are up, order of RESOURCES
    free: Floats1  # (4,) float64, of it, what no job holds
    free_by_type: Floats2  # (T, 4) float64, `free` of each GPU type
    releases: int  # how often GPUs have come back so far
    sizes: Ints2  # (P, L) int64, GPUs at each level, sizes[:, 0] == 0
    num_levels: Ints1  # (P,) int64, highest legal level of the profile
    rates: Floats2  # (P, L) float64, progress in isolated seconds per second
    type_order: Ints3  # (P, L, T) int64, GPU types as placement tries them, the fastest first
    job: Ints1  # (A,) int64, index of the job in the workload: unique, by arrival
    profile: Ints1  # (A,) int64 in [0, P)
    level: Ints1  # (A,) int64, level held now
    gpus: Floats1  # (A,) float64, GPUs held now, shares as fractions
    request_level: Ints1  # (A,) int64, level whose size is the request R_i, >= 1
    limit_level: Ints1  # (A,) int64, highest level that the job's agent accepts, >= 1
    arrival_s: Floats1  # (A,) float64
    attained_gpu_s: Floats1  # (A,) float64, GPU-seconds held so far
    run_since_s: Floats1  # (A,) float64, start of the current hold; NaN while waiting
    waiting_since_s: Floats1  # (A,) float64, arrival or last preemption
    est_total_s: Floats1  # (A,) float64, isolated run time on the request, with error
    est_remaining_s: Floats1  # (A,) float64, isolated seconds left, with error
    restart_s: Floats1  # (A,) float64, cost of the next (re)start, at the request
    demand: Floats2  # (A, 4) float64, per GPU, order of RESOURCES; demand[:, 0] == 1
    priority: Floats1  # (A,) float64, higher runs first
    tenant: Ints1  # (A,) int64
    deadline_s: Floats1  # (A,) float64, +inf without one
    types: Ints1  # (A,) int64, bit t is set where the job may run on GPU type t
    gpu_type: Ints1  # (A,) int64 in [0, T), of the GPUs that a running job holds
    leaving: Ints1  # (A,) int64, GPUs held on nodes that take nobody any more
    refused_at: Ints1  # (A,) int64, `releases` when a start last found no node; -1 before
    waiting: Ints1  # (W,) int64, rows that hold nothing, in order of arrival
    running: Ints1  # (R,) int64, rows that hold GPUs; scratch: compiled rules sort it in place
    tenant_quota: Floats1  # (tenants,) float64 GPUs, +inf without one; (0,): nobody has one
    tenant_held: Ints1  # (tenants,) int64, thousandths of a GPU that its jobs hold; or (0,)
    tenant_tally: Ints2  # (2, tenants + 1) int64, scratch of `allocation.quota`

    @staticmethod
    def axes() -> dict[str, str]:
        """Axes of the arrays, a letter each; checked where a view is handed to a compiled rule."""
        return _VIEW_AXES

    def with_own_scratch(self) -> ClusterView:
        """The same view with copies of the fields that compiled rules write."""
        return self._replace(running=self.running.copy(), tenant_tally=self.tenant_tally.copy())


_VIEW_AXES = dict.fromkeys(
    (
        "job", "profile", "level", "gpus", "request_level", "limit_level", "arrival_s",
        "attained_gpu_s", "run_since_s", "waiting_since_s", "est_total_s", "est_remaining_s",
        "restart_s", "priority", "tenant", "deadline_s", "types", "gpu_type", "leaving",
        "refused_at",
    ),
    "A",
) | {
    "capacity": "R", "free": "R", "demand": "AR", "sizes": "PL", "rates": "PL", "num_levels": "P",
    "free_by_type": "TR", "type_order": "PLT",
}  # fmt: skip


class NodeView(NamedTuple):
    """The nodes beside a `ClusterView`, for schedulers that choose placements themselves."""

    capacity: np.ndarray  # (N, 4) float64, order of RESOURCES
    up: np.ndarray  # (N,) bool, takes jobs
    gpu_type: np.ndarray  # (N,) int64 in [0, T)
    rack: np.ndarray  # (N,) int64
    held: np.ndarray  # (A, N) int64, GPUs that each job holds on each node
    rates: np.ndarray  # (P, T, L, 2 or 3) float64: one node, within a rack, across racks
    restarts: np.ndarray  # (A,) int64, restarts and resizes so far
    allowed: np.ndarray  # (A, T) bool, GPU types that each job may run on


@dataclass(frozen=True)
class Allocation:
    """What a scheduler answers: GPUs for each active job, in the order of the view."""

    gpus: np.ndarray
    """(A,) int64, each an allowed size of its job."""
    placement: np.ndarray | None = None
    """(A, N) int64, GPUs on each node, carried out as given in place of `gpus`, or refused where
    they break a bound of `allocation.feasibility`; None leaves it to the placement rule."""
    wake_s: float = float("inf")
    """The scheduler wants to decide again at this time at the latest."""
