"""The artefact of a training run: a greedy policy as weights and a manifest, without Ray.

A folder with `manifest.json` and the safetensors file that it names; nothing in it is
executed when it is read.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import nn

from marl_sched import artefact
from marl_sched.errors import UserError
from marl_sched.models.agent import AgentNetwork, AgentSizes
from marl_sched.models.forward import Forward
from marl_sched.models.network import ActionNetwork, DuelingNetwork, NetworkSizes

FORMAT = "marl_sched.policy/1"
BASE = "base"
"""First word of the folder of the scorer that a policy stands on."""

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
    """Nothing did better on validation: the policy takes the base schedule."""
    iteration: int
    validation: float | None
    """Cost, as `env.reward` weighs it (by default mean JCT), against the base schedule on
    validation episodes, percent; negative = less."""
    config: dict[str, Any]
    versions: dict[str, str] = field(default_factory=dict)
    format: str = FORMAT
    weights: str = ""
    sha256: str = ""
    agent_sizes: dict[str, int] | None = None
    """Of the learned agents' network; None where agents follow a rule."""
    agent_weights: str = ""
    agent_sha256: str = ""
    plays: int | None = None
    """Action taken throughout, an algorithm: no trained network did better on validation."""
    base_folder: str = ""
    """The base schedule is the scorer in this folder of the artefact, which `base` and `config`
    name by its whole path once read; empty where the base has a name of its own."""


Arrays = Mapping[str, np.ndarray]


class LearnedPolicy:
    """The greedy policy of one network: arrays in, actions out.

    A run with learned agents has a second network, of what they declare.
    """

    def __init__(
        self, manifest: Manifest, state: Arrays, agent_state: Arrays | None = None
    ) -> None:
        self.manifest = manifest
        sizes = NetworkSizes(**manifest.sizes)
        self._network = _NETWORKS[manifest.algo][1](sizes)
        self._network.load_state_dict({n: torch.tensor(v) for n, v in state.items()})
        self._forward = Forward(self._network)
        self._agent: AgentNetwork | None = None
        if agent_state is not None:
            self._agent = AgentNetwork(AgentSizes(**(manifest.agent_sizes or {})))
            self._agent.load_state_dict({n: torch.tensor(v) for n, v in agent_state.items()})
            self._agent.eval()

    @classmethod
    def of_module(
        cls, manifest: Manifest, state: Arrays, agent_state: Arrays | None = None
    ) -> LearnedPolicy:
        """From the states of RLlib modules, of which only the acting networks are kept."""

        def acting(state: Arrays, prefix: str) -> Arrays:
            return {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}

        agents = None if agent_state is None else acting(agent_state, "policy.")
        return cls(manifest, acting(state, _NETWORKS[manifest.algo][0]), agents)

    @property
    def demand(self) -> Callable[[Arrays], np.ndarray] | None:
        """What learned agents declare; None: they are honest.

        That is so too where no network won on validation: schedules alone are judged with honest
        agents.
        """
        learned = not self.manifest.is_base and self.manifest.plays is None
        return self._demand if self._agent is not None and learned else None

    def _demand(self, obs: Arrays) -> np.ndarray:
        """Levels (D,) int64 for the agents' observations {name: (D, ..)}, greedily."""
        assert self._agent is not None
        with torch.no_grad():
            tensors = {name: torch.from_numpy(np.asarray(v)) for name, v in obs.items()}
            return self._agent(tensors).argmax(dim=-1).numpy()

    def act(self, obs: Arrays) -> np.ndarray:
        """Actions (B,) int64 for observations {name: (B, ...)}; always legal ones."""
        if self.manifest.is_base:
            return np.zeros(len(obs["mask"]), dtype=np.int64)  # commit
        if self.manifest.plays is not None:  # where it may be taken, else commit
            return self.manifest.plays * obs["mask"][:, self.manifest.plays].astype(np.int64)
        return self.scores(obs).argmax(axis=-1)

    def scores(self, obs: Arrays) -> np.ndarray:
        """(B, M) float32, the network's own masked logits or Q values, whoever acts."""
        return self._forward(obs)

    def check(
        self,
        observation_space: gym.Space,
        action_space: gym.Space,
        agent_space: gym.Space | None = None,
    ) -> None:
        """Raise a `UserError` when observations of these spaces do not fit the networks.

        The number of job slots may differ: the network's weights do not depend on it.

        Args:
            agent_space: of the agents' observations, where learned agents take part.
        """
        mine = NetworkSizes(**self.manifest.sizes)
        other = NetworkSizes.of_spaces(
            observation_space,
            action_space,
            job_hidden=mine.job_hidden,
            context_hidden=mine.context_hidden,
        )
        trained, given = mine.as_dict(), other.as_dict()
        if agent_space is not None and self.manifest.agent_sizes is not None:
            assert isinstance(agent_space, gym.spaces.Dict)
            trained["features of an agent"] = self.manifest.agent_sizes["features"]
            given["features of an agent"] = (agent_space["own"].shape or ())[0]
        if trained == given:
            return
        name = next(key for key in trained if trained[key] != given[key])
        raise UserError(
            f"the checkpoint was trained on observations of {trained[name]} {name}, this "
            f"environment has {given[name]}: evaluate it with the settings it was trained "
            "with (config.yaml beside it), or train it again"
        )

    def with_validation(self, score: float) -> LearnedPolicy:
        """The same policy, with its validation score on record."""
        manifest = replace(self.manifest, validation=score)
        return LearnedPolicy(manifest, self.state(), self.agent_state())

    def state(self) -> dict[str, np.ndarray]:
        return _arrays(self._network)

    def agent_state(self) -> dict[str, np.ndarray] | None:
        return None if self._agent is None else _arrays(self._agent)


