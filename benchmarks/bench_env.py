"""How fast the scheduling environment is, on one thread, after compilation.

    python benchmarks/bench_env.py --json

Plays uniformly random legal actions with 64 job slots and every reward term; observation, mask,
reward (`env.credit=shadow`) and new episodes are included. Prints

* `decisions_per_cpu_s`: in a batch of 16 environments on the default cluster, 8 nodes of 8, edits
  and algorithms allowed; `by_actions` and `by_cluster` for each action set and for larger clusters,
  with the mean number of active jobs;
* `lookahead`: the same with `env.credit=lookahead`, which training uses, and `lookahead_rarely`
  where only one round in twenty is not the base schedule's, as under a policy that has learned;
* `growth`: the cost of a decision over whole episodes on 8 nodes of 8 that begin with a burst of
  64, 512 and 4,096 jobs; `growth_per_active` is how much it grows over the first of them, divided
  by how much the mean number of active jobs does: at most 1 is no faster than the jobs;
* `nodes_4096_ratio`: the cost of a decision on 4,096 nodes of 8 over that on 64, with the same
  arrivals and the same demand for each node: every job asks for 64 times as many GPUs.

Expect 200,000 decisions per CPU second on the default cluster and half of it with a hundred
active jobs. Takes two minutes, and one more to compile.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numba
import numpy as np

from marl_sched.config import Config, RewardWeights, load_config
from marl_sched.envs.batched import BatchedSchedulingEnv
from marl_sched.sim import columns as c
from marl_sched.types import Cluster
from marl_sched.workload import load_workload
from marl_sched.workload.trace import write_trace

SLOTS = 64
NUM_ENVS = 16
DECISIONS = 100_000
CLUSTERS = ("8x8", "16x8", "32x8", "64x8")


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


def game(actions: str, cluster: str, *extra: str) -> Config:
    """64 slots and all reward terms at equal weight."""
    terms = [f"env.reward.{name}=1" for name in RewardWeights.model_fields]
    settings = [f"env.actions={actions}", f"env.job_slots={SLOTS}", f"cluster={cluster}"]
    return load_config(None, [*settings, "env.credit=shadow", *terms, *extra])


def play(
    env: BatchedSchedulingEnv, decisions: int, whole: bool = False, every: int = 1
) -> dict[str, float]:
    """Random legal play from a fresh start: CPU seconds a decision, and active jobs on average.

    Args:
        whole: go on until every environment has ended an episode, at least.
        every: draw an action only in one step of so many, else commit.
    """
    state = np.array([88172645463325252], dtype=np.uint64)
    actions = np.zeros(env.num_envs, dtype=np.int64)
    steps, active, looked, pending = 0, 0, 0, set(range(env.num_envs))
    begun = time.process_time()
    obs = env.reset()
    while steps * env.num_envs < decisions or (whole and pending):
        if steps % every == 0:
            draw_legal(obs["mask"], state, actions)
        else:
            actions[:] = 0
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


def best_of(env: BatchedSchedulingEnv, decisions: int, every: int = 1) -> dict[str, float]:
    """The fastest of three plays, after a short one that compiles."""
    play(env, 500)
    runs = [play(env, decisions, every=every) for _ in range(3)]
    return min(runs, key=lambda run: run["seconds"])


def bench_rate(
    actions: str, cluster: str, decisions: int, *extra: str, every: int = 1
) -> dict[str, float]:
    """Decisions per CPU second of the batch."""
    env = BatchedSchedulingEnv(game(actions, cluster, *extra), NUM_ENVS, 0)
    run = best_of(env, decisions, every)
    return {"decisions_per_cpu_s": 1.0 / run["seconds"], "mean_active": run["active"]}


def bench_burst(jobs: int) -> dict[str, float]:
    """Cost of a decision in an episode that begins with so many jobs at once."""
    settings = ("workload.load=1000", "env.train_load=null", f"env.jobs_per_episode={jobs}")
    config = game("full", "8x8", *settings, f"workload.synthetic.num_jobs={2 * jobs}")
    run = play(BatchedSchedulingEnv(config, 1, seed=0), 4000, whole=True)
    return {"us_per_decision": 1e6 * run["seconds"], "mean_active": run["active"]}


def bench_growth(jobs: tuple[int, ...] = (64, 512, 4096)) -> dict[str, Any]:
    """`bench_burst` for growing bursts, and how the cost grows with the active jobs."""
    bench_burst(jobs[0])
    rows = {str(number): bench_burst(number) for number in jobs}
    first = rows[str(jobs[0])]
    growth = [
        (row["us_per_decision"] / first["us_per_decision"])
        / (row["mean_active"] / first["mean_active"])
        for row in rows.values()
    ]
    return {"bursts": rows, "growth_per_active": max(growth[1:])}


def write_scaled(folder: Path, nodes: int) -> Path:
    """The built-in jobs of 64 nodes of 8, each asking for nodes / 64 times as many GPUs."""
    scale = nodes // 64
    jobs = load_workload(game("full", "64x8").workload, Cluster.parse("64x8"), seed=0)
    gpus = {name: scale * getattr(jobs, name) for name in ("num_gpus", "min_gpus", "max_gpus")}
    path = folder / f"{nodes}.csv"
    write_trace(replace(jobs, **gpus), path)
    return path


def bench_nodes(decisions: int) -> dict[str, Any]:
    """Decisions on 64 and on 4,096 nodes of 8 whose jobs grow with them."""
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for nodes in (64, 4096):
            trace = f"workload.trace={write_scaled(Path(folder), nodes)}"
            env = BatchedSchedulingEnv(game("full", f"{nodes}x8", trace), 4, seed=0)
            run = best_of(env, decisions)
            rows[str(nodes)] = {
                "us_per_decision": 1e6 * run["seconds"],
                "mean_active": run["active"],
            }
    ratio = rows["4096"]["us_per_decision"] / rows["64"]["us_per_decision"]
    return {"nodes": rows, "nodes_4096_ratio": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--decisions", type=int, default=DECISIONS)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    some, ahead = args.decisions, "env.credit=lookahead"
    by_actions = {name: bench_rate(name, "8x8", some) for name in ("meta", "edit", "full")}
    report: dict[str, Any] = {
        "decisions_per_cpu_s": by_actions["full"]["decisions_per_cpu_s"],
        "by_actions": by_actions,
        "by_cluster": {name: bench_rate("full", name, some) for name in CLUSTERS},
        "lookahead": bench_rate("full", "8x8", some // 10, ahead),
        "lookahead_rarely": bench_rate("meta", "8x8", some // 10, ahead, every=20),
        **bench_growth(),
        **bench_nodes(some // 4),
    }
    if args.json:
        print(json.dumps(report))
        return
    for name, value in report.items():
        if not isinstance(value, dict):
            print(f"{name:24s} {value:,.2f}")
            continue
        print(name)
        for row, figures in value.items():
            pairs = figures.items() if isinstance(figures, dict) else [("", figures)]
            print(f"  {row:22s} " + "  ".join(f"{key} {one:,.1f}" for key, one in pairs))


if __name__ == "__main__":
    main()
