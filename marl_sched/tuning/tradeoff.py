"""Several objectives at once: the non-dominated set, and a picture of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from marl_sched.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Axis:
    """A metric as an axis of a picture."""

    metric: str
    label: str
    scale: float = 1.0
    """Multiplies the metric: 1 / 3600 shows seconds as hours."""
    higher_is_better: bool = False


def non_dominated(costs: np.ndarray) -> np.ndarray:
    """Which rows no other row beats: as good in every column and better in one.

    Args:
        costs: (N, M) float64, lower is better.

    Returns:
        (N,) bool; equal rows are all kept.
    """
    no_worse = (costs[:, None, :] <= costs[None, :, :]).all(axis=2)  # [i, j]: i against j
    better = (costs[:, None, :] < costs[None, :, :]).any(axis=2)
    return np.logical_not(np.any(no_worse & better, axis=0))


def hypervolume(costs: np.ndarray, reference: np.ndarray) -> float:
    """Volume that some row dominates within the box up to `reference`, exactly.

    The set is cut into slabs along the last axis, each of one dimension less.

    Args:
        costs: (N, M) float64, lower is better; rows beyond the reference add nothing.
        reference: (M,) float64.
    """
    inside = costs[(costs < reference).all(axis=1)]
    if not len(inside):
        return 0.0
    inside = inside[non_dominated(inside)]
    if inside.shape[1] == 1:
        return float(reference[0] - inside.min())
    inside = inside[np.argsort(inside[:, -1], kind="stable")]
    ends = np.append(inside[1:, -1], reference[-1])
    return sum(
        float(end - row[-1]) * hypervolume(inside[: i + 1, :-1], reference[:-1])
        for i, (row, end) in enumerate(zip(inside, ends, strict=True))
        if end > row[-1]
    )


def costs_of(table: Sequence[Mapping[str, Any]], axes: Sequence[Axis]) -> np.ndarray:
    """(N, M) the axes' metrics of every row of a table, turned so that lower is better."""
    signs = np.array([-1.0 if axis.higher_is_better else 1.0 for axis in axes])
    return signs * np.array([[row[axis.metric] for axis in axes] for row in table], dtype=float)


