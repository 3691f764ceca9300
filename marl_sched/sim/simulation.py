"""One environment driven from Python: for schedulers that are no kernels, and for growing runs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from marl_sched.allocation.feasibility import Infeasible, check_gpus, check_placement
from marl_sched.errors import UserError
from marl_sched.sim import columns as c
from marl_sched.sim import kernels
from marl_sched.sim.apply import apply
from marl_sched.sim.progress import sync_running
from marl_sched.sim.relocate import apply_placement, repack, row_without_device
from marl_sched.sim.views import sealed, view_of
from marl_sched.sim.world import World, grown
from marl_sched.types import Allocation, ClusterView, NodeView

MOST_STANDS = 1000
"""Decisions in a row at one instant; nodes and jobs that change together take a few."""


class Simulation:
    """Environment 0 of a world: advance, look, apply.

    Args:
        world: at least one environment; replaced by a larger one where a table must grow, so
            read it from `world` afterwards.
        first, end: jobs [first, end) of the workload; default all.
        stretch: factor of the gaps between arrivals.
        origin_s: time of the trace at which the clock starts; default the first arrival.
        job_name: what messages call a job, given by its index in the workload.
    """

    def __init__(
        self,
        world: World,
        first: int = 0,
        end: int | None = None,
        stretch: float = 1.0,
        origin_s: float | None = None,
        job_name: Callable[[int], str] = "number {}".format,
    ) -> None:
        self.world = world
        self.who = "the scheduler"
        """Named in errors about what it asks for."""
        self._stands = 0
        self.job_name = job_name
        self.events: list[np.ndarray] = []
        """Full pieces of the event log, (., 6) float64 each."""
        kernels.start(world, 0, first, world.job_f.shape[1] if end is None else end, stretch)
        if origin_s is not None:
            world.env_f[0, c.ORIGIN_S] = origin_s

    @property
    def now_s(self) -> float:
        """Time since the first arrival."""
        return float(self.world.env_f[0, c.NOW_S])

    @property
    def num_active(self) -> int:
        """A, jobs that have arrived and not ended."""
        return int(self.world.env_k[0, c.NUM_ACTIVE])

    def advance(self) -> bool:
        """Run to the next decision epoch; False when every job has ended.

        Raises:
            UserError: when jobs wait for ever on an idle cluster, or the scheduler asks to decide
                again and again at one instant.
        """
        before_s = self.now_s
        while True:
            status = kernels.advance(self.world, 0)
            if status != kernels.FULL:
                break
            self.make_room()
        if status == kernels.STUCK:
            raise UserError(stuck_message(self.world))
        self._stands = self._stands + 1 if self.now_s == before_s else 0
        if self._stands > MOST_STANDS:
            raise UserError(
                f"{self.who} has decided {self._stands:,} times at {self.now_s!r} s and asks to "
                "decide again at that very time: the clock stands still; its wake_s has to come "
                "after now"
            )
        return bool(status == kernels.EPOCH)

    def make_room(self) -> None:
        """After FULL: set the event log aside, double the table of active jobs if it is full."""
        world = self.world
        if world.log.shape[0]:
            self.drain_log()
        slots, active = world.target.shape[1], self.num_active
        if active == slots:
            world = grown(world, min(2 * slots, world.result.shape[2]))
        if world.log.shape[0] and 8 * (active + 9) + 4 * len(world.capacity) > len(world.log):
            world = sealed(world._replace(log=np.zeros((2 * len(world.log), c.NUM_LOG))))
        self.world = world

    def drain_log(self) -> None:
        """Move what has been logged to `events`."""
        count = self.world.env_k[0, c.NUM_LOGGED]
        self.events.append(self.world.log[:count].copy())
        self.world.env_k[0, c.NUM_LOGGED] = 0

    def view(self) -> ClusterView:
        """What a scheduler sees now; windows into the state, valid until the next `advance`."""
        return look(self.world, 0)

    def nodes(self) -> NodeView:
        """The nodes now, and who holds what on them."""
        world, active = self.world, self.num_active
        held = np.zeros((active, len(world.capacity)), dtype=np.int64)
        for i in range(active):
            entry = world.slot_k[0, c.PLACEMENT, i]
            while entry >= 0:
                held[i, world.pool[0, c.ENTRY_NODE, entry]] += world.pool[0, c.ENTRY_GPUS, entry]
                entry = world.pool[0, c.ENTRY_NEXT, entry]
        types = world.job_k[c.JOB_TYPES, world.slot_k[0, c.JOB, :active]]
        return NodeView(
            capacity=world.capacity,
            up=world.node_k[0, c.NODE_STATE] == c.OPEN,
            gpu_type=world.node_type,
            rack=world.node_rack,
            held=held,
            rates=world.rates,
            restarts=world.slot_k[0, c.RESTARTS, :active],
            allowed=types[:, None] >> np.arange(world.rates.shape[1]) & 1 > 0,
        )

    def phase(self) -> np.ndarray:
        """(A,) int64, phase that each active job is in."""
        return self.world.slot_k[0, c.PHASE, : self.num_active]

    def remaining(self) -> np.ndarray:
        """(A,) float64, true work left of each active job; no scheduler may see it."""
        return self.world.slot_f[0, c.REMAINING_S, : self.num_active]

    def correct_remaining(self, seconds: np.ndarray) -> None:
        """Set the true work left (A,) of each active job, where something else keeps count of it.

        After `view`, which books progress up to now; before an allocation is carried out.
        """
        self.remaining()[:] = seconds

    def repack(self, order: np.ndarray) -> None:
        """Empty the cluster and place whole requests anew.

        Args:
            order: (n,) int64 rows of active jobs, the first to be placed first; rows left out wait.
        """
        repack(self.world, 0, np.ascontiguousarray(order, dtype=np.int64))

    def apply(self, allocation: Allocation) -> None:
        """Carry out an allocation: by the placement rule, or where it says.

        Raises:
            Infeasible: before anything has changed, where it breaks a bound.
        """
        if allocation.placement is not None:
            self.place(allocation.placement)
        else:
            self._bring_to(np.asarray(allocation.gpus))
        self.wake_at(allocation.wake_s)

    def _bring_to(self, gpus: np.ndarray) -> None:
        view = view_of(self.world, 0)
        check_gpus(gpus, view)
        sizes = view.sizes[view.profile]
        # The highest legal level of at most so many GPUs.
        fits = sizes <= gpus[:, None]
        fits &= np.arange(sizes.shape[1]) <= view.num_levels[view.profile][:, None]
        apply(self.world, 0, np.where(fits, np.arange(sizes.shape[1]), 0).max(axis=1))

    def place(self, placement: np.ndarray, rates: np.ndarray | None = None) -> None:
        """Carry out given places; jobs whose row changes restart there, the others run on.

        Args:
            placement: (A, N) int64, GPUs of each active job on each node.
            rates: (A, F) float64 >= 0, progress per second in each phase; None reads the tables. A
                new rate without a new place takes effect at once and costs nothing.

        Raises:
            Infeasible: before anything has changed, where the places break a bound of
                `allocation.feasibility`.
        """
        world = self.world
        view = view_of(world, 0)
        check_placement(placement, view, self.nodes(), self.job_name)
        placement = np.ascontiguousarray(placement, dtype=np.int64)
        row = row_without_device(world, 0, placement)
        if row >= 0:
            who, node = self.job_name(int(view.job[row])), int(np.argmax(placement[row]))
            raise Infeasible(
                f"at {self.now_s:.9g} s: job {who} finds no GPU of node {node} with its share "
                "free, once those with larger ones have theirs"
            )
        given = rates is not None
        table = np.zeros((len(placement), world.phase_left.shape[1])) if rates is None else rates
        apply_placement(world, 0, placement, np.ascontiguousarray(table, dtype=np.float64), given)

    def wake_at(self, time_s: float) -> None:
        """Let the next decision epoch come at `time_s` at the latest.

        Now is allowed: who counts service in floating point may find that it is a rounding
        error short. `advance` ends in an error where that goes on.

        Raises:
            UserError: for a time that is past, or no number.
        """
        if not time_s >= self.now_s:
            raise UserError(
                f"{self.who} wants to decide again at {time_s!r} s, and it is {self.now_s!r} s "
                "already: its wake_s has to come after now"
            )
        self.world.env_f[0, c.ROUND_AT_S] = min(time_s, self.world.env_f[0, c.ROUND_AT_S])


def look(world: World, b: int) -> ClusterView:
    """What a scheduler sees of environment `b` now; windows into the state."""
    sync_running(world, b)
    return view_of(world, b)


def stuck_message(world: World) -> str:
    """What to tell somebody whose scheduler leaves jobs waiting on an idle cluster."""
    if world.env_k[0, c.SETBACKS] > c.MAX_SETBACKS:
        return (
            f"{c.MAX_SETBACKS // c.STOP_WEIGHT:,} times in a row a job was stopped by a failure, "
            f"or {c.MAX_SETBACKS:,} times a node failed or came back, and none of the "
            f"{world.env_k[0, c.NUM_ACTIVE]} jobs left has ended; let nodes and jobs fail less "
            "often, or jobs write checkpoints more often (checkpoint_interval_s)"
        )
    waiting = world.waiting[0, world.env_k[0, c.WAITING_HEAD]]
    job = int(world.slot_k[0, c.JOB, waiting])
    if (world.node_k[0, c.NODE_STATE] == c.DOWN).all():
        return (
            f"all nodes are down for good while {world.env_k[0, c.NUM_ACTIVE]} jobs wait, the "
            f"first is number {job} by arrival; let some come up again in the node events"
        )
    return (
        f"the scheduler leaves {world.env_k[0, c.NUM_ACTIVE]} jobs waiting on an idle cluster, the "
        f"first is number {job} by arrival: it cannot serve this workload, or the job fits no "
        "open node; choose another scheduler or a larger cluster"
    )
