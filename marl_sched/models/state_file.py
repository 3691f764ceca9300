"""A nested state as plain numbers in one safetensors file: reading it runs no code.

RLlib would write it as pickles, and whoever can write to a run's folder could then run code as
whoever goes on with the run. Arrays are the file's tensors; all else is JSON in its header, where
what JSON has no word for is an object of one key that says what it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from marl_sched.files import writing

STATE_FILE = "state.safetensors"

_TREE = "tree"
_RECORD = "record "
"""Before the name of a data class."""


def save_state(state: Mapping[str, Any], folder: Path, records: Iterable[type] = ()) -> None:
    """Write a nested state into `folder`.

    Args:
        state: dictionaries, lists and tuples of numbers, text, arrays, tensors and `records`.
        records: data classes.

    Raises:
        TypeError: for anything else, naming where it is.
        WriteError: where the file cannot be written.
    """
    from safetensors.numpy import save

    arrays: dict[str, np.ndarray] = {}
    tree = json.dumps(_Writer(arrays, tuple(records)).plain(state, "state"))
    data = save(arrays, {_TREE: tree})
    with writing(folder / STATE_FILE):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / STATE_FILE).write_bytes(data)


def load_state(folder: Path, records: Iterable[type] = ()) -> dict[str, Any]:
    """The state that `save_state` has written; dictionaries of any kind are plain ones.

    Args:
        records: data classes in it; others come as tuples of their fields.

    Raises:
        ValueError: when it is none; so do OSError and others of a file that is damaged.
    """
    from safetensors import safe_open

    with safe_open(str(folder / STATE_FILE), framework="numpy") as file:
        tree = json.loads(file.metadata()[_TREE])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    state = _Reader(arrays, {one.__name__: one for one in records}).value(tree)
    if not isinstance(state, dict):
        raise ValueError("the state is no dictionary")
    return state


@dataclass(frozen=True)
class _Writer:
    arrays: dict[str, np.ndarray]
    """Those met so far, by name."""
    records: tuple[type, ...]

    def plain(self, value: Any, where: str) -> Any:
        """`value` for JSON."""
        if value is None or type(value) in (bool, int, float, str):
            return value
        if isinstance(value, np.ndarray):
            return {"array": self._add(value, where)}
        if isinstance(value, torch.Tensor):
            return {"tensor": self._add(value.detach().cpu().numpy(), where)}
        if isinstance(value, np.generic):
            return {"scalar": [value.dtype.name, value.item()]}
        if isinstance(value, Mapping):
            pairs = [
                [self.plain(key, where), self.plain(inner, f"{where}/{key}")]
                for key, inner in value.items()
            ]
            return {"dict": pairs}
        if isinstance(value, list | tuple):
            items = [self.plain(inner, f"{where}/{at}") for at, inner in enumerate(value)]
            return items if isinstance(value, list) else {"tuple": items}
        if isinstance(value, self.records):
            record: Any = value
            given = [getattr(record, one.name) for one in fields(record)]
            return {_RECORD + type(record).__name__: self.plain(given, where)}
        raise TypeError(f"{where}: a {type(value).__name__} in the state of a checkpoint")

    def _add(self, value: np.ndarray, where: str) -> str:
        # safetensors writes an array's memory as it lies there.
        array = np.array(value, order="C")
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{where}: an array of {array.dtype} in the state of a checkpoint")
        name = str(len(self.arrays))
        self.arrays[name] = array
        return name


@dataclass(frozen=True)
class _Reader:
    arrays: Mapping[str, np.ndarray]
    records: Mapping[str, type]

    def value(self, plain: Any) -> Any:
        """What `_Writer.plain` was given."""
        if isinstance(plain, list):
            return [self.value(inner) for inner in plain]
        if not isinstance(plain, dict):
            return plain
        ((kind, content),) = plain.items()
        if kind == "array":
            return self.arrays[content]
        if kind == "tensor":
            return torch.from_numpy(self.arrays[content])
        if kind == "scalar":
            return np.dtype(content[0]).type(content[1])
        items = self.value(content)
        if kind == "dict":
            return dict(items)
        made = self.records.get(kind.removeprefix(_RECORD))
        return tuple(items) if made is None else made(*items)
