"""Rows of the simulator's state arrays.

The state is a handful of arrays with a named row axis instead of eighty single arrays: compiled
kernels then take few arguments, and each row stays contiguous over jobs.
"""

# job_f (., J): the workload, float64
JOB_ARRIVAL_S = 0
JOB_DURATION_S = 1
JOB_PRIORITY = 2
JOB_DEADLINE_S = 3  # after the arrival, not absolute; +inf without one
JOB_EST_FACTOR = 4  # estimate / truth
JOB_CANCEL_S = 5  # after the arrival; +inf: never
JOB_FAILURE_RATE_PER_S = 6  # of held time
JOB_CHECKPOINT_S = 7  # working time between checkpoints; 0 continuously
JOB_LOADER_CPUS = 8  # CPUs per GPU at which data loading no longer bounds the job
NUM_JOB_F = 9

# job_k (., J): the workload, int64
JOB_PROFILE = 0
JOB_TENANT = 1
JOB_TYPES = 2  # bit t: may run on GPU type t
JOB_MILLI = 3  # share of one GPU in 1/1000; 1000 for whole GPUs
JOB_MAX_RETRIES = 4
NUM_JOB_K = 5

# env_f (B, .): float64, one environment each
NOW_S = 0
ROUND_AT_S = 1
ORIGIN_S = 2  # trace time of the first arrival
STRETCH = 3  # simulated seconds per trace second between arrivals
PRESSURE_S = 4  # integral of (GPUs asked by active jobs / GPUs of the cluster)
SLOWDOWN_PER_S = 5  # sum of 1 / max(duration, SLOWDOWN_FLOOR_S) over active jobs
ASKED_GPUS = 6  # by active jobs
HELD_GPUS = 7
NODE_EVENT_S = 8  # next event of a node, +inf without
UP_GPUS = 9  # of nodes that are not down
RESTART_SCALE = 10  # factor of restart costs in this episode
ESTIMATE_POWER = 11  # exponent of the factors by which estimates are off in this episode
NUM_ENV_F = 12

# env_k (B, .): int64
FIRST_JOB = 0
END_JOB = 1
CURSOR = 2  # next job to arrive
NUM_ACTIVE = 3
NUM_ENDED = 4
POOL_FREE = 5  # head of the free list of placement entries
IDLE_ROUNDS = 6  # rounds in a row on which no job ran and none arrived
HEAP_SIZE = 7
NUM_RUNNING = 8
WAITING_HEAD = 9  # the waiting list is waiting[head : head + num_waiting]
NUM_WAITING = 10
NUM_READY = 11  # jobs whose last parent has just ended
GIVEN = 12  # next row of the given node events
NUM_LOGGED = 13
BELOW_MOST = 14  # active jobs below their highest level
IDLE_NODES = 15  # open nodes that run nothing
SETBACKS = 16  # since a job last arrived or ended: STOP_WEIGHT for a stop, 1 for a node's event
RELEASES = 17  # how often GPUs have come back
ASKS_AGAIN = 18  # 1 where a decision could not be carried out as it was meant
TIMES_ASKED = 19  # decisions at one instant after the first
NUM_ENV_K = 20

# node_f (B, ., N): float64
NODE_OWN_EVENT_S = 0  # next failure or repair by the node's own process
NODE_GONE_AT_S = 1  # end of a reclaim's notice, +inf without
NODE_NOTICED = 2  # 1 when the notice lets its jobs checkpoint
NUM_NODE_F = 3

# node_k (B, ., N): int64
NODE_STATE = 0
NODE_DRAWS = 1  # events of the node's own process so far
NODE_WHOLE = 2  # GPUs nobody holds a share of
NODE_JOBS = 3  # placement entries on it
NODE_SPANNING = 4  # of them, of jobs that span nodes
NUM_NODE_K = 5

OPEN, CLOSED, DOWN = 0, 1, 2
"""States of a node: takes jobs; runs those it has until it goes; is gone."""

# slot_f (B, ., S): float64, one active job each, rows [:num_active]
ARRIVAL_S = 0
DURATION_S = 1
REMAINING_S = 2  # isolated seconds on the request
ATTAINED_GPU_S = 3
HELD_S = 4
RUN_SINCE_S = 5  # NaN while waiting
WAITING_SINCE_S = 6
RESUME_AT_S = 7  # progress begins here
FINISH_AT_S = 8  # end of the job, or of its phase; +inf while waiting
RATE = 9
FIRST_START_S = 10  # NaN before it
EST_TOTAL_S = 11
EST_REMAINING_S = 12  # up to the last look
RESTART_S = 13  # cost of the next (re)start, at the request
PRIORITY = 14
DEADLINE_S = 15  # absolute
PRESSURE_AT_ARRIVAL_S = 16
SYNCED_S = 17  # progress is booked up to here
NEXT_AT_S = 18  # next event of the job's own
FAIL_AT_S = 19
FAIL_BUDGET_S = 20  # held time until it fails
CANCEL_AT_S = 21
OVERHEAD_GPU_S = 22  # held without progress
LOST_GPU_S = 23  # held for progress that a failure undid
FULL_RATE = 24  # rate before what co-runners take
GPUS_HELD = 25  # shares count as fractions
SAFE_REMAINING_S = 26  # what would be left after a failure: work left at the last checkpoint
SHOWN_GPU_S = 27  # attained service as schedulers see it: up to the last look, not `SYNCED_S`
EST_FACTOR = 28  # estimate / truth
NUM_SLOT_F = 29

