"""Every scheduler's event logs under an independent judge, on random worlds with every feature.

`--log-worlds N` takes N worlds in place of `WORLDS`. The last tests show that the judge judges.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from marl_sched.allocation.feasibility import Infeasible
from marl_sched.evaluation.simulate import run
from marl_sched.schedulers import REGISTRY, Scheduler
from marl_sched.schedulers.rules.gavel import GavelPlanner
from marl_sched.sim.simulation import Simulation
from marl_sched.types import Allocation, ClusterView, NodeView
from tests.sim.compiled import (
    cluster_of,
    config_of,
    node_events_of,
    profiles_of,
    workload_of,
    world_of,
)
from tests.sim.features import FEATURES, Features, random_features, with_rules, without
from tests.sim.log_checker import KINDS, Case, columns_of, violations

WORLDS = 100
"""Each is played by a quarter of the schedulers in turn, by all with `--log-worlds`."""

BATCH = 10  # worlds a test

NAMED = Scheduler("named", planner=lambda: NamesAnything(0), elastic=True)


def case_of(features: Features, scheduler: Scheduler) -> Case:
    return Case(
        workload_of(features),
        profiles_of(features),
        cluster_of(features),
        config_of(features),
        node_events_of(features),
        scheduler.preemptive or features.rules.repack,
    )


def able(features: Features, scheduler: Scheduler) -> bool:
    """Whether `simulate` takes the scheduler under these rules."""
    if features.rules.repack and not scheduler.is_order:
        return False
    shares = (np.asarray(features.columns.get("gpu_milli", 1000)) < 1000).any()
    return scheduler.compiled or not shares


def suited(features: Features, scheduler: Scheduler) -> Features:
    """The same setup; for Gavel's policies in rounds that are longer than restarts take."""
    planner = scheduler.planner
    if not isinstance(planner, type) or not issubclass(planner, GavelPlanner):
        return features
    return replace(with_rules(without(features, "overhead"), decide_on_rounds=True), round_s=1000.0)


def log_of(features: Features, scheduler: Scheduler) -> np.ndarray:
    simulation = Simulation(world_of(features, log_rows=4096))
    results = run(simulation, scheduler, workload_of(features), features.setup.cluster.num_gpus)
    assert results.events is not None
    return results.events


