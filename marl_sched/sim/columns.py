"""Rows of the simulator's state arrays.

The state is a handful of arrays with a named row axis instead of sixty single arrays: compiled
kernels then take few arguments, and each row stays contiguous over jobs.
"""

# job_f (., J): the workload, float64
JOB_ARRIVAL_S = 0
JOB_DURATION_S = 1
JOB_PRIORITY = 2
JOB_DEADLINE_S = 3  # after the arrival, not absolute; +inf without one
JOB_EST_FACTOR = 4  # estimate / truth
NUM_JOB_F = 5

# job_k (., J): the workload, int64
JOB_PROFILE = 0
JOB_TENANT = 1
NUM_JOB_K = 2

# profile_f (., P)
PROFILE_RESTART_S = 0
PROFILE_BEST_EFFICIENCY = 1  # highest progress per GPU over the allowed sizes
NUM_PROFILE_F = 2

# env_f (B, .): float64, one environment each
NOW_S = 0
ROUND_AT_S = 1
ORIGIN_S = 2  # trace time of the first arrival
STRETCH = 3  # simulated seconds per trace second between arrivals
PRESSURE_S = 4  # integral of (GPUs asked by active jobs / GPUs of the cluster)
NUM_ENV_F = 5

# env_k (B, .): int64
FIRST_JOB = 0
END_JOB = 1
CURSOR = 2  # next job to arrive
NUM_ACTIVE = 3
NUM_FINISHED = 4
POOL_FREE = 5  # head of the free list of placement entries
IDLE_ROUNDS = 6  # rounds in a row on which no job ran and none arrived
NUM_ENV_K = 7

# slot_f (B, ., S): float64, one active job each, rows [:num_active]
ARRIVAL_S = 0
DURATION_S = 1
REMAINING_S = 2  # isolated seconds on the request
ATTAINED_GPU_S = 3
HELD_S = 4
RUN_SINCE_S = 5  # NaN while waiting
WAITING_SINCE_S = 6
RESUME_AT_S = 7  # progress begins here
FINISH_AT_S = 8  # +inf while waiting
RATE = 9
FIRST_START_S = 10  # NaN before it
EST_TOTAL_S = 11
EST_REMAINING_S = 12
RESTART_S = 13  # cost of the next (re)start or resize
PRIORITY = 14
DEADLINE_S = 15  # absolute
PRESSURE_AT_ARRIVAL_S = 16
NUM_SLOT_F = 17

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
NUM_SLOT_K = 9

# pool (B, 3, 2R): int64, placement entries: a linked list for each running job
ENTRY_NODE = 0
ENTRY_GPUS = 1
ENTRY_NEXT = 2
NUM_ENTRY = 3

# cost (B, 7): running integrals behind the reward's terms, in the order of RewardWeights
COST_COMPLETION = 0  # integral of active jobs, job-seconds: sums to the sum of JCTs
COST_SLOWDOWN = 1  # integral of sum 1 / max(duration, SLOWDOWN_FLOOR_S)
COST_FAIRNESS = 2  # sum of [rho - 1]+ over finished jobs
COST_UTILISATION = 3  # integral of GPUs not usefully busy while jobs are active, GPU-seconds
COST_DEADLINE = 4  # number of deadlines missed
COST_PREEMPTION = 5  # GPU-seconds held without progress because of restarts
COST_ENERGY = 6  # kWh
NUM_COST = 7

# result (B, ., W): float64, one row a finished job of the episode's window
FINAL_FIRST_START_S = 0
FINAL_FINISH_S = 1
FINAL_ATTAINED_GPU_S = 2
FINAL_HELD_S = 3
FINAL_PREEMPTIONS = 4
FINAL_RESTARTS = 5
FINAL_RHO = 6  # finish-time fairness
FINAL_ARRIVAL_S = 7
NUM_RESULT = 8

SLOWDOWN_FLOOR_S = 60.0
"""Shorter jobs do not dominate the slowdown term."""

IDLE_WATT = 60.0
BUSY_WATT = 300.0
"""Board power of a data-centre GPU idle and training (V100 class, vendor's 300 W limit)."""

MAX_IDLE_ROUNDS = 10_000
"""So many rounds with waiting jobs and none running mean that the scheduler is stuck."""
