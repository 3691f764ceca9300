"""B scheduling games at once, as arrays: what training and evaluation step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import gymnasium as gym
import numpy as np

from marl_sched.config import Config, WorkloadConfig
from marl_sched.envs import rules
from marl_sched.envs.agents import AgentDesk
from marl_sched.envs.conditions import draw_conditions, draw_weights
from marl_sched.envs.game import (
    CLUSTER_FEATURES,
    GLOBAL_FEATURES,
    JOB_FEATURES,
    NUM_TERMS,
    Game,
    build_game,
    num_actions,
    reward_weights,
    with_curve_of,
)
from marl_sched.envs.game import PER_ENV as GAME_PER_ENV
from marl_sched.errors import UserError, do_you_mean, quoted
from marl_sched.sim import columns as c
from marl_sched.sim.build import world_of
from marl_sched.sim.world import PER_ENV, World
from marl_sched.types import Cluster
from marl_sched.workload import Workload, load_workload
from marl_sched.workload.trace import load_draws

PARTS = ("train", "validation", "test")
WHOLE = "whole"
"""The workload undivided, of a cluster that training saw nothing of."""

Observation = dict[str, np.ndarray]


@dataclass(frozen=True)
class Episode:
    """Jobs [first, end) of a part of the workload, and the conditions that they meet."""

    first: int
    end: int
    stretch: float = 1.0
    """Factor of the gaps between arrivals."""
    restart_scale: float = 1.0
    """Factor of the world's restart costs."""
    estimate_power: float = 1.0
    """Exponent of the factors by which the world's size estimates are off."""


Quotas = tuple[tuple[str, float], ...]
"""`sim.tenant_quota`, as what a cache can compare."""


@lru_cache(maxsize=4)
def _load_whole(settings: WorkloadConfig, cluster: str, seed: int, quotas: Quotas) -> Workload:
    return load_workload(settings, Cluster.parse(cluster), seed, dict(quotas))


@lru_cache(maxsize=64)
def _load_parts(
    settings: WorkloadConfig, cluster: str, seed: int, quotas: Quotas
) -> tuple[Workload, Workload, Workload]:
    workload = _load_whole(settings, cluster, seed, quotas)
    return _split(workload, settings, Cluster.parse(cluster))


@lru_cache(maxsize=8)
def _load_drawn(
    settings: WorkloadConfig, cluster: str, seed: int, quotas: Quotas, part: str, draws: int
) -> Workload:
    machines = Cluster.parse(cluster)
    drawn = load_draws(settings, machines, draw_seeds(seed, draws), dict(quotas))
    if part != WHOLE:
        drawn = [_split(one, settings, machines)[PARTS.index(part)] for one in drawn]
    return Workload.join(drawn)


def _split(
    workload: Workload, settings: WorkloadConfig, machines: Cluster
) -> tuple[Workload, Workload, Workload]:
    """The parts of a workload, each at the configured load."""
    parts = workload.split(settings.split)
    for part, name in zip(parts, PARTS, strict=True):
        if len(part) == 0:
            raise UserError(
                f"{workload.name}: no job falls into the {name} part of {len(workload)} jobs; "
                "use a longer trace or another --set workload.split=[..]"
            )
    if settings.load is not None:
        # Each part carries the load that was asked for, not the trace's share of it.
        train, validation, test = (
            part.with_load(settings.load, machines.num_gpus) for part in parts
        )
        return train, validation, test
    return parts


