"""The artefact of a training run: a greedy policy as weights and a manifest, without Ray.

A folder with `manifest.json` and the safetensors file that it names; nothing in it is
executed when it is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch import nn

from marl_sched.errors import UserError
from marl_sched.files import replacing, write_text
from marl_sched.models.network import ActionNetwork, DuelingNetwork, NetworkSizes, masked_logits

FORMAT = "marl_sched.policy/1"
MANIFEST = "manifest.json"
BEST = "best"

_NETWORKS: dict[str, tuple[str, type[nn.Module]]] = {
    "ppo": ("policy.", ActionNetwork),
    "dqn": ("q_net.", DuelingNetwork),
}
"""Where the acting network is inside each algorithm's module, and what it is."""


@dataclass(frozen=True)
class Manifest:
    """All that a reader of the weights must know."""

    algo: str
    sizes: dict[str, int]
    actions: str
    algorithms: list[str]
    base: str
    is_base: bool
    """No trained network did better on validation: the policy takes the base schedule."""
    iteration: int
    validation: float | None
    """Mean JCT against the base schedule on validation episodes, percent; negative = shorter."""
    config: dict[str, Any]
    versions: dict[str, str] = field(default_factory=dict)
    format: str = FORMAT
    weights: str = ""
    sha256: str = ""


class LearnedPolicy:
    """The greedy policy of one network: arrays in, actions out."""

    def __init__(self, manifest: Manifest, state: Mapping[str, np.ndarray]) -> None:
        self.manifest = manifest
        sizes = NetworkSizes(**manifest.sizes)
        self._network = _NETWORKS[manifest.algo][1](sizes)
        self._network.load_state_dict({n: torch.tensor(v) for n, v in state.items()})
        self._network.eval()

    @classmethod
    def of_module(cls, manifest: Manifest, state: Mapping[str, np.ndarray]) -> LearnedPolicy:
        """From the state of an RLlib module, of which only the acting network is kept."""
        prefix = _NETWORKS[manifest.algo][0]
        return cls(
            manifest,
            {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)},
        )

    def act(self, obs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Actions (B,) int64 for observations {name: (B, ...)}; always legal ones."""
        if self.manifest.is_base:
            return np.zeros(len(obs["mask"]), dtype=np.int64)  # commit
        with torch.no_grad():
            tensors = {name: torch.from_numpy(np.asarray(v)) for name, v in obs.items()}
            scores = self._network(tensors)
            if self.manifest.algo == "ppo":
                scores = masked_logits(scores, tensors["mask"])
            return scores.argmax(dim=-1).numpy()

    def check(self, observation_space: gym.Space, action_space: gym.Space) -> None:
        """Raise a `UserError` when observations of these spaces do not fit the network.

        The number of job slots may differ: the network's weights do not depend on it.
        """
        mine = NetworkSizes(**self.manifest.sizes)
        other = NetworkSizes.of_spaces(
            observation_space, action_space,
            job_hidden=mine.job_hidden, context_hidden=mine.context_hidden,
        )
        if mine == other:
            return
        trained, given = mine.as_dict(), other.as_dict()
        name = next(key for key in trained if trained[key] != given[key])
        raise UserError(
            f"the checkpoint was trained on observations of {trained[name]} {name}, this "
            f"environment has {given[name]}: evaluate it with the settings it was trained "
            "with (config.yaml beside it), or train it again"
        )

    def with_validation(self, score: float) -> LearnedPolicy:
        """The same policy, with its validation score on record."""
        return LearnedPolicy(replace(self.manifest, validation=score), self.state())

    def state(self) -> dict[str, np.ndarray]:
        return {n: v.detach().cpu().numpy() for n, v in self._network.state_dict().items()}


def save_policy(policy: LearnedPolicy, folder: Path) -> Path:
    """Write `folder/manifest.json` and its weights; a reader sees the old or the new pair."""
    data = save(policy.state())
    name = f"weights-{policy.manifest.iteration}.safetensors"
    with replacing(folder / name) as temporary:
        temporary.write_bytes(data)
    record = asdict(policy.manifest)
    record |= {"weights": name, "sha256": hashlib.sha256(data).hexdigest()}
    # The manifest is the switch: older weights go only once it names the new ones.
    write_text(folder / MANIFEST, json.dumps(record, indent=2) + "\n")
    for old in folder.glob("weights-*.safetensors"):
        if old.name != name:
            old.unlink()
    return folder / MANIFEST


def load_policy(path: Path, spaces: tuple[gym.Space, gym.Space] | None = None) -> LearnedPolicy:
    """Read the policy of a run's folder, or of its `best` folder.

    Args:
        path: the folder.
        spaces: observation and action space that it must fit, if given.

    Raises:
        UserError: when it is no such folder, is damaged, or does not fit.
    """
    folder = path / BEST if (path / BEST / MANIFEST).is_file() else path
    if not (folder / MANIFEST).is_file():
        raise UserError(
            f"{path}: no trained scheduler here (no {BEST}/{MANIFEST}); give the folder that "
            "`marl-sched train --out` wrote"
        )
    try:
        record = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if record.get("format") != FORMAT or record.get("algo") not in _NETWORKS:
            raise UserError(
                f"{folder / MANIFEST}: format {record.get('format')!r} is not {FORMAT!r}; "
                "train again with this version"
            )
        manifest = Manifest(**record)
        data = (folder / manifest.weights).read_bytes()
        if hashlib.sha256(data).hexdigest() != manifest.sha256:
            raise UserError(
                f"{folder / manifest.weights}: does not match its manifest's SHA-256; the file "
                "is damaged: copy it again or train again"
            )
        policy = LearnedPolicy(manifest, load(data))
    except (OSError, json.JSONDecodeError, AttributeError, TypeError, KeyError, RuntimeError,
            SafetensorError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(
            f"{folder}: not a readable trained scheduler ({reason}); copy it again or train again"
        ) from None
    if spaces is not None:
        try:
            policy.check(*spaces)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
    return policy
