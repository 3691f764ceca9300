"""What an iteration of training costs beside its work, and what saturates first with more runners.

    python benchmarks/bench_scaling.py --runners 1 2 --write docs/scaling.md
    python benchmarks/bench_scaling.py --part es --runners 1 2 --write docs/scaling.md

PPO on the game of `bench_training.py` (64 job slots, 16 environments a runner). Measures

* `iteration_ms`: `Algorithm.train()` with one step of each environment, for each number of runners:
  what does not depend on the batch; `runner_ms` is its growth with each runner;
* `call_ms`: one empty call of the runners and its answers; `sync_ms`: handing out the weights;
* `decisions_per_s`: of wall time, sampled by so many runners with the credit that training uses;
  `runner_per_s` is one runner's;
* `learner_per_s`: decisions that one learner on one CPU thread learns from (three epochs);
* `decision_kb`: of a rollout on its way to the learner; `weights_kb`.

and computes from them how many runners fill the learners, the driver's network and the driver's
time, and a plan for 10, 100 and 1,000 nodes: arithmetic, not measured. `--part es` measures a
generation of evolution strategies instead, see `scaling_es.py`. `--write` puts the tables into the
document, between the part's two marks. More runners than idle cores measure the scheduler of the
operating system. Each part takes two minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import platform
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import scaling_es
import torch
from bench_training import NUM_ENVS, SLOTS, built, rates, settings

from marl_sched.files import write_text
from marl_sched.training.rollout import SCHEDULER
from marl_sched.training.session import ray_session

STEPS = 256
"""Steps of each environment in a measured call of a runner's `sample`."""
BATCH = 4096
"""Decisions in a measured update, three epochs in minibatches of 256 as in training."""

NODES, CPUS, NETWORK_MB_S = (10, 100, 1000), 16, 1250.0
"""The plan's nodes, their CPUs, and 10 Gbit/s between the driver's machine and the others."""
LEARNERS = NUM_ENVS
"""As many as may share a batch, with the default environments of a runner."""
BATCHES, PLANNED_BATCH = (4096, 65536, 1048576), 65536
"""Decisions of an iteration: the default of training, and what the plan takes."""
OVERHEAD = 0.2
"""Share of sampling and fixed costs together that the plan lets go to fixed costs."""


