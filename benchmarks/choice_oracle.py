"""What choosing an algorithm anew at every decision could gain at most: an oracle's gain.

    python benchmarks/choice_oracle.py --data ../shared/data --json

At every decision each of some variants of the index is tried, the base schedule then plays the
rest of the sequence, and the variant after which the sum of completion times is least is taken:
one-step look-ahead that knows true sizes and all arrivals to come. No scheduler that chooses one of
these at a time, and then expects the base, can do better. Validation parts of suite `training` at
load 0.9, noise 1. Takes some minutes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from marl_sched.compiled.jit import part
from marl_sched.config import Config, load_config
from marl_sched.envs.credit import copy_env
from marl_sched.envs.episodes import episode_jobs, load_part, make_world
from marl_sched.envs.play import play
from marl_sched.evaluation.suites import get_suite
from marl_sched.schedulers import Scheduler, get_scheduler
from marl_sched.schedulers.dispatch import decide
from marl_sched.sim import columns as c
from marl_sched.sim.apply import apply
from marl_sched.sim.kernels import EPOCH, advance, make_view, start
from marl_sched.sim.world import World
from marl_sched.types import Floats1, Ints1

BASE = "elastic_index:tuned"
VARIANTS = tuple(f"{BASE},{change}" for change in ("p=0.5", "p=0.9", "h=2,b=20", "h=0.05,b=0.3"))
OTHERS = ("elastic_srsf:tuned", "equi")


@part
def propose(w: World, b: int, number: int, params: Floats1, target: Ints1) -> None:
    """Write into target, at least as long as jobs are active, the levels of a scheduler."""
    own = w.target[b, : w.env_k[b, c.NUM_ACTIVE]]
    decide(number, make_view(w, b), params, own)
    target[: own.size] = own


@part
def take(w: World, b: int, target: Ints1) -> None:
    """Carry levels out."""
    own = w.target[b, : w.env_k[b, c.NUM_ACTIVE]]
    own[:] = target[: own.size]
    apply(w, b, own)


def oracle(world: World, jobs: int, rules: list[Scheduler]) -> tuple[float, float, int]:
    """Sum of completion times of the oracle and of the base, rules[0], s; decisions otherwise."""
    base = rules[0]
    start(world, 0, 0, jobs, 1.0)
    play(world, 0, base.number, base.param_array, 1 << 62)
    plain = float(world.cost[0, c.COST_COMPLETION])
    start(world, 1, 0, jobs, 1.0)
    start(world, 0, 0, jobs, 1.0)
    target, other = np.empty(jobs, dtype=np.int64), 0
    while advance(world, 0) == EPOCH:
        active = int(world.env_k[0, c.NUM_ACTIVE])
        proposals: dict[bytes, np.ndarray] = {}
        for rule in rules:
            propose(world, 0, rule.number, rule.param_array, target)
            proposals.setdefault(target[:active].tobytes(), target[:active].copy())
        tried = list(proposals.values())
        best = 0
        if len(tried) > 1:
            costs = []
            for levels in tried:
                copy_env(world, 0, 1)
                take(world, 1, levels)
                play(world, 1, base.number, base.param_array, 1 << 62)
                costs.append(world.cost[1, c.COST_COMPLETION])
            best = int(np.argmin(costs))
        other += best > 0
        take(world, 0, tried[best])
    return float(world.cost[0, c.COST_COMPLETION]), plain, other


def sequence(config: Config, number: int, of: int) -> tuple[World, int]:
    """World with jobs of the validation part, evenly spread over it; the number of jobs."""
    jobs = load_part(config, "validation")
    count = episode_jobs(config, jobs)
    first = int((len(jobs) - count) * (number + 0.5) / of)
    return make_world(config, jobs.slice(first, first + count), 2, count), count


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the public traces")
    parser.add_argument("--sequences", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rules = [get_scheduler(name) for name in (BASE, *VARIANTS, *OTHERS)]
    report: dict[str, dict[str, float]] = {}
    for cell in get_suite("training").cells:
        if cell.load != 0.9:
            continue
        config = load_config(defaults=cell.settings(given.data))
        logs, others = [], 0
        for number in range(given.sequences):
            world, jobs = sequence(config, number, given.sequences)
            mine, plain, other = oracle(world, jobs, rules)
            logs.append(np.log(mine / plain))
            others += other
        report[cell.name] = {"percent": 100 * float(np.expm1(np.mean(logs))), "otherwise": others}
        if not given.json:
            print(f"{cell.name:25} {report[cell.name]['percent']:+.2f} %, {others} decisions "
                  "otherwise than the base", flush=True)  # fmt: skip
    if given.json:
        print(json.dumps(report))


if __name__ == "__main__":
    main()
