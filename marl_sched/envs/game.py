"""State of the scheduling game beside the simulated world, and the layout of what is seen.

Axes: B environments, K job slots, A algorithms, M = 1 + A + 2K actions, 7 reward terms.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from marl_sched.config import Config, EnvConfig
from marl_sched.schedulers import get_scheduler
from marl_sched.sim import columns as c
from marl_sched.sim.world import World

JOB_FEATURES = (
    "occupied",
    "log_work",  # log of single-GPU work left over the mean of the active jobs, / 4
    "rank",  # share of active jobs with less work left
    "request",  # log2(1 + GPUs) / log2(1 + R), as the next three
    "held",
    "proposed",
    "most",
    "waiting",
    "unstarted",
    "log_age",  # log(1 + age / mean estimated run time left) / 4
    "log_friction",  # log(1 + restart cost / estimated run time left)
    "log_gain_up",  # log of speed gained per GPU by one level more, single-GPU speed = 1; / 4
    "log_loss_down",  # the same for one level less
    "log_rank_weight",  # heSRPT's weight, relative to the heaviest job; / 4
    "can_go_up",
    "log_held_for",  # log(1 + time since the start of this run / round); / 4
    "progress",  # attained over estimated total, in (0, 1)
    "change",  # sign of proposed - held
    "bid_up",  # index score of one level more, less the price; / 2, in [-2, 2]
    "bid_down",  # index score of the last level given, less the price; / 2, in [-2, 2]
    "edited",  # moved in this round already
)
"""What is seen of each job; estimates carry their error."""

CLUSTER_FEATURES = (
    "free_now",  # GPUs, share of R
    "free_proposed",
    "emptiest_node",  # free share of the node with most free GPUs
    "idle_nodes",  # share of nodes
    "log_nodes",  # log2(1 + N) / 12
    "log_gpus",  # log2(1 + R) / 12
)

GLOBAL_FEATURES = (
    "log_jobs",  # log(1 + active) / 8
    "waiting",  # share of active jobs
    "log_asked",  # log(1 + GPUs asked / R)
    "log_most",  # log(1 + GPUs usable / R)
    "overflow",  # share of active jobs without a slot
    "tail_work",  # their share of the work left
    "tail_asked",  # log(1 + GPUs they ask / R)
    "log_elapsed",  # log(1 + time since the last decision / round)
    "edits_left",  # share
    "changes",  # share of active jobs whose level the proposal changes
    "spread",  # standard deviation of log work, / 4
    "log_round",  # log(1 + mean estimated run time left / round) / 8
)

NUM_TERMS = c.NUM_COST
MAX_PARAMS = 4
COMMIT = 0
"""Action: take the proposal, which starts as the base schedule."""


class Game(NamedTuple):
    """Arrays of the game; `proposal[b, i]` belongs to row i of the table of active jobs."""

    base: int  # number of the base scheduler
    base_params: np.ndarray  # (4,) float64
    index_params: np.ndarray  # (4,) float64 of the elastic index, which values edits
    algorithms: np.ndarray  # (A,) int64 scheduler numbers
    algorithm_params: np.ndarray  # (A, 4) float64
    allow_algorithms: bool
    allow_edits: bool
    max_edits: int
    behaviour: int  # HONEST, GREEDY, YIELDING or LEARNED
    demand_period_s: float  # a learned agent declares again after this
    weights: np.ndarray  # (B, 7) float64, on the simplex

    proposal: np.ndarray  # (B, S) int64 levels
    score: np.ndarray  # (B, S, L) float64 index score of each level, see `elastic_index`
    price: np.ndarray  # (B,) float64 score at which GPUs change hands
    pinned: np.ndarray  # (B, S) bool: edited in this round
    slot: np.ndarray  # (B, K) int64 row in the active table, -1 when empty
    edits: np.ndarray  # (B,) int64 edits made in this round
    changed: np.ndarray  # (B,) bool: the proposal may differ from the base schedule
    fresh: np.ndarray  # (B,) bool: no sub-step taken in this round yet
    rank_weight: np.ndarray  # (B, S) float64 log a_i - max
    work: np.ndarray  # (B, S) float64 estimated single-GPU seconds left
    rank: np.ndarray  # (B, S) float64 share of jobs with less work left
    last_s: np.ndarray  # (B,) float64 time of the last decision
    elapsed_s: np.ndarray  # (B,) float64 between the last two decisions
    expected_cost: np.ndarray  # (B, 7) float64 of the whole episode, base schedule from now on
    shadow_cost: np.ndarray  # (B, 7) float64 of the whole episode under the base schedule
    norm: np.ndarray  # (B, 7) float64 > 0: the same, floored
    decisions: np.ndarray  # (B,) int64 in this episode
    episode_return: np.ndarray  # (B,) float64, percent

    declared_s: np.ndarray  # (B, J) float64 when the job's agent last declared; NaN: never
    declared_level: np.ndarray  # (B, J) int64
    redeclared: np.ndarray  # (B,) bool: since the expected cost was booked

    jobs: np.ndarray  # (B, K, F) float32 observation
    cluster: np.ndarray  # (B, C) float32
    globals: np.ndarray  # (B, G) float32
    mask: np.ndarray  # (B, M) int8


HONEST, GREEDY, YIELDING, LEARNED = 0, 1, 2, 3
BEHAVIOURS = {"honest": HONEST, "greedy": GREEDY, "yielding": YIELDING, "learned": LEARNED}

SHARED = (
    "base", "base_params", "index_params", "algorithms", "algorithm_params",
    "allow_algorithms", "allow_edits", "max_edits", "behaviour", "demand_period_s",
)  # fmt: skip
"""Fields that the game never changes."""


AGENT_FEATURES = JOB_FEATURES + GLOBAL_FEATURES
"""What a job's agent sees: itself and the pressure on the cluster."""