# slot_k (B, ., S): int64
JOB = 0
PROFILE = 1
LEVEL = 2
TENANT = 3
REQUEST_LEVEL = 4  # what the job's agent asks for
LIMIT_LEVEL = 5  # the most that it accepts
PLACEMENT = 6  # head of the list of placement entries, -1 without
PREEMPTIONS = 7
RESTARTS = 8
HEAP_AT = 9  # position in the heap of next events, -1 outside
PHASE = 10
RETRIES = 11
SPAN = 12  # 0 one node, 1 one rack, 2 across racks
GPU_TYPE = 13
TYPES = 14  # as JOB_TYPES
LEAVING = 15  # GPUs on nodes that take nobody any more
REFUSED_AT = 16  # `RELEASES` when a start last found no node; -1 before
NUM_SLOT_K = 17

# pool (B, ., E): int64, placement entries: a linked list for each running job
ENTRY_NODE = 0
ENTRY_GPUS = 1
ENTRY_NEXT = 2
ENTRY_DEVICES = 3  # bit g: holds (a share of) GPU g of the node; 0 where devices are not tracked
NUM_ENTRY = 4

# cost (B, 7): running integrals behind the reward's terms, in the order of RewardWeights
COST_COMPLETION = 0  # integral of active jobs, job-seconds: sums to the sum of JCTs
COST_SLOWDOWN = 1  # integral of sum 1 / max(duration, SLOWDOWN_FLOOR_S)
COST_FAIRNESS = 2  # sum of [rho - 1]+ over finished jobs
COST_UTILISATION = 3  # integral of GPUs not usefully busy while jobs are active, GPU-seconds
COST_DEADLINE = 4  # number of deadlines missed
COST_PREEMPTION = 5  # GPU-seconds held without progress because of restarts
COST_ENERGY = 6  # kWh
NUM_COST = 7

# account (B, .): GPU-seconds of the whole run; up = idle + held, held = sum over jobs of attained
UP_GPU_S = 0
IDLE_GPU_S = 1
NUM_ACCOUNT = 2

# result (B, ., W): float64, one row a job of the episode's window that has ended
FINAL_FIRST_START_S = 0
FINAL_FINISH_S = 1
FINAL_ATTAINED_GPU_S = 2
FINAL_HELD_S = 3
FINAL_PREEMPTIONS = 4
FINAL_RESTARTS = 5
FINAL_RHO = 6  # finish-time fairness
FINAL_ARRIVAL_S = 7
FINAL_STATUS = 8
FINAL_OVERHEAD_GPU_S = 9
FINAL_LOST_GPU_S = 10
FINAL_RETRIES = 11
NUM_RESULT = 12

FINISHED_JOB, FAILED_JOB, CANCELLED_JOB = 1, 2, 3
"""How a job ended."""

# log (E, 6): float64, one row an event
LOG_TIME_S = 0
LOG_KIND = 1
LOG_JOB = 2  # index in the workload; -1 for a node's
LOG_GPUS = 3
LOG_NODE = 4  # -1 without
LOG_EXTRA = 5
NUM_LOG = 6

LOG_KINDS = (
    "arrive", "start", "grow", "shrink", "preempt", "finish", "fail", "cancel", "node_down",
    "node_up", "place", "move",
)  # fmt: skip
"""Kinds of event by number; `place` is one row for each node of the start before it."""
(ARRIVE, START, GROW, SHRINK, PREEMPT, FINISH, FAIL, CANCEL, NODE_DOWN, NODE_UP, PLACE, MOVE) = (
    range(12)
)

SLOWDOWN_FLOOR_S = 60.0
"""Shorter jobs do not dominate the slowdown term."""

IDLE_WATT = 60.0
BUSY_WATT = 300.0
"""Board power of a data-centre GPU idle and training (V100 class, vendor's 300 W limit)."""

STOP_WEIGHT, MAX_SETBACKS = 20, 1_000_000
"""50,000 abrupt stops of jobs, or a million failures and repairs of nodes, without an end or an
arrival mean that no job can ever end."""

MOST_TIMES_ASKED = 8
"""Decisions at one instant after the first: rules need one or two, others could go on for ever."""

MAX_IDLE_ROUNDS = 10_000
"""So many rounds with waiting jobs and none running mean that the scheduler is stuck."""
