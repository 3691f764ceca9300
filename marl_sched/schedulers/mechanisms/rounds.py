"""Gavel's round mechanism: turns fractions of time into who runs in the next round.

A policy says which fraction X[a, t] of its time job a should spend on GPU type t. Every round

    priority[a, t] = X[a, t] / (time a has had on t / time all jobs have had on t)

and jobs are taken greedily from the highest priority down, while their gangs fit. A job that runs
in two rounds on end keeps its GPUs (its lease is extended). Times count from the last reset, when
the fractions were computed anew; what a job then was short of, its deficit, breaks ties.

Source: Narayanan et al., Gavel, OSDI 2020, section 5, Algorithm 1, and its artifact as used by
Zheng et al., Shockwave, NSDI 2023, whose simulator resets at the first round after an arrival or
an end that is at least 1000 s after the last reset, counts half a round as time received from
the start, and walks through the GPU types one after the other, in an order shuffled each round.

Axes: A active jobs, T GPU types, J jobs seen so far.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np

from marl_sched.allocation.feasibility import QuotaRoom

_SHUFFLE_STREAM = 5
"""Offset of the seed of the type order, as in the artifact."""

_NEVER_RUN = 1e9
"""Priority of a job that has had no time at all, per unit of its fraction."""


class Rounds:
    """The mechanism's memory over one run.

    Args:
        num_types: T.
        round_s: length of a round.
        reset_s: least time between two computations of the fractions.
        seed: of the order of GPU types.
        fixed_order: walk through the types in the order given instead.
        lend: a job that arrived since the last reset has no fraction yet. True lets it run on
            GPUs that nobody else wants; False leaves them idle, as the artifact does.
    """

    def __init__(
        self,
        num_types: int,
        round_s: float,
        reset_s: float = 1000.0,
        seed: int = 0,
        *,
        fixed_order: bool = False,
        lend: bool = True,
    ) -> None:
        self.round_s = round_s
        self.reset_s = reset_s
        self.lend = lend
        self.fixed_order = fixed_order
        self._shuffle = random.Random(seed + _SHUFFLE_STREAM)
        self._time_s = np.zeros((0, num_types))
        self._deficit_s = np.zeros((0, num_types))
        self._fraction = np.zeros((0, num_types))
        self._planned = np.zeros(0, dtype=bool)
        self._type_time_s = np.zeros(num_types)
        self._jobs = np.empty(0, dtype=np.int64)
        self._last_reset_s = 0.0
        self._stale = True

    def book(self, job: np.ndarray, gpu_type: np.ndarray, seconds: np.ndarray) -> None:
        """Jobs (n,) have run so long on a type (n,) in the round that has just ended."""
        np.add.at(self._time_s, (job, gpu_type), seconds)
        np.add.at(self._type_time_s, gpu_type, seconds)

    def invalidate(self) -> None:
        """Compute the fractions anew at the next opportunity."""
        self._stale = True

    def decide(
        self,
        now_s: float,
        job: np.ndarray,
        gang: np.ndarray,
        runs: np.ndarray,
        capacity: np.ndarray,
        fractions: Callable[[], np.ndarray],
        quotas: QuotaRoom | None = None,
    ) -> np.ndarray:
        """Who runs in the round that begins.

        Args:
            job: (A,) int64, number of each active job, increasing.
            gang: (A,) int64, GPUs.
            runs: (A, T) bool, whether a job makes progress on a type at all.
            capacity: (T,) int64, GPUs.
            fractions: computes X (A, T) float64; called only when it is time to.
            quotas: what the jobs' tenants may have; None without any.

        Returns:
            (A,) int64, the type that each job runs on, -1 where it waits.
        """
        self._meet(job)
        due = now_s - self._last_reset_s >= self.reset_s or self._last_reset_s == 0.0
        if self._stale and due and job.size:
            self._reset(now_s)
            self._fraction[job] = fractions()
            self._planned[job] = True
            self._stale = False
        return self._take(job, gang, runs, capacity, quotas)

    def _meet(self, job: np.ndarray) -> None:
        """Take up new jobs, forget those that are gone."""
        old = self._jobs
        if old.size == job.size and (old == job).all():
            return
        self._stale = True
        size = len(self._planned)
        if job.size and job[-1] >= size:
            more = max(int(job[-1]) + 1, 2 * size) - size
            for name in ("_time_s", "_deficit_s", "_fraction", "_planned"):
                array = getattr(self, name)
                pad = np.zeros((more, *array.shape[1:]), dtype=array.dtype)
                setattr(self, name, np.concatenate([array, pad]))
        new = np.setdiff1d(job, old, assume_unique=True)
        self._time_s[new] = 0.5 * self.round_s
        self._deficit_s[new] = 0.0
        self._fraction[new] = 0.0
        self._planned[new] = False
        self._jobs = job.copy()

    def _reset(self, now_s: float) -> None:
        """Note what each job is short of, and count times from now on."""
        job = self._jobs
        due_s = self._fraction[job] * (now_s - self._last_reset_s)
        self._deficit_s[job] += due_s - (self._time_s[job] - 0.5 * self.round_s)
        self._time_s[job] = 0.5 * self.round_s
        self._type_time_s[:] = 0.5 * self.round_s * job.size
        self._last_reset_s = now_s

    def _priority(self, job: np.ndarray, kind: int) -> np.ndarray:
        """(n,) float64, of jobs (n,) for a GPU type."""
        wanted, all_s = self._fraction[job, kind], self._type_time_s[kind]
        if all_s <= 0.0:
            return wanted * _NEVER_RUN
        had = self._time_s[job, kind] / all_s
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(had > 0.0, wanted / had, wanted * _NEVER_RUN)

    def _take(
        self,
        job: np.ndarray,
        gang: np.ndarray,
        runs: np.ndarray,
        capacity: np.ndarray,
        quotas: QuotaRoom | None = None,
    ) -> np.ndarray:
        """(A,) int64 type of each job in the round, -1 where it waits."""
        if quotas is not None and not quotas.bounded:
            quotas = None
        chosen = np.full(job.size, -1, dtype=np.int64)
        types = list(range(len(capacity)))
        if not self.fixed_order:
            self._shuffle.shuffle(types)
        for kind in types:
            free = int(capacity[kind])
            able = np.flatnonzero(runs[:, kind] & (chosen == -1) & (gang <= free))
            enough = quotas is None and gang[able].sum() <= free
            taken = able if enough else self._first(able, job, gang, kind, free, quotas)
            chosen[taken] = kind if self.lend else np.where(self._planned[job[taken]], kind, -2)
        return np.maximum(chosen, -1)

    def _first(
        self,
        able: np.ndarray,
        job: np.ndarray,
        gang: np.ndarray,
        kind: int,
        free: int,
        quotas: QuotaRoom | None,
    ) -> list[int]:
        """Those of the rows `able` that get a type's `free` GPUs, as far as quotas allow."""
        wanted = self._fraction[job[able], kind]
        priority, deficit_s = self._priority(job[able], kind), self._deficit_s[job[able], kind]
        # Ties in the end by arrival: lexsort is stable.
        order = able[np.lexsort((-wanted, -deficit_s, -priority))]
        taken = []
        for a, size in zip(order.tolist(), gang[order].tolist(), strict=True):
            if size <= free and (quotas is None or quotas.take(a, size)):
                free -= size
                taken.append(a)
                if free == 0:
                    break
        return taken
