"""Gavel's and Shockwave's published experiments on the project's own simulator.

The rules are those of the Shockwave artifact (Zheng et al., NSDI 2023, simulating Gavel's
policies of Narayanan et al., OSDI 2020): a round begins when the one before has ended and lasts
until the last of its jobs has done its steps, at most `round_s`; a job that did not run in the
round before loses `RESTART_S` of a full round; jobs end inside rounds, and arrive with the next.
One difference: after a time without any job the run goes on with the next arrival, where the
artifact stops.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from marl_sched.config import SimConfig
from marl_sched.errors import UserError
from marl_sched.perf.profiles import ProfileTable
from marl_sched.reproduce.gavel_steps import OVERTIME, Steps
from marl_sched.schedulers.mechanisms.rounds import Rounds
from marl_sched.schedulers.rules.gavel import FIXED_ORDER, PROGRAMS, Demand
from marl_sched.sim import columns as c
from marl_sched.sim.build import build_world
from marl_sched.sim.simulation import Simulation
from marl_sched.sim.world import World
from marl_sched.types import Cluster, make_node
from marl_sched.workload.gavel import (
    GavelTrace,
    load_overheads,
    load_profile,
    load_throughputs,
    load_trace,
)
from marl_sched.workload.jobs import Workload

RESTART_S = 20.0
"""What checkpoint and resumption cost together, as the artifact has it."""
SPARED_S = 5.0
"""Rounds shorter than the round by more than this, a job's last ones, pay no restart."""
TYPE_ORDER = ("v100", "p100", "k80")
"""Order in which the artifact goes through GPU types, and that of a cluster as 32:16:8."""

SCHEDULERS = {
    "max_min_fairness": "max_min_fairness_agnostic",
    "max_min_fairness_perf": "max_min_fairness",
    "max_sum_throughput": "max_sum_throughput",
    "max_sum_throughput_perf": "max_sum_throughput",
    "min_total_duration": "min_total_duration_agnostic",
    "min_total_duration_perf": "min_total_duration",
    "gandiva_fair": "gandiva_fair",
}
"""The artifact's names of policies -> the programs here; `agnostic` ones take every GPU type for
the first."""

_NEVER = 1e9
BARELY = 1e-30
"""Rate of a job that makes no progress in a round."""
SOONER_S = 1e-6
"""Lead of a job's own end over the end of its round, so that it comes first."""


@dataclass(frozen=True)
class RealCluster:
    """A run on hardware."""

    overheads: Path
    """Measured seconds of writing or loading a checkpoint."""
    first_jobs: int = 1
    """Jobs that have arrived when the first round begins: machines register late."""
    overtime: float = OVERTIME
    """A job that has run this many times its planned run time is ended."""


def run(
    trace: Path,
    throughputs: Path,
    profile: Path | None,
    scheduler: str,
    cluster: dict[str, int] | str,
    round_s: float = 120.0,
    seed: int = 0,
    real: RealCluster | None = None,
) -> dict[str, Any]:
    """Simulate one policy on one trace.

    Args:
        profile: planned run times; None computes them from the throughputs.
        cluster: GPUs by type, or as text "32" or "32:16:8", in `TYPE_ORDER`.
        real: by the rounds of a real cluster (`gavel_leases`); None goes by the published
            simulator's.

    Returns:
        avg_jct_s, p50_jct_s, p99_jct_s, makespan_s, num_restarts, num_rounds, and jcts_s by
        job, numbered from "0" in the order of the trace.

    Raises:
        UserError: for input that cannot be used.
    """
    jobs = load_trace(trace)
    table = load_throughputs(throughputs)
    types, gpus = cluster_of(cluster)
    unknown = [kind for kind in types if kind not in table]
    if unknown:
        raise UserError(
            f"throughputs {throughputs}: no GPU type {unknown[0]!r}; it has {', '.join(table)}"
        )
    if scheduler not in SCHEDULERS:
        raise UserError(f"unknown scheduler {scheduler!r}; known: {', '.join(SCHEDULERS)}")
    planned_s = None if profile is None else load_profile(profile, len(jobs))
    overtime = OVERTIME if real is None else real.overtime
    steps = Steps(jobs, table, types, planned_s, overtime)
    given = (jobs, steps, types, gpus, scheduler, round_s, seed)
    if real is None:
        return Experiment(*given).run()
    from marl_sched.reproduce.gavel_leases import LeasedExperiment

    return LeasedExperiment(*given, load_overheads(real.overheads), real.first_jobs).run()


