"""A node under notice of reclaim takes nobody until the notice is over, whatever befalls it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from marl_sched.config import SimConfig
from marl_sched.evaluation.simulate import simulate
from marl_sched.schedulers import get_scheduler
from marl_sched.types import Cluster
from tests.sim.worlds import make_workload

STARTS = (1, 2, 3, 11)  # rows of the log after which a job's places follow
PLACE = 10


def placed_at(events: str, folder: Path, name: str = "fcfs") -> list[tuple[float, int]]:
    """(time, node) of every place given away: ten jobs of 200 s, one every 100 s, on 2x1."""
    path = folder / "events.csv"
    path.write_text("time_s,node,event,notice_s\n" + events)
    count = 10
    work = make_workload(100.0 * np.arange(count), np.full(count, 200.0))
    sim = SimConfig(node_events=str(path), round_s=50.0)
    results = simulate(
        work, Cluster.parse("2x1"), get_scheduler(name), sim, estimate_noise=0.0, log_events=True
    )
    assert results.events is not None
    rows = results.events[results.events[:, 1] == PLACE]
    return [(float(row[0]), int(row[4])) for row in rows]


BACK = "1200,1,up,\n"
CASES = {
    "it fails and comes back": "150,1,reclaim,500\n200,1,down,\n250,1,up,\n",
    "it is brought up": "150,1,reclaim,500\n200,1,up,\n",
    "it is down when the notice comes": "120,1,down,\n150,1,reclaim,500\n250,1,up,\n",
    "a shorter notice comes after a longer": "150,1,reclaim,500\n160,1,reclaim,100\n300,1,up,\n",
    "a longer notice comes after a shorter": "150,1,reclaim,100\n160,1,reclaim,490\n300,1,up,\n",
}


@pytest.mark.parametrize("name", ["fcfs", "srtf", "elastic_index", "sia"])
@pytest.mark.parametrize("case", CASES)
def test_nobody_is_placed_under_notice(case: str, name: str, tmp_path: Path) -> None:
    """A notice runs from 150 to 650 s on node 1, which is back for good at 1200 s."""
    placed = placed_at(CASES[case] + BACK, tmp_path, name)
    assert not [at for at, node in placed if node == 1 and 150 <= at < 1200]
    assert [at for at, node in placed if node == 1 and at >= 1200], "it is used again"


def test_a_node_goes_at_the_end_of_its_first_notice(tmp_path: Path) -> None:
    """The notice of 100 s ends at 250 s: the job that runs there since 100 s goes elsewhere then.

    It would have ended at 300 s. Without a second notice the node is back at 260 s.
    """
    events = "150,1,reclaim,100\n260,1,up,\n"
    assert (260.0, 1) in placed_at(events, tmp_path)
    again = "150,1,reclaim,100\n160,1,reclaim,300\n260,1,up,\n500,1,up,\n"
    placed = placed_at(again, tmp_path)
    assert not [at for at, node in placed if node == 1 and 150 <= at < 500]
    assert [at for at, node in placed if node == 1 and at >= 500]
