"""Power of GPUs: what is in the table, and where a schedule's energy comes from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from marl_sched.evaluation.simulate import simulate
from marl_sched.perf.catalogue import Catalogue
from marl_sched.perf.power import gpu_watts, node_watts, type_watts
from marl_sched.schedulers import get_scheduler
from marl_sched.types import ANY_GPU, Cluster
from tests.sim.worlds import make_workload


@pytest.mark.parametrize("kind", [ANY_GPU, *Catalogue.load().gpu_types])
def test_every_type_of_the_catalogue_has_a_power(kind: str) -> None:
    idle, busy = gpu_watts(kind)
    assert 0.0 < idle < busy < 1000.0
    assert gpu_watts(kind.lower()) == (idle, busy)


def test_a_busy_gpu_draws_what_was_measured(shared_data: Path) -> None:
    """The highest average over a request, as a share of the limit; zeros were not measured."""
    import pandas as pd

    table = pd.read_csv(shared_data / "splitwise-perf" / "perf_model.csv")
    assert gpu_watts("A100")[1] / 400 == pytest.approx(table.average_power.max(), abs=0.005)


def test_by_type_and_node() -> None:
    cluster = Cluster.parse("1x2:T4+1x4:A100+1x2:T4")
    np.testing.assert_array_equal(type_watts(cluster), [gpu_watts("T4"), gpu_watts("A100")])
    np.testing.assert_allclose(node_watts(cluster)[:, 1], [55.3, 316.0, 55.3])


def test_the_energy_of_two_jobs_by_hand() -> None:
    # 2 GPUs for 100 s, nobody for 100 s, 1 GPU for 50 s, on 4 GPUs that stay up for 250 s.
    jobs = make_workload([0.0, 200.0], [100.0, 50.0], num_gpus=[2, 1])
    found = simulate(jobs, Cluster.parse("1x4"), get_scheduler("fcfs"), estimate_noise=0.0)
    idle, busy = gpu_watts(ANY_GPU)
    expected = (idle * 4 * 250 + (busy - idle) * (2 * 100 + 50)) / 3.6e6
    assert found.energy_kwh == pytest.approx(expected)
    assert found.summary()["energy_kwh"] == found.energy_kwh