def cluster_of(given: dict[str, int] | str) -> tuple[tuple[str, ...], np.ndarray]:
    """GPU types, in `TYPE_ORDER` and then as given, and GPUs of each (T,) int64; none without.

    Raises:
        UserError: for anything else than whole numbers of GPUs.
    """
    if isinstance(given, str):
        cells = given.split(":")
        if len(cells) > len(TYPE_ORDER) or not all(cell.strip().isdecimal() for cell in cells):
            raise UserError(
                f"cluster {given!r}: write GPUs, for example 32, or by type as in 32:16:8 "
                f"({':'.join(TYPE_ORDER)})"
            )
        given = {kind: int(cell) for kind, cell in zip(TYPE_ORDER, cells, strict=False)}
    order = [*(kind for kind in TYPE_ORDER if kind in given)]
    order += [kind for kind in given if kind not in TYPE_ORDER]
    kept = tuple(kind for kind in order if given[kind] > 0)
    if not kept:
        raise UserError("cluster: needs at least one GPU, for example 32")
    return kept, np.array([given[kind] for kind in kept], dtype=np.int64)


class Experiment:
    """One policy on one trace: the rounds of Gavel, on a `Simulation`.

    The simulation keeps the clock, arrivals, ends and GPUs; every round this sets how fast each
    job that runs in it progresses.
    """

    mechanism = Rounds

    def __init__(
        self,
        trace: GavelTrace,
        steps: Steps,
        types: tuple[str, ...],
        gpus: np.ndarray,
        scheduler: str,
        round_s: float,
        seed: int,
    ) -> None:
        self.trace, self.steps, self.gpus, self.round_s = trace, steps, gpus, round_s
        self.program = SCHEDULERS[scheduler]
        self.rounds = self.mechanism(
            len(types), round_s, seed=seed, fixed_order=self.program in FIXED_ORDER, lend=False
        )
        self.simulation = Simulation(_world(trace, steps, types, gpus))
        self.running = np.full(len(trace), -1, dtype=np.int64)
        """(J,) type that each job runs on in this round, -1 none."""
        self.number = 0
        """Of the round that begins next."""
        self.num_restarts = 0
        self.booked: list[tuple[float, int, int, float]] = []
        """(-end, job, type, seconds) of this round, to be booked at its end, the last first."""

    def run(self) -> dict[str, Any]:
        """Run to the end; what `reproduce.gavel.run` returns."""
        simulation, round_end_s = self.simulation, 0.0
        while simulation.advance():
            if simulation.now_s >= round_end_s:
                self._end_round()
                round_end_s = self._begin_round()
            simulation.wake_at(round_end_s)
        return self._results()

    def _end_round(self) -> None:
        if self.booked:
            _, job, kind, seconds = zip(*sorted(self.booked), strict=True)
            self.rounds.book(np.array(job), np.array(kind), np.array(seconds))
        self.booked = []

    def _decide(self, rows: np.ndarray) -> np.ndarray:
        """(n,) int64, the type that jobs `rows` (n,), in their order, run on; -1 waits."""
        return self.rounds.decide(*self._question(rows))

    def _question(self, rows: np.ndarray) -> tuple[Any, ...]:
        """What `Rounds.decide` is asked about jobs `rows` (n,)."""
        rate, left = self._known()
        demand = Demand(
            self.trace.num_gpus[rows].astype(float),
            rate[rows],
            left[rows].astype(float),
            self.trace.weight[rows],
            self.gpus.astype(float),
        )
        return (
            self.simulation.now_s,
            rows,
            self.trace.num_gpus[rows],
            demand.rate > 0.0,
            self.gpus,
            lambda: PROGRAMS[self.program](demand),
        )

    def _known(self) -> tuple[np.ndarray, np.ndarray]:
        """Rates (J, T) float64, steps/s, and steps left (J,) int64, as the scheduler knows them."""
        return self.steps.rate, self.steps.left

    def _begin_round(self) -> float:
        """Start the jobs of the next round; when it ends, s."""
        view_job = self.simulation.view().job.copy()
        rows = np.sort(view_job)
        chosen = self._decide(rows)
        runs = np.flatnonzero(chosen >= 0)
        jobs, kinds, at = rows[runs], chosen[runs], np.argsort(view_job)[runs]
        fresh = (self.number > 0) & (self.running[jobs] < 0)
        self.num_restarts += int(fresh.sum())
        self.running[:] = -1
        self.running[rows] = chosen
        placement = np.zeros((len(rows), len(self.gpus)), dtype=np.int64)
        placement[at, kinds] = self.trace.num_gpus[jobs]
        planned = self.steps.planned_steps(jobs, kinds, self.round_s)
        left = self.simulation.remaining()[at]
        now_s, ends_s, speeds = self.simulation.now_s, [self.simulation.now_s], []
        asked = (array.tolist() for array in (jobs, kinds, planned, fresh, left))
        for each in zip(*asked, strict=True):
            end_s, progress = self._run_job(now_s, *each)
            ends_s.append(end_s)
            speeds.append(progress)
        speed = np.full((len(rows), 1), BARELY)
        speed[at, 0] = speeds
        self.simulation.place(placement, speed)
        self.number += 1
        return max(ends_s)

    def _run_job(
        self, now_s: float, j: int, kind: int, count: int, fresh: bool, work: float
    ) -> tuple[float, float]:
        """Let job `j` do `count` steps in the round from `now_s` on.

        Returns:
            When it is through, s, and its progress until then in the simulation's unit per
            second, of which it has `work` left.
        """
        steps = self.steps
        end_s = max(now_s + count / float(steps.rate[j, kind]), now_s)
        seconds = end_s - now_s
        useful_s, done, before = seconds, count, int(steps.total[j] - steps.done[j])
        if fresh and seconds > self.round_s - SPARED_S:
            useful_s = seconds - RESTART_S
            done = int(count * (useful_s / seconds))
        ends, ran = steps.end_round(j, done, useful_s)
        if ran:
            self.booked.append((-end_s, j, kind, useful_s))
        else:
            self.rounds.invalidate()
        if ends:
            return end_s, work / max(seconds - SOONER_S, 1e-300)
        if seconds <= 0.0 or done <= 0:
            return end_s, BARELY
        return end_s, work * done / before / seconds

    def _results(self) -> dict[str, Any]:
        result = self.simulation.world.result[0]
        jcts_s = result[c.FINAL_FINISH_S] - result[c.FINAL_ARRIVAL_S]
        return {
            "avg_jct_s": float(jcts_s.mean()),
            "p50_jct_s": float(np.percentile(jcts_s, 50)),
            "p99_jct_s": float(np.percentile(jcts_s, 99)),
            "makespan_s": float(result[c.FINAL_FINISH_S].max()),
            "num_restarts": int(self.num_restarts),
            "num_rounds": self.number,
            "jcts_s": {str(j): float(value) for j, value in enumerate(jcts_s)},
        }


