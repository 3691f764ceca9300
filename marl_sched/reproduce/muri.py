"""R1: the scheduling simulator of Muri's artifact, as rules of our own.

Zhao et al., "Multi-resource interleaving for deep learning training", SIGCOMM 2022. Its
simulator, as far as its numbers depend on it:

- A job takes `iterations` x `iteration_time` x 1.015 s alone.
- At every event each running job pauses for its measured start overhead, though its predicted
  end ignores that: `sim.overhead_each_epoch`.
- SRTF and SRSF empty the cluster at every event and place jobs in order, passing over those that
  find no room: `sim.repack`, with `sim.placement=first_fit`. Jobs with the same time left stay in
  the order in which they were at the last event.
- Tiresias-L counts GPUs over the whole cluster and places nothing: one node with all GPUs.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from marl_sched.config import SimConfig
from marl_sched.errors import UserError
from marl_sched.evaluation.metrics import job_results
from marl_sched.perf.profiles import ProfileTable
from marl_sched.reproduce.muri_order import KeptOrder
from marl_sched.reproduce.muri_progress import Progress
from marl_sched.reproduce.muri_tiresias import QueuedTiresias
from marl_sched.sim.build import FIRST_SLOTS, build_world
from marl_sched.sim.simulation import Simulation
from marl_sched.types import Cluster
from marl_sched.workload.jobs import Workload
from marl_sched.workload.reading import read_table

SCHEDULERS = ("srtf", "srsf", "tiresias_l")

COLUMNS = ("job_id", "num_gpu", "submit_time", "iterations", "model_name", "iteration_time")

LIMITS_GPU_S = (3250.0, 7200.0)
"""Where Tiresias' queues end, in the artifact."""

ITERATION_FACTOR = 1.015
"""Factor on the recorded iteration times, in the artifact."""

DEFAULT_OVERHEAD_S = 10.0
"""Start overhead of a model that was not measured, in the artifact."""


def run(
    trace: Path, scheduler: str, cluster: str = "8x8", overheads: Path | None = None
) -> dict[str, Any]:
    """Run one of `SCHEDULERS` on a trace of the artifact.

    Args:
        trace: CSV with job_id, num_gpu, submit_time (ms), iterations, model_name and
            iteration_time (ms).
        cluster: as `Cluster.parse` reads it.
        overheads: CSV with model, num_gpu and overhead_s; None charges everybody 10 s.

    Returns:
        The summary of `simulate`, with `p99_jct_s` as the artifact defines it (element
        floor(0.99 n) of the sorted times), `jcts_s` by job and `cpu_s`.

    Raises:
        UserError: for a file that cannot be read, or a scheduler not in `SCHEDULERS`.
    """
    if scheduler not in SCHEDULERS:
        raise UserError(f"scheduler {scheduler!r}: this experiment has {', '.join(SCHEDULERS)}")
    jobs = read_jobs(trace)
    workload = jobs.workload
    machines = Cluster.parse(cluster)
    pauses = {} if overheads is None else read_overheads(overheads)
    profiles = profiles_of(workload, jobs.model, pauses)
    rules = SimConfig(placement="first_fit", repack=True, overhead_each_epoch=True, round_s=1e15)
    if scheduler == "tiresias_l":
        rules = rules.model_copy(update={"repack": False})
        machines = Cluster.parse(f"1x{machines.num_gpus}")
    workload.check_fits(machines)
    begun = time.process_time()
    exact = np.ones(len(workload))
    world = build_world(workload, profiles, machines, rules, exact, slots=FIRST_SLOTS)
    overhead_s = profiles.restart_s[profiles.job_profile, 1]
    progress = Progress(jobs.iterations, jobs.iteration_s, overhead_s)
    simulation = play(Simulation(world, origin_s=0.0), scheduler, workload, progress)
    ended = simulation.world
    results = job_results(workload, machines.num_gpus, ended.result[0], ended.account[0])
    ordered = np.sort(results.jct_s)
    return {
        **results.summary(),
        "p99_jct_s": float(ordered[int(len(ordered) * 0.99)]),
        "jcts_s": dict(zip(workload.job_id.tolist(), results.jct_s.tolist(), strict=True)),
        "cpu_s": time.process_time() - begun,
    }