def load_part(config: Config, part: str) -> Workload:
    """A chronological part of the configured workload, `train`, `validation` or `test`, or all
    of it, `whole`; where `evaluation.draws` asks for several draws, they follow each other.

    Training has the seed's own draw alone.

    Raises:
        UserError: for another part, or a workload that cannot be loaded.
    """
    if part not in (*PARTS, WHOLE):
        known = ", ".join((*PARTS, WHOLE))
        hint = do_you_mean(str(part), (*PARTS, WHOLE))
        raise UserError(f"part {quoted(part)} of the workload is none of {known}{hint}")
    quotas = tuple(sorted(config.sim.tenant_quota.items()))
    wanted = config.workload, config.cluster, config.seed, quotas
    draws = config.evaluation.draws or 1
    if part != PARTS[0] and draws > 1:
        return _load_drawn(*wanted, part, draws)
    return _load_whole(*wanted) if part == WHOLE else _load_parts(*wanted)[PARTS.index(part)]


def draw_seeds(seed: int, draws: int) -> tuple[int, ...]:
    """The seeds of an evaluation's draws: its own, and others that no nearby seed has too."""
    further = [np.random.SeedSequence([seed, k]).generate_state(1)[0] for k in range(1, draws)]
    return (seed, *(int(one) for one in further))


MIN_EPISODE_JOBS, MAX_EPISODE_JOBS = 256, 1024
FILLS = 2.0
"""An episode asks for this many times the cluster's GPUs: it starts and ends with an empty
cluster, and jobs have to compete in between."""


def episode_jobs(config: Config, part: Workload) -> int:
    """Jobs in one episode of `part`: as configured, else enough to fill the cluster."""
    jobs = config.env.jobs_per_episode
    if jobs is None:
        gpus = Cluster.parse(config.cluster).num_gpus
        wanted = int(FILLS * gpus / (part.num_gpus * part.demand[:, 0]).mean())
        jobs = min(max(wanted, MIN_EPISODE_JOBS), MAX_EPISODE_JOBS)
    return min(jobs, len(part))


def spread_episodes(part: Workload, episodes: int, jobs: int) -> list[Episode]:
    """`episodes` windows of `jobs` jobs, evenly spread over `part`, at its own arrival times."""
    jobs = min(jobs, len(part))
    starts = np.unique(np.linspace(0, len(part) - jobs, episodes).astype(int))
    return [Episode(int(first), int(first) + jobs) for first in starts]


def observation_space(config: Config) -> gym.spaces.Dict:
    """The scheduler's observation: jobs (K, F), cluster, globals, weights, mask (M)."""

    def box(*shape: int) -> gym.spaces.Box:
        return gym.spaces.Box(-np.inf, np.inf, shape, np.float32)

    return gym.spaces.Dict(
        {
            "jobs": box(config.env.job_slots, len(JOB_FEATURES)),
            "cluster": box(len(CLUSTER_FEATURES)),
            "globals": box(len(GLOBAL_FEATURES)),
            "weights": box(NUM_TERMS),
            "mask": gym.spaces.Box(0, 1, (num_actions(config.env),), np.int8),
        }
    )


def action_space(config: Config) -> gym.spaces.Discrete:
    """commit | algorithm a | slot k one level up | slot k one level down."""
    return gym.spaces.Discrete(num_actions(config.env))


def spec_spaces(config: Config) -> tuple[gym.spaces.Dict, gym.spaces.Discrete]:
    """Observation and action space of the scheduler."""
    return observation_space(config), action_space(config)


def make_world(config: Config, part: Workload, num_envs: int, window: int) -> World:
    """A world over `part` with the configured cluster, estimates and rules."""
    cluster, noise = Cluster.parse(config.cluster), config.workload.estimate_noise
    return world_of(part, cluster, config.sim, noise, config.seed, num_envs=num_envs, window=window)


