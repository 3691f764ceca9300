"""How `marl-sched reproduce` shows results: JSON, or a table of one row an input and scheduler."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from marl_sched.cli import tables

_UNSTABLE = ("cpu_s", "seconds")
"""Times of this machine: two runs are to print the same."""

_JOBS = {
    "num_jobs": "jobs",
    "avg_jct_s": "mean JCT",
    "p50_jct_s": "median JCT",
    "p99_jct_s": "p99 JCT",
    "makespan_s": "makespan",
}


def jobs(found: list[dict[str, Any]], as_json: bool) -> None:
    """Results of experiments that run jobs to their end."""
    reports = [of_jobs(result) for result in found]
    if as_json:
        _print_json(reports)
        return
    table = _table(*_JOBS.values())
    for report in reports:
        _add(table, report, (tables.figure(key, report[key]) for key in _JOBS))
    tables.out.print(table)


def allocation(found: list[dict[str, Any]], as_json: bool) -> None:
    """Results of experiments that fill a cluster."""
    reports = [of_allocation(result) for result in found]
    if as_json:
        _print_json(reports)
        return
    loads = list(reports[0]["by_load"])
    table = _table("pods", "seeds", *(f"GPUs allocated at {load} %" for load in loads))
    for report in reports:
        cells = (
            f"{at['mean_percent']:.2f} ± {at['sd_percent']:.2f} %"
            for at in report["by_load"].values()
        )
        _add(table, report, (f"{report['num_pods']:,}", str(len(report["seeds"])), *cells))
    tables.out.print(table)


def optimum(found: list[dict[str, Any]], as_json: bool) -> None:
    """Results beside a closed form."""
    reports = [of_jobs(result) for result in found]
    if as_json:
        _print_json(reports)
        return
    table = _table("jobs", "GPUs", "closed form", "event by event", "whole GPUs")
    for report in reports:
        cells = (report["closed_form"], report["simulated"], report["whole_gpus"]["simulated"])
        counts = (f"{report['num_jobs']:,}", f"{report['num_gpus']:,}")
        _add(table, report, (*counts, *(f"{cell:.6g}" for cell in cells)))
    tables.out.print(table)


def of_jobs(result: Mapping[str, Any]) -> dict[str, Any]:
    """What `--json` prints of a run of jobs: the keys of `simulate --json` first."""
    jcts_s = result["jcts_s"]
    if not isinstance(jcts_s, Mapping):
        jcts_s = {str(j): value for j, value in enumerate(jcts_s)}
    values = np.array(list(jcts_s.values()), float)
    summary = {
        "num_jobs": len(values),
        "num_finished": len(values),
        "avg_jct_s": float(values.mean()),
        "p50_jct_s": float(np.percentile(values, 50)),
        "p99_jct_s": float(np.percentile(values, 99)),
    }
    # Without a makespan of its own an experiment has all jobs there at time 0.
    summary["makespan_s"] = float(values.max())
    report = {"scheduler": result["scheduler"], "input": result["input"], **summary}
    report |= {key: value for key, value in result.items() if key not in _UNSTABLE}
    return report | {"jcts_s": dict(jcts_s)}


def of_allocation(result: Mapping[str, Any]) -> dict[str, Any]:
    """What `--json` prints of a filled cluster: the mean at the highest load, then all."""
    by_load = {
        str(load): {
            "mean_percent": at["mean_percent"],
            "sd_percent": at["sd_percent"],
            "by_seed": dict(zip(map(str, result["seeds"]), at["percent"], strict=True)),
        }
        for load, at in result["gpu_allocated_percent"].items()
    }
    highest = max(result["gpu_allocated_percent"])
    report = {
        "scheduler": result["scheduler"],
        "input": result["input"],
        "gpu_allocated_percent": by_load[str(highest)]["mean_percent"],
        "by_load": by_load,
    }
    kept = {key: value for key, value in result.items() if key not in (*_UNSTABLE, *report)}
    return report | kept


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("input", overflow="fold")
    table.add_column("scheduler", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _add(table: Table, report: Mapping[str, Any], cells: Any) -> None:
    table.add_row(str(report["input"]).rpartition("/")[2], report["scheduler"], *cells)


def _print_json(reports: list[dict[str, Any]]) -> None:
    print(json.dumps(reports[0] if len(reports) == 1 else reports))
