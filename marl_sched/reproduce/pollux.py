"""R2: the simulator of Pollux' artifact, as rules of our own.

Qiao et al., "Pollux: Co-adaptive cluster scheduling for goodput-optimized deep learning", OSDI
2021. Decisions come on a grid of 60 s (`sim.decide_on=rounds`), every start costs 30 s
(`sim.charge_first_start`), a job's epochs are phases with rates of their own, and the time to the
end of an epoch is rounded to whole seconds (`sim.whole_second_phases`). `pollux_rules` has the two
baselines, `pollux_policy` Pollux.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from marl_sched.config import SimConfig
from marl_sched.errors import UserError
from marl_sched.evaluation.metrics import job_results
from marl_sched.perf.profiles import ProfileTable
from marl_sched.reproduce.pollux_policy import Pollux
from marl_sched.reproduce.pollux_rules import OptimusOracle, ReplayedJob, Rule, TwoQueues
from marl_sched.reproduce.replay import MAX_EPOCHS, ReplayedModel
from marl_sched.sim.build import build_world
from marl_sched.sim.simulation import Simulation
from marl_sched.types import Cluster
from marl_sched.workload.jobs import Workload
from marl_sched.workload.reading import read_table

SCHEDULERS = ("tiresias", "optimus_oracle", "pollux")

COLUMNS = ("name", "time", "application", "num_replicas", "batch_size")

MOST_GPUS_A_NODE = 4
"""Of the measurements."""

NOT_COMPARABLE = (
    "avg_slowdown", "avg_finish_time_fairness", "unfair_fraction", "num_deadlines_missed",
)  # fmt: skip
"""Figures that need a run time alone, which these jobs do not state."""


def run(
    workload: Path,
    profiles: Path,
    scheduler: str,
    cluster: str = "16x4",
    round_s: float = 60.0,
    restart_s: float = 30.0,
    seed: int = 0,
) -> dict[str, Any]:
    """Run one of `SCHEDULERS` on a workload of the artifact.

    Args:
        workload: CSV with the columns `COLUMNS`; time in seconds.
        profiles: folder with one folder of measurements for each application.
        round_s: seconds between decisions.
        restart_s: cost of every start and move.
        seed: for rules that draw; none of these does.

    Returns:
        The summary of `simulate`, less what needs a run time alone, `jcts_s` by job in whole
        seconds, and `cpu_s`.

    Raises:
        UserError: for a scheduler not in `SCHEDULERS`, or files that cannot be used.
    """
    if scheduler not in SCHEDULERS:
        raise UserError(f"scheduler {scheduler!r}: this experiment has {', '.join(SCHEDULERS)}")
    machines = Cluster.parse(cluster)
    models, work, batch = read_workload(workload, profiles)
    if machines.capacity[:, 0].max() > MOST_GPUS_A_NODE:
        raise UserError(
            f"cluster {cluster}: the models were measured on nodes of up to {MOST_GPUS_A_NODE} "
            "GPUs; give for example 16x4"
        )
    work.check_fits(machines)
    begun = time.process_time()
    sim = SimConfig(
        decide_on="rounds", round_s=round_s, charge_first_start=True, whole_second_phases=True
    )
    table = profile_table(models, machines.num_gpus, restart_s)
    world = build_world(work, table, machines, sim, np.ones(len(work)))
    # The artifact's grid begins at its time 0, not at the first arrival.
    simulation = Simulation(world, origin_s=0.0)
    jobs = [
        ReplayedJob(j, models[j], int(work.num_gpus[j]), int(batch[j]), float(work.arrival_s[j]))
        for j in range(len(work))
    ]
    rules: dict[str, Callable[[], Rule]] = {
        "tiresias": TwoQueues,
        "optimus_oracle": OptimusOracle,
        "pollux": lambda: Pollux(jobs, machines.num_gpus, round_s, restart_s),
    }
    play(simulation, rules[scheduler](), jobs, machines.capacity[:, 0].astype(np.int64))
    state = simulation.world
    results = job_results(work, machines.num_gpus, state.result[0], state.account[0])
    summary = {k: v for k, v in results.summary().items() if k not in NOT_COMPARABLE}
    jcts = np.rint(results.jct_s)
    return {
        **summary,
        "avg_jct_s": float(jcts.mean()),
        "jcts_s": dict(zip(work.job_id.tolist(), jcts.tolist(), strict=True)),
        "cpu_s": time.process_time() - begun,
    }


def play(simulation: Simulation, rule: Rule, jobs: list[ReplayedJob], capacity: np.ndarray) -> None:
    """Let a rule decide at every round until all jobs have ended."""
    while simulation.advance():
        view, phase, remaining = simulation.view(), simulation.phase(), simulation.remaining()
        rows = {int(job): row for row, job in enumerate(view.job)}
        active = [jobs[j] for j in sorted(rows)]
        for job in active:
            row = rows[job.index]
            job.epoch, job.remaining = int(phase[row]), float(remaining[row])
        places = rule.decide(view.now_s, active, capacity)
        placement = np.zeros((len(active), len(capacity)), dtype=np.int64)
        table = np.ones((len(active), simulation.world.phase_left.shape[1]))
        for job in active:
            nodes = places.get(job.index, [])
            moved, job.nodes = nodes != job.nodes, nodes
            np.add.at(placement[rows[job.index]], nodes, 1)
            if nodes:
                rates = rule.rates(view.now_s, job, moved)
                table[rows[job.index], : rates.size] = rates
        simulation.place(placement, table)


def read_workload(path: Path, profiles: Path) -> tuple[list[ReplayedModel], Workload, np.ndarray]:
    """Model of each job, the jobs with their work in iterations, and batch sizes (J,)."""
    table = read_table(path)
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise UserError(f"workload {path}: row 1: no column {missing[0]!r}")
    names, kinds = table.texts("name"), table.texts("application")
    arrival_s, gpus = table.numbers("time"), table.counts("num_replicas")
    batch = table.counts("batch_size")
    table.refuse(arrival_s < 0, "time", "negative")
    unknown = np.array([str(kind) not in MAX_EPOCHS for kind in kinds], dtype=bool)
    table.refuse(unknown, "application", f"not one of {', '.join(MAX_EPOCHS)}")
    table.check()
    if not len(table):
        raise UserError(f"workload {path}: has no job")
    known = {kind: ReplayedModel(profiles / kind) for kind in sorted({str(k) for k in kinds})}
    order = np.argsort(arrival_s, kind="stable")
    models = [known[str(kinds[i])] for i in order]
    total = np.array([known[str(kind)].epoch_end[-1] for kind in kinds])
    return models, Workload.rigid(path.stem, names, arrival_s, total, gpus), batch[order]


def profile_table(models: list[ReplayedModel], num_gpus: int, restart_s: float) -> ProfileTable:
    """One profile for each model: any number of GPUs, and a phase for each epoch.

    Rates of 1 stand in until a placement says what they are.
    """
    kinds = list(dict.fromkeys(models))
    phases = max(model.max_epochs for model in kinds)
    left = np.zeros((len(kinds), phases))
    for row, model in zip(left, kinds, strict=True):
        row[: model.max_epochs] = model.epoch_end[-1] - model.epoch_end
    sizes = np.tile(np.arange(num_gpus + 1), (len(kinds), 1))
    rates = np.ones((len(kinds), 1, num_gpus + 1, 2))
    rates[:, :, 0] = 0.0
    return ProfileTable(
        sizes=sizes,
        num_levels=np.full(len(kinds), num_gpus, np.int64),
        request_level=np.ones(len(kinds), np.int64),
        rates=rates,
        nominal_rates=rates[:, 0, :, 0].copy(),
        restart_s=np.full(sizes.shape, restart_s),
        job_profile=np.array([kinds.index(model) for model in models], np.int64),
        phase_left=left,
    )
