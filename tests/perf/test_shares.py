"""Shares of one GPU by compute and by memory."""

import numpy as np
import pytest

from marl_sched.errors import UserError
from marl_sched.perf.catalogue import Catalogue
from marl_sched.perf.shares import model_share_milli, share_milli


@pytest.mark.parametrize(
    ("busy_s", "step_s", "memory_gb", "gpu_memory_gb", "share"),
    [
        (0.3, 1.0, 1.6, 16.0, 300),  # compute binds
        (0.1, 1.0, 8.0, 16.0, 500),  # memory binds
        (0.31, 1.0, 0.0, 16.0, 350),  # up to the next 50
        (0.0, 1.0, 0.0, 16.0, 50),  # never nothing
        (1.0, 1.0, 16.0, 16.0, 1000),
        (0.15, 1.0, 0.0, 16.0, 150),  # 0.15 * 20 is a hair above 3
    ],
)
def test_by_hand(busy_s, step_s, memory_gb, gpu_memory_gb, share):
    assert share_milli(busy_s, step_s, memory_gb, gpu_memory_gb).tolist() == share


def test_a_job_larger_than_the_gpu():
    with pytest.raises(UserError, match="1.5 times its memory; take a smaller batch"):
        share_milli([0.1, 0.1], 1.0, [1.0, 24.0], 16.0)


def test_shares_of_the_catalogue_grow_with_the_data():
    catalogue = Catalogue.load()
    for model in catalogue.models:
        for gpu_type in catalogue.gpu_types:
            most = catalogue.speed(model, gpu_type).max_local_batch
            share = model_share_milli(catalogue, model, gpu_type, most * np.linspace(0.05, 1, 12))
            assert (np.diff(share) >= 0).all()
            assert share[-1] == 1000
            assert (share % 50 == 0).all() and share.min() >= 50


def test_a_share_from_the_catalogues_constants():
    catalogue = Catalogue.load()
    speed = catalogue.speed("ncf", "T4").throughput
    busy = speed.b_c * 3277
    utilisation = busy / (speed.a_c + busy)
    # A tenth of the memory; the compute asks for more.
    assert utilisation > 0.1
    share = int(model_share_milli(catalogue, "ncf", "T4", 3277))
    assert 1000 * utilisation <= share < 1000 * utilisation + 50
