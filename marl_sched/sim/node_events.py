"""Given node events: a file that says when nodes go down, come up, or are reclaimed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from marl_sched.errors import UserError, listed
from marl_sched.quantities import LONGEST_S, whole
from marl_sched.types import Cluster
from marl_sched.workload.reading import read_table

KINDS = ("down", "up", "reclaim")
"""By number, as `outages` reads them."""


def read_node_events(path: str | None, cluster: Cluster) -> np.ndarray:
    """(G, 4) float64 by time: seconds since the first arrival, node, kind, notice in seconds.

    Columns of the CSV file: time_s, node (its name or number), event (down, up or reclaim), and
    optionally notice_s, the warning before a reclaim.

    Raises:
        UserError: naming the row and column that cannot be used.
    """
    if path is None:
        return np.empty((0, 4))
    table = read_table(Path(path), "node events")
    for name in ("time_s", "node", "event"):
        if name not in table.columns:
            raise UserError(
                f"{table.where}: row 1: no column {name!r}; it has {listed(table.columns)}"
            )
    time_s = table.not_negative("time_s", empty=np.nan, most=LONGEST_S, unit="s")
    table.refuse(np.isnan(time_s), "time_s", "not a number of seconds >= 0")
    notice_s = np.zeros(len(table))
    if "notice_s" in table.columns:
        notice_s = table.not_negative("notice_s", empty=0.0, most=LONGEST_S, unit="s")
    kinds = {kind: number for number, kind in enumerate(KINDS)}
    kind = np.array([kinds.get(text, -1) for text in table.texts("event").tolist()], np.int64)
    table.refuse(kind < 0, "event", f"not {', '.join(KINDS)}")
    names = {node.name: number for number, node in enumerate(cluster.nodes)}
    node = np.array([_node(text, names) for text in table.texts("node").tolist()], np.int64)
    table.refuse(
        node < 0,
        "node",
        f"no node of cluster {cluster}, which has {cluster.nodes[0].name} to "
        f"{cluster.nodes[-1].name}",
    )
    table.check()
    events = np.stack([time_s, node, kind, notice_s], axis=1)
    return events[np.lexsort((events[:, 1], events[:, 0]))]


def _node(text: str, names: dict[str, int]) -> int:
    """The node of a name or a number; -1 for neither."""
    number = whole(text)
    return names.get(text, number if number is not None and number < len(names) else -1)
