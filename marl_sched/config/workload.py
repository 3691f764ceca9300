"""Settings of the workload: which jobs arrive, and what is known about them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from marl_sched.config.section import (
    Count,
    Fraction,
    NonNegative,
    Positive,
    Seconds,
    Section,
    between,
)
from marl_sched.quantities import MOST_JOBS

TraceFormat = Literal["philly", "itp", "muri", "chronus", "slurm", "csv"]


class SyntheticConfig(Section):
    """The seeded generator that stands in where no trace is given."""

    num_jobs: Annotated[Count, Field(le=MOST_JOBS)] = 6000
    load: Annotated[Positive, between(1e-4, 1e4)] = 0.9
    """Offered load: GPU-seconds asked per GPU-second that the cluster has."""
    median_duration_s: Seconds = 1800.0
    """Median isolated run time, as in the Philly trace (1,634 s)."""
    sigma: Annotated[NonNegative, between(0.0, 20.0)] = 1.6
    """Log-normal spread of run times; Philly's 5-95 % range fits about 1.7."""
    max_duration_s: Seconds = 5 * 86400.0
    daily_cycle: Fraction = 0.5
    """Relative swing of the arrival rate over a day; 0 is a plain Poisson process."""


class WorkloadConfig(Section):
    """Which jobs arrive, and what a scheduler may know about them."""

    trace: str | None = None
    """Path of a trace; none means the synthetic generator."""
    format: TraceFormat | None = None
    """None recognises the format by its header."""
    tenants: tuple[str, ...] = ()
    """Only the jobs of these tenants (Philly: virtual clusters); none named: all jobs."""
    load: Annotated[float, Field(ge=1e-4, le=1e4)] | None = None
    """Rescale arrivals to this offered load; None keeps the trace's own times."""
    burstiness: Annotated[Positive, between(1e-3, 1e3)] = 1.0
    """Exponent of the gaps between arrivals, whose sum is kept: above 1 jobs come in bursts,
    below 1 evenly."""
    estimate_noise: Annotated[float, Field(ge=0.0, le=20.0)] = 1.0
    """Sigma of the log-normal factor on the sizes that schedulers see."""
    elastic_fraction: Fraction = 1.0
    """Share of jobs that may run on other sizes than they ask for."""
    elastic_max_factor: Count = 4
    """An elastic job may grow to this multiple of its request."""
    split: tuple[Fraction, Fraction, Fraction] = (0.6, 0.2, 0.2)
    """Chronological shares of the trace for training, validation and test."""
    skip_bad_rows: bool = False
    """Count and report rows that cannot be used instead of refusing the file."""
    synthetic: SyntheticConfig = SyntheticConfig()

    @model_validator(mode="after")
    def _split_sums_to_one(self) -> WorkloadConfig:
        if abs(sum(self.split) - 1.0) > 1e-9:
            raise ValueError("split must sum to 1")
        return self
