"""Given node events: a file that says when nodes go down, come up, or are reclaimed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from marl_sched.errors import UserError
from marl_sched.types import Cluster

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
    import pandas as pd

    where = f"node events {path}"
    if not Path(path).is_file():
        raise UserError(f"{where}: no such file")
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{where}: cannot be read as CSV: {error}") from None
    missing = [name for name in ("time_s", "node", "event") if name not in frame.columns]
    if missing:
        raise UserError(f"{where}: row 1: no column {missing[0]!r}")
    names = {node.name: i for i, node in enumerate(cluster.nodes)}
    rows = []
    for index, row in enumerate(frame.to_dict("records")):
        at = f"{where}: row {index + 2}"
        if row["event"] not in KINDS:
            raise UserError(f"{at}, column 'event': {row['event']!r} is not {', '.join(KINDS)}")
        node = names.get(row["node"], -1)
        if node < 0 and row["node"].isdigit() and int(row["node"]) < len(names):
            node = int(row["node"])
        if node < 0:
            raise UserError(
                f"{at}, column 'node': cluster {cluster} has no node {row['node']!r}; it has "
                f"{cluster.nodes[0].name} to {cluster.nodes[-1].name}"
            )
        notice_s = _seconds(at, "notice_s", row.get("notice_s") or "0")
        rows.append(
            (_seconds(at, "time_s", row["time_s"]), node, KINDS.index(row["event"]), notice_s)
        )
    table = np.array(rows, dtype=np.float64).reshape(-1, 4)
    return table[np.lexsort((table[:, 1], table[:, 0]))]


def _seconds(at: str, column: str, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = -1.0
    if not 0.0 <= value < np.inf:
        raise UserError(f"{at}, column {column!r}: {cell!r} is not a number of seconds >= 0")
    return value
