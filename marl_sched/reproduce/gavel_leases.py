"""Gavel's rounds on a real cluster: leases, checkpoints, and training scripts with their own mind.

What the artifact of Zheng et al., Shockwave, NSDI 2023, does on hardware and its simulator leaves
out, read off its scheduler, its workers and its training scripts:

- In the middle of a round it is decided who runs in the next one. Who stays on the same GPUs has
  the lease extended and trains on; everybody else stops at the end of the round, which lasts until
  the last of them has written its checkpoint.
- A job that is to come launches as soon as its GPUs are idle, at the earliest in the middle of
  the round before. A job that exits early leaves its GPUs idle until then.
- Fractions are computed as soon as a job arrives, ends or changes its batch size, and hold at
  once. Time counts from the last reset as in `Rounds`, but of a lease that began before it all.
- A training script changes its batch size only after an epoch, by a rule that knows how many
  epochs it has (`batch_scaling`), and exits to do so. A checkpoint holds whole epochs, so that an
  epoch cut short is counted in steps but begun anew.

Writing a checkpoint takes one of the measured overheads, loading it at the next start another one:
the artifact lists them without saying what an entry covers, and its script that makes such lists
times the two apart. (Taken for a whole preemption, half at each end, mean JCTs come out 6 % lower
under max-min fairness, 2 % under max-sum throughput and 1 % under the least makespan.) What is
left out: failures, and GPUs that are slower than the table of throughputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from marl_sched.reproduce.gavel import BARELY, SOONER_S, Experiment
from marl_sched.reproduce.gavel_scripts import Scripts
from marl_sched.reproduce.gavel_steps import Steps
from marl_sched.schedulers.mechanisms.rounds import Rounds
from marl_sched.workload.gavel import GavelTrace

DECIDED_AT = 0.5
"""Part of a round after which the next one is decided."""

LAUNCH_S = 10.0
"""From idle GPUs to a process that asks for its lease: how long after the start of a round jobs
that began anew asked, on the mean, in the artifact's record of Themis on the same 32 GPUs, 2021.
No run of that policy is compared with anything here."""

SMOOTHING = 0.5
"""Weight of a lease's steps/s, loading included, in what the scheduler takes for the job's rate."""

Place = tuple[int, tuple[int, ...]]
"""GPU type and numbers of the GPUs there."""


class LiveRounds(Rounds):
    """Fractions that hold as soon as they are computed, and jobs that are still running."""

    _changed = False
    """Whether the fractions have changed since the last reset."""

    def decide_live(
        self,
        running: Sequence[tuple[int, int, float]],
        now_s: float,
        job: np.ndarray,
        gang: np.ndarray,
        runs: np.ndarray,
        capacity: np.ndarray,
        fractions: Callable[[], np.ndarray],
    ) -> np.ndarray:
        """As `decide`, with the (job, GPU type, start in s) of those that run now."""
        self._meet(job)
        if self._stale and job.size:
            self._fraction[job] = fractions()
            self._planned[job] = True
            self._stale, self._changed = False, True
        due = now_s - self._last_reset_s >= self.reset_s or self._last_reset_s == 0.0
        if self._changed and due:
            self._reset(now_s)
            self._changed = False
        who = np.array([entry[:2] for entry in running], dtype=np.int64).reshape(-1, 2)
        since_s = np.array([entry[2] for entry in running])
        elapsed_s = np.maximum(now_s - np.maximum(since_s, self._last_reset_s), 0.0)
        self.book(who[:, 0], who[:, 1], elapsed_s)
        chosen = self._take(job, gang, runs, capacity)
        self.book(who[:, 0], who[:, 1], -elapsed_s)
        return chosen


def assign(
    wanted: Mapping[int, int], gang: np.ndarray, held: Mapping[int, Place], capacity: np.ndarray
) -> dict[int, Place]:
    """Give GPUs to the jobs of a round, large gangs first; who can stays where it is.

    Args:
        wanted: job -> GPU type.
        gang: (J,) int64, GPUs of every job of the trace.
        held: places in the round before.
        capacity: (T,) int64, GPUs.
    """
    places: dict[int, Place] = {}
    free = [dict.fromkeys(range(int(count))) for count in capacity]  # ordered sets
    for size in sorted({int(gang[j]) for j in wanted}, reverse=True):
        group = [j for j in wanted if gang[j] == size]
        for j in group:
            kind = wanted[j]
            if j in held and held[j][0] == kind and all(gpu in free[kind] for gpu in held[j][1]):
                places[j] = held[j]
                for gpu in held[j][1]:
                    del free[kind][gpu]
        for j in group:
            if j not in places:
                kind = wanted[j]
                places[j] = (kind, tuple(free[kind])[:size])
                for gpu in places[j][1]:
                    del free[kind][gpu]
    return places


@dataclass
class Lease:
    """A job on its GPUs, from launch to exit."""

    place: Place
    begun_s: float
    """When its process asked for it."""
    train_s: float
    """When it has loaded its checkpoint and trains on."""
    rate: float
    steps: int
    """That it trains before it asks for another batch size or is through."""
    through_s: float
    """When it has done them, or has run for too long."""
    save_s: float
    """Of writing its checkpoint."""
    ends: bool
    """Whether the job is through then."""
    stopped_s: float = np.inf
    """When its lease expires."""

    @property
    def exit_s(self) -> float:
        return min(self.through_s, self.stopped_s) + self.save_s

    def steps_by(self, now_s: float) -> int:
        """Done until `now_s`."""
        return min(max(int((now_s - self.train_s) * self.rate), 0), self.steps)


class LeasedExperiment(Experiment):
    """One policy on one trace, by the rounds of a real cluster.

    Args:
        overheads_s: (n,) float64, measured overheads, from which each stop and start draws.
        first_jobs: the first round waits until so many jobs have arrived, as a cluster does whose
            machines register later than the first jobs.
    """

    mechanism = LiveRounds
    rounds: LiveRounds

    def __init__(
        self,
        trace: GavelTrace,
        steps: Steps,
        types: tuple[str, ...],
        gpus: np.ndarray,
        scheduler: str,
        round_s: float,
        seed: int,
        overheads_s: np.ndarray,
        first_jobs: int = 1,
    ) -> None:
        super().__init__(trace, steps, types, gpus, scheduler, round_s, seed)
        arrival_s = trace.arrival_s
        ready_s = float(arrival_s[min(max(first_jobs, 1), len(arrival_s)) - 1] - arrival_s[0])
        self.scripts = Scripts(self.steps)
        self.measured = self.steps.rate.copy()
        """(J, T) float64, steps/s as the scheduler knows them: from the table, then measured."""
        self.overheads_s = overheads_s
        self._random = np.random.default_rng(seed)
        self.leases: dict[int, Lease] = {}
        self.current: dict[int, Place] = {}
        """Places of the jobs of the present round."""
        self.next: dict[int, Place] | None = None
        """Those of the next one, once it is decided."""
        self.pending: dict[int, Place] = {}
        """Of those, the ones that have not been launched."""
        self.round_begun_s = ready_s - self.round_s
        self.started = np.zeros(len(self.trace), dtype=bool)

    def run(self) -> dict[str, Any]:
        """Run to the end; what `reproduce.gavel.run` returns."""
        while self.simulation.advance():
            now_s = self.simulation.now_s
            self._settle(now_s)
            first = self.number == 0
            if self.next is None and now_s >= (self.round_end_s if first else self.decision_s):
                self._decide_next()
            if now_s >= self.round_end_s:
                self._end_round_at(now_s)
            self._launch(now_s)
            self._show(now_s)
        return self._results()

    @property
    def decision_s(self) -> float:
        return self.round_begun_s + DECIDED_AT * self.round_s

    @property
    def round_end_s(self) -> float:
        return self.round_begun_s + self.round_s

    def _active(self) -> np.ndarray:
        return np.sort(self.simulation.view().job)

    def _settle(self, now_s: float) -> None:
        """Book the leases that have ended."""
        for j, lease in list(self.leases.items()):
            if lease.exit_s > now_s + 2.0 * SOONER_S:
                continue
            del self.leases[j]
            stopped_s = min(lease.through_s, lease.stopped_s)
            seconds = stopped_s - lease.begun_s
            whole = lease.through_s <= lease.stopped_s and not lease.ends
            done = lease.steps if whole else lease.steps_by(stopped_s)
            self.rounds.book(np.array([j]), np.array([lease.place[0]]), np.array([seconds]))
            self.measured[j, lease.place[0]] *= 1.0 - SMOOTHING
            self.measured[j, lease.place[0]] += SMOOTHING * done / max(seconds, SOONER_S)
            if self.scripts.end_lease(j, done, seconds):
                self.measured[j] = self.steps.rate[j]
                self.rounds.invalidate()

    def _decide(self, rows: np.ndarray) -> np.ndarray:
        running = [(j, lease.place[0], lease.begun_s) for j, lease in self.leases.items()]
        return self.rounds.decide_live(running, *self._question(rows))

    def _known(self) -> tuple[np.ndarray, np.ndarray]:
        left = self.steps.left
        for j, lease in self.leases.items():
            left[j] -= lease.steps_by(self.simulation.now_s)
        return self.measured, left

    def _decide_next(self) -> None:
        """Who runs in the next round, and whose lease is extended."""
        rows = self._active()
        chosen = self._decide(rows)
        wanted = {int(j): int(kind) for j, kind in zip(rows, chosen, strict=True) if kind >= 0}
        self.next = assign(wanted, self.trace.num_gpus, self.current, self.gpus)
        self.pending = {
            j: place
            for j, place in self.next.items()
            if j not in self.leases or self.leases[j].place != place
        }
        for j, lease in self.leases.items():
            if self.next.get(j) != lease.place:
                lease.stopped_s = max(self.round_end_s, lease.train_s)

    def _end_round_at(self, now_s: float) -> None:
        """Begin the next round, once all that stop have exited."""
        if any(lease.stopped_s < np.inf for lease in self.leases.values()):
            return
        assert self.next is not None
        active = set(self._active().tolist())
        self.current = {j: place for j, place in self.next.items() if j in active}
        self.next = None
        # Who had its lease extended and exited all the same is launched once more.
        self.pending = {j: at for j, at in self.current.items() if j not in self.leases}
        self.round_begun_s = now_s
        self.number += 1

    def _launch(self, now_s: float) -> None:
        """Start what waits for GPUs that are idle now."""
        busy = {(at[0], gpu) for at in (x.place for x in self.leases.values()) for gpu in at[1]}
        active = set(self._active().tolist())
        for j, place in list(self.pending.items()):
            if j not in active:
                del self.pending[j]
            elif j not in self.leases and not any((place[0], gpu) in busy for gpu in place[1]):
                del self.pending[j]
                self.leases[j] = self._lease(j, place, now_s)

    def _lease(self, j: int, place: Place, now_s: float) -> Lease:
        begun_s = now_s + LAUNCH_S
        # Every process of a gang loads the checkpoint, its first one writes it.
        load_s = self._draw(len(place[1])) if self.started[j] else 0.0
        self.num_restarts += bool(self.started[j])
        self.started[j] = True
        steps, ends = self.scripts.next_steps(j)
        rate = float(self.steps.rate[j, place[0]])
        train_s = begun_s + load_s
        through_s = train_s + steps / max(rate, BARELY)
        late_s = begun_s + max(float(self.steps.limit_s[j] - self.steps.run_s[j]), 0.0)
        if late_s < through_s:
            through_s, ends = max(late_s, train_s), True
        return Lease(place, begun_s, train_s, rate, steps, through_s, self._draw(), ends)

    def _draw(self, processes: int = 1) -> float:
        """The longest of some measured overheads, s."""
        return float(self._random.choice(self.overheads_s, size=processes).max())

    def _show(self, now_s: float) -> None:
        """Tell the simulation who runs how fast, and when to look again."""
        job, left = self.simulation.view().job.copy(), self.simulation.remaining()
        steps_left = self.steps.left
        placement = np.zeros((len(job), len(self.gpus)), dtype=np.int64)
        speed = np.full((len(job), 1), BARELY)
        wake_s = self.decision_s if self.next is None else self.round_end_s
        if wake_s <= now_s:  # all that is waited for is an exit
            wake_s = np.inf
        for row, j in enumerate(job.tolist()):
            lease = self.leases.get(j)
            if lease is None:
                continue
            placement[row, lease.place[0]] = len(lease.place[1])
            wake_s = min(wake_s, lease.exit_s)
            if lease.ends and lease.through_s <= lease.stopped_s:
                speed[row, 0] = left[row] / max(lease.exit_s - now_s - SOONER_S, 1e-300)
            elif now_s >= lease.train_s:
                ahead = float(steps_left[j]) - (now_s - lease.train_s) * lease.rate
                speed[row, 0] = left[row] * lease.rate / max(ahead, 1.0)
        self.simulation.place(placement, speed)
        self.simulation.wake_at(wake_s)
