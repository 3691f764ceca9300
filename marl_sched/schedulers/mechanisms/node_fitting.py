"""Places for gangs whose size and GPU type are settled: who can stays, the rest packs tightly."""

import numpy as np

from marl_sched.compiled.jit import kernel


@kernel
def room_for(demand: np.ndarray, free: np.ndarray) -> int:
    """Most GPUs (4,) with the CPU, memory and network they need that `free` (4,) covers."""
    most = np.inf
    for r in range(4):
        if demand[r] > 0.0:
            most = min(most, np.floor((free[r] + 1e-9) / demand[r]))
    return max(int(most), 0)


@kernel
def put(demand: np.ndarray, gpus: np.ndarray, free: np.ndarray) -> None:
    """Take `gpus` (N,) on each node, times `demand` (4,) per GPU, from `free` (N, 4)."""
    for node in range(gpus.size):
        if gpus[node] != 0:
            for r in range(4):
                free[node, r] -= gpus[node] * demand[r]


@kernel
def fits(demand: np.ndarray, gpus: np.ndarray, free: np.ndarray) -> bool:
    """Whether `free` (N, 4) covers `gpus` (N,) on each node."""
    for node in range(gpus.size):
        if gpus[node] > 0 and room_for(demand, free[node]) < gpus[node]:
            return False
    return True


@kernel
def pack(
    demand: np.ndarray, gpus: int, members: np.ndarray, free: np.ndarray, may_span: bool
) -> np.ndarray:
    """(N,) int64, places for one gang: the tightest node that holds it, else the emptiest few.

    Args:
        demand: (4,) float64, per GPU.
        members: (M,) int64, nodes that it may use.
        free: (N, 4) float64, not changed.
        may_span: whether it may have more than one node.

    Returns:
        All zeros where there is no room.
    """
    chosen = np.zeros(free.shape[0], dtype=np.int64)
    room = np.empty(members.size, dtype=np.int64)
    best = -1
    for k in range(members.size):
        room[k] = room_for(demand, free[members[k]])
        if room[k] >= gpus and (best < 0 or free[members[k], 0] < free[members[best], 0]):
            best = k
    if best >= 0:
        chosen[members[best]] = gpus
        return chosen
    if not may_span or room.sum() < gpus:
        return chosen
    for k in np.argsort(-room, kind="mergesort"):
        chosen[members[k]] = min(room[k], gpus)
        gpus -= chosen[members[k]]
        if gpus == 0:
            break
    return chosen


@kernel
def pack_type(
    jobs: np.ndarray,
    gpus: np.ndarray,
    demand: np.ndarray,
    members: np.ndarray,
    held: np.ndarray,
    free: np.ndarray,
    place: np.ndarray,
    all_may_move: bool,
    all_may_span: bool,
) -> bool:
    """Place `jobs`, by GPUs descending, on the nodes `members`; whether all found room.

    Only what exceeds the largest node spans several, unless all may.

    Whoever wants what it holds keeps its place: first of all, or, where all may move, if it is
    still free when the job's turn comes and no more nodes than it needs. With sizes and nodes of
    powers of two the second way always finds room, as what is free stays a multiple of the size
    whose turn it is.
    """
    largest = 0
    for node in members:
        largest = max(largest, int(free[node, 0]))
    for turn in range(2):
        for i in jobs:
            stays = held[i].sum() == gpus[i] and held[i][members].sum() == gpus[i]
            spare_nodes = (held[i] > 0).sum() * largest >= gpus[i] + largest
            stays = stays and not (all_may_move and spare_nodes)
            if place[i].sum() > 0 or (turn == 0 and (all_may_move or not stays)):
                continue
            if stays and fits(demand[i], held[i], free):
                place[i] = held[i]
            else:
                may_span = all_may_span or gpus[i] > largest
                place[i] = pack(demand[i], gpus[i], members, free, may_span)
            put(demand[i], place[i], free)
    for i in jobs:
        if place[i].sum() < gpus[i]:
            return False
    return True


@kernel
def place_gangs(
    gpus: np.ndarray,
    gpu_type: np.ndarray,
    job: np.ndarray,
    demand: np.ndarray,
    held: np.ndarray,
    node_type: np.ndarray,
    capacity: np.ndarray,
) -> np.ndarray:
    """Places of all jobs on nodes of their type, moving as few as it can.

    Args:
        gpus: (A,) int64, GPUs that each job is to have; 0 for none.
        gpu_type: (A,) int64, type that they are to be of.
        job: (A,) int64, unique, orders equal sizes.
        demand: (A, 4) float64, per GPU.
        held: (A, N) int64, present places.
        node_type: (N,) int64.
        capacity: (N, 4) float64, zeros where a node takes no jobs.

    Returns:
        (A, N) int64; a gang that finds no room on its type has none.
    """
    place = np.zeros(held.shape, dtype=np.int64)
    by_job = np.argsort(job)
    order = by_job[np.argsort(-gpus[by_job], kind="mergesort")]
    types = int(node_type.max()) + 1
    for kind in range(types):
        members = np.flatnonzero(node_type == kind)
        jobs = np.array([i for i in order if gpus[i] > 0 and gpu_type[i] == kind], dtype=np.int64)
        if jobs.size == 0:
            continue
        served = -1
        for way in range(3):
            trial = np.zeros(held.shape, dtype=np.int64)
            free = capacity.copy()
            done = pack_type(
                jobs, gpus, demand, members, held, free, trial, all_may_move=way > 0,
                all_may_span=way > 1,
            )  # fmt: skip
            # Nobody moves for a way that serves no more GPUs.
            if trial.sum() > served:
                served = trial.sum()
                for i in jobs:
                    place[i] = trial[i]
            if done:
                break
    return place
