"""The simulation that planners drive: its clock cannot be stopped."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from marl_sched.errors import UserError
from marl_sched.evaluation.simulate import simulate
from marl_sched.schedulers import Scheduler
from marl_sched.types import Allocation, Cluster, ClusterView, NodeView
from marl_sched.workload import Workload


class Waker:
    """Gives every job its request in order of arrival, and asks to wake up as it is told."""

    def __init__(self, wake_s: Callable[[float], float]) -> None:
        self.wake_s = wake_s
        self.asked = 0

    def allocate(self, view: ClusterView, nodes: NodeView) -> Allocation:
        self.asked += 1
        gpus = view.sizes[view.profile, view.request_level]
        return Allocation(gpus=gpus, wake_s=self.wake_s(view.now_s))


def run(planner: Waker, cluster: Cluster, workload: Workload) -> float:
    return float(
        simulate(workload, cluster, Scheduler("waker", planner=lambda: planner)).jct_s.sum()
    )


@pytest.mark.parametrize(
    ("wake_s", "words"),
    [
        (lambda now: now, ("decided", "clock stands still")),
        (lambda now: now - 1e-9 if now > 0 else math.inf, ("wants to decide again",)),
        (lambda now: -1.0, ("wants to decide again at -1.0 s",)),
        (lambda now: math.nan, ("wants to decide again at nan",)),
        (lambda now: np.nextafter(now, -math.inf), ("wants to decide again",)),
    ],
    ids=["now", "just before", "before all", "no number", "an ulp before"],
)
def test_a_wake_time_that_stops_the_clock_is_an_error(
    small_cluster: Cluster,
    small_workload: Workload,
    wake_s: Callable[[float], float],
    words: tuple[str, ...],
) -> None:
    with pytest.raises(UserError) as error:
        run(Waker(wake_s), small_cluster, small_workload)
    for word in ("scheduler 'waker'", " s", "after now", *words):
        assert word in str(error.value)


def test_waking_up_now_for_once_is_allowed(
    small_cluster: Cluster, small_workload: Workload
) -> None:
    """Who counts in floating point may be a rounding error short of what it waits for."""
    seen: set[float] = set()

    def once(now: float) -> float:
        first = now not in seen
        seen.add(now)
        return now if first else math.inf

    plain, twice = Waker(lambda now: math.inf), Waker(once)
    expected = run(plain, small_cluster, small_workload)
    assert run(twice, small_cluster, small_workload) == expected
    assert twice.asked == 2 * plain.asked
