"""The Pareto picture as a page that needs no network."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from marl_sched.files import write_text
from marl_sched.tuning.tradeoff import STYLE, Axis

SYMBOLS = {"o": "circle", "D": "diamond", "s": "square"}


def draw_html(
    table: Sequence[Mapping[str, Any]],
    panels: Sequence[tuple[Axis, Axis]],
    path: Path,
    title: str,
    describe: Sequence[Axis],
    named: str = "named by its reward weights",
) -> None:
    """Write one panel beside the other, every point with its name and all its metrics.

    Args:
        table, named: as of `tuning.tradeoff.draw`.
        describe: what is shown at a point.
    """
    from plotly.graph_objects import Figure, Scatter
    from plotly.subplots import make_subplots

    figure: Figure = make_subplots(rows=1, cols=len(panels))
    for column, (x, y) in enumerate(panels, start=1):
        for kind, (colour, marker, label) in STYLE.items():
            rows = [row for row in table if row["kind"] == kind]
            if not rows:
                continue
            points = Scatter(
                x=[row[x.metric] * x.scale for row in rows],
                y=[row[y.metric] * y.scale for row in rows],
                mode="markers",
                name=label.format(named=named),
                legendgroup=kind,
                showlegend=column == 1,
                text=[_words(row, describe) for row in rows],
                hovertemplate="%{text}<extra></extra>",
                marker={
                    "symbol": SYMBOLS[marker],
                    "color": colour,
                    "size": [13 if row["non_dominated"] else 8 for row in rows],
                },
            )
            figure.add_trace(points, row=1, col=column)
        for axis, update in ((x, figure.update_xaxes), (y, figure.update_yaxes)):
            better = "higher" if axis.higher_is_better else "lower"
            update(title_text=f"{axis.label} ({better} is better)", row=1, col=column)
    figure.update_layout(
        title=f"{title}; large: non-dominated in all metrics",
        template="plotly_white",
        legend={"orientation": "h", "y": -0.18},
    )
    # With plotly's own code in it: 5 MB, and readable without a network.
    page = figure.to_html(include_plotlyjs=True)
    head = f'<html lang="en">\n<head>\n    <title>{escape(title)}</title>'
    page = re.sub(r"<html>\s*<head>", lambda found: head, page, count=1)
    write_text(path, page)


def _words(row: Mapping[str, Any], describe: Sequence[Axis]) -> str:
    lines = [f"<b>{row['name']}</b>"]
    weights = [
        f"{key.removeprefix('env.reward.')} {row[key]:g}"
        for key in row
        if key.startswith("env.reward.") and row[key] == row[key] and row[key] > 0
    ]
    lines += [", ".join(weights)] if weights else []
    lines += [f"{axis.label}: {row[axis.metric] * axis.scale:.3g}" for axis in describe]
    return "<br>".join(lines)
