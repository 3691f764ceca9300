"""Suites: pages of data that say on which clusters and conditions schedulers are judged.

Clusters that were tuned and trained on and those that are held out share no job. ITP clusters 02,
03, 05 and 06 and every second Philly virtual cluster by name, from the first, are for training,
the others held out (virtual clusters of at least 250 jobs). Sizes hold the largest job of each.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from marl_sched.errors import UserError

TUNED = ":tuned"
"""Behind the name of a scheduler: with the parameters that we found."""

TUNED_INDEX = f"elastic_index{TUNED}"

INDICES = (TUNED_INDEX, "elastic_index:trust=1")
"""What a learned scheduler is always compared with, the better of the two: the elastic index with
tuned parameters, and with its own where estimates are corrected by what a job has done. Which of
them is shorter depends on the cluster."""

BASELINES = (
    *INDICES,
    "hesrpt:tuned",
    "equi",
    "afs",
    "optimus",
    "elastic_srtf:tuned",
    "elastic_srsf:tuned",
    "elastic_las:tuned",
    "elastic_tiresias:tuned",
    "elastic_gittins:tuned",
    "elastic_fcfs:tuned",
    "fcfs_backfill",
    "srtf",
    "srsf",
    "tiresias:tuned",
)
"""Shown in a suite where no others are named: elastic ones as tuned, then rigid ones."""


@dataclass(frozen=True)
class Cell:
    """One workload on one cluster under one set of rules."""

    name: str
    cluster: str
    trace: str | None = None
    """File in the data folder; None: the built-in workload."""
    tenants: tuple[str, ...] = ()
    part: str = "whole"
    load: float | None = 0.9
    jobs: int | None = None
    """Jobs in a sequence, which begins and ends with an empty cluster; None: enough to fill it,
    at least 256. More where the trace is long, fewer where a short one would give too few
    sequences that share no jobs."""
    changes: dict[str, Any] = field(default_factory=dict)
    """Further settings, nested as in a configuration file."""

    def settings(self, data: Path | None) -> dict[str, Any]:
        """Nested settings of the cell.

        Args:
            data: folder of the traces; may be None where the cell needs none.

        Raises:
            UserError: where its trace is not there.
        """
        work: dict[str, Any] = {"load": self.load, "tenants": list(self.tenants)}
        if self.trace is not None:
            # Jobs that fit no cluster of this size are left out, and counted.
            work |= {"trace": str(_trace(data, self.trace)), "skip_bad_rows": True}
        nested: dict[str, Any] = {"cluster": self.cluster, "workload": work}
        nested["evaluation"] = {"jobs_per_episode": self.jobs}
        for section, changed in self.changes.items():
            nested[section] = {**nested.get(section, {}), **changed}
        return nested


@dataclass(frozen=True)
class Suite:
    """Cells, and how many sequences each is judged on."""

    what: str
    cells: tuple[Cell, ...]
    episodes: int = 100
    """At most; a short trace has fewer."""
    bound_episodes: int = 8

    def settings(self, cell: Cell, data: Path | None) -> dict[str, Any]:
        """Nested settings of one of the cells, see `Cell.settings`."""
        nested = cell.settings(data)
        counts = {"episodes": self.episodes, "bound_episodes": self.bound_episodes}
        nested["evaluation"] |= counts
        return nested


def _trace(data: Path | None, name: str) -> Path:
    if data is None:
        raise UserError(
            "this suite plays public traces: say with --data where they are (`marl-sched trace "
            f"fetch` gets them), a folder with {name} in it; --suite quick needs none"
        )
    path = data.absolute() / name
    if not path.is_file():
        raise UserError(f"--data {data}: no file {name} in it (`marl-sched trace fetch` gets it)")
    return path


PHILLY = "philly/philly.csv"


def _itp(number: str, cluster: str, **more: Any) -> Cell:
    return Cell(f"itp{number}", cluster, f"itp/cluster{number}.csv", **more)


def _philly(tenant: str, cluster: str, **more: Any) -> Cell:
    return Cell(f"philly-{tenant}", cluster, PHILLY, (tenant,), **more)


def _shifted(name: str, cluster: str = "16x8", load: float = 0.9, **changes: Any) -> Cell:
    return Cell(name, cluster, "itp/cluster04.csv", load=load, jobs=512, changes=changes)


_TUNED_ON = (
    ("itp02", "16x8", "itp/cluster02.csv", ()),
    ("itp03", "16x8", "itp/cluster03.csv", ()),
    ("itp05", "4x8", "itp/cluster05.csv", ()),
    ("itp06", "16x8", "itp/cluster06.csv", ()),
    ("philly-0e4a51", "4x8", PHILLY, ("0e4a51",)),
    ("philly-2869ce", "8x8", PHILLY, ("2869ce",)),
    ("philly-6c71a0", "8x8", PHILLY, ("6c71a0",)),
    ("philly-b436b2", "8x8", PHILLY, ("b436b2",)),
    ("philly-ed69ec", "4x8", PHILLY, ("ed69ec",)),
)

SUITES: dict[str, Suite] = {
    "quick": Suite(
        "the built-in workload on two small clusters",
        (
            Cell("built-in-8x4", "8x4", part="test"),
            Cell("built-in-4x8-busy", "4x8", part="test", load=1.2),
        ),
        episodes=16,
        bound_episodes=2,
    ),
    "training": Suite(
        "validation parts of the clusters that schedulers are tuned and trained on",
        tuple(
            Cell(f"{name}-load-{load}", cluster, trace, tenants, "validation", load)
            for name, cluster, trace, tenants in _TUNED_ON
            for load in (0.6, 0.9, 1.2)
        ),
        episodes=24,
        bound_episodes=0,
    ),
    "held-out": Suite(
        "whole clusters that nothing was tuned or trained on",
        (
            _itp("01", "8x8", jobs=128),
            _itp("04", "32x8", jobs=1024),
            _itp("10", "4x8", jobs=64),
            _philly("103959", "4x8", jobs=128),
            _philly("6214e9", "8x8", jobs=1024),
            _philly("7f04ca", "8x8", jobs=64),
            _philly("e13805", "8x8", jobs=64),
            _philly("ee9e8c", "16x8", jobs=128),
        ),
    ),
    "shift": Suite(
        "one held-out cluster (ITP 04) under other conditions, one changed at a time",
        (
            _shifted("as-is"),
            _shifted("load-0.5", load=0.5),
            _shifted("load-0.7", load=0.7),
            _shifted("load-1.2", load=1.2),
            _shifted("small-cluster", cluster="8x8"),
            _shifted("large-cluster", cluster="64x8"),
            _shifted("free-restarts", sim={"restart_scale": 0.0}),
            _shifted("dear-restarts", sim={"restart_scale": 5.0}),
            _shifted("exact-sizes", workload={"estimate_noise": 0.0}),
            _shifted("poor-sizes", workload={"estimate_noise": 2.0}),
            _shifted("even-arrivals", workload={"burstiness": 0.5}),
            _shifted("bursty-arrivals", workload={"burstiness": 1.5}),
            _shifted("half-rigid", workload={"elastic_fraction": 0.5}),
        ),
        bound_episodes=4,
    ),
}


def get_suite(name: str) -> Suite:
    """The suite called `name`.

    Raises:
        UserError: for an unknown one, naming those there are.
    """
    if name not in SUITES:
        known = "; ".join(f"{key}: {suite.what}" for key, suite in SUITES.items())
        raise UserError(f"--suite {name!r}: unknown; choose one of {known}")
    return SUITES[name]