def features_of(seed: int) -> Features:
    return random_features(np.random.default_rng([seed, 9]))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "batch" in metafunc.fixturenames:
        given = metafunc.config.getoption("--log-worlds")
        worlds = WORLDS if given is None else given
        metafunc.parametrize("batch", range(-(-worlds // BATCH)))


def test_no_log_breaks_a_rule(batch: int, request: pytest.FixtureRequest) -> None:
    step = 4 if request.config.getoption("--log-worlds") is None else 1
    names, played = sorted(REGISTRY), 0
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        for name in names[seed % step :: step]:
            scheduler = REGISTRY[name]
            features = suited(features_of(seed), scheduler)
            if able(features, scheduler):
                found = violations(log_of(features, scheduler), case_of(features, scheduler))
                assert not found, (seed, name, found[:3])
                played += 1
    assert played > 20


class NamesAnything:
    """A planner that names places without sense, keeps what runs where they are refused.

    What it names is often nearly right: a gang on few nodes, of a size that the job may have.
    """

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.simulation: Simulation | None = None
        self.tried: Counter[bool] = Counter()

    def allocate(self, view: ClusterView, nodes: NodeView) -> Allocation:
        assert self.simulation is not None
        placement = nodes.held.copy()
        if placement.any() and self.rng.random() < 0.6:
            return Allocation(gpus=placement.sum(axis=1), placement=placement)
        for _ in range(6):
            placement = self.places(view, nodes)
            right = feasible(placement, view, nodes, self.simulation)
            self.tried[right] += 1
            if right:
                break
            with pytest.raises(Infeasible):
                self.simulation.place(placement)
        else:
            placement = nodes.held.copy()
        return Allocation(gpus=placement.sum(axis=1), placement=placement)

    def places(self, view: ClusterView, nodes: NodeView) -> np.ndarray:
        rng, placement = self.rng, nodes.held.copy()
        free = np.where(nodes.up, nodes.capacity[:, 0], 0.0) - placement.T @ view.demand[:, 0]
        for row in rng.permutation(view.job.size)[: rng.integers(1, 4)].tolist():
            free += placement[row] * view.demand[row, 0]
            placement[row] = 0
            sizes = view.sizes[view.profile[row], : view.num_levels[view.profile[row]] + 1]
            left = int(rng.choice(sizes)) + int(rng.random() < 0.03)
            for node in rng.permutation(len(free)).tolist():
                share = view.demand[row, 0]
                take = min(left, max(int(free[node] / share + 1e-9), int(rng.random() < 0.03)))
                placement[row, node] = take
                free[node] -= take * share
                left -= take
        return placement


def feasible(
    placement: np.ndarray, view: ClusterView, nodes: NodeView, simulation: Simulation
) -> bool:
    """The bounds once more, bound by bound and number by number."""
    kinds = nodes.gpu_type
    held = Counter[int]()
    for row in range(view.job.size):
        mine = placement[row]
        on = [n for n in range(len(mine)) if mine[n]]
        profile = view.profile[row]
        sizes = view.sizes[profile, : view.limit_level[row] + 1].tolist()
        stays = (mine == nodes.held[row]).all()
        if int(mine.sum()) not in sizes or len({int(kinds[n]) for n in on}) > 1:
            return False
        if any(not nodes.allowed[row, kinds[n]] for n in on):
            return False
        if not stays and any(not nodes.up[n] for n in on):
            return False
        held[int(view.tenant[row])] += round(1000 * mine.sum() * view.demand[row, 0])
    quotas = view.tenant_quota.tolist()
    if any(held[t] > 1000 * quota + 1e-3 for t, quota in enumerate(quotas)):
        return False
    for n in range(len(nodes.capacity)):
        used = sum(placement[row, n] * view.demand[row] for row in range(view.job.size))
        if (used > nodes.capacity[n] + 1e-6).any():
            return False
    return devices_hold(placement, view, simulation)


def devices_hold(placement: np.ndarray, view: ClusterView, simulation: Simulation) -> bool:
    """Whether those who move find their devices, larger shares first, each the tightest."""
    world, held = simulation.world, simulation.nodes().held
    if world.device_free.shape[2] == 0:
        return True
    milli = np.rint(1000 * view.demand[:, 0]).astype(int)
    moves = (placement != held).any(axis=1)
    for n in range(placement.shape[1]):
        devices = [1000] * int(world.capacity[n, 0])
        for row in np.flatnonzero(~moves & (placement[:, n] > 0)).tolist():
            entry = int(world.slot_k[0, 6, row])
            while world.pool[0, 0, entry] != n:
                entry = int(world.pool[0, 2, entry])
            for g in range(len(devices)):
                devices[g] -= int(milli[row]) * (int(world.pool[0, 3, entry]) >> g & 1)
        for row in sorted(np.flatnonzero(moves).tolist(), key=lambda row: (-milli[row], row)):
            for _ in range(int(placement[row, n])):
                room = [g for g in range(len(devices)) if devices[g] >= milli[row]]
                if not room:
                    return False
                devices[min(room, key=lambda g: (devices[g], g))] -= int(milli[row])
    return True


@pytest.mark.parametrize("first", range(0, 40, 10))
def test_named_places_are_carried_out_or_refused(first: int) -> None:
    """Refused are exactly those that break a bound; the log of what was carried out breaks none."""
    tried: Counter[bool] = Counter()
    for seed in range(first, first + 10):
        features = random_features(np.random.default_rng([seed, 11]), max_jobs=12)
        for name in ("repack", "overhead"):
            features = without(features, name)
        planner = NamesAnything(seed)
        planner.simulation = Simulation(world_of(features, log_rows=4096))
        simulation = planner.simulation
        while simulation.advance():
            view, nodes = simulation.view(), simulation.nodes()
            simulation.apply(planner.allocate(view, nodes))
            placed = simulation.nodes().held
            assert simulation.num_active == len(placed)
        simulation.drain_log()
        log = np.concatenate(simulation.events)
        found = violations(log, case_of(features, NAMED))
        assert not found, (seed, found[:3])
        tried += planner.tried
    assert min(tried.values()) > 30, tried


# -- the judge


def rows_of(log: np.ndarray, kind: str) -> np.ndarray:
    return np.flatnonzero(log[:, 1] == KINDS.index(kind))


def drop(log: np.ndarray, kind: str) -> np.ndarray:
    return np.delete(log, rows_of(log, kind)[0], axis=0)


def add(log: np.ndarray, kind: str, column: int, more: float) -> np.ndarray:
    log = log.copy()
    log[rows_of(log, kind)[0], column] += more
    return log


def down_under(log: np.ndarray) -> np.ndarray:
    """A node goes down just before a job is placed on it."""
    at = rows_of(log, "start")[-1]
    node = log[at + 1, 4]
    return np.insert(log, at, [log[at, 0], KINDS.index("node_down"), -1, 1, node, 0], axis=0)


def crowd(log: np.ndarray) -> np.ndarray:
    """A job holds 64 GPUs more of a node than there are."""
    return add(log, "place", 3, 64.0)


def end_early(log: np.ndarray) -> np.ndarray:
    """The last job ends in half of the time that was left."""
    log = log.copy()
    log[-1, 0] = 0.5 * (log[-1, 0] + log[-2, 0])
    return log


def end_again(log: np.ndarray) -> np.ndarray:
    return np.concatenate([log, log[-1:]])


TAMPERED: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "an end is missing": (lambda log: drop(log, "finish"), "never ends"),
    "it ends twice": (end_again, "after its finish"),
    "it ends early": (end_early, "finishes with"),
    "nobody arrives": (lambda log: drop(log, "arrive"), "before it arrives"),
    "a place is missing": (lambda log: drop(log, "place"), "less than it is said"),
    "a node is full": (crowd, "GPUs are held"),
    "a node is down": (down_under, "which is down"),
    "a start costs more": (lambda log: add(log, "start", 5, 3.0), "in place of"),
    "no size of it": (lambda log: add(log, "start", 3, 40.0), "no size of it"),
    "time goes back": (lambda log: log[::-1], "order of time"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_the_judge_finds_what_was_tampered_with(name: str) -> None:
    change, words = TAMPERED[name]
    features = features_of(3)
    for feature in FEATURES:
        features = without(features, feature)
    scheduler = REGISTRY["fcfs"]
    log, case = log_of(features, scheduler), case_of(features, scheduler)
    assert violations(log, case) == []
    found = violations(change(log), case)
    assert any(words in text for text in found), found[:5]


def test_everything_that_is_judged_happens() -> None:
    seen: Counter[str] = Counter()
    for seed in range(36):
        features = features_of(seed)
        name = ("srtf", "equi", "elastic_index")[seed % 3]
        if able(features, REGISTRY[name]):
            seen.update(columns_of(log_of(features, REGISTRY[name])))
    assert min(seen[kind] for kind in KINDS) >= 3, seen
