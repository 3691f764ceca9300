"""Which rules a simulated cluster obeys: plain numbers that the kernels read."""

from __future__ import annotations

from typing import Any

from marl_sched.config import SimConfig
from marl_sched.sim import scoring

PLACEMENTS = ("consolidate", *scoring.RULES)
"""Position = number of the placement rule; those after `consolidate` as `scoring` counts them."""

CONSOLIDATE, FIRST_FIT = 0, 1
INTERFERENCE, TIME_SLICE = 0, 1
"""How co-runners share one GPU."""


def rules_of(
    sim: SimConfig, *, gpus_only: bool, shares: bool, num_racks: int, abrupt: bool, seed: int
) -> dict[str, Any]:
    """The rules of `sim` for a workload, as fields of a `World`.

    Args:
        gpus_only: whether every job asks for whole GPUs of any type and for nothing else.
        shares: whether some job asks for a share of a GPU.
        num_racks: of the cluster.
        abrupt: whether anything may stop a job without warning.
        seed: of failures.
    """
    consolidate = sim.placement == "consolidate"
    return dict(
        round_s=float(sim.round_s),
        charge_first_start=sim.charge_first_start,
        decide_on_rounds=sim.decide_on == "rounds",
        repack=sim.repack,
        overhead_each_epoch=sim.overhead_each_epoch,
        whole_second_phases=sim.whole_second_phases,
        placement=PLACEMENTS.index(sim.placement),
        gpus_only=gpus_only and consolidate,
        sharing=TIME_SLICE if sim.sharing == "time_slice" else INTERFERENCE,
        co_runners=shares or sim.network_contention,
        network_contention=sim.network_contention,
        num_racks=num_racks,
        node_mtbf_s=float("inf") if sim.node_mtbf_h is None else 3600.0 * sim.node_mtbf_h,
        node_mttr_s=3600.0 * sim.node_mttr_h,
        abrupt=abrupt,
        seed=seed,
    )
