"""B scheduling games at once, as arrays: what training and evaluation step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from marl_sched.config import Config
from marl_sched.envs import rounds
from marl_sched.envs.conditions import draw_conditions, draw_weights
from marl_sched.envs.episodes import Episode, episode_jobs, load_part, make_world
from marl_sched.envs.learned_agents import AgentDesk
from marl_sched.envs.state import (
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
from marl_sched.envs.state import PER_ENV as GAME_PER_ENV
from marl_sched.errors import UserError
from marl_sched.sim import columns as c
from marl_sched.sim.world import PER_ENV, World

Observation = dict[str, np.ndarray]


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
            status = rounds.begin(
                self.world, self.game, b, episode.first, episode.end, episode.stretch,
                episode.restart_scale, episode.estimate_power,
            )  # fmt: skip
            if status != rounds.NO_ROOM:
                return bool(status == rounds.DECIDES)
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
        if rounds.step_all(self.world.table, self.game.table, actions, reward, dt_s, done):
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
        ended = rounds.step_one(
            self.world.table, self.game.table, b, action, with_reward, self._out
        )
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
