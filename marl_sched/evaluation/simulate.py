"""One classic scheduler over one workload."""

from __future__ import annotations

from marl_sched.config import SimConfig, WorkloadConfig
from marl_sched.envs.play import play
from marl_sched.errors import UserError
from marl_sched.evaluation.metrics import JobResults, job_results
from marl_sched.perf.profiles import build_profiles
from marl_sched.schedulers import Scheduler
from marl_sched.sim.kernels import STUCK, start
from marl_sched.sim.world import World, build_world
from marl_sched.types import Cluster
from marl_sched.workload.trace import Workload


def simulate(
    workload: Workload,
    cluster: Cluster,
    scheduler: Scheduler,
    sim: SimConfig | None = None,
    estimate_noise: float = WorkloadConfig().estimate_noise,
    seed: int = 0,
) -> JobResults:
    """Run `scheduler` over the whole of `workload`.

    Args:
        estimate_noise: sigma of the log-normal error of the sizes that the scheduler sees.
        seed: of that error.

    Raises:
        UserError: when the scheduler leaves jobs waiting on an idle cluster for ever.
    """
    sim = SimConfig() if sim is None else sim
    profiles = build_profiles(workload, cluster, restart_scale=sim.restart_scale)
    factors = workload.estimate_factors(estimate_noise, seed)
    world = build_world(workload, profiles, cluster, sim, factors)
    play_episode(world, 0, 0, len(workload), 1.0, scheduler)
    return job_results(workload, cluster.num_gpus, world.result[0])


def play_episode(
    world: World, b: int, first: int, end: int, stretch: float, scheduler: Scheduler
) -> None:
    """Run `scheduler` over jobs [first, end) in environment `b`, whose results are then whole."""
    start(world, b, first, end, stretch)
    if play(world, b, scheduler.number, scheduler.param_array) == STUCK:
        raise UserError(
            f"scheduler {scheduler.name!r} leaves jobs waiting on an idle cluster: it cannot "
            "serve this workload; choose another one"
        )
