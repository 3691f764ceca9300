"""Node and pod lists of the Alibaba GPU cluster trace v2023 (openb).

| file | columns read |
|---|---|
| openb_node_list_*.csv | sn, cpu_milli, memory_mib, gpu, model (empty on a node without GPUs) |
| openb_pod_list_*.csv | name, cpu_milli, memory_mib, num_gpu, gpu_milli, gpu_spec (optional) |

`gpu_milli` is thousandths of each GPU asked for: 1000 whole, less for a share of one GPU, 0
without a GPU. `gpu_spec` names the GPU types that will do, joined with `|`; empty is any type.
Source: Weng et al., Beware of Fragmentation, USENIX ATC 2023; files in the repository
hkust-adsl/kubernetes-scheduler-simulator, data/csv.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from marl_sched.errors import UserError
from marl_sched.workload.reading import read_table
from marl_sched.workload.table import Table

NODE_COLUMNS = ("sn", "cpu_milli", "memory_mib", "gpu", "model")
POD_COLUMNS = ("name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli")
SPEC_COLUMN = "gpu_spec"

WHOLE = 1000
"""Thousandths of a GPU."""

MAX_DEVICES = 62
"""Most GPUs of one node: the devices of a job are kept as bits of one number."""

MAX_TYPES = 63
"""Most GPU types: a pod's types are kept as bits of one number."""

ANY_TYPE = (1 << MAX_TYPES) - 1


@dataclass(frozen=True)
class NodeList:
    """N machines."""

    name: np.ndarray
    """(N,) object, str."""
    cpu_milli: np.ndarray
    """(N,) int64, thousandths of a CPU."""
    memory_mib: np.ndarray
    """(N,) int64."""
    num_gpu: np.ndarray
    """(N,) int64."""
    gpu_types: tuple[str, ...]
    """Distinct GPU types in order of appearance."""
    node_type: np.ndarray
    """(N,) int64, index into `gpu_types`; 0 on a node without GPUs."""

    def __len__(self) -> int:
        return len(self.name)


@dataclass(frozen=True)
class PodList:
    """J pods, each one container."""

    name: np.ndarray
    """(J,) object, str."""
    cpu_milli: np.ndarray
    """(J,) int64."""
    memory_mib: np.ndarray
    """(J,) int64."""
    num_gpu: np.ndarray
    """(J,) int64, >= 0."""
    gpu_milli: np.ndarray
    """(J,) int64, of each GPU: 1000, or 1..999 with one GPU, or 0 with none."""
    gpu_spec: np.ndarray
    """(J,) object, str: types joined with `|`; empty for any type, and for pods without a GPU."""

    def __len__(self) -> int:
        return len(self.name)

    @property
    def total_gpu_milli(self) -> np.ndarray:
        """(J,) int64, thousandths of a GPU over all GPUs of the pod."""
        return np.asarray(self.num_gpu * self.gpu_milli)

    def type_mask(self, gpu_types: tuple[str, ...]) -> np.ndarray:
        """(J,) int64, bit t set when the pod runs on `gpu_types[t]`; 0 when on none of them."""
        masks = {"": ANY_TYPE}
        for spec in set(self.gpu_spec.tolist()) - {""}:
            names = {name.strip() for name in spec.split("|")}
            masks[spec] = sum(1 << t for t, known in enumerate(gpu_types) if known in names)
        return np.array([masks[spec] for spec in self.gpu_spec], dtype=np.int64)


def load_nodes(path: Path) -> NodeList:
    """Read a node list.

    Raises:
        UserError: naming the row and column of the first cell that cannot be used.
    """
    table = _open(path, "node", NODE_COLUMNS)
    cpu, memory = table.counts("cpu_milli"), table.counts("memory_mib")
    num_gpu, model = table.counts("gpu", least=0, most=MAX_DEVICES), table.texts("model")
    table.refuse((num_gpu > 0) & (model == ""), "model", "no GPU type for a node with GPUs")
    _finish(table, "sn")
    types = tuple(dict.fromkeys(model[num_gpu > 0].tolist()))
    if not types:
        raise UserError(f"node list {path}: has no node with a GPU; give one with `gpu` above 0")
    if len(types) > MAX_TYPES:
        raise UserError(f"node list {path}: has {len(types)} GPU types; at most {MAX_TYPES} work")
    index = {name: t for t, name in enumerate(types)}
    node_type = np.array([index.get(name, 0) for name in model], dtype=np.int64)
    return NodeList(table.texts("sn"), cpu, memory, num_gpu, types, node_type)


def load_pods(path: Path) -> PodList:
    """Read a pod list.

    Raises:
        UserError: naming the row and column of the first cell that cannot be used.
    """
    table = _open(path, "pod", POD_COLUMNS)
    cpu, memory = table.counts("cpu_milli", least=0), table.counts("memory_mib", least=0)
    num_gpu = table.counts("num_gpu", least=0, most=MAX_DEVICES)
    milli = table.counts("gpu_milli", least=0, most=WHOLE)
    table.refuse((num_gpu == 0) & (milli > 0), "gpu_milli", "a share of no GPU; num_gpu is 0")
    table.refuse((num_gpu > 0) & (milli == 0), "gpu_milli", "nothing of the GPUs in num_gpu")
    table.refuse(
        (num_gpu > 1) & (milli > 0) & (milli < WHOLE),
        "gpu_milli",
        f"a share of several GPUs; with num_gpu above 1 it must be {WHOLE}",
    )
    spec = table.texts(SPEC_COLUMN) if SPEC_COLUMN in table.columns else _empty(len(table))
    _finish(table, "name")
    spec[num_gpu == 0] = ""
    return PodList(table.texts("name"), cpu, memory, num_gpu, milli, spec)


def _open(path: Path, kind: str, needed: tuple[str, ...]) -> Table:
    table = read_table(path, f"{kind} list")
    missing = [name for name in needed if name not in table.columns]
    if missing:
        raise UserError(
            f"{kind} list {path}: has no column {missing[0]!r}; it needs {', '.join(needed)}"
        )
    if len(table) == 0 and not table.ragged:
        raise UserError(f"{kind} list {path}: has no rows; give one {kind} a row")
    return table


def _empty(size: int) -> np.ndarray:
    cells = np.empty(size, dtype=object)
    cells[:] = ""
    return cells


def _finish(table: Table, key: str) -> None:
    """Refuse empty or repeated names, then raise for the first problem by row, if any."""
    names = table.texts(key)
    table.refuse(names == "", key, "no name")
    first = {name: i for i, name in reversed(list(enumerate(names.tolist())))}
    again = np.array([first[name] != i for i, name in enumerate(names.tolist())], dtype=bool)
    table.refuse(again & (names != ""), key, "there already in an earlier row")
    table.check()