def median_ms(work: Callable[[], Any], repeats: int) -> float:
    """Median wall time of a call, after one that warms up."""
    work()
    spent = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        spent.append(1e3 * (time.perf_counter() - begun))
    return sorted(spent)[len(spent) // 2]


def fixed_costs(runners: int, repeats: int) -> dict[str, float]:
    """Of an iteration with one step of each environment, and of its calls, milliseconds."""
    tiny = f"training.ppo.batch_size={runners * NUM_ENVS}"
    config = settings("ppo", f"training.num_env_runners={runners}", tiny)
    with built(config) as algorithm:
        group = algorithm.env_runner_group
        sync = dict(from_worker_or_learner_group=algorithm.learner_group, inference_only=True)
        return {
            "iteration_ms": median_ms(algorithm.train, repeats),
            "call_ms": median_ms(
                lambda: group.foreach_env_runner(lambda runner: None, local_env_runner=False),
                repeats,
            ),
            "sync_ms": median_ms(lambda: group.sync_weights(**sync), repeats),
        }


def sampled_per_s(runners: int, seconds: float) -> float:
    """Decisions per second of wall time of `runners` remote runners together."""
    config = settings("ppo", f"training.num_env_runners={runners}", "env.credit=lookahead")
    with built(config) as algorithm:
        group = algorithm.env_runner_group

        def sample() -> int:
            counts = group.foreach_env_runner(
                lambda runner: sum(map(len, runner.sample(num_timesteps=STEPS * NUM_ENVS))),
                local_env_runner=False,
            )
            return sum(counts)

        return rates({"": sample}, seconds, time.perf_counter)[""]


def sizes_and_speed(repeats: int) -> dict[str, float]:
    """Bytes of what travels, and the speed of learning, of a local run."""
    with built(settings("ppo", f"training.ppo.batch_size={BATCH}")) as algorithm:
        (rollout,) = algorithm.env_runner.sample()
        weights = algorithm.learner_group.get_weights()[SCHEDULER]
        timed = [algorithm.train()["timers"]["learner_update_timer"] for _ in range(repeats + 1)]
        return {
            "decision_kb": len(pickle.dumps(rollout, protocol=5)) / len(rollout) / 1e3,
            "weights_kb": len(pickle.dumps(weights, protocol=5)) / 1e3,
            "learner_per_s": BATCH / sorted(timed[1:])[repeats // 2],
        }


def evolved(runners: int, repeats: int) -> dict[str, float]:
    """A generation of evolution strategies, see `scaling_es`."""
    config = settings(
        "es",
        f"training.num_env_runners={runners}",
        f"training.es.sequences={scaling_es.SEQUENCES}",
        f"training.es.pairs={scaling_es.PAIRS}",
    )
    return scaling_es.evolution(config, repeats, median_ms)


def machine() -> str:
    """What a figure was measured on, and what else ran there."""
    return f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, {platform.machine()}"


def measure_es(runners: list[int], repeats: int) -> dict[str, Any]:
    """The figures of `scaling_es`, by number of runners."""
    return {"machine": machine(), "by_runners": {n: evolved(n, repeats) for n in runners}}


def tables_es(figures: dict[str, Any], command: str) -> str:
    """As `tables`, of evolution strategies."""
    measured = f"Measured by `{command}` on {figures['machine']}."
    lines = scaling_es.tables(figures["by_runners"], NODES, CPUS, OVERHEAD)
    return "\n".join([measured, "", *lines])


def measure(runners: list[int], seconds: float, repeats: int) -> dict[str, Any]:
    """All figures; those that depend on the number of runners by that number."""
    fixed = {number: fixed_costs(number, repeats) for number in runners}
    per_s = {number: sampled_per_s(number, seconds) for number in runners}
    first, last = min(runners), max(runners)
    growth = fixed[last]["iteration_ms"] - fixed[first]["iteration_ms"]
    return {
        "machine": machine(),
        "by_runners": {n: fixed[n] | {"decisions_per_s": per_s[n]} for n in runners},
        "runner_ms": max(0.0, growth / max(1, last - first)),
        "runner_per_s": per_s[first] / first,
        **sizes_and_speed(repeats),
    }


def fixed_s(figures: dict[str, Any], runners: float) -> float:
    """Fixed cost of an iteration with so many runners, which the driver serves one by one."""
    first = min(figures["by_runners"])
    base = figures["by_runners"][first]["iteration_ms"]
    return float(base + figures["runner_ms"] * (runners - first)) / 1e3


def most_runners(figures: dict[str, Any], batch: int) -> int:
    """Runners until fixed costs take `OVERHEAD` of the time, with that batch."""
    runners = 1
    while True:
        sample_s = batch / (figures["runner_per_s"] * (runners + 1))
        if fixed_s(figures, runners + 1) > OVERHEAD / (1 - OVERHEAD) * sample_s:
            return runners
        runners += 1


def limits(figures: dict[str, Any]) -> dict[str, float]:
    """What fills up -> decisions per second at which it does."""
    learner, runner = figures["learner_per_s"], figures["runner_per_s"]
    return {
        "one CPU learner": learner,
        f"{LEARNERS} CPU learners": LEARNERS * learner,
        # Rollouts pass through the driver, in and out again.
        "the driver's network, 10 Gbit/s": NETWORK_MB_S * 1e3 / figures["decision_kb"],
        **{
            f"the driver's time, batch {batch:,}": most_runners(figures, batch) * runner
            for batch in BATCHES
        },
    }


def planned_limits(figures: dict[str, Any]) -> list[float]:
    """The limits of a run of the plan, in decisions per second."""
    kinds = (f"{LEARNERS} CPU learners", "the driver's network", f"batch {PLANNED_BATCH:,}")
    found = limits(figures)
    return [per_s for name, per_s in found.items() if any(kind in name for kind in kinds)]


def tables(figures: dict[str, Any], command: str) -> str:
    """What was measured, what fills up, and the plan, as Markdown."""
    runner = figures["runner_per_s"]
    lines = [
        f"Measured by `{command}` on {figures['machine']}.",
        "",
        "| runners | iteration without work, ms | empty call, ms | weights out, ms | decisions/s |",
        "|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {n} | {row['iteration_ms']:.0f} | {row['call_ms']:.1f} | {row['sync_ms']:.1f} "
        f"| {row['decisions_per_s']:,.0f} |"
        for n, row in figures["by_runners"].items()
    ]
    lines += [
        "",
        f"A runner adds {figures['runner_ms']:.1f} ms to an iteration and samples {runner:,.0f} "
        f"decisions/s; a learner on one CPU thread learns from {figures['learner_per_s']:,.0f}/s. "
        f"A decision is {figures['decision_kb']:.1f} kB on its way to the learner, the weights are "
        f"{figures['weights_kb']:,.0f} kB. In the object store a batch is "
        + ", ".join(f"{b * figures['decision_kb'] / 1e3:,.0f} MB ({b:,})" for b in BATCHES)
        + ".",
        "",
        "What fills up (the driver's time counts as full where fixed costs are "
        f"{OVERHEAD:.0%} of an iteration's sampling and fixed costs together):",
        "",
        "| limit | decisions/s | runners that fill it |",
        "|---|---:|---:|",
    ]
    lines += [
        f"| {name} | {per_s:,.0f} | {per_s / runner:,.1f} |"
        for name, per_s in limits(figures).items()
    ]
    # What one run can feed: the driver's time may allow more than the learners take.
    runners = max(1, int(min(planned_limits(figures)) / runner))
    nodes_each = -(-(runners + LEARNERS) // CPUS)
    lines += [
        "",
        f"The plan ({CPUS} CPUs a node; a run of {runners} runners and {LEARNERS} CPU learners "
        f"with a batch of {PLANNED_BATCH:,} takes {nodes_each} nodes):",
        "",
        "| nodes | runs at once | runners | sampled/s | weights sent an iteration, MB "
        "| as one run: fixed cost of an iteration, s | its batch, decisions |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for nodes in NODES:
        runs, alone = nodes // nodes_each, nodes * CPUS
        fixed = fixed_s(figures, alone)
        batch = fixed * (1 - OVERHEAD) / OVERHEAD * alone * runner
        lines.append(
            f"| {nodes:,} | {runs:,} | {runs * runners:,} | {runs * runners * runner:,.0f} "
            f"| {runs * runners * figures['weights_kb'] / 1e3:,.1f} | {fixed:,.1f} | {batch:,.0f} |"
        )
    return "\n".join(lines)


def write(path: Path, text: str, part: str) -> None:
    """Put `text` between the marks of a part in a document."""
    begin, end = f"<!-- measured {part} -->", f"<!-- end {part} -->"
    document = path.read_text(encoding="utf-8")
    if document.count(begin) != 1 or document.count(end) != 1:
        raise SystemExit(f"{path}: needs the marks {begin} and {end}, once each")
    pattern = re.escape(begin) + ".*?" + re.escape(end)
    replaced = re.sub(pattern, lambda _: f"{begin}\n{text}\n{end}", document, flags=re.DOTALL)
    write_text(path, replaced)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--part", choices=["ppo", "es"], default="ppo")
    parser.add_argument("--runners", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=8.0, help="wall seconds of each rate")
    parser.add_argument("--repeats", type=int, default=9, help="calls of each time")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", type=Path, help="document to put the tables into")
    args = parser.parse_args()
    runners = sorted(set(args.runners))
    torch.set_num_threads(1)
    words = " ".join(map(str, runners))
    with ray_session(None, max(runners)):
        if args.part == "es":
            command = f"python benchmarks/bench_scaling.py --part es --runners {words}"
            figures = measure_es(runners, args.repeats)
            text = tables_es(figures, command)
        else:
            command = f"python benchmarks/bench_scaling.py --runners {words}"
            figures = measure(runners, args.seconds, args.repeats) | {"slots": SLOTS}
            text = tables(figures, command)
    if args.write is not None:
        write(args.write, text, args.part)
    print(json.dumps(figures) if args.json else text)


if __name__ == "__main__":
    main()
