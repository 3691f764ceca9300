"""Learned deep-learning agents: one player for each job slot, one shared module for all.

An agent declares on arrival, and again after `env.demand_period_s`, how many GPUs its job
asks for; the scheduler may give less, never more. Its reward is its job's own progress:

    integral of (rate - 1) dt / duration - price * (GPU-seconds held) / (duration * R_i)

that is 1 - slowdown over the job's life, less the price of what it held. Jobs without a slot
act honestly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from marl_sched.config import Config
from marl_sched.envs import rounds
from marl_sched.envs.state import AGENT_FEATURES, Game
from marl_sched.sim import columns as c
from marl_sched.sim.progress import sync_running
from marl_sched.sim.world import World

MAX_DEMAND_LEVELS = 16
"""Width of the agents' action: level a + 1 of the job's allowed sizes."""


def agent_observation_space() -> gym.spaces.Dict:
    """{"own": (F,) float32 features, "mask": (L,) int8 legal demands}."""
    return gym.spaces.Dict(
        {
            "own": gym.spaces.Box(-np.inf, np.inf, (len(AGENT_FEATURES),), np.float32),
            "mask": gym.spaces.Box(0, 1, (MAX_DEMAND_LEVELS,), np.int8),
        }
    )


def agent_action_space() -> gym.spaces.Discrete:
    """Demand the a + 1-th allowed size."""
    return gym.spaces.Discrete(MAX_DEMAND_LEVELS)


@dataclass
class Declarations:
    """Demands that agents declared, with what followed; arrays over D declarations."""

    obs: dict[str, np.ndarray]
    actions: np.ndarray
    """(D,) int64."""
    columns: dict[str, np.ndarray]
    """What the module computed beside the action: log-probability, logits."""
    returns: np.ndarray
    """(D,) float64, the job's rewards from the declaration to its end."""
    asked: np.ndarray
    """(D,) float64, GPUs declared for each GPU that the trace requests."""

    def __len__(self) -> int:
        return len(self.actions)


@dataclass(frozen=True)
class Demand:
    """A job at the moment when its agent declared."""

    row: int
    """Of the job in its episode."""
    at_s: float
    left_s: float
    """Isolated seconds of work left."""
    attained_gpu_s: float
    duration_s: float
    num_gpus: int
    """Its request in the trace."""


def record_demand(world: World, game: Game, b: int, slot: int) -> Demand:
    """The job in `slot` of environment `b` as it is now."""
    sync_running(world, b)
    i = game.slot[b, slot]
    f = world.slot_f[b, :, i]
    profile = world.slot_k[b, c.PROFILE, i]
    return Demand(
        row=int(world.slot_k[b, c.JOB, i] - world.env_k[b, c.FIRST_JOB]),
        at_s=float(world.env_f[b, c.NOW_S]),
        left_s=float(f[c.REMAINING_S]),
        attained_gpu_s=float(f[c.ATTAINED_GPU_S]),
        duration_s=float(f[c.DURATION_S]),
        num_gpus=int(world.sizes[profile, world.request_level[profile]]),
    )


def reward_since(world: World, b: int, demand: Demand, price: float) -> float:
    """The agent's reward from its declaration until now, or until its job finished."""
    finish_s = world.result[b, c.FINAL_FINISH_S, demand.row]
    if np.isnan(finish_s):
        sync_running(world, b)
        active = world.env_k[b, c.NUM_ACTIVE]
        job = demand.row + world.env_k[b, c.FIRST_JOB]
        i = int(np.flatnonzero(world.slot_k[b, c.JOB, :active] == job)[0])
        until_s = world.env_f[b, c.NOW_S]
        left_s = world.slot_f[b, c.REMAINING_S, i]
        attained = world.slot_f[b, c.ATTAINED_GPU_S, i]
    else:
        until_s, left_s = finish_s, 0.0
        attained = world.result[b, c.FINAL_ATTAINED_GPU_S, demand.row]
    progress_s = (demand.left_s - left_s) - (until_s - demand.at_s)
    paid = price * (attained - demand.attained_gpu_s) / demand.num_gpus
    return float((progress_s - paid) / demand.duration_s)


