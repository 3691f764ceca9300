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
from marl_sched.training.sequences import Players

SEQUENCES, PAIRS = 8, 24
"""Of a measured generation; even, so that two runners have equal shares."""
NETWORKS = 2 * PAIRS + 1
"""That play a sequence, perturbed or not; the base schedule plays it too."""
DEFAULT_PAIRS = 96
"""`training.es.pairs`, the fewest of the plan."""
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


def plan(figures: dict[str, float], runners: int, overhead: float) -> tuple[int, float, float]:
    """Pairs, the driver's seconds and the whole generation's, one sequence a runner.

    As many pairs as it takes for the driver's part to be at most `overhead` of the generation.
    """
    driver_s = runners * (figures["driver_ms"] + figures["task_ms"]) / 1e3
    least_s = driver_s * (1 - overhead) / overhead
    networks = -(-1e3 * least_s // figures["play_ms"])
    pairs = max(DEFAULT_PAIRS, -int(-(networks - 2) // 2))
    return pairs, driver_s, driver_s + (2 * pairs + 2) * figures["play_ms"] / 1e3


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
        f"The plan for one run (one sequence a runner, {cpus} runners a node; pairs: "
        f"{DEFAULT_PAIRS}, or as many as keep the driver's part within {overhead:.0%} of a "
        "generation):",
        "",
        "| nodes | `training.es.sequences` | `training.es.pairs` | driver, s | generation, s "
        "| to each node, MB | plays/s |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for count in nodes:
        runners = count * cpus
        pairs, driver_s, generation_s = plan(one, runners, overhead)
        sent_mb = (2 * pairs + 1) * one["shared_kb"] / 1e3
        plays = runners * (2 * pairs + 2) / generation_s
        lines.append(
            f"| {count:,} | {runners:,} | {pairs:,} | {driver_s:,.1f} | {generation_s:,.1f} "
            f"| {sent_mb:,.1f} | {plays:,.0f} |"
        )
    return lines
