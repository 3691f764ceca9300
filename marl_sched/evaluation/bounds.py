"""Lower bounds on the sum of job completion times that no scheduler can beat, clairvoyant or not.

All three drop what costs a real schedule time (restarts, placement, spanning nodes, failures,
estimates) and keep R GPUs, arrivals r_i, work x_i (isolated seconds on the request) and speeds
s_i(k) on k GPUs, at best over the GPU types that job i may use:

- `alone`: sum of x_i / s_i(K_i), every job at once on its fastest size K_i;
- `srpt`: one machine that does R GPU-seconds a second, jobs of size w_i = x_i min_k k / s_i(k)
  GPU-seconds, shortest remaining first (Schrage, Operations Research 1968, optimal there);
- `lp`: the time-indexed linear program of `lp_bound`, which knows both limits.

The largest holds. Source of the program: mean-busy-time relaxations, Goemans, Queyranne, Schulz,
Skutella and Wang, "Single machine scheduling with release dates", SIAM J. Discrete Math. 2002.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from marl_sched.perf.profiles import ProfileTable
from marl_sched.types import Cluster
from marl_sched.workload.jobs import Workload

SLOTS = 32
"""Time slots of the program: more are tighter and take longer."""


@dataclass(frozen=True)
class FluidJobs:
    """Jobs as the bounds see them."""

    arrival_s: np.ndarray
    """(J,) float64, non-decreasing."""
    work_s: np.ndarray
    """(J,) float64 > 0, isolated seconds on the request."""
    gpus: np.ndarray
    """(J, L) float64 > 0, GPUs of each level from the smallest on; shares as fractions."""
    rates: np.ndarray
    """(J, L) float64 > 0, isolated seconds per second at each level, at best."""

    @property
    def least_gpu_s(self) -> np.ndarray:
        """(J,) float64, GPU-seconds that each job needs at its most efficient size."""
        return np.asarray(self.work_s * (self.gpus / self.rates).min(axis=1))

    @property
    def least_s(self) -> np.ndarray:
        """(J,) float64, seconds that each job needs at its fastest size."""
        return np.asarray(self.work_s / self.rates.max(axis=1))


def fluid_jobs(workload: Workload, profiles: ProfileTable, cluster: Cluster) -> FluidJobs:
    """The jobs of `workload`, whose profiles are the first of `profiles.job_profile`, in order."""
    kind = profiles.job_profile[: len(workload)]
    allowed = workload.allowed_types(cluster)[:, :, None]
    packed = profiles.rates[kind, :, 1:, 0]
    return FluidJobs(
        arrival_s=workload.arrival_s,
        work_s=workload.duration_s,
        gpus=profiles.sizes[kind, 1:] * workload.demand[:, :1],
        rates=np.where(allowed, packed, 0.0).max(axis=1),
    )


def lower_bound(jobs: FluidJobs, num_gpus: float, slots: int = SLOTS) -> float:
    """The largest of the three bounds on the sum of completion times, seconds."""
    cheap = max(alone_bound(jobs), srpt_bound(jobs, num_gpus))
    return max(cheap, lp_bound(jobs, num_gpus, slots)) if slots else cheap


def alone_bound(jobs: FluidJobs) -> float:
    """sum_i x_i / s_i(K_i)."""
    return float(jobs.least_s.sum())


def srpt_bound(jobs: FluidJobs, num_gpus: float) -> float:
    """Sum of completion times under SRPT of jobs w_i / R on one machine."""
    ends = srpt_ends(jobs.arrival_s, jobs.least_gpu_s / num_gpus)
    return float((ends - jobs.arrival_s).sum())


def srpt_ends(arrival_s: np.ndarray, size_s: np.ndarray) -> np.ndarray:
    """(J,) float64, when each job ends on one machine, shortest remaining time first.

    Args:
        arrival_s: (J,) float64, non-decreasing.
        size_s: (J,) float64 > 0.
    """
    ends = np.empty(arrival_s.size)
    left: list[tuple[float, int]] = []
    now, upcoming = 0.0, 0
    while left or upcoming < arrival_s.size:
        if not left:
            now = max(now, float(arrival_s[upcoming]))
        while upcoming < arrival_s.size and arrival_s[upcoming] <= now:
            heapq.heappush(left, (float(size_s[upcoming]), upcoming))
            upcoming += 1
        size, job = heapq.heappop(left)
        until = float(arrival_s[upcoming]) if upcoming < arrival_s.size else np.inf
        if now + size <= until:
            now += size
            ends[job] = now
        else:
            heapq.heappush(left, (size - (until - now), job))
            now = until
    return ends


def lp_bound(jobs: FluidJobs, num_gpus: float, slots: int = SLOTS) -> float:
    """The time-indexed program, solved by HiGHS.

    y_ikt >= 0 are the seconds that job i spends at level k in slot t of length D_t:

        min  sum_ikt max(t_start - r_i, 0) s_i(k) y_ikt / x_i  +  sum_i x_i / (2 s_i(K_i))
        sum_k y_ikt <= what is left of slot t after r_i,
        sum_ik k y_ikt <= R D_t,
        sum_kt s_i(k) y_ikt = x_i

    The first term is at most the mean time at which work is done, which lies at least half
    of the fastest run before the end. The last slot never ends, so that no horizon cuts schedules
    off; wide slots make the bound lower, never wrong.

    Returns:
        Seconds; 0 where the solver fails, which is a bound too.
    """
    from scipy.optimize import linprog
    from scipy.sparse import csr_array, vstack

    edges = slot_edges(jobs, num_gpus, slots)
    job, level, slot = _variables(jobs, edges)
    y = np.arange(job.size)
    speed = jobs.rates[job, level] / jobs.work_s[job]
    cost = np.maximum(edges[slot] - jobs.arrival_s[job], 0.0) * speed
    # One row for each pair of job and slot, one for the GPUs of each slot that ends.
    pairs, pair = np.unique(job * edges.size + slot, return_inverse=True)
    of_job, of_slot = np.divmod(pairs, edges.size)
    ends = np.append(edges[1:], np.inf)
    room_s = ends[of_slot] - np.maximum(edges[of_slot], jobs.arrival_s[of_job])
    gpus = csr_array((jobs.gpus[job, level], (slot, y)), shape=(edges.size, y.size))
    seconds = csr_array((np.ones(y.size), (pair.reshape(-1), y)), shape=(pairs.size, y.size))
    finite = np.isfinite(room_s)
    found = linprog(
        cost,
        A_ub=vstack([seconds[np.flatnonzero(finite)], gpus[:-1]], format="csr"),
        b_ub=np.concatenate([room_s[finite], num_gpus * np.diff(edges)]),
        A_eq=csr_array((speed, (job, y)), shape=(jobs.work_s.size, y.size)),
        b_eq=np.ones(jobs.work_s.size),
        method="highs",
    )
    half = 0.5 * alone_bound(jobs)
    return half + float(found.fun) if found.status == 0 else half


def slot_edges(jobs: FluidJobs, num_gpus: float, slots: int) -> np.ndarray:
    """(T,) float64, increasing starts of at most `slots` slots, closer where more happens.

    Quantiles of arrivals and of the ends under `srpt` and `alone`, and two more beyond.
    """
    first_s = jobs.arrival_s[0]
    ends = srpt_ends(jobs.arrival_s, jobs.least_gpu_s / num_gpus)
    happens = np.concatenate([jobs.arrival_s, ends, jobs.arrival_s + jobs.least_s])
    inside = np.quantile(happens, np.linspace(0.0, 1.0, max(slots - 2, 1)))
    beyond = first_s + (happens.max() - first_s) * np.array([1.3, 2.0])
    return np.unique(np.concatenate([[first_s], inside, beyond]))


def _variables(jobs: FluidJobs, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Job, level and slot of every y_ikt: slots that end after the arrival, levels of the hull."""
    ends = np.append(edges[1:], np.inf)
    kinds, kind = np.unique(
        np.concatenate([jobs.gpus, jobs.rates], axis=1), axis=0, return_inverse=True
    )
    half = jobs.gpus.shape[1]
    hulls = [concave_levels(row[:half], row[half:]) for row in kinds]
    rows = [
        (i, levels, np.flatnonzero(ends > jobs.arrival_s[i]))
        for i, levels in ((i, hulls[k]) for i, k in enumerate(kind.reshape(-1).tolist()))
    ]
    job = np.concatenate([np.full(levels.size * slots.size, i) for i, levels, slots in rows])
    level = np.concatenate([np.repeat(levels, slots.size) for _, levels, slots in rows])
    slot = np.concatenate([np.tile(slots, levels.size) for _, levels, slots in rows])
    return job, level, slot


def concave_levels(gpus: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Levels on the upper hull of (0, 0) and (k, s(k)): a mix of these is as good as any other.

    Args:
        gpus: (L,) float64, non-decreasing.
        rates: (L,) float64.
    """
    kept: list[int] = []

    def point(level: int) -> tuple[float, float]:
        return (float(gpus[level]), float(rates[level])) if level >= 0 else (0.0, 0.0)

    for level in range(gpus.size):
        x, y = point(level)
        if y <= point(kept[-1] if kept else -1)[1]:
            continue
        while kept:
            x0, y0 = point(kept[-2] if len(kept) > 1 else -1)
            x1, y1 = point(kept[-1])
            if (y1 - y0) * (x - x0) > (y - y0) * (x1 - x0):
                break
            kept.pop()
        kept.append(level)
    return np.array(kept, dtype=np.int64)
