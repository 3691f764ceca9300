"""What an env runner hands to the learner: arrays of T steps of B environments."""

from __future__ import annotations

import builtins
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from marl_sched.envs.learned_agents import Declarations

SCHEDULER = "scheduler"
"""Module id of the central scheduler."""
AGENT = "agent"
"""Module id that all learned agents share."""

Arrays = dict[str, np.ndarray]


@dataclass
class ModuleRollout:
    """The steps of one module; `rows` are B, or B x K for a module that acts for K slots.

    Shapes: obs {name: (T+1, *rows, ...)}, the last one only to bootstrap from; actions, logp
    (T, *rows); logits (T, *rows, M); rewards float64, dt_s float64 and dones bool (T, *rows).
    valid (T, *rows) bool is False where the row took no decision; None means all did.
    logp and logits are None for modules that do not draw from a distribution.
    """

    obs: Arrays
    actions: np.ndarray
    rewards: np.ndarray
    dt_s: np.ndarray
    dones: np.ndarray
    logp: np.ndarray | None = None
    logits: np.ndarray | None = None
    valid: np.ndarray | None = None

    def envs(self, chosen: slice) -> ModuleRollout:
        """Of some environments, where each row is one."""
        arrays: dict[str, Any] = {
            f.name: None if (value := getattr(self, f.name)) is None else value[:, chosen]
            for f in fields(self)
            if f.name != "obs"
        }
        return ModuleRollout(
            obs={name: value[:, chosen] for name, value in self.obs.items()}, **arrays
        )


# eq=False keeps identity comparison, and neither class is a Mapping or Sequence: RLlib
# flattens lists of episodes with dm-tree, which must take this object for a leaf.
@dataclass(eq=False)
class Rollout:
    """One fragment of one env runner; `len` counts scheduler decisions (environment steps)."""

    worker_index: int
    start: int
    """Steps (each of B decisions) that this runner took before; a restarted one is at 0."""
    num_envs: int
    num_steps: int
    modules: dict[str, ModuleRollout] = field(default_factory=dict)
    declarations: Declarations | None = None
    """What learned agents declared in episodes that have ended since; mostly under weights of
    some fragments ago."""

    def __len__(self) -> int:
        return self.num_steps * self.num_envs

    def __getitem__(self, decisions: builtins.slice) -> Rollout:
        """The first environments, which have `decisions.stop` decisions together.

        RLlib cuts rollouts so to share them among learners: between environments, as what one
        of them earns later must stay with what it did before.
        """
        return self._envs(slice(None, self._cut(decisions.stop)))

    def slice(self, decisions: builtins.slice, len_lookback_buffer: int | None = None) -> Rollout:
        """The environments that `self[:decisions.start]` leaves."""
        return self._envs(slice(self._cut(decisions.start), None))

    def _cut(self, decisions: int) -> int:
        envs, rest = divmod(decisions, self.num_steps)
        if rest:
            raise ValueError(f"{decisions} decisions are no whole number of environments")
        return envs

    def _envs(self, chosen: builtins.slice) -> Rollout:
        if self.declarations is not None:
            raise NotImplementedError("learned agents need one learner")
        return replace(
            self,
            num_envs=len(range(self.num_envs)[chosen]),
            modules={name: part.envs(chosen) for name, part in self.modules.items()},
        )


class RolloutRecorder:
    """Fills a `ModuleRollout` step by step, in arrays allocated once."""

    def __init__(self, num_steps: int) -> None:
        self._num_steps = num_steps
        self._columns: Arrays = {}
        self._obs: Arrays = {}

    def observe(self, step: int, obs: Arrays) -> None:
        """Keep the observation that step `step` decides on; `num_steps` is the bootstrap."""
        self._write(self._obs, self._num_steps + 1, step, obs)

    def record(self, step: int, **columns: np.ndarray) -> None:
        self._write(self._columns, self._num_steps, step, columns)

    def finish(self, num_steps: int) -> ModuleRollout:
        """The first `num_steps` steps, which may be fewer than there is room for."""
        obs = {name: value[: num_steps + 1] for name, value in self._obs.items()}
        columns: dict[str, Any] = {n: value[:num_steps] for n, value in self._columns.items()}
        return ModuleRollout(obs=obs, **columns)

    @staticmethod
    def _write(into: Arrays, length: int, step: int, values: Arrays) -> None:
        for name, value in values.items():
            if name not in into:
                into[name] = np.empty((length, *value.shape), dtype=value.dtype)
            into[name][step] = value


def with_choice(declared: Declarations) -> Declarations | None:
    """The declarations of jobs that could have asked for something else; None without any."""
    rows = np.flatnonzero((declared.obs["mask"] > 0).sum(axis=-1) > 1)
    if not rows.size:
        return None
    return Declarations(
        obs={name: value[rows] for name, value in declared.obs.items()},
        actions=declared.actions[rows],
        columns={name: value[rows] for name, value in declared.columns.items()},
        returns=declared.returns[rows],
        asked=declared.asked[rows],
    )


def join(parts: list[Declarations]) -> Declarations:
    """All rows of `parts`, in order."""
    return Declarations(
        obs={n: np.concatenate([p.obs[n] for p in parts]) for n in parts[0].obs},
        actions=np.concatenate([p.actions for p in parts]),
        columns={n: np.concatenate([p.columns[n] for p in parts]) for n in parts[0].columns},
        returns=np.concatenate([p.returns for p in parts]),
        asked=np.concatenate([p.asked for p in parts]),
    )
