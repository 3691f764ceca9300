"""Settings of the simulated cluster."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from marl_sched.config.section import Hours, NonNegative, Positive, Section, between
from marl_sched.quantities import LONGEST_S, MOST_COUNT

Placement = Literal[
    "consolidate",
    "first_fit",
    "best_fit",
    "spread",
    "random",
    "dot_prod",
    "gpu_packing",
    "gpu_clustering",
    "fgd",
]


class SimConfig(Section):
    """Rules of the simulated cluster."""

    round_s: Annotated[Positive, between(1e-3, 1e18, "s")] = 600.0
    """A decision epoch comes at the latest this long after the last one."""
    restart_scale: Annotated[NonNegative, between(0.0, 1e6)] = 1.0
    """Multiplies every model's restart cost."""
    charge_first_start: bool = False
    """Charge the restart cost at a job's first start too. Off by default: a recorded run
    time already contains the job's own start."""
    placement: Placement = "consolidate"
    """Which nodes a gang gets: the tightest one, else the fewest (`consolidate`); the first with
    room (`first_fit`); the one with least or most left over (`best_fit`, `spread`); any
    (`random`); or the best by a score of the FGD study (`dot_prod`, `gpu_packing`,
    `gpu_clustering`, `fgd`), see `sim/scoring.py`."""
    decide_on: Literal["events", "rounds"] = "events"
    """`rounds`: schedulers decide only at multiples of `round_s`."""
    repack: bool = False
    """At every epoch place all jobs anew in the scheduler's order, passing over those that find
    no room; for schedulers that are an order."""
    sharing: Literal["interference", "time_slice"] = "interference"
    """How jobs with a share of the same GPU slow each other down: as measured for their models,
    or each by the number of them."""
    network_contention: bool = False
    """Gangs that span nodes share their nodes' network."""
    node_mtbf_h: Hours | None = None
    """Mean time between failures of a node, hours; None: nodes do not fail."""
    node_mttr_h: Hours = 1.0
    """Mean time to repair of a node, hours."""
    job_mtbf_h: Hours | None = None
    """Mean held time between failures of a job that names no rate of its own, hours."""
    checkpoint_interval_s: Annotated[NonNegative, between(0.0, LONGEST_S, "s")] = 1800.0
    """Working time between checkpoints of a job that names none; a failure loses what came
    after the last one. 0: nothing is ever lost."""
    max_retries: Annotated[int, Field(ge=0, le=MOST_COUNT)] | None = None
    """A job that fails more often ends as failed; None: as often as its trace allows."""
    node_events: str | None = None
    """CSV file of times at which nodes go down, come up or are reclaimed: columns time_s (from the
    first arrival), node, event (down, up, reclaim) and optionally notice_s."""
    tenant_quota: dict[str, NonNegative] = {}
    """Most GPUs that a tenant may hold; others have no limit."""
    cross_rack_rate: Annotated[float, Field(gt=0.0, le=1.0), between(1e-6, 1.0)] = 1.0
    """Speed of a gang that spans racks, relative to one that spans nodes of a rack."""
    overhead_each_epoch: bool = False
    """At every epoch each running job is charged its restart cost anew, though its predicted end
    ignores it; as Muri's simulator does."""
    whole_second_phases: bool = False
    """The time to the end of a phase is rounded to whole seconds; as Pollux' simulator does."""