def _arrays(network: nn.Module) -> dict[str, np.ndarray]:
    return {n: v.detach().cpu().numpy() for n, v in network.state_dict().items()}


def save_policy(policy: LearnedPolicy, folder: Path) -> Path:
    """Write `folder/manifest.json` and its weights; a reader sees all old or all new files."""
    record = asdict(policy.manifest)
    if policy.manifest.base_folder:
        record = _carry_base(policy.manifest, folder, record)
    states = {"": policy.state(), "agent_": policy.agent_state()}
    names = set()
    for prefix, state in states.items():
        if state is None:
            continue
        name = f"{prefix.replace('_', '-')}weights-{policy.manifest.iteration}.safetensors"
        digest = artefact.write_weights(folder / name, state)
        names.add(name)
        record |= {f"{prefix}weights": name, f"{prefix}sha256": digest}
    written = artefact.write_manifest(folder, record, names)
    for old in folder.glob(f"{BASE}-*"):
        if old.name != policy.manifest.base_folder:
            shutil.rmtree(old)
    return written


def _carry_base(manifest: Manifest, folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Copy the scorer that the policy stands on into `folder`; the manifest by relative path."""
    source, target = Path(manifest.base), folder / manifest.base_folder
    if not target.is_dir() and source != target:
        temporary = folder / f".{manifest.base_folder}"
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.copytree(source, temporary)
        temporary.rename(target)
    return record | _standing_on(manifest, manifest.base_folder)


def _standing_on(manifest: Manifest, base: str) -> dict[str, Any]:
    """Fields of a manifest whose base schedule is named `base`."""
    env = {**manifest.config.get("env", {}), "base": base}
    return {"base": base, "config": {**manifest.config, "env": env}}


def load_policy(path: Path, spaces: tuple[gym.Space, gym.Space] | None = None) -> LearnedPolicy:
    """Read the policy of a run's folder, or of its `best` folder.

    Args:
        path: the folder.
        spaces: observation and action space that it must fit, if given.

    Raises:
        UserError: when it is no such folder, is damaged, or does not fit.
    """
    folder = artefact.find(path, "scheduler", "marl-sched train")
    with artefact.readable(folder, "scheduler"):
        record = artefact.read_manifest(folder, FORMAT)
        manifest = Manifest(**record)
        if manifest.base_folder:
            base = (folder / Path(manifest.base_folder).name).resolve()
            manifest = replace(manifest, **_standing_on(manifest, str(base)))
        if manifest.plays is not None and manifest.plays not in range(
            1, 1 + len(manifest.algorithms)
        ):
            raise ValueError(f"no algorithm has the action {manifest.plays!r}")
        states = [
            artefact.arrays_of(artefact.read_verified(folder, name, digest))
            for name, digest in (
                (manifest.weights, manifest.sha256),
                (manifest.agent_weights, manifest.agent_sha256),
            )
            if name
        ]
        policy = LearnedPolicy(manifest, *states)
    if spaces is not None:
        try:
            policy.check(*spaces)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
    return policy
