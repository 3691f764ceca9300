"""Public traces of other groups: Philly, ITP, Muri, Chronus.

Sources: Jeon et al., Analysis of Large-Scale Multi-Tenant GPU Clusters (Philly), USENIX ATC 2019;
Gu et al., ElasticFlow (ITP), ASPLOS 2023; Zhao et al., Muri, SIGCOMM 2022; Gao et al., Chronus,
SoCC 2021.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from marl_sched.quantities import LONGEST_S
from marl_sched.workload.formats.common import known_models, plain_trace, tenants
from marl_sched.workload.formats.raw import RawTrace
from marl_sched.workload.table import Table

PHILLY = ("timestamp", "duration", "num_gpus")
ITP = ("job_id", "submission_time", "duration", "num_gpu")
MURI = ("job_id", "num_gpu", "submit_time", "iterations", "iteration_time", "model_name")
CHRONUS = ("job_id", "user", "num_gpu", "submit_time", "duration", "expect_time_list")

MURI_MODELS = {name: name for name in ("bert", "gpt2", "resnet18", "vgg16")}
CHRONUS_MODELS = {"vgg16": "vgg16", "inception_v3": "inception3"}
"""Models of the traces that our catalogue has; the others are drawn."""

MINUTE_S = 60.0


def philly(table: Table) -> RawTrace:
    """Wall-clock times; `cluster`, the virtual cluster, is the tenant."""
    arrival = "timestamp", table.clock_s("timestamp")
    raw = plain_trace(table, arrival, ("duration", table.positive("duration", "s")), "num_gpus")
    return tenants(raw, table, "cluster")


def itp(table: Table) -> RawTrace:
    """Seconds."""
    arrival = "submission_time", table.times("submission_time")
    return plain_trace(table, arrival, ("duration", table.positive("duration", "s")), "num_gpu")


def muri(table: Table) -> RawTrace:
    """Milliseconds; the run time is iterations x iteration_time."""
    arrival = "submit_time", table.times("submit_time", "ms") / 1e3
    duration_s = table.positive("iterations") * table.positive("iteration_time", "ms") / 1e3
    raw = plain_trace(table, arrival, ("iterations", duration_s), "num_gpu")
    return replace(raw, model=known_models(table.texts("model_name"), MURI_MODELS))


def chronus(table: Table) -> RawTrace:
    """Minutes (two weeks of arrivals end at 20,160); `user`, the virtual cluster, is the tenant.

    `expect_time_list` holds times after the arrival, joined by "-", at which what the job is worth
    falls: the first is the deadline. Best-effort jobs have none. Jobs that ask for no GPU are left
    out and counted.
    """
    table.keep(table.values("num_gpu") != 0, "asks for no GPU")
    arrival_s = table.times("submit_time", "min") * MINUTE_S
    duration_s = table.positive("duration", "min") * MINUTE_S
    raw = plain_trace(table, ("submit_time", arrival_s), ("duration", duration_s), "num_gpu")
    deadline_s = arrival_s + _first_times(table) * MINUTE_S
    raw = tenants(raw, table, "user")
    if "model_name" in table.columns:
        raw = replace(raw, model=known_models(table.texts("model_name"), CHRONUS_MODELS))
    return replace(raw, deadline_s=deadline_s)


def _first_times(table: Table) -> np.ndarray:
    """(R,) float64, the first of each list; +inf for best-effort jobs and empty cells."""
    cells = table.texts("expect_time_list")
    values = np.full(len(table), np.inf)
    bad = np.zeros(len(table), bool)
    for index, cell in enumerate(cells.tolist()):
        if cell:
            try:
                values[index] = float(cell.split("-")[0])
            except ValueError:
                bad[index] = True
    bad |= ~((values > 0) & (values <= LONGEST_S / MINUTE_S) | (cells == ""))
    table.refuse(bad, "expect_time_list", "not a list of times after the arrival, like 102-142")
    if "best_effort" in table.columns:
        values[table.truth("best_effort") == 1] = np.inf
    return values
