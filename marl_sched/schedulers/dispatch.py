"""How kernels call a scheduler: one number says which rule, and what becomes of its answer.

Rules are compiled on their own and called by address, from one table for those that order jobs
and one for those that name a level for each. Adding a rule takes no change here.
"""

from typing import Any

import numpy as np

from marl_sched.allocation.room import free_room, most_left
from marl_sched.compiled.jit import kernel, part
from marl_sched.compiled.linking import PartTable
from marl_sched.compiled.records import record
from marl_sched.schedulers.mechanisms.serving import FEW_WAIT, serve_all, serve_queue, serve_waiting
from marl_sched.schedulers.rules.elastic_order import NUM_INDEX_PARAMS, share_by_rank
from marl_sched.schedulers.rules.fcfs import fcfs
from marl_sched.schedulers.rules.fcfs_backfill import fcfs_backfill
from marl_sched.types import ANYBODY, ClusterView, Floats1, Ints1

# By reference here too: a live cluster calls rules without a simulator.
record(ClusterView)

LEVELS = 0
"""The rule names a level for each job."""
QUEUE, STRICT_QUEUE = 1, 2
"""Jobs that wait get their requests in order of arrival. One that does not fit is passed over, or
stops those behind it."""
WAITING, STRICT_WAITING = 3, 4
"""The same in the order of the rule's keys."""
EVERYBODY = 5
"""All jobs are served in the order of the keys: a running job may have to go."""
RANKED = 6
"""The keys rank the jobs of an elastic index, see `elastic_order`."""
STARTS = 7
"""The rule names a level for each job, and leaves those that run theirs until they end."""

_WAYS = 8

ORDERS = PartTable("marl_sched.schedulers.orders")
"""Rules (view, params, key): they write the place (A,) of every active job, smaller first."""

SIZES = PartTable("marl_sched.schedulers.sizes")
"""Rules (view, params, target): they write the level (A,) of every active job."""

_write_keys = ORDERS.caller(fcfs)
_write_levels = SIZES.caller(fcfs_backfill)


def number_of(rule: Any, serving: int) -> int:
    """The number of a rule (a `part`) whose answer is served in one of the ways above.

    Raises:
        TypeError: for a rule with other arguments than that way wants.
    """
    table = SIZES if serving in (LEVELS, STARTS) else ORDERS
    return _WAYS * table.add(rule) + serving


@kernel
def is_order(number: int) -> bool:
    """Whether a scheduler is an order of jobs that are served whole or not at all."""
    return QUEUE <= number % _WAYS <= EVERYBODY


@kernel
def leaves_running(number: int) -> bool:
    """Whether a scheduler orders the jobs that wait only, and need not know how far others are."""
    return QUEUE <= number % _WAYS <= STRICT_WAITING


@kernel
def write_keys(number: int, v: ClusterView, params: np.ndarray, key: np.ndarray) -> None:
    """Write the place (A,) of every active job in the order of scheduler `number`."""
    _write_keys(number // _WAYS, v, params, key)


@part
def decide(number: int, v: ClusterView, params: Floats1, target: Ints1) -> int:
    """Write the target level of every active job by scheduler `number`.

    Args:
        number: see `number_of`.
        params: float64, the scheduler's parameters in the order of its registry entry. The last
            entries of a scorer's are scratch: its tally, see `guard.tally_of`.
        target: (A,) int64, comes in as the levels held, overwritten.

    Returns:
        How many of the first jobs that wait may have been given a level, where nobody else has
        been given another than it came in with; `ANYBODY` where that is not known.
    """
    serving = number % _WAYS
    if serving == QUEUE or serving == STRICT_QUEUE:
        return serve_queue(v, serving == STRICT_QUEUE, target, free_room(v))
    starts_only = leaves_running(number) or serving == STARTS
    if starts_only and v.waiting.size > FEW_WAIT and most_left(free_room(v)) <= 0.0:
        return 0
    if serving == LEVELS or serving == STARTS:
        _write_levels(number // _WAYS, v, params, target)
        return ANYBODY
    key = np.empty(v.job.size)
    if serving == RANKED:
        write_keys(number, v, params[NUM_INDEX_PARAMS:], key)
        share_by_rank(v, key, params, target)
        return ANYBODY
    write_keys(number, v, params, key)
    if serving == EVERYBODY:
        return ANYBODY if serve_all(v, key, target) else 0
    serve_waiting(v, key, serving == STRICT_WAITING, target)
    return ANYBODY
