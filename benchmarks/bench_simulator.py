"""How fast the simulator and the batched game run, on one thread, after compilation.

    python benchmarks/bench_simulator.py --json

Prints CPU seconds and rates for each classic scheduler on a synthetic workload, and game
sub-steps per CPU second with committing and with random legal actions. Expect about 100,000
jobs per CPU second for rigid rules on 64 GPUs. Takes about a minute, and one more to compile.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

from marl_sched.config import load_config
from marl_sched.envs.batched import BatchedSchedulingEnv
from marl_sched.evaluation.simulate import simulate
from marl_sched.schedulers import REGISTRY
from marl_sched.types import Cluster
from marl_sched.workload import load_workload


def bench_schedulers(num_jobs: int, cluster: str, load: float) -> dict[str, float]:
    """Jobs per CPU second by scheduler, best of three."""
    config = load_config(
        None, [f"workload.synthetic.num_jobs={num_jobs}", f"workload.synthetic.load={load}"]
    )
    machines = Cluster.parse(cluster)
    workload = load_workload(config.workload, machines, seed=0)
    rates = {}
    for name, scheduler in REGISTRY.items():
        seconds = []
        for _ in range(4):  # the first one compiles
            begun = time.process_time()
            simulate(workload, machines, scheduler)
            seconds.append(time.process_time() - begun)
        rates[name] = num_jobs / min(seconds[1:])
    return rates


def bench_game(actions: str, random_share: float, seconds: float) -> float:
    """Sub-steps per CPU second of 16 environments; a share of actions random, others commit."""
    env = BatchedSchedulingEnv(load_config(None, [f"env.actions={actions}"]), 16, seed=0)
    rng = np.random.default_rng(0)
    obs = env.reset()
    env.step(np.zeros(16, dtype=np.int64))
    steps, begun = 0, time.process_time()
    while time.process_time() - begun < seconds:
        noise = rng.random(obs["mask"].shape) * obs["mask"]
        chosen = np.where(rng.random(16) < random_share, noise.argmax(axis=1), 0)
        obs, *_ = env.step(chosen)
        steps += 16
    return steps / (time.process_time() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--cluster", default="8x8")
    parser.add_argument("--load", type=float, default=0.9)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each game figure")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    report = {
        "jobs_per_cpu_s": bench_schedulers(args.jobs, args.cluster, args.load),
        "commit_steps_per_cpu_s": bench_game("edit", 0.0, args.seconds),
        "random_edit_steps_per_cpu_s": bench_game("edit", 1.0, args.seconds),
    }
    if args.json:
        print(json.dumps(report))
        return
    for name, rate in report["jobs_per_cpu_s"].items():
        print(f"{name:16s} {rate:>10,.0f} jobs / CPU s")
    print(f"commit           {report['commit_steps_per_cpu_s']:>10,.0f} sub-steps / CPU s")
    print(f"random edits     {report['random_edit_steps_per_cpu_s']:>10,.0f} sub-steps / CPU s")


if __name__ == "__main__":
    main()
