"""Rules that choose the node of a gang, and the device of a share, by a score.

From the formulas in Weng et al. (FGD), USENIX ATC 2023, section 6.1, as the authors' simulator
rounds them; see `docs/model.md`. A gang goes to one node, or in parts as large as any node takes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from tests.reference.draws import PLACEMENT, uniform
from tests.reference.records import ReferenceJob
from tests.reference.rules import WHOLE
from tests.reference.world import ReferenceWorld

DRAWS_OF_A_START = 2 * 4096


def draw(world: ReferenceWorld, job: ReferenceJob, part: int, which: int) -> float:
    """`which`: 0 for the node, 1 for the device."""
    starts = job.num_restarts + (not math.isnan(job.first_start))
    number = world.rules.first_job + job.index
    count = DRAWS_OF_A_START * starts + 2 * part + which
    return uniform(world.rules.seed, PLACEMENT, number, count)


def best_node(
    world: ReferenceWorld, job: ReferenceJob, gpus: int, able: Sequence[int], part: int
) -> int:
    """Of the nodes that are able, the one with the highest score; the first of equals."""
    if world.rules.placement == "random":
        return able[int(draw(world, job, part, 0) * len(able))]
    return min(able, key=lambda node: (-score(world, job, gpus, node), node))


def score(world: ReferenceWorld, job: ReferenceJob, gpus: int, node: int) -> float:
    rule = world.rules.placement
    milli = world.free_milli(node)
    cpu, asked_cpu = world.free_resources(node)[1], gpus * job.demand[1]
    most_cpu = max(n.capacity[1] for n in world.nodes) or 1.0
    most_milli = WHOLE * max(int(n.capacity[0]) for n in world.nodes)
    left = (cpu - asked_cpu) / most_cpu * 0.5 + (sum(milli) - job.milli * gpus) / most_milli * 0.5
    if rule == "spread":
        return left
    if rule == "best_fit":
        return int((1.0 - left) * 100)
    if rule == "dot_prod":
        product = cpu / most_cpu * (asked_cpu / most_cpu)
        product += sum(milli) / most_milli * (job.milli * gpus / most_milli)
        return int((1.0 - product / 2.0) * 100)
    if rule == "gpu_packing":
        return packing_score(milli, gpus, job.milli)
    if rule == "gpu_clustering":
        bonus = clustering_bonus(world, job, gpus, node)
        return 25 * (most_milli - sum(milli)) // most_milli + bonus
    assert rule == "fgd"
    return max(s for s, _ in fragment_scores(world, job, gpus, node))


def packing_score(free: Sequence[int], gpus: int, milli: int) -> int:
    idle = free.count(WHOLE)
    if idle == len(free):
        return max(33 - idle, idle)
    tightest = min(f for f in free if f >= milli)
    if tightest == WHOLE:
        return max(50 - gpus, 33)
    return max(100 - tightest // 10 // 10, 50)


def clustering_bonus(world: ReferenceWorld, job: ReferenceJob, gpus: int, node: int) -> int:
    sizes = {
        0 if other.milli < WHOLE else other.placement[node]
        for other in world.active
        if other.placement.get(node, 0) > 0
    }
    mine = 0 if job.milli < WHOLE else gpus
    if mine in sizes:
        return 75 if len(sizes) == 1 else 50
    return 0 if sizes else 25


def fragment_scores(
    world: ReferenceWorld, job: ReferenceJob, gpus: int, node: int
) -> list[tuple[int, int]]:
    """(score, device) for each way to take the GPUs; a whole gang has one."""
    free, kind = world.free_milli(node), world.nodes[node].kind
    cpu = world.free_resources(node)[1]
    before = fragment(world, cpu, free, kind)
    scores = []
    for device in devices_able(free, job.milli)[: None if job.milli < WHOLE else 1]:
        after = list(free)
        for taken in [device] if job.milli < WHOLE else devices_able(free, WHOLE)[:gpus]:
            after[taken] -= job.milli
        rise = fragment(world, cpu - gpus * job.demand[1], after, kind) - before
        scores.append((int(100.0 / (1.0 + math.exp(rise / 1000.0))), device))
    return scores


def fragment(world: ReferenceWorld, cpu: float, free: Sequence[int], kind: int) -> float:
    """Expected thousandths of a GPU that the usual jobs could not use."""
    total = 0.0
    for (asked_cpu, milli, gpus, types), weight in usual_jobs(world).items():
        lost = sum(free)
        can = sum(f >= milli for f in free) >= gpus
        if cpu >= asked_cpu and types >> kind & 1 and can:
            lost = sum(f for f in free if f < milli)
        total += weight * lost
    return total


def usual_jobs(world: ReferenceWorld) -> dict[tuple[float, int, int, int], float]:
    """The commonest requests, 95 % of all jobs, with their weights."""
    kinds: Counter[tuple[float, int, int, int]] = Counter()
    for job in world.jobs:
        gpus = world.sizes[job.profile][world.request_level[job.profile]]
        types = sum(1 << t for t, is_allowed in enumerate(job.allowed) if is_allowed)
        kinds[gpus * job.demand[1], job.milli, gpus, types] += 1
    usual: dict[tuple[float, int, int, int], float] = {}
    for kind in sorted(kinds, key=lambda kind: (kinds[kind], kind), reverse=True):
        if sum(usual.values()) >= 0.95 * len(world.jobs):
            break
        usual[kind] = kinds[kind]
    covered = sum(usual.values())
    return {kind: count / covered for kind, count in usual.items()}


def devices_able(free: Sequence[int], milli: int) -> list[int]:
    return [device for device in range(len(free)) if free[device] >= milli]


def device_of(world: ReferenceWorld, job: ReferenceJob, node: int) -> int:
    """The device of a share on its node."""
    rule, free = world.rules.placement, world.free_milli(node)
    able = devices_able(free, job.milli)
    if rule == "first_fit":
        return able[0]
    if rule == "spread":
        return min(able, key=lambda device: (-free[device], device))
    if rule == "random":
        return able[int(draw(world, job, 0, 1) * len(able))]
    if rule == "fgd":
        return min(fragment_scores(world, job, 1, node), key=lambda s: (-s[0], s[1]))[1]
    return min(able, key=lambda device: (free[device], device))
