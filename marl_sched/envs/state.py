"""State of the scheduling game beside the simulated world, and the layout of what is seen.

Axes: B environments, K job slots, A algorithms, M = 1 + A + 2K actions, 7 reward terms.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from marl_sched.compiled.records import build_table, record
from marl_sched.config import Config, EnvConfig
from marl_sched.schedulers import Scheduler, get_scheduler
from marl_sched.schedulers.learned.scorer import scorer
from marl_sched.schedulers.rules.elastic_index import (
    elastic_index,
    log_rank_weights,
    write_log_gains,
)
from marl_sched.sim import columns as c
from marl_sched.sim.world import World
from marl_sched.types import (
    Bytes2,
    Flags1,
    Flags2,
    Floats1,
    Floats2,
    Floats3,
    Ints1,
    Ints2,
    Singles2,
    Singles3,
)

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
"""What is seen of each job; estimates carry their error, as far as the index's `trust` corrects
none of it."""

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
MAX_PARAMS = 5
NO_GAIN = -2.0
"""Lowest feature of a gain or loss: no level, or one that is worth next to nothing."""
FIRST_CURVE = 512
"""Epochs of the shadow that there is room for to begin with."""
COMMIT = 0
"""Action: take the proposal, which starts as the base schedule."""


@record
class Game(NamedTuple):
    """Arrays of the game; row i of environment b is row i of its table of active jobs.

    The first part never changes, except that `curve` may grow.
    """

    base: int  # number of the base scheduler
    base_params: Floats1  # (.,) float64
    base_is_index: bool  # the base is the elastic index that values edits
    index_params: Floats1  # (5,) float64 of the elastic index, which values edits
    algorithms: Ints1  # (A,) int64 scheduler numbers
    algorithm_params: Floats2  # (A, .) float64
    allow_algorithms: bool
    allow_edits: bool
    max_edits: int
    behaviour: int  # HONEST, GREEDY, YIELDING or LEARNED
    demand_period_s: float  # a learned agent declares again after this
    look_ahead: bool  # credit by looking ahead instead of by the shadow
    rank_weight: Floats1  # (S,) float64 log a of heSRPT by rank, most work left first
    log_gain: Floats2  # (P, L) float64 log ds, see `elastic_index`
    useful: Ints1  # (P,) int64 levels up to which each brings speed
    all_useful: bool  # every level of every profile does
    gain_feature: Floats2  # (P, L + 1) float64: of the last level, so that l + 1 is the next one's
    size_feature: Floats2  # (P, L) float64, of whole GPUs

    weights: Floats2  # (B, 7) float64, on the simplex
    proposal: Ints2  # (B, S) int64 levels
    score: Floats3  # (B, S, L) float64 index score of each level, see `elastic_index`
    bid_up: Floats2  # (B, S) float64 score of one level more; -inf: none, or edited
    bid_down: Floats2  # (B, S) float64 score of the last level proposed; +inf: none, or edited
    price: Floats1  # (B,) float64 score at which GPUs change hands
    scored: Flags1  # (B,) bool: `score` is of this round
    pinned: Flags2  # (B, S) bool: edited in this round
    slot: Ints2  # (B, K) int64 row in the active table, -1 when empty
    shown: Ints1  # (B,) int64 slots that are not empty, the first ones
    slot_of: Ints2  # (B, S) int64 the inverse, -1 without a slot
    edits: Ints1  # (B,) int64 edits made in this round
    changed: Flags1  # (B,) bool: the proposal may differ from the base schedule
    fresh: Flags1  # (B,) bool: no sub-step taken in this round yet
    free: Floats1  # (B,) float64 GPUs of those that can be used that the proposal leaves
    room: Floats1  # (B,) float64 GPUs that it leaves or gives to jobs not edited yet
    moved: Ints1  # (B,) int64 jobs whose level the proposal changes
    work: Floats2  # (B, S) float64 estimated single-GPU seconds left
    log_work: Floats2  # (B, S) float64
    order: Ints2  # (B, S) int64 rows by work, most first
    ordered: Ints1  # (B,) int64 how many rows are in order
    scratch: Floats2  # (B, 3 K) float64
    last_s: Floats1  # (B,) float64 time of the last decision
    elapsed_s: Floats1  # (B,) float64 between the last two decisions
    expected_cost: Floats2  # (B, 7) float64 of the episode, base schedule from now on
    ahead: Floats2  # (B, 7) float64 what the shadow has paid more until the last decision
    shadow_cost: Floats2  # (B, 7) float64 of the whole episode under the base schedule
    curve: Floats3  # (B, E, 8) float64 time and cost of the shadow at each of its epochs
    curve_end: Ints1  # (B,) int64 rows of it
    curve_at: Ints1  # (B,) int64 the last row that is not in the future
    norm: Floats2  # (B, 7) float64 > 0: the shadow's cost, floored
    decisions: Ints1  # (B,) int64 in this episode
    episode_return: Floats1  # (B,) float64, percent

    declared_s: Floats2  # (B, J) float64 when the job's agent last declared; NaN: never
    declared_level: Ints2  # (B, J) int64
    redeclared: Flags1  # (B,) bool: since the expected cost was booked

    jobs: Singles3  # (B, K, F) float32 observation
    cluster: Singles2  # (B, C) float32
    globals: Singles2  # (B, G) float32
    mask: Bytes2  # (B, M) int8
    table: np.ndarray  # (.,) int64, of this record


HONEST, GREEDY, YIELDING, LEARNED = 0, 1, 2, 3
BEHAVIOURS = {"honest": HONEST, "greedy": GREEDY, "yielding": YIELDING, "learned": LEARNED}

SHARED = Game._fields[: Game._fields.index("weights")]
"""Fields that the game never changes."""

PER_ENV = tuple(name for name in Game._fields if name not in (*SHARED, "scratch", "table"))
"""Fields that change: all that a snapshot needs."""


AGENT_FEATURES = JOB_FEATURES + GLOBAL_FEATURES
"""What a job's agent sees: itself and the pressure on the cluster."""


