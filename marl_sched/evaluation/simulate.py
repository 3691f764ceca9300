"""One classic scheduler over one workload."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from marl_sched.allocation.feasibility import Infeasible, named
from marl_sched.config import SimConfig, WorkloadConfig
from marl_sched.envs.play import PAUSED, play
from marl_sched.errors import UserError
from marl_sched.evaluation.metrics import JobResults, job_results
from marl_sched.schedulers import Planner, Scheduler
from marl_sched.schedulers.learned.guard import tally_of
from marl_sched.sim import columns as c
from marl_sched.sim.build import FIRST_SLOTS, world_of
from marl_sched.sim.kernels import FULL, STUCK, start
from marl_sched.sim.simulation import Simulation, stuck_message
from marl_sched.sim.world import World
from marl_sched.types import Cluster
from marl_sched.workload.jobs import Workload

LOG_ROWS = 1 << 16
"""Rows of the event log that are kept before they are set aside."""

Tell = Callable[[str], None]
"""Told now and then how far a long run is."""

TELL_EVERY_S = 0.2

FIRST_EPOCHS = 256
"""Decisions of a compiled scheduler before it is first seen how long they take."""

MOST_EPOCHS = 1 << 16


def silent(text: str) -> None:
    """Tells nobody."""


def simulate(
    workload: Workload,
    cluster: Cluster,
    scheduler: Scheduler,
    sim: SimConfig | None = None,
    estimate_noise: float = WorkloadConfig().estimate_noise,
    seed: int = 0,
    log_events: bool = False,
    tell: Tell = silent,
) -> JobResults:
    """Run `scheduler` over the whole of `workload`.

    Args:
        estimate_noise: sigma of the log-normal error of the sizes that the scheduler sees.
        seed: of that error, and of failures.
        log_events: keep every event; `JobResults.events` then has them.
        tell: how many jobs have ended.

    Raises:
        UserError: when the scheduler leaves jobs waiting on an idle cluster for ever, or cannot
            work under the rules of `sim`.
    """
    simulation = begin(workload, cluster, scheduler, sim, estimate_noise, seed, log_events)
    return run(simulation, scheduler, workload, cluster.num_gpus, tell)


def begin(
    workload: Workload,
    cluster: Cluster,
    scheduler: Scheduler,
    sim: SimConfig | None = None,
    estimate_noise: float = WorkloadConfig().estimate_noise,
    seed: int = 0,
    log_events: bool = False,
) -> Simulation:
    """All that `simulate` does before the first event; arguments and errors as there."""
    sim = SimConfig() if sim is None else sim
    check_rules(scheduler, sim)
    if not scheduler.compiled:
        check_whole_gpus(scheduler.name, workload)
    rows = LOG_ROWS if log_events else 0
    world = world_of(workload, cluster, sim, estimate_noise, seed, slots=FIRST_SLOTS, log_rows=rows)
    return Simulation(world, job_name=named(workload.job_id))


def run(
    simulation: Simulation,
    scheduler: Scheduler,
    workload: Workload,
    num_gpus: int,
    tell: Tell = silent,
) -> JobResults:
    """Run a simulation that has just begun to its end."""
    params = scheduler.param_array
    if scheduler.compiled:
        if play_on(simulation, scheduler, params, len(workload), tell) == STUCK:
            raise UserError(f"scheduler {scheduler.name!r}: {stuck_message(simulation.world)}")
    else:
        simulation.who = f"scheduler {scheduler.name!r}"
        drive(simulation, scheduler.new_planner(), len(workload), tell)
    if simulation.world.log.shape[0]:
        simulation.drain_log()
    world = simulation.world
    events = np.concatenate(simulation.events) if simulation.events else None
    results = job_results(workload, num_gpus, world.result[0], world.account[0], events)
    if scheduler.guarded:
        results = replace(results, fallback_fraction=tally_of(params).fallback_fraction)
    return results


def play_on(
    simulation: Simulation, scheduler: Scheduler, params: np.ndarray, num_jobs: int, tell: Tell
) -> int:
    """Let a compiled scheduler decide until all jobs ended; the state that it ends in.

    It runs in pieces of about `TELL_EVERY_S`, between which this process can say how far it is, and
    be stopped.
    """
    epochs, told_s = FIRST_EPOCHS, time.monotonic()
    while True:
        begun_s = time.monotonic()
        status = play(simulation.world, 0, scheduler.number, params, epochs)
        if status == FULL:
            simulation.make_room()
        elif status != PAUSED:
            return int(status)
        now_s = time.monotonic()
        if now_s - begun_s > TELL_EVERY_S:
            epochs = max(epochs // 2, 1)
        elif status == PAUSED and now_s - begun_s < 0.5 * TELL_EVERY_S:
            epochs = min(2 * epochs, MOST_EPOCHS)
        if now_s - told_s >= TELL_EVERY_S:
            told_s = now_s
            tell_ended(simulation, num_jobs, tell)


def tell_ended(simulation: Simulation, num_jobs: int, tell: Tell) -> None:
    """Tell how many jobs have ended."""
    tell(f"{simulation.world.env_k[0, c.NUM_ENDED]:,} of {num_jobs:,} jobs")


def drive(simulation: Simulation, planner: Planner, num_jobs: int, tell: Tell = silent) -> None:
    """Let a planner decide, at every epoch of a simulation that has begun, until all jobs ended."""
    told_s = time.monotonic()
    while simulation.advance():
        allocation = planner.allocate(simulation.view(), simulation.nodes())
        try:
            simulation.apply(allocation)
        except Infeasible as error:
            raise Infeasible(f"{simulation.who}: {error}") from None
        if time.monotonic() - told_s >= TELL_EVERY_S:
            told_s = time.monotonic()
            tell_ended(simulation, num_jobs, tell)


def check_whole_gpus(name: str, workload: Workload) -> None:
    """Refuse jobs with a share of a GPU for planner `name`, which counts in whole ones.

    Raises:
        UserError: naming both.
    """
    if (workload.demand[:, 0] < 1.0).any():
        raise UserError(
            f"scheduler {name!r} places whole GPUs, and {workload.name!r} has jobs that "
            "share one (gpu_milli below 1000); take another scheduler"
        )


def check_rules(scheduler: Scheduler, sim: SimConfig) -> None:
    """Refuse rules that a scheduler cannot work under.

    Raises:
        UserError: naming the setting.
    """
    if not scheduler.is_order:
        refuse_repack(scheduler.name, sim)


def refuse_repack(name: str, sim: SimConfig) -> None:
    """Refuse `sim.repack` for a scheduler that is no order of jobs.

    Raises:
        UserError: naming both.
    """
    if sim.repack:
        raise UserError(
            f"setting sim.repack: scheduler {name!r} is no order of jobs, so there is "
            "nothing to place in order; leave it out, or take for example srtf"
        )


def play_episode(
    world: World, b: int, first: int, end: int, stretch: float, scheduler: Scheduler
) -> np.ndarray:
    """Run `scheduler` over jobs [first, end) in environment `b`, whose results are then whole.

    Returns:
        Its parameters (.,) float64: a scorer notes in them how often it fell back, see `tally_of`.
    """
    params = scheduler.param_array
    start(world, b, first, end, stretch)
    status = PAUSED
    while status == PAUSED:  # in pieces, so that Ctrl-C is heard
        status = play(world, b, scheduler.number, params, MOST_EPOCHS)
    if status == STUCK:
        raise UserError(
            f"scheduler {scheduler.name!r} leaves jobs waiting on an idle cluster: it cannot "
            "serve this workload; choose another one"
        )
    return params
