"""What a simulation does beyond plain arrivals and finishes; the defaults change nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

EPSILON = 1e-6  # slack when free resources are divided by a demand
INF = math.inf
HOUR = 3600.0  # s
WHOLE = 1000  # thousandths of one GPU

FINISHED, FAILED, CANCELLED = 1, 2, 3
"""How a job ends."""


@dataclass(frozen=True)
class NodeEvent:
    """One row of the given node events."""

    time: float  # s
    node: int
    kind: str  # down | up | reclaim
    notice: float = 0.0  # s, of a reclaim


@dataclass(frozen=True)
class Rules:
    """Settings of the whole simulation.

    What is a matter of single jobs or nodes stands with them instead, as optional attributes:

    * workload: `tenant` (J,), `cancel_at_s` (J,), `failures_per_h` (J,) of held time,
      `max_retries` (J,), `checkpoint_interval_s` (J,), `parents` (J lists of jobs),
      `allowed_types` (J, T) bool, `loader_cpus` (J,) CPUs per GPU, `gpu_milli` (J,);
    * profiles: `request_level` (P,), for `repack` and `fgd` alone; `rates` may be (P, T, L, 3);
    * cluster: `rack` (N,).
    """

    seed: int = 0
    first_job: int = 0
    """Number of the workload's first job in its trace, which draws are made by."""
    decide_on_rounds: bool = False
    repack: bool = False
    placement: str = "consolidate"  # as `SimConfig.placement`
    overhead_each_epoch: bool = False
    sharing: str = "none"  # none | interference | time_slice
    interference: Sequence[Sequence[float]] = ()
    """(P, P): factor on the rate of a row's profile beside one job of the column's profile."""
    network_contention: bool = False
    tenant_quota: Sequence[float] = ()  # (T,) GPUs, infinite without
    node_mtbf_h: float = INF
    node_mttr_h: float = 0.0
    node_events: Sequence[NodeEvent] = ()
