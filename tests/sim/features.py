"""Random setups in which everything happens that the simulator knows, as plain data.

`random_features` takes a random small world of `tests.sim.worlds` and adds, each with some
probability, every feature of `FEATURES`. `play` runs it on the slow reference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.reference import NodeEvent, ReferenceJob, ReferenceResult, Rules, simulate
from tests.sim.worlds import Setup, random_setup

PlainDecide = Callable[[float, Sequence[Any]], Mapping[int, int]]
"""(now, jobs with `index`, `level` and `most`) to levels; see `tests.reference.Decide`."""

CLUSTERS = ("1x1", "1x5", "2x4", "6x2", "3x2+4x1", "5x2:slow+3x2:fast", "1x2:a+1x4:b+4x2:a")
"""More nodes than in `tests.sim.worlds`, so that gangs span some in many ways."""

CHANCE = 0.35  # of each feature in a setup


@dataclass(frozen=True)
class Features:
    """A setup and what else goes on in it. Shapes as in `tests.reference.Rules`."""

    setup: Setup
    sizes: np.ndarray  # (P, L), in place of the setup's, for it may hold shares
    num_levels: np.ndarray  # (P,)
    request_level: np.ndarray  # (P,)
    restart_s: np.ndarray  # (P, L)
    rates: np.ndarray  # (P, T, L, 3)
    rack: np.ndarray  # (N,)
    columns: Mapping[str, Any]  # optional attributes of a workload
    rules: Rules
    round_s: float
    charge_first_start: bool

    @property
    def jobs(self) -> int:
        return len(self.setup.workload)


def random_features(rng: np.random.Generator, max_jobs: int = 24) -> Features:
    setup = random_setup(rng, max_jobs, CLUSTERS)
    profiles = setup.profiles
    spanning = profiles.rates[..., 1:2]
    # Without racks the third rate must not matter: everybody is in rack 0.
    across = spanning * rng.uniform(0.3, 1.0, spanning.shape)
    # Small gangs, of which several span, or any.
    sizes = np.minimum(profiles.sizes, int(rng.choice([3, 64])))
    num_levels = np.argmax(sizes == sizes[:, -1:], axis=1)
    features = Features(
        setup,
        sizes,
        num_levels,
        np.minimum(profiles.request_level, num_levels),
        profiles.restart_s,
        np.concatenate([profiles.rates[..., :2], across], axis=-1),
        np.zeros(len(setup.cluster.nodes), np.int64),
        {"tenant": setup.workload.tenant},
        Rules(seed=int(rng.integers(0, 2**31))),
        setup.sim.round_s,
        setup.sim.charge_first_start,
    )
    for add in FEATURES.values():
        if rng.random() < CHANCE:
            features = add(features, rng)
    return features


def with_columns(features: Features, **columns: Any) -> Features:
    return replace(features, columns={**features.columns, **columns})


def with_rules(features: Features, **rules: Any) -> Features:
    return replace(features, rules=replace(features.rules, **rules))


def add_failures(features: Features, rng: np.random.Generator) -> Features:
    per_h = rng.choice([0.0, 3.6, 18.0], features.jobs)  # never, every 1000 s, every 200 s
    return with_columns(features, failures_per_h=per_h, max_retries=rng.integers(0, 6, len(per_h)))


def add_checkpoints(features: Features, rng: np.random.Generator) -> Features:
    return with_columns(
        features, checkpoint_interval_s=rng.choice([0.0, 33.3, 200.0], features.jobs)
    )


def add_cancellations(features: Features, rng: np.random.Generator) -> Features:
    after = rng.exponential(400.0, features.jobs)
    after[rng.random(features.jobs) < 0.6] = np.inf
    return with_columns(features, cancel_at_s=features.setup.workload.arrival_s + after)


def add_parents(features: Features, rng: np.random.Generator) -> Features:
    """A job's parents are among the few before it."""
    parents = []
    for j in range(features.jobs):
        count = int(rng.choice([0, 1, 2], p=[0.6, 0.25, 0.15]))
        parents.append(sorted({int(rng.integers(max(0, j - 6), j)) for _ in range(count) if j > 0}))
    return with_columns(features, parents=parents)


def add_node_failures(features: Features, rng: np.random.Generator) -> Features:
    return with_rules(
        features, node_mtbf_h=float(rng.choice([0.3, 1.5])), node_mttr_h=float(rng.uniform(0, 0.2))
    )