def _world(trace: GavelTrace, steps: Steps, types: tuple[str, ...], gpus: np.ndarray) -> World:
    """A cluster of one node a GPU type, and jobs of one size each, whose rates come later."""
    count = len(trace)
    sizes, job_profile = np.unique(trace.num_gpus, return_inverse=True)
    profiles = ProfileTable(
        sizes=np.stack([np.zeros_like(sizes), sizes], axis=1),
        num_levels=np.ones(len(sizes), dtype=np.int64),
        request_level=np.ones(len(sizes), dtype=np.int64),
        rates=np.ones((len(sizes), len(types), 2, 2)),
        nominal_rates=np.tile([0.0, 1.0], (len(sizes), 1)),
        restart_s=np.zeros((len(sizes), 2)),
        job_profile=job_profile.reshape(-1),
    )
    names = np.array([str(j) for j in range(count)], dtype=object)
    duration_s = np.maximum(steps.limit_s, 1.0)
    workload = Workload.rigid("gavel", names, trace.arrival_s, duration_s, trace.num_gpus)
    nodes = tuple(make_node(f"node-{t}", int(gpus[t]), kind) for t, kind in enumerate(types))
    cluster = Cluster(nodes)
    workload.check_fits(cluster)
    return build_world(workload, profiles, cluster, SimConfig(round_s=_NEVER), np.ones(count))
