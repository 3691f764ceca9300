"""One compiled entry for all schedulers, so that kernels choose one by number."""

import numpy as np

from marl_sched.jit import kernel
from marl_sched.schedulers.drf import drf
from marl_sched.schedulers.elastic_index import elastic_index
from marl_sched.schedulers.equal import equal
from marl_sched.schedulers.equi import equi
from marl_sched.schedulers.fcfs import fcfs
from marl_sched.schedulers.fcfs_backfill import fcfs_backfill
from marl_sched.schedulers.las import las
from marl_sched.schedulers.on_demand import on_demand
from marl_sched.schedulers.priority import priority
from marl_sched.schedulers.random import random
from marl_sched.schedulers.round_robin import round_robin
from marl_sched.schedulers.sjf import sjf
from marl_sched.schedulers.srtf import srtf
from marl_sched.types import ClusterView

NUMBERED = (
    fcfs, fcfs_backfill, sjf, srtf, round_robin, las, drf, equal, on_demand, priority, random,
    equi, elastic_index,
)  # fmt: skip
"""Position = number; `decide` has one branch each, which a test holds to this order."""


@kernel
def decide(number: int, v: ClusterView, params: np.ndarray, target: np.ndarray) -> None:
    """Write the target level of every active job by scheduler `number`.

    Args:
        number: position in `NUMBERED`.
        params: float64, the scheduler's parameters in the order of its registry entry.
        target: (A,) int64, overwritten.
    """
    if number == 0:
        fcfs(v, params, target)
    elif number == 1:
        fcfs_backfill(v, params, target)
    elif number == 2:
        sjf(v, params, target)
    elif number == 3:
        srtf(v, params, target)
    elif number == 4:
        round_robin(v, params, target)
    elif number == 5:
        las(v, params, target)
    elif number == 6:
        drf(v, params, target)
    elif number == 7:
        equal(v, params, target)
    elif number == 8:
        on_demand(v, params, target)
    elif number == 9:
        priority(v, params, target)
    elif number == 10:
        random(v, params, target)
    elif number == 11:
        equi(v, params, target)
    else:
        elastic_index(v, params, target)
