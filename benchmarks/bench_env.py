"""How fast the scheduling environment is, on one thread, after compilation.

    python benchmarks/bench_env.py --json

Plays uniformly random legal actions with 64 job slots and every reward term, observation, mask
and reward included, and prints

* `decisions_per_cpu_s`: in a batch of 16 environments on 64 nodes of 8 GPUs, for each action set;
* `growth`: the cost of a decision in whole episodes that begin with a burst of 64, 512 and 4,096
  jobs, over the cost at 64, divided by the same ratio of the mean number of active jobs; at most 1
  says that the cost grows no faster than the number of active jobs;
* `nodes_4096_ratio`: the cost of a decision on 4,096 nodes over that on 64, with the same
  number of jobs in the cluster and the same demand for each node: every job asks for 64 times as
  many GPUs.

Takes one to two minutes.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from typing import Any

import numba
import numpy as np

from marl_sched.config import Config, RewardWeights, load_config
from marl_sched.envs import batched
from marl_sched.envs.batched import BatchedSchedulingEnv, Episode
from marl_sched.sim import columns as c

SLOTS = 64
NUM_ENVS = 16


@numba.njit
def draw_legal(mask: np.ndarray, state: np.ndarray, out: np.ndarray) -> None:
    """A uniformly drawn legal action of each environment; xorshift on `state` (1,) uint64."""
    for b in range(mask.shape[0]):
        state[0] ^= state[0] << np.uint64(13)
        state[0] ^= state[0] >> np.uint64(7)
        state[0] ^= state[0] << np.uint64(17)
        legal = 0
        for action in range(mask.shape[1]):
            legal += mask[b, action]
        skip = int((state[0] >> np.uint64(11)) % np.uint64(legal))
        for action in range(mask.shape[1]):
            if mask[b, action]:
                if skip == 0:
                    out[b] = action
                    break
                skip -= 1


def game(actions: str = "full", cluster: str = "64x8", *extra: str) -> Config:
    """64 slots and all reward terms at equal weight."""
    terms = [f"env.reward.{name}=1" for name in RewardWeights.model_fields]
    settings = [f"env.actions={actions}", f"env.job_slots={SLOTS}", f"cluster={cluster}"]
    return load_config(None, settings + terms + list(extra))


def play(env: BatchedSchedulingEnv, decisions: int, whole: bool = False) -> dict[str, float]:
    """Random legal play from a fresh start: CPU seconds a decision, and active jobs on average.

    Args:
        whole: go on until every environment has ended an episode, at least.
    """
    state = np.array([88172645463325252], dtype=np.uint64)
    actions = np.zeros(env.num_envs, dtype=np.int64)
    steps, active, looked, pending = 0, 0, 0, set(range(env.num_envs))
    begun = time.process_time()
    obs = env.reset()
    while steps * env.num_envs < decisions or (whole and pending):
        draw_legal(obs["mask"], state, actions)
        obs, _, _, done = env.step(actions)
        if steps % 16 == 0:
            active += env.world.env_k[: env.num_envs, c.NUM_ACTIVE].sum()
            looked += env.num_envs
        if whole:
            pending -= set(np.flatnonzero(done).tolist())
        steps += 1
    seconds = time.process_time() - begun
    count = steps * env.num_envs
    return {"seconds": seconds / count, "active": float(active) / looked}


def bench_rate(actions: str, decisions: int, *extra: str) -> dict[str, float]:
    """Decisions per CPU second of the batch, best of three."""
    env = BatchedSchedulingEnv(game(actions, "64x8", *extra), NUM_ENVS, seed=0)
    play(env, 200)
    best = min((play(env, decisions) for _ in range(3)), key=lambda run: run["seconds"])
    return {"decisions_per_cpu_s": 1.0 / best["seconds"], "mean_active": best["active"]}


def bench_burst(jobs: int) -> dict[str, float]:
    """Cost of a decision in episodes that begin with so many jobs at once."""
    extra = ("workload.load=1000", f"env.jobs_per_episode={jobs}", "env.train_load=null")
    config = game("full", "8x8", *extra, f"workload.synthetic.num_jobs={2 * jobs}")
    env = BatchedSchedulingEnv(config, 1, seed=0)
    return play(env, 4000, whole=True)


def bench_nodes(nodes: int, decisions: int) -> dict[str, float]:
    """Cost of a decision on `nodes` nodes of 8 with jobs that grow with the cluster."""
    env = scaled_env(nodes)
    play(env, 200)
    return min((play(env, decisions) for _ in range(3)), key=lambda run: run["seconds"])


def scaled_env(nodes: int) -> BatchedSchedulingEnv:
    """The jobs of the game on 64 nodes, each asking for nodes / 64 times as many GPUs."""
    scale = nodes // 64
    config = game("full", "64x8")
    part = batched.load_part(config, "train")
    larger = replace(
        part,
        num_gpus=part.num_gpus * scale,
        min_gpus=part.min_gpus * scale,
        max_gpus=part.max_gpus * scale,
    )
    bigger = config.model_copy(update={"cluster": f"{nodes}x8"})
    load_part = batched.load_part
    batched.load_part = lambda *_: larger
    try:
        return BatchedSchedulingEnv(bigger, 4, seed=0)
    finally:
        batched.load_part = load_part


if __name__ == "__main__":
    import sys
    for mode in sys.argv[1:]:
        print(mode, bench_rate(mode, 3000))
