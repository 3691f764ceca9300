"""The projector: whatever a network or a rule asks for, a feasible allocation comes out.

An allocation x (J jobs, N nodes), in GPUs, is feasible when

    x[j, n] >= 0,    sum_n x[j, n] <= R_j,    sum_j x[j, n] * d[j, r] <= C[n, r]

for every job j, node n and resource r (GPU, CPU, memory, network bandwidth), each bound within
a relative `TOLERANCE`, because 30 x 0.1 is more than 3 in floating point. `project` leaves a
feasible allocation as it is, and so is idempotent.
"""

from __future__ import annotations

import numpy as np

TOLERANCE = 1e-9
"""Relative slack of every bound; whole GPUs are whole and within R_j exactly."""

_MAX_GPUS = 1e12  # stands for "no limit": sums of it stay exact integers in float64
_MAX_CAPACITY = 1e300  # stands for "no bound": keeps capacity / usage finite


def project(
    requested: np.ndarray,
    limits: np.ndarray,
    demand_per_gpu: np.ndarray,
    capacity: np.ndarray,
    *,
    fractional: bool = False,
) -> np.ndarray:
    """Bring a requested allocation within every job's limit and every node's capacity.

    1. NaN and negative requests count as 0, infinite ones as the job's limit.
    2. A job above its limit R_j is scaled down to it, in the same proportions over its nodes.
    3. On an overloaded node, a job is scaled by the tightest of the overloaded resources that
       it uses; a job that uses none of them keeps what it has.
    4. Whole GPUs: every entry is rounded down, then the GPUs lost in total by that (half a GPU
       counts as one) are returned one by one to the entries with the largest remainder that
       still fit (ties: the lower job, then the lower node).

    This is no Euclidean projection: proportions are kept rather than distances, and room that
    steps 2 and 3 leave is not given to anybody who did not ask for it.

    Args:
        requested: (J, N) GPUs of job j on node n; any float or integer, NaN and inf too.
        limits: (J,) R_j, most GPUs of the job; NaN and negative count as 0, inf as none.
        demand_per_gpu: (J, 4) in the order of `types.RESOURCES`; negative counts as 0; a job
            with a NaN or infinite demand gets nothing.
        capacity: (N, 4) in the order of `types.RESOURCES`; NaN and negative count as 0.
        fractional: allow shares of a GPU.

    Returns:
        (J, N) feasible allocation in GPUs: int64, or float64 when `fractional`.

    Raises:
        ValueError: when the shapes do not agree.
    """
    wanted = np.array(requested, dtype=np.float64)
    demand = np.array(demand_per_gpu, dtype=np.float64)
    room = np.nan_to_num(np.array(capacity, dtype=np.float64), nan=0.0, posinf=_MAX_CAPACITY)
    room = np.clip(room, 0.0, _MAX_CAPACITY)
    limit = np.nan_to_num(np.array(limits, dtype=np.float64), nan=0.0, posinf=_MAX_GPUS)
    limit = np.clip(limit, 0.0, _MAX_GPUS)
    _check_shapes(wanted, limit, demand, room)

    if not fractional:
        limit = np.floor(limit * (1.0 + TOLERANCE))
    wanted = np.where(wanted > 0.0, wanted, 0.0)  # NaN compares False
    wanted[~np.isfinite(demand).all(axis=1)] = 0.0
    demand = np.where(np.isfinite(demand) & (demand > 0.0), demand, 0.0)
    cap = limit[:, None]
    wanted = np.where(wanted > cap * (1.0 + TOLERANCE), cap, wanted)

    within = _scale_nodes(_scale_jobs(wanted, limit), demand, room)
    if fractional:
        return within
    return _round_whole(within, limit, demand, room)


def is_feasible(
    allocation: np.ndarray,
    limits: np.ndarray,
    demand_per_gpu: np.ndarray,
    capacity: np.ndarray,
) -> bool:
    """Whether an allocation obeys every bound; shapes as in `project`, all input finite."""
    x = np.asarray(allocation, dtype=np.float64)
    return bool(
        (x >= 0.0).all()
        and (x.sum(axis=1) <= np.asarray(limits) * (1.0 + TOLERANCE)).all()
        and (x.T @ np.asarray(demand_per_gpu, np.float64) <= capacity * (1.0 + TOLERANCE)).all()
    )