def num_actions(env: EnvConfig) -> int:
    """M: commit, each algorithm, each slot up, each slot down."""
    return 1 + len(env.algorithms) + 2 * env.job_slots


def reward_weights(env: EnvConfig) -> np.ndarray:
    """(7,) float64 on the simplex, in the order of the cost columns."""
    weights = np.array(list(env.reward.model_dump().values()), dtype=np.float64)
    return weights / weights.sum()


def index_of(base: Scheduler) -> Scheduler:
    """The elastic index that values edits: the one in the base schedule, else the tuned one."""
    index = get_scheduler("elastic_index:tuned")
    known = base.rule in (elastic_index, scorer)
    return index.with_params(base.params) if known else index


def build_game(config: Config, world: World, num_envs: int) -> Game:
    """Allocate the game's arrays for `world`."""
    env = config.env
    base = get_scheduler(env.base)
    index = index_of(base)
    algorithms = [get_scheduler(name) for name in env.algorithms]
    b, rows, slots = num_envs, world.target.shape[1], env.job_slots
    num_jobs = world.result.shape[2]
    game = Game(
        base=base.number,
        base_params=_padded(base.param_array),
        base_is_index=base.number == index.number,
        index_params=_padded(index.param_array),
        algorithms=np.array([a.number for a in algorithms], dtype=np.int64),
        algorithm_params=_stacked([a.param_array for a in algorithms]),
        allow_algorithms=env.actions in ("meta", "full"),
        allow_edits=env.actions in ("edit", "full"),
        max_edits=env.max_edits,
        behaviour=BEHAVIOURS[env.agents],
        demand_period_s=float(env.demand_period_s),
        # The shadow is played once, before anybody has declared.
        look_ahead=env.credit == "lookahead" or env.agents == "learned",
        rank_weight=log_rank_weights(np.arange(rows, 0.0, -1.0), index.param_array[0]),
        **_profile_tables(world),
        weights=np.repeat(reward_weights(env)[None], b, axis=0),
        proposal=np.zeros((b, rows), dtype=np.int64),
        score=np.zeros((b, rows, world.sizes.shape[1])),
        bid_up=np.zeros((b, rows)),
        bid_down=np.zeros((b, rows)),
        price=np.zeros(b),
        scored=np.zeros(b, dtype=np.bool_),
        pinned=np.zeros((b, rows), dtype=np.bool_),
        slot=np.full((b, slots), -1, dtype=np.int64),
        shown=np.zeros(b, dtype=np.int64),
        slot_of=np.full((b, rows), -1, dtype=np.int64),
        edits=np.zeros(b, dtype=np.int64),
        changed=np.zeros(b, dtype=np.bool_),
        fresh=np.ones(b, dtype=np.bool_),
        free=np.zeros(b),
        room=np.zeros(b),
        moved=np.zeros(b, dtype=np.int64),
        work=np.zeros((b, rows)),
        log_work=np.zeros((b, rows)),
        order=np.zeros((b, rows), dtype=np.int64),
        ordered=np.zeros(b, dtype=np.int64),
        scratch=np.zeros((b, 3 * slots)),
        last_s=np.zeros(b),
        elapsed_s=np.zeros(b),
        expected_cost=np.zeros((b, NUM_TERMS)),
        ahead=np.zeros((b, NUM_TERMS)),
        shadow_cost=np.zeros((b, NUM_TERMS)),
        curve=np.zeros((b, FIRST_CURVE, 1 + NUM_TERMS)),
        curve_end=np.zeros(b, dtype=np.int64),
        curve_at=np.zeros(b, dtype=np.int64),
        norm=np.ones((b, NUM_TERMS)),
        decisions=np.zeros(b, dtype=np.int64),
        episode_return=np.zeros(b),
        declared_s=np.full((b, num_jobs), np.nan),
        declared_level=np.zeros((b, num_jobs), dtype=np.int64),
        redeclared=np.zeros(b, dtype=np.bool_),
        jobs=np.zeros((b, slots, len(JOB_FEATURES)), dtype=np.float32),
        cluster=np.zeros((b, len(CLUSTER_FEATURES)), dtype=np.float32),
        globals=np.zeros((b, len(GLOBAL_FEATURES)), dtype=np.float32),
        mask=np.zeros((b, num_actions(env)), dtype=np.int8),
        table=np.empty(0, dtype=np.int64),
    )
    return sealed(game)


