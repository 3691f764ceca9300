"""One compiled entry for all compiled schedulers, so that kernels choose one by number."""

import numpy as np

from marl_sched.allocation.room import free_room
from marl_sched.jit import kernel, part
from marl_sched.records import record
from marl_sched.schedulers.afs import afs
from marl_sched.schedulers.conservative_backfill import conservative_backfill
from marl_sched.schedulers.drf import drf
from marl_sched.schedulers.edf import edf
from marl_sched.schedulers.elastic_index import elastic_index
from marl_sched.schedulers.elastic_order import NUM_INDEX_PARAMS, share_by_rank
from marl_sched.schedulers.equal import equal
from marl_sched.schedulers.equi import equi
from marl_sched.schedulers.fcfs import fcfs
from marl_sched.schedulers.fcfs_backfill import fcfs_backfill
from marl_sched.schedulers.filling import serve_all, serve_queue, serve_waiting
from marl_sched.schedulers.gittins import gittins
from marl_sched.schedulers.hesrpt import hesrpt
from marl_sched.schedulers.las import las
from marl_sched.schedulers.on_demand import on_demand
from marl_sched.schedulers.optimus import optimus
from marl_sched.schedulers.power_mean import pollux
from marl_sched.schedulers.priority import priority
from marl_sched.schedulers.qssf import qssf
from marl_sched.schedulers.random import random
from marl_sched.schedulers.rate_monotonic import rate_monotonic
from marl_sched.schedulers.round_robin import round_robin
from marl_sched.schedulers.scorer import scorer
from marl_sched.schedulers.sjf import sjf
from marl_sched.schedulers.srsf import srsf
from marl_sched.schedulers.srtf import srtf
from marl_sched.schedulers.themis import themis
from marl_sched.schedulers.tiresias import tiresias
from marl_sched.types import ClusterView, Floats1, Ints1

# By reference here too: a live cluster calls rules without a simulator.
record(ClusterView)

QUEUES = (fcfs, on_demand)
"""Whose order is that of arrival: waiting jobs are in it already."""

WAITING = (sjf, random, qssf)
"""Which order those who wait; who runs is left alone."""

PREEMPTIVE = (srtf, srsf, round_robin, las, priority, tiresias, gittins, edf, rate_monotonic)
"""Which order everybody."""

LEVELS = (
    fcfs_backfill, conservative_backfill, drf, equal, equi, elastic_index, hesrpt, afs, optimus,
    themis, pollux, scorer,
)  # fmt: skip
"""Which name a level for everybody."""

NUMBERED = QUEUES + WAITING + PREEMPTIVE + LEVELS
"""Position = number; the branches below are in this order, which a test holds them to."""

STRICT = (True, False, False, False, True)
"""Of the rules that leave alone who runs: whether the first that does not fit stops the others."""

NUM_QUEUES = len(QUEUES)
NUM_UNSORTED = NUM_QUEUES + len(WAITING)
NUM_KEYED = NUM_UNSORTED + len(PREEMPTIVE)

ELASTIC = len(NUMBERED)
"""Added to the number of a keyed rule: its order ranks the jobs of an elastic index."""


@kernel
def write_keys(number: int, v: ClusterView, params: np.ndarray, key: np.ndarray) -> None:
    """Write the place (A,) of every active job in the order of scheduler `number`."""
    if number == 0:
        fcfs(v, params, key)
    elif number == 1:
        on_demand(v, params, key)
    elif number == 2:
        sjf(v, params, key)
    elif number == 3:
        random(v, params, key)
    elif number == 4:
        qssf(v, params, key)
    elif number == 5:
        srtf(v, params, key)
    elif number == 6:
        srsf(v, params, key)
    elif number == 7:
        round_robin(v, params, key)
    elif number == 8:
        las(v, params, key)
    elif number == 9:
        priority(v, params, key)
    elif number == 10:
        tiresias(v, params, key)
    elif number == 11:
        gittins(v, params, key)
    elif number == 12:
        edf(v, params, key)
    else:
        rate_monotonic(v, params, key)


@part
def decide(number: int, v: ClusterView, params: Floats1, target: Ints1) -> None:
    """Write the target level of every active job by scheduler `number`.

    Args:
        number: position in `NUMBERED`, plus `ELASTIC` for the elastic form of a keyed rule.
        params: float64, the scheduler's parameters in the order of its registry entry.
        target: (A,) int64, comes in as the levels held, overwritten.
    """
    if number >= ELASTIC:
        key = np.empty(v.job.size)
        write_keys(number - ELASTIC, v, params[NUM_INDEX_PARAMS:], key)
        share_by_rank(v, key, params, target)
        return
    if number < NUM_QUEUES:
        serve_queue(v, STRICT[number], target, free_room(v))
        return
    if number < NUM_KEYED:
        key = np.empty(v.job.size)
        write_keys(number, v, params, key)
        if number < NUM_UNSORTED:
            serve_waiting(v, key, STRICT[number], target)
        else:
            serve_all(v, key, target)
        return
    which = number - NUM_KEYED
    if which == 0:
        fcfs_backfill(v, params, target)
    elif which == 1:
        conservative_backfill(v, params, target)
    elif which == 2:
        drf(v, params, target)
    elif which == 3:
        equal(v, params, target)
    elif which == 4:
        equi(v, params, target)
    elif which == 5:
        elastic_index(v, params, target)
    elif which == 6:
        hesrpt(v, params, target)
    elif which == 7:
        afs(v, params, target)
    elif which == 8:
        optimus(v, params, target)
    elif which == 9:
        themis(v, params, target)
    elif which == 10:
        pollux(v, params, target)
    else:
        scorer(v, params, target)
