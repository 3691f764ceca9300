"""Small games: a few nodes, short episodes, quick to play to their end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from marl_sched.config import Config, validate_config
from marl_sched.envs.batched import BatchedSchedulingEnv
from marl_sched.envs.state import Game
from marl_sched.sim import columns as c
from marl_sched.sim.world import World

ALGORITHMS = ("elastic_index", "srtf", "fcfs_backfill")
UP = 1 + len(ALGORITHMS)
"""First of the `up` actions; `down` follows after the slots."""


def config(actions: str = "full", cluster: str = "3x4", **env: Any) -> Config:
    """A game on synthetic jobs with the plain index as base, at the configured restart costs and
    noise; `env` overrides settings of that section."""
    return validate_config(
        {
            "seed": 3,
            "cluster": cluster,
            "workload": {"synthetic": {"num_jobs": 300, "median_duration_s": 900.0}},
            "env": {
                "actions": actions,
                "algorithms": list(ALGORITHMS),
                "job_slots": 8,
                "max_edits": 3,
                "jobs_per_episode": 24,
                "base": "elastic_index",
                "train_restart_scale": None,
                "train_estimate_noise": None,
            }
            | env,
        }
    )


def traced(trace: Path, cluster: str, **env: Any) -> Config:
    """A game on the jobs of a file, at their own times and with exact estimates."""
    return validate_config(
        {
            "cluster": cluster,
            "workload": {"trace": str(trace), "estimate_noise": 0.0, "split": [0.34, 0.33, 0.33]},
            "env": {"algorithms": list(ALGORITHMS), "job_slots": 4, "train_load": None}
            | {"base": "elastic_index", "train_restart_scale": None}
            | env,
        }
    )


def masked_action(rng: np.random.Generator, mask: np.ndarray, edits: float = 0.7) -> int:
    """A legal action; with probability `edits` not the commit, where there is a choice."""
    legal = np.flatnonzero(mask)
    if legal.size > 1 and rng.random() < edits:
        legal = legal[1:]
    return int(rng.choice(legal))


def check_constraints(world: World, game: Game, b: int = 0) -> None:
    """Every node and resource within its capacity; levels and proposal within their limits."""
    used = np.zeros_like(world.free[b])
    active = int(world.env_k[b, c.NUM_ACTIVE])
    for i in range(active):
        entry, gpus = int(world.slot_k[b, c.PLACEMENT, i]), 0
        while entry >= 0:
            node, here, entry, _ = world.pool[b, :, entry].tolist()
            used[node] += here * world.slot_demand[b, i]
            gpus += here
        profile, level = world.slot_k[b, c.PROFILE, i], world.slot_k[b, c.LEVEL, i]
        assert 0 <= level <= world.num_levels[profile]
        assert gpus == world.sizes[profile, level]
    assert world.free[b].min() >= -1e-6
    assert (used <= world.capacity + 1e-6).all()
    np.testing.assert_allclose(world.free[b] + used, world.capacity, atol=1e-6)
    proposal = game.proposal[b, :active]
    limit = world.slot_k[b, c.LIMIT_LEVEL, :active]
    assert (proposal >= 0).all() and (proposal <= limit).all()
    assert proposed(world, game, b).sum() <= world.total[0]


def proposed(world: World, game: Game, b: int = 0) -> np.ndarray:
    """(A,) GPUs of the proposal, by row of the active table."""
    active = int(world.env_k[b, c.NUM_ACTIVE])
    return world.sizes[world.slot_k[b, c.PROFILE, :active], game.proposal[b, :active]]


def active_jobs(env: BatchedSchedulingEnv, b: int = 0) -> np.ndarray:
    """(A,) indices of the active jobs in the workload, by row."""
    return env.world.slot_k[b, c.JOB, : env.world.env_k[b, c.NUM_ACTIVE]]