def add_node_events(features: Features, rng: np.random.Generator) -> Features:
    """Some nodes go once or twice; each comes back for good in the end.

    In some setups a node under notice also fails, comes back before the notice is over, or gets
    another notice meanwhile.
    """
    events = []
    troubled = rng.random() < 0.5
    for node in range(len(features.rack)):
        t = 0.0
        for _ in range(int(rng.integers(0, 3))):
            t += float(rng.integers(1, 900))
            kind = str(rng.choice(["down", "reclaim"]))
            notice = float(rng.choice([0, 45, 300])) if kind == "reclaim" else 0.0
            events.append(NodeEvent(t, node, kind, notice))
            if troubled and notice:
                events += trouble(t, node, notice, rng)
            t += notice + float(rng.integers(1, 600))
            events.append(NodeEvent(t, node, "up"))
    events.sort(key=lambda event: (event.time, event.node))
    return with_rules(features, node_events=events)


def trouble(t: float, node: int, notice: float, rng: np.random.Generator) -> list[NodeEvent]:
    """What else befalls a node under notice; all is over when the notice is."""
    at = np.sort(t + notice * rng.uniform(0.05, 0.95, 3)).tolist()
    again = NodeEvent(at[2], node, "reclaim", float(t + notice - at[2]) * 0.9)
    down, up = NodeEvent(at[0], node, "down"), NodeEvent(at[1], node, "up")
    return [[down, up], [up], [down, up, again], [replace(again, time=at[0])]][rng.integers(4)]


def add_racks(features: Features, rng: np.random.Generator) -> Features:
    return replace(features, rack=np.sort(rng.integers(0, 3, len(features.rack))))


def add_allowed_types(features: Features, rng: np.random.Generator) -> Features:
    """Every job may use the type with the most GPUs, which its largest size fits."""
    cluster = features.setup.cluster
    pools = [cluster.gpus_of_type(kind) for kind in cluster.gpu_types]
    allowed = rng.random((features.jobs, len(pools))) < 0.4
    allowed[:, int(np.argmax(pools))] = True
    return with_columns(features, allowed_types=allowed)


def add_loaders(features: Features, rng: np.random.Generator) -> Features:
    return with_columns(features, loader_cpus=rng.choice([0.0, 3.0, 9.5, 20.0], features.jobs))


def add_shares(features: Features, rng: np.random.Generator) -> Features:
    """The jobs of half of the profiles become shares of one GPU."""
    count = len(features.num_levels)
    shared = rng.random(count) < 0.5
    shared[int(rng.integers(count))] = True
    sizes, rates = features.sizes.copy(), features.rates.copy()
    sizes[shared, 1:] = 1
    rates[shared, :, 1:] = rates[shared][:, :, 1:2]
    milli = np.where(
        shared[features.setup.profiles.job_profile],
        rng.choice([100, 250, 300, 500, 700], features.jobs),
        1000,
    )
    table = rng.uniform(0.4, 1.0, (count, count))
    features = replace(
        features,
        sizes=sizes,
        rates=rates,
        num_levels=np.where(shared, 1, features.num_levels),
        request_level=np.where(shared, 1, features.request_level),
    )
    features = with_columns(features, gpu_milli=milli)
    sharing = str(rng.choice(["none", "interference", "time_slice"], p=[0.1, 0.5, 0.4]))
    return with_rules(features, sharing=sharing, interference=table)


def add_placement(features: Features, rng: np.random.Generator) -> Features:
    rule = rng.choice(
        ["first_fit", "best_fit", "spread", "random", "dot_prod", "gpu_packing", "gpu_clustering",
         "fgd"]
    )  # fmt: skip
    return with_rules(features, placement=str(rule))


def add_contention(features: Features, rng: np.random.Generator) -> Features:
    return with_rules(features, network_contention=True)


def add_quotas(features: Features, rng: np.random.Generator) -> Features:
    """Each tenant's quota holds at least its largest job."""
    profile = features.setup.profiles.job_profile
    largest = features.sizes[profile].max(axis=1)
    tenant = np.asarray(features.columns["tenant"])
    quotas = [
        float(largest[tenant == t].max(initial=1)) + float(rng.choice([0.0, 0.5, 2.0, np.inf]))
        for t in range(int(tenant.max()) + 1)
    ]
    return with_rules(features, tenant_quota=quotas)


def add_rounds(features: Features, rng: np.random.Generator) -> Features:
    return with_rules(features, decide_on_rounds=True)


