"""Fixtures of the whole suite."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from marl_sched.types import Cluster
    from marl_sched.workload import Workload

# Before numpy, torch or ray read them; the workers of a local Ray inherit them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("MPLBACKEND", "Agg")
# A token for this run alone, so that Ray neither reads nor writes one in the home folder.
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))

# No deadline: the first example may compile a kernel.
settings.register_profile("marl_sched", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("marl_sched")

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public traces and measurements beside the project; skips without it."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the data folder ../shared/data is not there")
    return SHARED_DATA


@pytest.fixture(scope="session")
def ray_local() -> Iterator[None]:
    """A local Ray of 2 CPUs for the session; an outer one is neither joined nor stopped."""
    from marl_sched.training.session import local_ray

    with local_ray(2, runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}}):
        yield


@pytest.fixture(scope="session")
def small_cluster() -> Cluster:
    """4 nodes of 4 GPUs."""
    from marl_sched.types import Cluster

    return Cluster.parse("4x4")


@pytest.fixture(scope="session")
def small_workload(small_cluster: Cluster) -> Workload:
    """60 synthetic jobs at a load of 0.9 on `small_cluster`."""
    from marl_sched.config import SyntheticConfig, WorkloadConfig
    from marl_sched.workload import load_workload

    config = WorkloadConfig(synthetic=SyntheticConfig(num_jobs=60, load=0.9))
    return load_workload(config, small_cluster, seed=0)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--log-worlds",
        type=int,
        help="random worlds whose event logs are judged, under every scheduler (tests/sim)",
    )
