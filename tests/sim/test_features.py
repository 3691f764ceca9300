"""The random setups exercise every feature, and the reference keeps its books on all of them."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from tests.reference import CANCELLED, FAILED, FINISHED, ReferenceResult
from tests.sim.features import (
    FEATURES,
    Features,
    erratic,
    play,
    random_features,
    with_rules,
    without,
)

SEEDS = range(40)


def played(seed: int) -> tuple[Features, ReferenceResult]:
    features = random_features(np.random.default_rng(seed))
    return features, play(features, erratic(seed, features.rules.repack))


@pytest.mark.parametrize("name", FEATURES)
def test_every_feature_makes_a_difference(name: str) -> None:
    """Guards all comparisons on these setups: a feature that changes nothing is not tested."""
    differ = 0
    for seed in SEEDS:
        rng = np.random.default_rng([seed, 1])
        features = FEATURES[name](random_features(rng), rng)
        less = without(features, name)
        ends_s, ends_without_s = (
            np.array([job.finish for job in play(each, erratic(seed, each.rules.repack)).jobs])
            for each in (features, less)
        )
        differ += not np.allclose(ends_s, ends_without_s, rtol=1e-6)
    assert differ >= 6


def test_everything_happens() -> None:
    seen: Counter[str] = Counter()
    statuses: Counter[int] = Counter()
    lost = overhead = retried = 0
    for seed in SEEDS:
        features, result = played(seed)
        seen.update(kind for _, kind, _ in result.events)
        seen.update(kind for _, kind, _ in result.node_events)
        statuses.update(account.status for account in result.accounts)
        lost += sum(account.lost_gpu_s > 0 for account in result.accounts)
        overhead += sum(account.overhead_gpu_s > 0 for account in result.accounts)
        retried += sum(a.retries > 0 and a.status == FINISHED for a in result.accounts)
        jobs = zip(result.jobs, result.accounts, strict=True)
        seen["never ran"] += sum(math.isnan(job.first_start) for job, _ in jobs)
    kinds = ("start", "grow", "shrink", "move", "preempt", "evict", "fail", "failed", "cancelled",
             "down", "up", "closed", "gone", "never ran")  # fmt: skip
    assert min(seen[kind] for kind in kinds) >= 5, seen
    assert min(statuses[status] for status in (FINISHED, FAILED, CANCELLED)) >= 5, statuses
    assert min(lost, overhead, retried) >= 5


@pytest.mark.parametrize("seed", SEEDS)
def test_the_reference_keeps_its_books(seed: int) -> None:
    features, result = played(seed)
    assert {account.status for account in result.accounts} <= {FINISHED, FAILED, CANCELLED}
    attained = math.fsum(job.attained_gpu_s for job in result.jobs)
    assert result.capacity_gpu_s == pytest.approx(result.idle_gpu_s + attained, rel=1e-9)
    assert result.idle_gpu_s >= -1e-9 * result.capacity_gpu_s
    most = np.broadcast_to(features.columns.get("max_retries", 0), features.jobs)
    for job, account, allowed in zip(result.jobs, result.accounts, most, strict=True):
        parts = account.productive_gpu_s + account.overhead_gpu_s + account.lost_gpu_s
        assert job.attained_gpu_s == pytest.approx(parts, rel=1e-9, abs=1e-9)
        assert min(account.overhead_gpu_s, account.lost_gpu_s) >= 0.0
        assert account.productive_gpu_s >= -1e-6
        assert account.retries <= allowed + (account.status == FAILED)


@pytest.mark.parametrize("seed", SEEDS)
def test_productive_time_is_the_work_over_its_rate(seed: int) -> None:
    """A finished job's GPU-seconds that counted did exactly its work, if it has only one rate."""
    features = random_features(np.random.default_rng([seed, 2]), max_jobs=12)
    one_size = np.minimum(features.sizes, features.sizes[:, 1:2])
    features = replace(
        without(without(features, "loaders"), "shares"),
        rates=np.where(features.rates > 0, 0.7, 0.0),
        sizes=one_size,
    )
    features = with_rules(features, network_contention=False, overhead_each_epoch=False)
    result = play(features, erratic(seed, features.rules.repack))
    milli = features.columns.get("gpu_milli", np.full(features.jobs, 1000))
    for j, account in enumerate(result.accounts):
        if account.status == FINISHED:
            gpus = one_size[features.setup.profiles.job_profile[j], 1] * milli[j] / 1000
            work_s = features.setup.workload.duration_s[j] / 0.7
            assert account.productive_gpu_s == pytest.approx(work_s * gpus, rel=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_resources_and_types_hold_at_every_epoch(seed: int) -> None:
    features, result = played(seed)
    cluster, demand = features.setup.cluster, features.setup.workload.demand
    types = cluster.node_type
    everywhere = np.ones((features.jobs, len(cluster.gpu_types)), bool)
    allowed = features.columns.get("allowed_types", everywhere)
    milli = features.columns.get("gpu_milli", np.full(features.jobs, 1000))
    for epoch in result.epochs:
        used = np.zeros_like(cluster.capacity)
        for job, nodes in epoch.placements.items():
            assert len({types[node] for node in nodes}) <= 1
            assert all(allowed[job][types[node]] for node in nodes)
            for node, gpus in nodes.items():
                used[node, 0] += gpus * milli[job] / 1000
                used[node, 1:] += gpus * demand[job][1:]
        assert (used <= cluster.capacity + 1e-6).all()
