"""Pollux in its own simulator: agents that measure and tune their jobs, and the search over all.

An agent knows what its job has measured: step times for each (nodes, GPUs, batch of one GPU) that
it has run with, and the gradient statistics of its last epoch; nothing of other jobs of the same
model, and not how long its own will take. From that it fits the job's goodput, chooses the batch
size at every round and at every end of an epoch, and tells the search how fast the job would be
elsewhere. Source: Qiao et al., "Pollux", OSDI 2021, and its artifact.

Ours differ from the artifact's in the search itself (`reproduce/pollux_search.py`) and in

* times measured on as many GPUs correct the fit (`reproduce/goodput.py`);
* a job may be given `GROWTH` times the GPUs that it has measured, not twice as many;
* what a restart leaves, (age - restarts x 30 s) / (age + 30 s), has the job's age at the end of the
  round that the decision is for, not at its beginning, and leaves out jobs that hold nothing: they
  must start, wherever.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from marl_sched.reproduce.goodput import NUM_BATCH, NUM_PARAMS, NUM_SEEN, Agents, best_batch
from marl_sched.reproduce.goodput_fit import fit_step_time
from marl_sched.reproduce.pollux_rules import Places, ReplayedJob, ring
from marl_sched.reproduce.pollux_search import Question, plan

FIXED_BATCH = {"ncf": 32768}
"""Models whose batch size is given, and that take one GPU only, in the artifact."""

GROWTH = 4
"""Times as many GPUs as a job has measured that it may be given; the artifact has 2."""


@dataclass
class Memory:
    """What one job has seen."""

    restarts: int = -1
    """Starts after the first."""
    resume_s: float = 0.0
    """When it goes on after its last start."""
    most_gpus: int = 0
    """That it has measured."""
    known: set[tuple[int, int, int]] = field(default_factory=set)
    """(nodes, GPUs, batch of one GPU) that it has measured."""


class Pollux:
    """All agents, and the choice of places at every round.

    Args:
        jobs: of the whole workload.
        num_gpus: of the cluster.
        round_s, restart_s: as in the simulator.
    """

    def __init__(
        self, jobs: list[ReplayedJob], num_gpus: int, round_s: float, restart_s: float
    ) -> None:
        self._round_s, self._restart_s = round_s, restart_s
        self._memory = [Memory() for _ in jobs]
        limits = [
            (m.initial_batch, m.max_batch, m.min_local_batch, m.max_local_batch)
            for m in (job.model for job in jobs)
        ]
        self._agents = Agents(
            params=np.zeros((len(jobs), NUM_PARAMS)),
            gradient=np.zeros((len(jobs), 2)),
            batch=np.array(limits, np.int64).reshape(-1, NUM_BATCH),
            measured=np.zeros(len(jobs), np.int64),
            seen=np.zeros((len(jobs), 16, NUM_SEEN)),
            memo=np.full((len(jobs), 2, num_gpus + 1), -1.0),
        )
        self._rates: dict[tuple[object, ...], np.ndarray] = {}

    def decide(self, now_s: float, jobs: list[ReplayedJob], capacity: np.ndarray) -> Places:
        """Nodes of each job from now on."""
        question = self._question(now_s, jobs, capacity)
        places = plan(self._agents, question)
        nodes = np.arange(len(capacity))
        return {
            job.index: np.repeat(nodes, row).tolist()
            for job, row in zip(jobs, places, strict=True)
            if row.any()
        }

    def _question(self, now_s: float, jobs: list[ReplayedJob], capacity: np.ndarray) -> Question:
        held = np.zeros((len(jobs), len(capacity)), np.int64)
        factor, fair = np.ones(len(jobs)), np.empty(len(jobs))
        most = np.empty(len(jobs), np.int64)
        share = math.ceil(int(capacity.sum()) / len(jobs))
        for row, job in enumerate(jobs):
            memory, limit = self._memory[job.index], most_gpus(job)
            np.add.at(held[row], job.nodes, 1)
            most[row] = min(max(GROWTH * memory.most_gpus, 1), limit, int(capacity.sum()))
            fair[row] = self._goodput(job, min(share, limit))
            if job.nodes:
                age_s = now_s - job.arrival_s + self._round_s
                spent_s = self._restart_s * memory.restarts
                factor[row] = max(age_s - spent_s, 0.0) / (age_s + self._restart_s)
        return Question(
            job=np.array([job.index for job in jobs], np.int64),
            most=most,
            factor=factor,
            fair=fair,
            held=held,
            held_gpus=held.sum(axis=1),
            held_nodes=(held > 0).sum(axis=1),
            capacity=capacity,
        )

    def _goodput(self, job: ReplayedJob, gpus: int) -> float:
        """On one node, however large."""
        if not self._agents.measured[job.index]:
            return float(gpus)
        value = self._agents.memo[job.index, 0, gpus]
        if value < 0.0:
            value = best_batch(self._agents, job.index, False, gpus, np.zeros(2, np.int64))
            self._agents.memo[job.index, 0, gpus] = value
        return float(value)

    def rates(self, now_s: float, job: ReplayedJob, moved: bool) -> np.ndarray:
        """(F,) progress per second in each epoch, as the agent tunes the batch until next round.

        What it measures on the way it knows afterwards.
        """
        memory, model = self._memory[job.index], job.model
        if moved:
            memory.restarts += 1
            memory.resume_s = now_s + self._restart_s
        digits = ring(job.nodes)
        seconds = now_s + self._round_s - max(memory.resume_s, now_s)
        rates = np.empty(model.max_epochs)
        epoch = job.epoch
        left = job.remaining - (model.epoch_end[-1] - model.epoch_end[epoch])
        while True:
            local, steps = self._choose(job, digits)
            rate = self._rate(job, digits, local, steps)[epoch]
            rates[epoch:] = rate
            if seconds <= 0.0:
                break
            self._learn(job, epoch, digits, local, steps)
            if rate * seconds < left or epoch + 1 == model.max_epochs:
                break
            seconds -= round(left / rate)
            left = model.epoch_end[epoch + 1] - model.epoch_end[epoch]
            epoch += 1
        return rates

    def _choose(self, job: ReplayedJob, digits: tuple[int, ...]) -> tuple[int, int]:
        """Batch of one GPU and accumulation steps."""
        model, gpus = job.model, sum(digits)
        if model.name in FIXED_BATCH:
            return model.split(FIXED_BATCH[model.name], gpus)
        if not self._agents.measured[job.index]:
            return model.split(max(model.initial_batch, model.min_local_batch * gpus), gpus)
        chosen = np.zeros(2, np.int64)
        best_batch(self._agents, job.index, len(digits) > 1, gpus, chosen)
        local, steps = map(int, chosen)
        return min(local, model.max_batch // (gpus * (steps + 1))), steps

    def _rate(
        self, job: ReplayedJob, digits: tuple[int, ...], local: int, steps: int
    ) -> np.ndarray:
        key = (job.model.name, digits, local, steps)
        if key not in self._rates:
            self._rates[key] = job.model.progress_at(digits, local, steps)
        return self._rates[key]

    def _learn(
        self, job: ReplayedJob, epoch: int, digits: tuple[int, ...], local: int, steps: int
    ) -> None:
        """Remember what a step on these GPUs takes, and how noisy its gradient is."""
        memory, agents, j = self._memory[job.index], self._agents, job.index
        gpus = sum(digits)
        used = gpus * local * (steps + 1)
        gradient = [job.model.at_batch(used, column)[epoch] for column in (2, 3)]
        key = (len(digits), gpus, local)
        if (agents.gradient[j] == gradient).all() and key in memory.known:
            return
        agents.gradient[j] = gradient
        agents.memo[j] = -1.0
        if key in memory.known:
            return
        count = len(memory.known)
        if count == agents.seen.shape[1]:
            wider = np.concatenate([agents.seen, np.zeros_like(agents.seen)], axis=1)
            self._agents = agents = agents._replace(seen=wider)
        step_s, sync_s = job.model.step_s(digits, local)
        agents.seen[j, count] = (*key, step_s - sync_s, step_s)
        memory.known.add(key)
        memory.most_gpus = max(memory.most_gpus, gpus)
        agents.measured[j] = count + 1
        fit_step_time(agents.seen[j, : count + 1], agents.params[j])


def most_gpus(job: ReplayedJob) -> int:
    """GPUs that a job may ever use."""
    if job.model.name in FIXED_BATCH:
        return 1
    return job.model.max_batch // job.model.min_local_batch
