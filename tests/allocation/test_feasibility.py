"""A placement that a planner names is carried out as it is, or refused by name and undone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from marl_sched.allocation.feasibility import Infeasible, QuotaRoom
from marl_sched.config import SimConfig
from marl_sched.errors import UserError
from marl_sched.evaluation.simulate import begin, simulate
from marl_sched.schedulers import REGISTRY, Scheduler, get_scheduler
from marl_sched.types import Allocation, Cluster, ClusterView, NodeView, make_node
from marl_sched.workload import Workload

NAMED = Callable[[ClusterView, NodeView], np.ndarray]

CLUSTER = Cluster(
    (
        make_node("node-0", 4, "A100", num_cpus=16.0, memory_gb=100.0),
        make_node("node-1", 4, "T4"),
        make_node("node-2", 4, "T4"),
    )
)
EVENTS = "time_s,node,event,notice_s\n0,node-2,reclaim,1000000\n"


def jobs() -> Workload:
    """Three rigid jobs of 2 GPUs on one of the types each, and one of 4 on any; tenants a and b."""
    count = 4
    gpus = np.array([2, 2, 2, 4])
    demand = np.tile([1.0, 4.0, 10.0, 0.0], (count, 1))
    demand[1, 1:] = [5.0, 60.0, 30.0]
    rigid = Workload.rigid(
        "four", np.array([f"j{i}" for i in range(count)], object), np.zeros(count),
        np.full(count, 100.0), gpus,
    )  # fmt: skip
    return replace(
        rigid,
        demand=demand,
        tenant=np.array([0, 0, 1, 1]),
        tenants=("a", "b"),
        gpu_type_mask=np.array([-1, -1, 0b10, -1]),
        gpu_types=("A100", "T4"),
        models=("resnet18",),
    )


class Named:
    """Gives the places that a function names."""

    def __init__(self, name: NAMED) -> None:
        self.name = name

    def allocate(self, view: ClusterView, nodes: NodeView) -> Allocation:
        placement = self.name(view, nodes)
        return Allocation(gpus=np.zeros(view.job.size, np.int64), placement=placement)


def refused(tmp_path: Path, rows: object, dtype: type = np.int64) -> str:
    """The message with which `simulate` ends when a planner names these places at the start."""
    events = tmp_path / "events.csv"
    events.write_text(EVENTS)
    sim = SimConfig(node_events=str(events), tenant_quota={"a": 3.0})
    planner = Scheduler("mine", planner=lambda: Named(lambda view, nodes: np.array(rows, dtype)))
    with pytest.raises(UserError) as caught:
        simulate(jobs(), CLUSTER, planner, sim)
    assert isinstance(caught.value, Infeasible)
    message = str(caught.value)
    assert message.startswith("scheduler 'mine': at 0 s: ") and "\n" not in message
    return message


NONE = [0, 0, 0]

WRONG = {
    "negative": ([[2, 0, 0], NONE, [-2, 4, 0], NONE], ["'j2'", "-2", "GPUs of node 0"]),
    "more than a node": ([NONE, NONE, NONE, [0, 5, 0]], ["'j3'", "5 of the 4 GPUs of node 1"]),
    "two gangs on four": ([[0, 2, 0], NONE, NONE, [0, 4, 0]], ["node 1", "6", "4 GPUs"]),
    "memory": ([NONE, [2, 0, 0], NONE, NONE], ["'j1'", "node 0", "120", "100 GB of memory"]),
    "CPUs": ([[2, 0, 0], [2, 0, 0], NONE, NONE], ["'j1'", "node 0", "18 of its 16 CPUs"]),
    "a type that is forbidden": ([NONE, NONE, [2, 0, 0], NONE], ["'j2'", "node 0", "type"]),
    "two types": ([NONE, NONE, NONE, [2, 2, 0]], ["'j3'", "nodes 0 and 1", "types"]),
    "no size": ([[1, 0, 0], NONE, NONE, NONE], ["'j0'", "1 GPUs", "may have 0, 2"]),
    "under notice": ([NONE, NONE, [0, 0, 2], NONE], ["'j2'", "node 2", "reclaimed"]),
    "quota": ([[2, 0, 0], [0, 2, 0], NONE, NONE], ["'j1'", "quota", "4 of 3 GPUs"]),
    "shape": ([[2, 0], [0, 2], [0, 0], [0, 0]], ["shape (4, 2)", "(4, 3)"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_is_refused_by_name(tmp_path: Path, name: str) -> None:
    rows, words = WRONG[name]
    message = refused(tmp_path, rows)
    for word in words:
        assert word in message, message


def test_counts_are_whole(tmp_path: Path) -> None:
    assert "float64" in refused(tmp_path, [[2, 0, 0], NONE, NONE, NONE], float)


def test_a_node_that_is_down_takes_nobody(tmp_path: Path) -> None:
    events = tmp_path / "events.csv"
    events.write_text("time_s,node,event\n0,node-1,down\n5,node-1,up\n")
    planner = Scheduler(
        "mine", planner=lambda: Named(lambda v, n: np.array([NONE, NONE, [0, 2, 0], NONE]))
    )
    with pytest.raises(UserError, match="'j2'.*node 1.*down"):
        simulate(jobs(), CLUSTER, planner, SimConfig(node_events=str(events)))


def test_nothing_has_changed_when_a_placement_is_refused() -> None:
    simulation = begin(jobs(), CLUSTER, get_scheduler("sia"))
    assert simulation.advance()
    before = {f: np.array(getattr(simulation.world, f)) for f in ("free", "slot_k", "pool")}
    wrong = np.array([[2, 0, 0], NONE, NONE, [4, 0, 0]])
    with pytest.raises(Infeasible):
        simulation.place(wrong)
    for name, array in before.items():
        np.testing.assert_array_equal(array, getattr(simulation.world, name))
    simulation.place(np.array([[2, 0, 0], NONE, [0, 2, 0], [0, 0, 4]]))
    assert simulation.nodes().held.tolist() == [[2, 0, 0], NONE, [0, 2, 0], [0, 0, 4]]


@pytest.mark.parametrize(
    ("gpus", "words"),
    [([2, 2, 2], "shape"), ([2, 2, -2, 0], "j|-2"), ([2.0, np.nan, 0, 0], "nan")],
)
def test_gpus_are_counts_of_all_jobs(gpus: list[float], words: str) -> None:
    simulation = begin(jobs(), CLUSTER, get_scheduler("sia"))
    assert simulation.advance()
    with pytest.raises(Infeasible, match=words):
        simulation.apply(Allocation(gpus=np.array(gpus)))


def test_who_runs_may_stay_on_a_node_under_notice_and_nobody_may_come(tmp_path: Path) -> None:
    events = tmp_path / "events.csv"
    events.write_text("time_s,node,event,notice_s\n10,node-1,reclaim,1000\n")
    simulation = begin(
        jobs(), CLUSTER, get_scheduler("sia"), SimConfig(node_events=str(events), round_s=10.0)
    )
    assert simulation.advance()
    simulation.place(np.array([NONE, NONE, [0, 2, 0], NONE]))
    assert simulation.advance() and simulation.now_s == 10.0
    simulation.place(np.array([[2, 0, 0], NONE, [0, 2, 0], NONE]))
    with pytest.raises(Infeasible, match="'j1'.*node 1"):
        simulation.place(np.array([[2, 0, 0], [0, 2, 0], [0, 2, 0], NONE]))


PLANNERS = [name for name, scheduler in REGISTRY.items() if not scheduler.compiled]


@pytest.mark.parametrize("name", PLANNERS)
def test_planners_keep_quotas(name: str) -> None:
    """Tenant a asks for 8 GPUs at once and may have 3; what it may not have goes to b."""
    gpus = np.array([1] * 16)
    work = replace(
        Workload.rigid(
            "queue", np.array([f"j{i}" for i in range(16)], object), np.zeros(16),
            np.full(16, 500.0), gpus,
        ),
        tenant=np.array([0] * 8 + [1] * 8),
        tenants=("a", "b"),
        models=("resnet18",),
    )  # fmt: skip
    sim = SimConfig(tenant_quota={"a": 3.0}, round_s=120.0)
    simulation = begin(work, Cluster.parse("2x4"), get_scheduler(name), sim)
    planner = get_scheduler(name).new_planner()
    full = 0
    while simulation.advance():
        simulation.apply(planner.allocate(simulation.view(), simulation.nodes()))
        view = simulation.view()
        held = view.gpus[view.tenant == 0].sum()
        assert held <= 3.0
        full += int(view.gpus.sum() == 8.0 and held == 3.0)
    assert full > 0


def test_quota_room_counts_by_tenant() -> None:
    room = QuotaRoom(np.array([0, 0, 1]), np.array([2.5, np.inf]))
    assert room.bounded and room.take(0, 2.0) and not room.take(1, 1.0) and room.take(1, 0.5)
    assert room.take(2, 1e6)
    assert room.first_above(np.array([2.0, 1.0, 8.0])) == 1
    nobody = QuotaRoom(np.array([0]), np.empty(0))
    assert not nobody.bounded and nobody.take(0, 99.0)


@pytest.mark.parametrize("name", PLANNERS)
def test_planners_wait_while_no_node_is_open(name: str, tmp_path: Path) -> None:
    """The only node is gone from 10 to 500 s: both jobs of 100 s are through after it."""
    events = tmp_path / "events.csv"
    events.write_text("time_s,node,event\n10,node-0,down\n500,node-0,up\n")
    work = replace(
        Workload.rigid(
            "two", np.array(["j0", "j1"], object), np.array([0.0, 50.0]), np.full(2, 100.0),
            np.array([1, 2]),
        ),
        models=("resnet18",),
    )  # fmt: skip
    sim = SimConfig(node_events=str(events), round_s=60.0)
    results = simulate(work, Cluster.parse("1x2"), get_scheduler(name), sim)
    assert (results.finish_s >= 600.0).all() and (results.finish_s < 1000.0).all()


def test_sia_serves_a_job_whose_only_type_has_no_node_for_it() -> None:
    """3 GPUs on nodes of 2, and the nodes of 4 are of a type that the job must not use."""
    work = replace(
        Workload.rigid("one", np.array(["j0"], object), np.zeros(1), np.full(1, 100.0),
                       np.array([3])),
        models=("resnet18",), gpu_type_mask=np.array([0b01]), gpu_types=("V100", "T4"),
    )  # fmt: skip
    results = simulate(work, Cluster.parse("3x2:V100+1x4:T4"), get_scheduler("sia"))
    assert np.isfinite(results.finish_s).all()