def num_actions(env: EnvConfig) -> int:
    """M: commit, each algorithm, each slot up, each slot down."""
    return 1 + len(env.algorithms) + 2 * env.job_slots


def reward_weights(env: EnvConfig) -> np.ndarray:
    """(7,) float64 on the simplex, in the order of the cost columns."""
    weights = np.array(list(env.reward.model_dump().values()), dtype=np.float64)
    return weights / weights.sum()


def build_game(config: Config, world: World, num_envs: int) -> Game:
    """Allocate the game's arrays for `world`."""
    env = config.env
    slots = world.slot_f.shape[2]
    num_jobs = world.result.shape[2]
    shown = env.job_slots
    base = get_scheduler(env.base)
    algorithms = [get_scheduler(name) for name in env.algorithms]
    actions = config.env.actions
    b = num_envs
    return Game(
        base=base.number,
        base_params=_padded(base.param_array),
        index_params=_padded(get_scheduler("elastic_index").param_array),
        algorithms=np.array([a.number for a in algorithms], dtype=np.int64),
        algorithm_params=np.stack([_padded(a.param_array) for a in algorithms]),
        allow_algorithms=actions in ("meta", "full"),
        allow_edits=actions in ("edit", "full"),
        max_edits=env.max_edits,
        behaviour=BEHAVIOURS[env.agents],
        demand_period_s=float(env.demand_period_s),
        weights=np.repeat(reward_weights(env)[None], b, axis=0),
        proposal=np.zeros((b, slots), dtype=np.int64),
        score=np.zeros((b, slots, world.sizes.shape[1])),
        price=np.zeros(b),
        pinned=np.zeros((b, slots), dtype=np.bool_),
        slot=np.full((b, shown), -1, dtype=np.int64),
        edits=np.zeros(b, dtype=np.int64),
        changed=np.zeros(b, dtype=np.bool_),
        fresh=np.ones(b, dtype=np.bool_),
        rank_weight=np.zeros((b, slots)),
        work=np.zeros((b, slots)),
        rank=np.zeros((b, slots)),
        last_s=np.zeros(b),
        elapsed_s=np.zeros(b),
        expected_cost=np.zeros((b, NUM_TERMS)),
        shadow_cost=np.zeros((b, NUM_TERMS)),
        norm=np.ones((b, NUM_TERMS)),
        decisions=np.zeros(b, dtype=np.int64),
        episode_return=np.zeros(b),
        declared_s=np.full((b, num_jobs), np.nan),
        declared_level=np.zeros((b, num_jobs), dtype=np.int64),
        redeclared=np.zeros(b, dtype=np.bool_),
        jobs=np.zeros((b, shown, len(JOB_FEATURES)), dtype=np.float32),
        cluster=np.zeros((b, len(CLUSTER_FEATURES)), dtype=np.float32),
        globals=np.zeros((b, len(GLOBAL_FEATURES)), dtype=np.float32),
        mask=np.zeros((b, num_actions(env)), dtype=np.int8),
    )


def _padded(params: np.ndarray) -> np.ndarray:
    out = np.zeros(max(MAX_PARAMS, params.size))
    out[: params.size] = params
    return out