def play(
    simulation: Simulation, scheduler: str, workload: Workload, progress: Progress
) -> Simulation:
    """Run one of `SCHEDULERS` to the end: at each event book, decide, and note who runs."""
    queues = QueuedTiresias(LIMITS_GPU_S, workload.num_gpus)
    order = KeptOrder(workload.num_gpus if scheduler == "srsf" else np.ones(len(workload)))
    simulation.who = f"scheduler {scheduler!r}"
    while simulation.advance():
        view = simulation.view()
        progress.book(view.now_s)
        left_s = progress.left_s(view.job)
        simulation.correct_remaining(left_s)
        if scheduler == "tiresias_l":
            simulation.apply(queues.allocate(view, simulation.nodes()))
        else:
            simulation.repack(order.rows(view.job, left_s))
        progress.runs(simulation.view())
    return simulation


@dataclass(frozen=True)
class Jobs:
    """A trace of the artifact; arrays by arrival."""

    workload: Workload
    model: np.ndarray
    """(J,) object, names."""
    iterations: np.ndarray
    """(J,) float64."""
    iteration_s: np.ndarray
    """(J,) float64, seconds that one takes."""


def read_jobs(trace: Path) -> Jobs:
    """The jobs of a trace, rigid."""
    table = read_table(trace)
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise UserError(f"trace {trace}: row 1: no column {missing[0]!r}, which Muri's format has")
    # In the artifact's order: an ulp decides between jobs that end at the same time.
    iteration_s = table.positive("iteration_time") * ITERATION_FACTOR / 1000.0
    iterations = table.positive("iterations")
    arrival_s = table.numbers("submit_time") / 1000.0
    gpus, names, model = table.counts("num_gpu"), table.texts("job_id"), table.texts("model_name")
    table.check()
    if not len(table):
        raise UserError(f"trace {trace}: has no job")
    workload = Workload.rigid(trace.stem, names, arrival_s, iterations * iteration_s, gpus)
    order = np.argsort(arrival_s, kind="stable")
    return Jobs(workload, model[order], iterations[order], iteration_s[order])


def read_overheads(path: Path) -> dict[tuple[str, int], float]:
    """Start overhead in seconds by model and number of GPUs."""
    table = read_table(path)
    missing = [name for name in ("model", "num_gpu", "overhead_s") if name not in table.columns]
    if missing:
        raise UserError(f"overheads {path}: row 1: no column {missing[0]!r}")
    names, gpus, seconds = (
        table.texts("model"),
        table.counts("num_gpu"),
        table.numbers("overhead_s"),
    )
    table.refuse(seconds < 0, "overhead_s", "negative")
    table.check()
    pairs = zip(names.tolist(), gpus.tolist(), strict=True)
    return dict(zip(pairs, seconds.tolist(), strict=True))


def profiles_of(
    workload: Workload, model: np.ndarray, overheads: dict[tuple[str, int], float]
) -> ProfileTable:
    """One profile for each model and request: one size, always the same speed."""
    kinds: dict[tuple[str, int], int] = {}
    pairs = list(zip(model.tolist(), workload.num_gpus.tolist(), strict=True))
    job_profile = np.array([kinds.setdefault(pair, len(kinds)) for pair in pairs], np.int64)
    count = len(kinds)
    rates = np.ones((count, 1, 2, 2))
    rates[:, :, 0] = 0.0
    return ProfileTable(
        sizes=np.array([[0, gpus] for _, gpus in kinds], np.int64),
        num_levels=np.ones(count, np.int64),
        request_level=np.ones(count, np.int64),
        rates=rates,
        nominal_rates=rates[:, 0, :, 0].copy(),
        restart_s=np.array([[overheads.get(pair, DEFAULT_OVERHEAD_S)] * 2 for pair in kinds]),
        job_profile=job_profile,
        phase_left=np.zeros((count, 1)),
    )
