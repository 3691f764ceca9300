"""One job on its way, and what is written down about a simulation."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from tests.reference.rules import CANCELLED, INF, WHOLE


@dataclass
class ReferenceJob:
    """One job, from its arrival to its end; `decide` sees these objects."""

    index: int
    profile: int
    arrival: float  # s
    demand: list[float]  # per GPU, order of types.RESOURCES
    remaining: float  # isolated seconds of work left
    level: int = 0
    attained: float = 0.0  # GPU-seconds held
    waiting_since: float = 0.0  # s, when it became active, or its last stop
    run_since: float = math.nan  # s, start of the current hold; NaN while waiting
    placement: dict[int, int] = field(default_factory=dict)  # node -> GPUs on it
    devices: dict[int, list[int]] = field(default_factory=dict)  # node -> which GPUs of it
    rate: float = 0.0  # isolated seconds per second, once past resume_at
    resume_at: float = 0.0  # s, end of the restart pause
    finish_at: float = INF  # s, set whenever placement or rate changes
    first_start: float = math.nan  # s
    finish: float = math.nan  # s, when it ended, however it did
    held: float = 0.0  # s holding at least one GPU
    num_preemptions: int = 0
    num_restarts: int = 0

    refused: bool = False  # its start found no node since GPUs last came back
    tenant: int = 0
    has_arrived: bool = False
    status: int = 0  # 0 until it ends
    cancel_at: float = INF
    failures_per_h: float = 0.0
    max_retries: int = 0
    checkpoint_interval: float = 0.0  # s of work; 0: continuously
    parents: list[int] = field(default_factory=list)
    allowed: list[bool] = field(default_factory=list)  # by GPU type
    loader_cpus: float = 0.0  # per GPU
    milli: int = WHOLE  # of each GPU that it holds

    retries: int = 0
    fail_at: float = INF  # s, while running
    fail_budget: float = INF  # s of held time before the next failure, while waiting
    worked: list[tuple[float, float]] = field(default_factory=list)
    """(seconds, rate) of the work at the current placement since it was taken."""
    productive: float = 0.0  # GPU-seconds of work that counts
    overhead: float = 0.0  # GPU-seconds held without progress
    lost: float = 0.0  # GPU-seconds of work that an abrupt stop undid


@dataclass(frozen=True)
class ReferenceJobResult:
    """What became of one job."""

    first_start: float
    finish: float
    attained_gpu_s: float
    num_preemptions: int
    num_restarts: int
    held_s: float


@dataclass(frozen=True)
class Account:
    """Where the GPU-seconds of one job went, and how it ended."""

    status: int
    retries: int
    productive_gpu_s: float
    overhead_gpu_s: float
    lost_gpu_s: float


@dataclass(frozen=True)
class Epoch:
    """The state right after one decision epoch, for the jobs that are active then."""

    t: float
    levels: dict[int, int]
    placements: dict[int, dict[int, int]]
    finish_at: dict[int, float]


@dataclass(frozen=True)
class ReferenceResult:
    """`events` holds (t, kind, job) and `node_events` (t, kind, node).

    Kinds of events: arrive, start, grow, shrink, move, preempt, evict (the node went away),
    fail (and try again), finish, failed, cancelled. Of node events: down, up, closed, gone.
    """

    events: list[tuple[float, str, int]]
    epochs: list[Epoch]
    jobs: list[ReferenceJobResult]
    accounts: list[Account]
    node_events: list[tuple[float, str, int]]
    capacity_gpu_s: float  # of nodes that were up, to the end of the last job
    idle_gpu_s: float  # of it, held by nobody

    @property
    def makespan(self) -> float:
        return max(job.finish for job in self.jobs)

    @property
    def cancelled(self) -> list[int]:
        return [j for j, account in enumerate(self.accounts) if account.status == CANCELLED]


def result_of(job: ReferenceJob) -> ReferenceJobResult:
    return ReferenceJobResult(
        job.first_start,
        job.finish,
        job.attained,
        job.num_preemptions,
        job.num_restarts,
        job.held,
    )


def account_of(job: ReferenceJob) -> Account:
    return Account(job.status, job.retries, job.productive, job.overhead, job.lost)
