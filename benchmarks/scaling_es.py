"""What a generation of evolution strategies costs beside its play; part of `bench_scaling.py`.

A generation is: the driver draws sequences of jobs and perturbations, Ray tasks play them with the
networks (`training.sequences.Players` splits a sequence over tasks), the driver ranks what came
back and moves. Measures, on the built-in workload, for each number of runners (tasks at a time),

* `generation_s`;
* `play_ms`: one sequence with one network, of one runner's time;
* `driver_ms`: of the driver's processor in a generation in which nothing is played, a sequence;
* `task_ms`: of the driver's processor for handing out one task and taking its answer;
* `shared_kb`: a perturbed network; `task_kb`: what goes with each task besides; `answer_kb`: what
  it returns.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from typing import Any

import ray

from marl_sched.config import Config
from marl_sched.training.es import EvolutionStrategies
from marl_sched.training.sequences import LEAST_TASK, Players

SEQUENCES, PAIRS = 8, 24
"""Of a measured generation; even, so that two runners have equal shares."""
NETWORKS = 2 * PAIRS + 1
"""That play a sequence, perturbed or not; the base schedule plays it too."""
DEFAULT_PAIRS = 96
"""`training.es.pairs`, the plan's."""
TASKS = 64
"""Handed out in a measurement of `task_ms`."""


class Spy:
    """Stands in for a run's players: passes on, remembers, and can answer from memory."""

    def __init__(self, players: Players) -> None:
        self.players, self.given, self.answer = players, (), None
        self.asleep = False

    def play(self, *given: Any) -> Any:
        if not self.asleep:
            self.given = given
            self.answer = self.players.play(*given)
        return self.answer


def evolution(config: Config, repeats: int, median_ms: Callable[..., float]) -> dict[str, float]:
    """Times of a generation with the runners of `config`, and bytes of what travels.

    Args:
        median_ms: (work, repeats) -> median wall time of a call.
    """
    trainer = EvolutionStrategies(config)
    spy = Spy(trainer._players)
    trainer._players = spy  # type: ignore[assignment]
    generation_ms = median_ms(trainer.iterate, repeats)
    spy.asleep = True
    driver_ms = _cpu_ms(trainer.iterate, repeats)
    sequences, *shared = spy.given
    costs, met = spy.players.play(sequences[:1], *shared)
    first = (costs[0], met)
    # The real loop over tasks, which play nothing and return what a real one did.
    spy.players._task = ray.remote(num_cpus=1)(lambda *given: first).remote
    many = [sequences[0]] * TASKS
    empty_ms = _cpu_ms(lambda: spy.players.play(many, *shared), repeats)
    return {
        "generation_s": generation_ms / 1e3,
        "play_ms": generation_ms * config.training.num_env_runners / (SEQUENCES * (NETWORKS + 1)),
        "driver_ms": driver_ms / SEQUENCES,
        "task_ms": empty_ms / TASKS,
        "shared_kb": _kb(shared) / NETWORKS,
        "task_kb": _kb((config, sequences[0])),
        "answer_kb": _kb(first),
    }


def _cpu_ms(work: Callable[[], Any], repeats: int) -> float:
    """Median of this process's own time in a call, whatever else runs on the machine."""
    work()
    spent = []
    for _ in range(repeats):
        begun = time.process_time()
        work()
        spent.append(1e3 * (time.process_time() - begun))
    return sorted(spent)[len(spent) // 2]


def _kb(value: Any) -> float:
    return len(pickle.dumps(value, protocol=5)) / 1e3


def plan(figures: dict[str, float], runners: int) -> dict[str, float]:
    """One run of the default pairs with so many runners, two of the smallest tasks for each.

    Returns:
        `sequences` that it takes, the driver's seconds and the whole generation's, plays a second.
    """
    parts = (2 * DEFAULT_PAIRS + 1) // LEAST_TASK
    sequences = -(-2 * runners // parts)
    plays = sequences * (2 * DEFAULT_PAIRS + 1 + parts)
    driver_s = sequences * (figures["driver_ms"] + parts * figures["task_ms"]) / 1e3
    generation_s = driver_s + plays * figures["play_ms"] / runners / 1e3
    return {
        "sequences": sequences,
        "driver_s": driver_s,
        "generation_s": generation_s,
        "plays_per_s": plays / generation_s,
    }


def runners_at(figures: dict[str, float], share: float) -> int:
    """Runners with which the driver's part is `share` of a generation of `plan`."""
    runners = 1
    while (found := plan(figures, runners))["driver_s"] < share * found["generation_s"]:
        runners += 1
    return runners


def tables(
    by_runners: dict[int, dict[str, float]], nodes: tuple[int, ...], cpus: int, overhead: float
) -> list[str]:
    """What was measured, and the plan, as lines of Markdown."""
    one = by_runners[min(by_runners)]
    lines = [
        f"Evolution strategies, {SEQUENCES} sequences and {PAIRS} pairs a generation "
        f"({NETWORKS + 1} plays of each sequence):",
        "",
        "| runners | generation, s | plays/s | driver, ms a sequence | driver, ms a task |",
        "|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {n} | {row['generation_s']:.2f} "
        f"| {SEQUENCES * (NETWORKS + 1) / row['generation_s']:,.0f} "
        f"| {row['driver_ms']:.1f} | {row['task_ms']:.1f} |"
        for n, row in by_runners.items()
    ]
    lines += [
        "",
        f"One play takes {one['play_ms']:.1f} ms of a runner. Sent out are "
        f"{one['shared_kb']:.1f} kB a network and {one['task_kb']:.1f} kB with a task; "
        f"{one['answer_kb']:.1f} kB come back from it.",
        "",
        f"The driver's part is {overhead:.0%} of a generation with {runners_at(one, overhead):,} "
        f"runners. The plan for one run ({cpus} runners a node, {DEFAULT_PAIRS} pairs, two tasks a "
        f"runner of {LEAST_TASK} networks each):",
        "",
        "| nodes | runners | `training.es.sequences` | driver, s | generation, s | plays/s |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for count in nodes:
        found = plan(one, count * cpus)
        lines.append(
            f"| {count:,} | {count * cpus:,} | {found['sequences']:,} | {found['driver_s']:,.1f} "
            f"| {found['generation_s']:,.1f} | {found['plays_per_s']:,.0f} |"
        )
    return lines