def _check_shapes(
    wanted: np.ndarray, limit: np.ndarray, demand: np.ndarray, room: np.ndarray
) -> None:
    if wanted.ndim != 2:
        raise ValueError(f"requested must have axes (jobs, nodes), not shape {wanted.shape}")
    num_jobs, num_nodes = wanted.shape
    for name, array, shape in (
        ("limits", limit, (num_jobs,)),
        ("demand_per_gpu", demand, (num_jobs, room.shape[-1])),
        ("capacity", room, (num_nodes, demand.shape[-1])),
    ):
        if array.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, not {array.shape}")


def _scale_jobs(x: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """(J, N) `x` with every row above its limit scaled to it."""
    total = x.sum(axis=1)
    over = total > limit * (1.0 + TOLERANCE)
    factor = np.divide(limit, total, out=np.ones_like(total), where=over)
    return x * factor[:, None]


def _scale_nodes(x: np.ndarray, demand: np.ndarray, room: np.ndarray) -> np.ndarray:
    """(J, N) `x` with every overloaded node brought within its capacity.

    factor[n, r] = min(1, C[n, r] / usage[n, r]), and x[j, n] shrinks by the least factor among
    the resources that job j uses; so usage[n, r] shrinks by factor[n, r] at least.
    """
    with np.errstate(over="ignore", under="ignore"):
        usage = x.T @ demand
        over = usage > room * (1.0 + TOLERANCE)
        factor = np.divide(room, usage, out=np.ones_like(usage), where=over)  # x / inf == 0
        tightest = np.ones_like(x)
        for r in range(demand.shape[1]):
            uses = demand[:, r, None] > 0.0
            np.minimum(tightest, np.where(uses, factor[None, :, r], 1.0), out=tightest)
        x = x * tightest
        # Denormal capacities defeat the division above; they can carry nothing anyway.
        still = (x.T @ demand > room * (1.0 + TOLERANCE)).any(axis=1)
    x[:, still] = 0.0
    return x


def _round_whole(
    x: np.ndarray, limit: np.ndarray, demand: np.ndarray, room: np.ndarray
) -> np.ndarray:
    """(J, N) int64: largest-remainder rounding of a feasible `x` that breaks no bound."""
    whole = np.floor(x + TOLERANCE)  # 2.9999999999 is a 3 that lost a bit
    broken = (whole.T @ demand > room * (1.0 + TOLERANCE)).any(axis=1)
    whole[:, broken] = np.floor(x[:, broken])

    # Ties must not hang on the last bits, so remainders are compared to nine decimals.
    remainder = np.round(x - whole, 9)
    jobs, nodes = np.nonzero(remainder > 0.0)
    order = np.argsort(-remainder[jobs, nodes], kind="stable")
    jobs, nodes = jobs[order], nodes[order]
    seats = int(np.floor(x.sum() + 0.5 + 1e-6) - whole.sum())
    most = np.minimum(limit, np.ceil(x.sum(axis=1) - 1e-6))
    inside = room * (1.0 + TOLERANCE / 2)  # half the slack is left to rounding errors

    while seats > 0 and jobs.size:
        job_room = most - whole.sum(axis=1)
        node_room = inside - whole.T @ demand
        fits = (job_room[jobs] >= 1.0) & (demand[jobs] <= node_room[nodes]).all(axis=1)
        jobs, nodes = jobs[fits], nodes[fits]
        # Everyone whose GPU fits even if all before it get theirs: the first always does.
        ranks = _running_sum(np.ones((jobs.size, 1)), jobs)[:, 0]
        loads = _running_sum(demand[jobs], nodes)
        taken = (ranks <= job_room[jobs]) & (loads <= node_room[nodes]).all(axis=1)
        taken &= np.arange(jobs.size) < seats
        whole[jobs[taken], nodes[taken]] += 1.0
        seats -= int(taken.sum())
        jobs, nodes = jobs[~taken], nodes[~taken]
    return whole.astype(np.int64)


def _running_sum(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """(E, C) sum of `values` over the earlier rows of the same group and the row itself.

    Args:
        values: (E, C) float64, >= 0.
        group: (E,) int64.
    """
    if not group.size:
        return values
    order = np.argsort(group, kind="stable")
    total = np.cumsum(values[order], axis=0)
    first = np.searchsorted(group[order], group[order], side="left")
    before = np.where(first[:, None] > 0, total[first - 1], 0.0)
    sums = np.empty_like(total)
    sums[order] = total - before
    return sums
