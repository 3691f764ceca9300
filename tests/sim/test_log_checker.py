"""Every scheduler's event logs under an independent judge, on random worlds with every feature."""

from __future__ import annotations

import numpy as np
import pytest

from marl_sched.evaluation.simulate import run
from marl_sched.schedulers import REGISTRY, Scheduler
from marl_sched.sim.simulation import Simulation
from tests.sim.compiled import (
    cluster_of,
    config_of,
    node_events_of,
    profiles_of,
    workload_of,
    world_of,
)
from tests.sim.features import Features, random_features
from tests.sim.log_checker import Case, violations


def case_of(features: Features, scheduler: Scheduler) -> Case:
    return Case(
        workload_of(features),
        profiles_of(features),
        cluster_of(features),
        config_of(features),
        node_events_of(features),
        scheduler.preemptive or features.rules.repack,
        scheduler.elastic,
    )


def able(features: Features, scheduler: Scheduler) -> bool:
    """Whether `simulate` takes the scheduler under these rules."""
    if features.rules.repack and not scheduler.is_order:
        return False
    shares = (np.asarray(features.columns.get("gpu_milli", 1000)) < 1000).any()
    return scheduler.compiled or not shares


def log_of(features: Features, scheduler: Scheduler) -> np.ndarray:
    simulation = Simulation(world_of(features, log_rows=4096))
    results = run(simulation, scheduler, workload_of(features), features.setup.cluster.num_gpus)
    assert results.events is not None
    return results.events
