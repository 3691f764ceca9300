"""The terms of the reward: one row each. Adding a term is a row here and its booking in `sim`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Term:
    """Something that a schedule costs, and the metric by which people see it."""

    name: str
    """In `env.reward` and `env.train_weights`."""
    costs: str
    """What is added up, with its unit."""
    metric: str
    """Raw metric of an episode that stands for it in tables and sweeps."""
    heading: str
    """Of that metric in tables."""
    label: str
    """Of that metric in pictures, with its unit."""
    scale: float = 1.0
    """Multiplies the metric in pictures: 1 / 3600 shows seconds as hours."""
    higher_is_better: bool = False
    """Of the metric; costs are always better when lower."""
    floor: float = 1e-9
    """Least cost of the base schedule that costs are divided by."""
    floor_per_gpu: float = 0.0
    """The same, for each GPU of the cluster."""
    default: float = 0.0
    """Weight where nobody says another."""
    short: str = ""
    """Another name, where weights are written by hand."""


TERMS = (
    Term(
        "completion_time",
        costs="integral of the number of active jobs, s: the sum of completion times",
        metric="avg_jct_s",
        heading="mean JCT",
        label="mean completion time, hours",
        scale=1 / 3600,
        default=1.0,
        short="jct",
    ),
    Term(
        "slowdown",
        costs="integral of 1 / max(duration, 60 s) over active jobs",
        metric="avg_slowdown",
        heading="slowdown",
        label="mean slowdown",
    ),
    Term(
        "fairness",
        costs="sum of max(rho - 1, 0) over finished jobs, rho their finish-time fairness",
        metric="unfair_fraction",
        heading="unfair",
        label="jobs with finish-time fairness rho > 1, %",
        scale=100,
        # The base may cost nothing: then one event weighs as one job of the episode.
        floor=1.0,
    ),
    Term(
        "utilisation",
        costs="integral of GPUs that are not usefully busy while jobs are active, GPU-seconds",
        metric="gpu_useful_fraction",
        heading="useful",
        label="useful share of GPU time, %",
        scale=100,
        higher_is_better=True,
    ),
    Term(
        "deadline",
        costs="number of deadlines missed",
        metric="deadline_missed_fraction",
        heading="missed",
        label="jobs that miss their deadline, %",
        scale=100,
        floor=1.0,
    ),
    Term(
        "preemption",
        costs="GPU-seconds held without progress because of restarts",
        metric="overhead_gpu_s",
        heading="restart cost",
        label="restart cost, GPU hours",
        scale=1 / 3600,
        # One second of every GPU.
        floor_per_gpu=1.0,
    ),
    Term(
        "energy",
        costs="electrical energy of all GPUs that are up, kWh",
        metric="energy_kwh",
        heading="energy",
        label="energy of the GPUs, kWh",
    ),
)
"""In the order of the cost columns."""

NAMES = tuple(term.name for term in TERMS)

COLUMN = {term.name: column for column, term in enumerate(TERMS)}
"""Name -> column of `World.cost`."""

SHORT = {term.short: term.name for term in TERMS if term.short}
"""Short name -> name."""