class AgentDesk:
    """Who has to declare, what was declared, and what came of it, for B environments."""

    def __init__(self, config: Config, world: World, game: Game) -> None:
        self._world = world
        self.game = game
        self._price = config.env.demand_price
        envs, slots = game.slot.shape
        self._due = np.zeros((envs, slots), dtype=np.bool_)
        self._pending: list[list[tuple[Any, ...]]] = [[] for _ in range(envs)]
        self._finished: list[tuple[Any, ...]] = []

    def due(self) -> tuple[np.ndarray, np.ndarray]:
        """Environments and slots (D,), (D,) of the agents that have to declare now."""
        rounds.agents_due(self._world, self.game, self._due)
        envs, slots = np.nonzero(self._due)
        return envs, slots

    def observe(self, envs: np.ndarray, slots: np.ndarray) -> dict[str, np.ndarray]:
        """Observations of those agents, each (D, ..)."""
        game, world = self.game, self._world
        own = np.concatenate([game.jobs[envs, slots], game.globals[envs]], axis=1)
        rows = game.slot[envs, slots]
        most = world.num_levels[world.slot_k[envs, c.PROFILE, rows]]
        mask = (np.arange(MAX_DEMAND_LEVELS) < most[:, None]).astype(np.int8)
        return {"own": own.astype(np.float32), "mask": mask}

    def declare(
        self,
        envs: np.ndarray,
        slots: np.ndarray,
        obs: dict[str, np.ndarray],
        actions: np.ndarray,
        columns: dict[str, np.ndarray] | None = None,
    ) -> None:
        """Carry out the demands `actions` (D,) of the agents that were due."""
        columns = columns or {}
        world, game = self._world, self.game
        levels = np.zeros(self._due.shape, dtype=np.int64)
        levels[envs, slots] = actions + 1
        for j, (b, k) in enumerate(zip(envs.tolist(), slots.tolist(), strict=True)):
            demand = record_demand(world, game, b, k)
            profile = world.slot_k[b, c.PROFILE, game.slot[b, k]]
            level = min(int(levels[b, k]), int(world.num_levels[profile]))
            self._pending[b].append(
                (
                    demand,
                    {name: value[j] for name, value in obs.items()},
                    int(actions[j]),
                    {name: value[j] for name, value in columns.items()},
                    float(world.sizes[profile, level]) / demand.num_gpus,
                )
            )
        for b in np.unique(envs):
            rounds.declare(world, game, int(b), self._due[b], levels[b])

    def close_episode(self, b: int) -> None:
        """Settle the declarations of environment `b`, whose episode has ended."""
        for demand, *declared in self._pending[b]:
            value = reward_since(self._world, b, demand, self._price)
            self._finished.append((*declared, value))
        self._pending[b] = []

    def forget_episode(self, b: int) -> None:
        """Drop the declarations of environment `b`, whose episode is not played to its end."""
        self._pending[b] = []

    def pop(self) -> Declarations | None:
        """The declarations of episodes that ended since the last call; None without any."""
        done, self._finished = self._finished, []
        if not done:
            return None
        return Declarations(
            obs={name: np.stack([d[0][name] for d in done]) for name in done[0][0]},
            actions=np.array([d[1] for d in done], dtype=np.int64),
            columns={name: np.stack([d[2][name] for d in done]) for name in done[0][2]},
            returns=np.array([d[4] for d in done]),
            asked=np.array([d[3] for d in done]),
        )

    def get_state(self) -> dict[str, Any]:
        return {"pending": [list(p) for p in self._pending], "finished": list(self._finished)}

    def set_state(self, state: dict[str, Any]) -> None:
        self._pending = [list(p) for p in state["pending"]]
        self._finished = list(state["finished"])