def sealed(game: Game) -> Game:
    """The same arrays with the table that kernels read, after any array was replaced."""
    return game._replace(table=build_table(game))


def with_curve_of(game: Game, rows: int) -> Game:
    """The same game with room for `rows` epochs of the shadow in each environment."""
    curve = np.zeros((game.curve.shape[0], rows, game.curve.shape[2]))
    kept = min(rows, game.curve.shape[1])
    curve[:, :kept] = game.curve[:, :kept]
    return sealed(game._replace(curve=curve))


def _profile_tables(world: World) -> dict[str, Any]:
    """What of scores and features depends on a profile and a level alone."""
    profiles, levels = world.sizes.shape
    log_gain = np.empty((profiles, levels))
    for profile, most in enumerate(world.num_levels):
        sizes = world.sizes[profile, : most + 1]
        write_log_gains(sizes, world.nominal_rates[profile, : most + 1], log_gain[profile])
    feature = np.full((profiles, levels + 1), NO_GAIN)
    feature[:, 1:] = np.maximum(log_gain / 4.0, NO_GAIN)
    size_feature = np.log2(1.0 + world.sizes) / np.log2(1.0 + world.total[0])
    useful = (log_gain > -np.inf).sum(axis=1)
    return {
        "log_gain": log_gain,
        "useful": useful,
        "all_useful": bool((useful == world.num_levels).all()),
        "gain_feature": feature,
        "size_feature": size_feature,
    }


def _stacked(params: list[np.ndarray]) -> np.ndarray:
    """(A, longest) float64, shorter ones followed by zeros."""
    out = np.zeros((len(params), max(MAX_PARAMS, *(each.size for each in params))))
    for row, each in zip(out, params, strict=True):
        row[: each.size] = each
    return out


def _padded(params: np.ndarray) -> np.ndarray:
    out = np.zeros(max(MAX_PARAMS, params.size))
    out[: params.size] = params
    return out