def draw(
    table: Sequence[Mapping[str, Any]],
    panels: Sequence[tuple[Axis, Axis]],
    path: Path,
    title: str,
    named: str = "named by its reward weights",
) -> None:
    """Write a picture: everybody on the first pair of metrics, then a close-up of each pair.

    Rigid schedulers can be several times worse than the others, which would then lie on one
    spot: a close-up shows only those within `CLOSE` of the best on the horizontal axis.

    Args:
        table: rows with `name`, `kind` (of `STYLE`) and the axes' metrics; a `label`, if there
            is one, stands in the picture instead of the name, and an empty one is not written.
        panels: (horizontal, vertical) axes; horizontal ones lower is better.
        path: of the PNG file.
        title: above all panels.
        named: how trained ones are named, for the legend.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = 1 + len(panels)
    figure = Figure(figsize=(5.6 * count, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    subplots = figure.subplots(1, count, squeeze=False)[0]
    for ax, (x, y), closed in zip(
        subplots, [panels[0], *panels], [False] + [True] * len(panels), strict=True
    ):
        best = min(row[x.metric] for row in table)
        near = [row[x.metric] <= CLOSE * best for row in table]
        if closed:
            rows = [row for row, is_near in zip(table, near, strict=True) if is_near]
        else:
            # Those close together are named in the close-ups.
            rows = [
                {**row, "label": ""} if is_near else row
                for row, is_near in zip(table, near, strict=True)
            ]
        _panel(ax, rows, x, y, named)
        ax.set_title(
            f"close-up, up to {CLOSE:g} times the best" if closed else "everybody",
            loc="left",
            fontsize=10,
            color="#64748b",
        )
    figure.suptitle(title, fontsize=13)
    handles, labels = subplots[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    # Only now is every axis where it stays.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for ax in subplots:
        _name_points(ax)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)


CLOSE = 1.4

STYLE = {
    # Kind -> colour, marker, words of the legend.
    "trained": ("#c2410c", "o", "trained, {named}"),
    "conditioned": ("#7c3aed", "D", "one network for all weights"),
    "classic": ("#475569", "s", "classic scheduler"),
}


def _panel(ax: Axes, table: Sequence[Mapping[str, Any]], x: Axis, y: Axis, named: str) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    points = np.array([[row[x.metric] * x.scale, row[y.metric] * y.scale] for row in table])
    front = non_dominated(costs_of(table, (x, y)))
    order = np.argsort(points[front, 0])
    ax.plot(
        points[front][order, 0],
        points[front][order, 1],
        color="#0f766e",
        linewidth=1.2,
        linestyle="--",
        zorder=1,
        marker="o",
        markersize=14,
        markerfacecolor="none",
        label="non-dominated",
    )
    kinds = np.array([row["kind"] for row in table])
    for kind, (colour, marker, label) in STYLE.items():
        if kind not in kinds:
            continue
        ax.scatter(
            points[kinds == kind, 0],
            points[kinds == kind, 1],
            s=84 if kind == "classic" else 46,  # a classic one below stays visible
            color=colour,
            marker=marker,
            label=label.format(named=named),
            zorder=3 if kind == "classic" else 4,
            edgecolor="white",
            linewidth=0.7,
        )
    for column, axis, set_scale in ((0, ax.xaxis, ax.set_xscale), (1, ax.yaxis, ax.set_yscale)):
        low, high = points[:, column].min(), points[:, column].max()
        if low > 0 and high > 4 * low:
            set_scale("log")
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_major_formatter(ScalarFormatter())
            axis.set_minor_formatter(NullFormatter())
    ax.margins(0.2)
    ax.names = _together(  # type: ignore[attr-defined]
        points, [row.get("label", row["name"]) for row in table], kinds
    )
    for axis_, setting in ((x, ax.set_xlabel), (y, ax.set_ylabel)):
        setting(f"{axis_.label} ({'higher' if axis_.higher_is_better else 'lower'} is better)")
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)


def _together(
    points: np.ndarray, names: Sequence[str], kinds: np.ndarray
) -> list[tuple[np.ndarray, str, str]]:
    """(place, text, colour) of each label; schedulers on one spot share a label."""
    spread = np.maximum(np.ptp(points, axis=0), 1e-12)
    groups: list[list[int]] = []
    for index in range(len(points)):
        for group in groups:
            if (np.abs(points[index] - points[group[0]]) < 0.01 * spread).all():
                group.append(index)
                break
        else:
            groups.append([index])
    labels = []
    for group in groups:
        group = [index for index in group if names[index]]
        if not group:
            continue
        kind = next(kind for kind in STYLE if kind in kinds[group])
        text = "\n".join(names[index] for index in group)
        labels.append((points[group[0]], text, STYLE[kind][0]))
    return labels


def _name_points(ax: Any) -> None:
    """Write each name beside its point, on the first side where it covers nothing else."""
    if not ax.names:
        return
    renderer = ax.figure.canvas.get_renderer()
    at = ax.transData.transform(np.array([place for place, _, _ in ax.names]))
    taken: list[Any] = []
    for index in np.argsort(-at[:, 1]):
        place, words, colour = ax.names[index]
        for side, (dx, dy, ha) in enumerate(_SIDES):
            text = ax.annotate(
                words,
                place,
                (dx, dy),
                textcoords="offset points",
                ha=ha,
                va="center",
                fontsize=9,
                color=colour,
                zorder=5,
                arrowprops={"arrowstyle": "-", "color": "#94a3b8", "linewidth": 0.7}
                if abs(dy) > 12
                else None,
            )
            box = text.get_window_extent(renderer)
            inside = ax.bbox.x0 <= box.x0 and box.x1 <= ax.bbox.x1 + 20
            inside &= ax.bbox.y0 <= box.y0 and box.y1 <= ax.bbox.y1
            covers = any(box.overlaps(other) for other in taken)
            covers |= any(box.padded(4).contains(*other) for other in at)
            if (inside and not covers) or side == len(_SIDES) - 1:
                taken.append(box)
                break
            text.remove()


_SIDES = [
    (dx, sign * dy, "left" if dx > 0 else "right")
    for dy in (0, 12, 24, 38, 54, 72)
    for dx in (11, -11)
    for sign in ((1, -1) if dy else (1,))
]
"""Offsets of a label from its point, in points, nearest first."""