def add_repack(features: Features, rng: np.random.Generator) -> Features:
    return with_rules(features, repack=True)


def add_overhead(features: Features, rng: np.random.Generator) -> Features:
    """Rounds are far longer than an overhead, or nobody would ever get on."""
    features = replace(features, round_s=1000.0, restart_s=np.minimum(features.restart_s, 15.0))
    return with_rules(features, overhead_each_epoch=True)


FEATURES: dict[str, Callable[[Features, np.random.Generator], Features]] = {
    "failures": add_failures,
    "checkpoints": add_checkpoints,
    "cancellations": add_cancellations,
    "parents": add_parents,
    "node_failures": add_node_failures,
    "node_events": add_node_events,
    "racks": add_racks,
    "allowed_types": add_allowed_types,
    "loaders": add_loaders,
    "shares": add_shares,
    "placement": add_placement,
    "contention": add_contention,
    "quotas": add_quotas,
    "rounds": add_rounds,
    "repack": add_repack,
    "overhead": add_overhead,
}
"""In the order of adding: a quota must know the sizes, for one."""


def without(features: Features, name: str) -> Features:
    """The same setup but for one feature."""
    plain = Rules()
    rules_of = {
        "node_failures": ("node_mtbf_h",),
        "node_events": ("node_events",),
        "shares": ("sharing",),
        "placement": ("placement",),
        "contention": ("network_contention",),
        "quotas": ("tenant_quota",),
        "rounds": ("decide_on_rounds",),
        "repack": ("repack",),
        "overhead": ("overhead_each_epoch",),
    }
    columns_of = {
        "failures": ("failures_per_h",),
        "checkpoints": ("checkpoint_interval_s",),
        "cancellations": ("cancel_at_s",),
        "parents": ("parents",),
        "allowed_types": ("allowed_types",),
        "loaders": ("loader_cpus",),
    }
    if name == "racks":
        return replace(features, rack=np.zeros_like(features.rack))
    rules = {rule: getattr(plain, rule) for rule in rules_of.get(name, ())}
    dropped = columns_of.get(name, ())
    kept = {k: v for k, v in features.columns.items() if k not in dropped}
    return with_rules(replace(features, columns=kept), **rules)


def erratic(seed: int, repack: bool = False) -> PlainDecide:
    """Levels without sense, many of them not legal; depends on time and jobs alone.

    Under `repack`: a placing order without sense, from which some are missing.
    """

    def decide(now: float, active: Sequence[Any]) -> Mapping[int, int]:
        rng = np.random.default_rng([seed, round(now * 1000)])
        if repack:
            share = rng.choice([0.7, 1.0])
            return {
                active[i].index: 1 for i in rng.permutation(len(active)) if rng.random() < share
            }
        mode = rng.integers(0, 4)
        levels = {}
        for job in active:
            if mode == 0:  # everybody wants everything
                levels[job.index] = job.most + int(rng.integers(0, 3))
            elif mode == 1:  # nobody moves, but for a few
                levels[job.index] = int(job.level if rng.random() < 0.8 else rng.integers(0, 2))
            else:
                levels[job.index] = int(rng.integers(-1, job.most + 2))
        return levels

    return decide


@dataclass(frozen=True)
class Seen:
    """What a plain decide function knows of a job."""

    index: int
    level: int
    most: int  # highest level


def play(features: Features, decide: PlainDecide) -> ReferenceResult:
    """On the slow reference."""
    setup = features.setup
    work, cluster = setup.workload, setup.cluster

    def answer(now: float, active: Sequence[ReferenceJob]) -> Mapping[int, int]:
        return decide(now, [Seen(j.index, j.level, int(most[j.profile])) for j in active])

    most = features.num_levels
    workload = SimpleNamespace(
        arrival_s=work.arrival_s, duration_s=work.duration_s, demand=work.demand, **features.columns
    )
    profiles = SimpleNamespace(
        sizes=features.sizes,
        num_levels=features.num_levels,
        request_level=features.request_level,
        rates=features.rates,
        restart_s=features.restart_s,
        job_profile=setup.profiles.job_profile,
    )
    machines = SimpleNamespace(
        capacity=cluster.capacity,
        node_type=cluster.node_type,
        num_gpus=cluster.num_gpus,
        gpu_types=cluster.gpu_types,
        rack=features.rack,
    )
    return simulate(
        workload, profiles, machines, answer, rules=features.rules,
        round_s=features.round_s, charge_first_start=features.charge_first_start,
    )  # fmt: skip