class BatchedSchedulingEnv:
    """`num_envs` games over one part of the workload, stepped together.

    The compiled twin of `SchedulingEnv`: the same kernels with more than one environment.
    Episodes end when their jobs have finished, never by truncation, and restart by
    themselves with jobs and load drawn from the environment's own generator.

    Args:
        config: the experiment.
        num_envs: B.
        seed: of the episode draws; equal seeds give equal episodes.
        part: `train`, `validation` or `test`.
    """

    def __init__(self, config: Config, num_envs: int, seed: int, part: str = "train") -> None:
        self.config = config
        self.num_envs = num_envs
        self.workload = load_part(config, part)
        self.window = episode_jobs(config, self.workload)
        # One environment more than asked for: the rules look ahead there.
        self.world: World = make_world(config, self.workload, num_envs + 1, self.window)
        self.game: Game = build_game(config, self.world, num_envs)
        self.observation_space, self.action_space = spec_spaces(config)
        self._out = np.zeros(2)
        self._weights = self.game.weights.astype(np.float32)
        self._own_weights = reward_weights(config.env)
        self._rng = np.random.default_rng(seed)
        self._episode = [Episode(0, self.window)] * num_envs
        self._finished: list[dict[str, float]] = []
        self.agents = AgentDesk(config, self.world, self.game)
        """Learned agents declare here before the scheduler acts."""
        self._own_load = self.workload.offered_load(int(self.world.total[0]))

    def draw_episode(self) -> Episode:
        """A random window of the part under random conditions, see `envs.conditions`."""
        first = int(self._rng.integers(0, len(self.workload) - self.window + 1))
        met = draw_conditions(self.config, self._own_load, self._own_load, self._rng)
        noise = self.config.workload.estimate_noise
        power = met.estimate_noise / noise if noise > 0 else 1.0
        return Episode(first, first + self.window, met.stretch, met.restart_scale, power)

    def begin(self, b: int, episode: Episode) -> bool:
        """Start `episode` in environment `b`; False when it ends without a decision."""
        self._episode[b] = episode
        while True:
            status = rules.begin(
                self.world, self.game, b, episode.first, episode.end, episode.stretch,
                episode.restart_scale, episode.estimate_power,
            )  # fmt: skip
            if status != rules.NO_ROOM:
                return bool(status == rules.DECIDES)
            self._set_game(with_curve_of(self.game, 2 * self.game.curve.shape[1]))

    def _set_game(self, game: Game) -> None:
        self.game = game
        self.agents.game = game

    def seed(self, seed: int) -> None:
        """Restart the draws of episodes from `seed`."""
        self._rng = np.random.default_rng(seed)

    def begin_drawn(self, b: int) -> None:
        """Start an episode drawn at random in environment `b`."""
        for _ in range(100):
            weights = self._own_weights
            if self.config.env.train_weights:
                weights = draw_weights(self.config, self._rng)
            self.game.weights[b] = self._weights[b] = weights
            if self.begin(b, self.draw_episode()):
                return
        raise UserError(
            f"{self.workload.name}: 100 episodes in a row left the scheduler nothing to decide; "
            "raise the load (--load 0.9) or take a smaller cluster"
        )

    def reset(self) -> Observation:
        """Begin an episode in every environment; the first observations, each (B, ..)."""
        for b in range(self.num_envs):
            self.begin_drawn(b)
        return self.observation()

    def observation(self, rows: np.ndarray | None = None) -> Observation:
        """Copies of the current observations, of all environments or of `rows`."""
        game = self.game
        arrays = {
            "jobs": game.jobs,
            "cluster": game.cluster,
            "globals": game.globals,
            "weights": self._weights,
            "mask": game.mask,
        }
        return {key: value.copy() if rows is None else value[rows] for key, value in arrays.items()}

    def step(self, actions: np.ndarray) -> tuple[Observation, np.ndarray, np.ndarray, np.ndarray]:
        """One sub-step everywhere.

        Args:
            actions: (B,) int64; an illegal one counts as commit.

        Returns:
            observation after it (of the next episode where done), reward (B,) float64 in
            percent, simulated seconds passed (B,) float64, done (B,) bool.
        """
        reward = np.empty(self.num_envs)
        dt_s = np.empty(self.num_envs)
        done = np.empty(self.num_envs, dtype=np.bool_)
        actions = np.ascontiguousarray(actions, dtype=np.int64)
        if rules.step_all(self.world.table, self.game.table, actions, reward, dt_s, done):
            for b in np.flatnonzero(done).tolist():
                self._finished.append(self.episode_summary(b))
                self.agents.close_episode(b)
                self.begin_drawn(b)
        return self.observation(), reward, dt_s, done

    def play_fixed(
        self,
        act: Callable[[Observation], np.ndarray],
        episodes: list[Episode],
        demand: Callable[[Observation], np.ndarray] | None = None,
    ) -> None:
        """Play one given episode in each environment to its end; nothing restarts.

        Args:
            act: observation arrays of the running environments -> their actions.
            episodes: B episodes.
            demand: the same for learned agents that have to declare; None: they are honest.
        """
        running = np.array([self.begin(b, episode) for b, episode in enumerate(episodes)])
        while running.any():
            if demand is not None:
                envs, slots = self.agents.due()
                alive = running[envs]
                envs, slots = envs[alive], slots[alive]
                if envs.size:
                    obs = self.agents.observe(envs, slots)
                    self.agents.declare(envs, slots, obs, demand(obs))
            rows = np.flatnonzero(running)
            actions = act(self.observation(rows))
            for b, action in zip(rows.tolist(), actions, strict=True):
                running[b] = not self.step_one(b, int(action), with_reward=False)[2]

    def step_one(
        self, b: int, action: int, *, with_reward: bool = True
    ) -> tuple[float, float, bool]:
        """One sub-step in environment `b`: reward, simulated seconds, whether the episode ended.

        The next one does not begin by itself.
        """
        ended = rules.step_one(self.world.table, self.game.table, b, action, with_reward, self._out)
        return float(self._out[0]), float(self._out[1]), bool(ended)

    def episode_summary(self, b: int) -> dict[str, float]:
        """Figures of the episode that has just ended in environment `b`."""
        jobs = int(self.world.env_k[b, c.NUM_ENDED])
        jct = float(self.world.cost[b, c.COST_COMPLETION]) / jobs
        shadow = float(self.game.shadow_cost[b, c.COST_COMPLETION]) / jobs
        return {
            "return": float(self.game.episode_return[b]),
            "avg_jct_s": jct,
            "shadow_avg_jct_s": shadow,
            "jct_vs_base_percent": 100.0 * (jct / shadow - 1.0),
            "num_jobs": float(jobs),
            "decisions": float(self.game.decisions[b]),
            "load": self._own_load / self._episode[b].stretch,
        }

    def pop_episodes(self) -> list[dict[str, float]]:
        """Summaries of the episodes that ended since the last call."""
        finished, self._finished = self._finished, []
        return finished

    def get_state(self) -> dict[str, Any]:
        """Everything that changes, to go on later exactly as now."""
        return {
            "world": {name: getattr(self.world, name).copy() for name in PER_ENV},
            "game": {name: getattr(self.game, name).copy() for name in GAME_PER_ENV},
            "rng": self._rng.bit_generator.state,
            "episode": list(self._episode),
            "finished": list(self._finished),
            "agents": self.agents.get_state(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from what `get_state` gave.

        What was played under other reward weights than the configured ones is left: an episode
        has one set of weights, and a new one begins.
        """
        for name, value in state["world"].items():
            getattr(self.world, name)[...] = value
        self._set_game(with_curve_of(self.game, state["game"]["curve"].shape[1]))
        for name, value in state["game"].items():
            getattr(self.game, name)[...] = value
        self._weights = self.game.weights.astype(np.float32)
        self._rng.bit_generator.state = state["rng"]
        self._episode = list(state["episode"])
        self._finished = list(state["finished"])
        self.agents.set_state(state["agents"])
        if not self.config.env.train_weights:
            for b in np.flatnonzero((self.game.weights != self._own_weights).any(axis=1)).tolist():
                self.agents.forget_episode(b)
                self.begin_drawn(b)
