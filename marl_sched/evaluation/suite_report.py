"""The report of a suite as a page of Markdown."""

from __future__ import annotations

from typing import Any

from marl_sched.evaluation.metrics import fallbacks
from marl_sched.evaluation.statistics import METHOD, doubt, interval_notes, percent_text

COLUMNS: dict[str, tuple[str, float, str]] = {
    "avg_jct_s": ("mean JCT, h", 3600.0, ".2f"),
    "p50_jct_s": ("p50, h", 3600.0, ".2f"),
    "p99_jct_s": ("p99, h", 3600.0, ".1f"),
    "avg_slowdown": ("slowdown", 1.0, ".2f"),
    "avg_finish_time_fairness": ("rho", 1.0, ".2f"),
    "num_restarts": ("restarts", 1.0, ".0f"),
    "makespan_s": ("makespan, h", 3600.0, ".1f"),
    "gpu_useful_fraction": ("useful GPU time, %", 0.01, ".1f"),
    "energy_kwh": ("energy, kWh", 1.0, ".0f"),
}
"""Metric: heading, what it is divided by, format."""


def markdown(report: dict[str, Any], command: str) -> str:
    """A page: the overview, who is how far from the best in each cell, then all metrics."""
    lines = [f"# Suite {report['suite']}: {report['what']}", "", f"    {command}", ""]
    lines += [*versus_table(report), ""]
    for cell in report["cells"]:
        lines += [*_cell(cell), ""]
    return "\n".join(lines)


def versus_table(report: dict[str, Any]) -> list[str]:
    """Rows of schedulers by cells: mean JCT against the best classic one, percent.

    A star marks an interval that holds 0, and a cell without intervals; `best` the best classic
    scheduler itself.
    """
    cells = report["cells"]
    order = report["overview"] or cells[0]["schedulers"]
    heads = ["scheduler", "mean", *(cell["cell"] for cell in cells)]
    lines = [
        "Mean JCT against the best classic scheduler of each cell, percent; * the 95 % interval "
        "holds 0, or there is too little evidence for one; mean: geometric, over cells.",
        "",
        f"Intervals: {METHOD}; about other jobs of the workload and other draws of what a seed "
        "decides.",
        "",
    ]
    lines += ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(cells) + 1)]
    for name in order:
        over = report["overview"].get(name)
        row = [f"`{name}`", "" if over is None else f"{over['mean_percent']:+.1f}"]
        row += [_versus(cell, name) for cell in cells]
        lines.append("| " + " | ".join(row) + " |")
    return lines


def _versus(cell: dict[str, Any], name: str) -> str:
    if name == cell["best_classic"]:
        return "best"
    if cell["best_classic"] is None:
        return ""
    found = cell["vs_best_classic"][name]["avg_jct_percent"]
    return f"{found['mean']:+.1f}{'*' if doubt(found) else ''}"


def _cell(cell: dict[str, Any]) -> list[str]:
    bound = cell["vs_lower_bound"]
    heads = ["scheduler", *(head for head, _, _ in COLUMNS.values()), "vs best, %", "x bound"]
    lines = [
        f"## {cell['cell']}: {cell['cluster']}",
        "",
        f"{'; '.join(interval_notes(cell))}; bound of {bound['episodes']} episodes.",
        "",
        "| " + " | ".join(heads) + " |",
        "|---|" + "---:|" * (len(heads) - 1),
    ]
    by_jct = sorted(cell["schedulers"].items(), key=lambda item: item[1]["avg_jct_s"]["mean"])
    for name, metrics in by_jct:
        row = [f"`{name}`"]
        row += [
            format(metrics[metric]["mean"] / unit, form)
            for metric, (_, unit, form) in COLUMNS.items()
        ]
        row += [_interval(cell, name), _ratio(bound, name)]
        lines.append("| " + " | ".join(row) + " |")
    for name, share in fallbacks(cell).items():
        said = f"`{name}` left {100.0 * share:.1f} % of its decisions to the index, in states "
        lines += ["", said + "unlike those of its training."]
    return lines


def _interval(cell: dict[str, Any], name: str) -> str:
    if name == cell["best_classic"]:
        return "best"
    if cell["best_classic"] is None:
        return ""
    return percent_text(cell["vs_best_classic"][name]["avg_jct_percent"])


def _ratio(bound: dict[str, Any], name: str) -> str:
    ratio = bound["avg_jct_ratio"].get(name)
    return "" if ratio is None else f"{ratio['mean']:.2f}"
