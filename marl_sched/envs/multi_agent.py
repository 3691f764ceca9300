"""The scheduling game as RLlib's `MultiAgentEnv`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from ray.rllib.env.multi_agent_env import MultiAgentEnv
from ray.rllib.utils.annotations import override
from ray.tune.registry import register_env

from marl_sched.config import Config, validate_config
from marl_sched.envs.batched import BatchedSchedulingEnv
from marl_sched.envs.learned_agents import (
    Demand,
    agent_action_space,
    agent_observation_space,
    record_demand,
    reward_since,
)
from marl_sched.errors import UserError, do_you_mean, quoted
from marl_sched.quantities import MOST_SEED, is_whole

SCHEDULER = "scheduler"
ENV_NAME = "marl_sched.SchedulingEnv"

Values = dict[str, Any]


def job_agent(slot: int) -> str:
    """Agent id of a job slot."""
    return f"job_{slot}"


class SchedulingEnv(MultiAgentEnv):
    """Deep-learning agents compete for shared GPUs under a central scheduler.

    One round: (1) with learned agents (`env.agents: learned`), those that are due declare how
    many GPUs their jobs ask for; (2) the scheduler edits the base schedule, or takes an
    algorithm's, in sub-steps until it commits; (3) the simulator runs to the next epoch that
    leaves a choice. Agent ids are `scheduler` and the slots `job_0`, `job_1`, ..: a slot's
    player changes with the job in it, and lives until the episode ends.

    An episode ends when its jobs have finished. The scheduler's reward is the percentage by
    which it beats the base schedule on the same arrivals, in the weighted terms of
    `env.reward`; an agent's reward is its job's own progress (see `envs.learned_agents`).

    Args:
        config: {"config": `Config` or its nested dictionary, "seed": int, "part": one of
            train, validation, test, whole}; every key may be left out.

    Raises:
        UserError: for another key, or a value that its key cannot have.
    """

    def __init__(self, config: Any = None) -> None:
        super().__init__()
        experiment, seed, part = _settings(config)
        self.config = experiment
        worker = getattr(config, "worker_index", 0) * 1000 + getattr(config, "vector_index", 0)
        self.core = BatchedSchedulingEnv(experiment, 1, seed + worker, part)
        self._learned = experiment.env.agents == "learned"
        slots = experiment.env.job_slots if self._learned else 0
        self.possible_agents = [SCHEDULER, *(job_agent(k) for k in range(slots))]
        self.agents = list(self.possible_agents)
        self.observation_spaces = {SCHEDULER: self.core.observation_space}
        self.action_spaces = {SCHEDULER: self.core.action_space}
        for agent in self.possible_agents[1:]:
            self.observation_spaces[agent] = agent_observation_space()
            self.action_spaces[agent] = agent_action_space()
        self._due: list[int] = []
        self._played: dict[str, Demand] = {}

    @override(MultiAgentEnv)
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Values, Values]:
        if seed is not None:
            self.core.seed(seed)
        self.core.begin_drawn(0)
        self._played = {}
        return self._observe(), {}

    @override(MultiAgentEnv)
    def step(self, action_dict: Values) -> tuple[Values, Values, Values, Values, Values]:
        if self._due:
            self._declare(action_dict)
            obs = {SCHEDULER: self._scheduler_observation()}
            return obs, {SCHEDULER: 0.0}, {"__all__": False}, {"__all__": False}, {}
        reward, dt_s, ended = self.core.step_one(0, int(action_dict[SCHEDULER]))
        rewards: Values = {SCHEDULER: reward}
        info = {SCHEDULER: {"dt_s": dt_s}}
        if not ended:
            obs = self._observe()
            rewards |= {agent: self._collect(agent) for agent in obs if agent != SCHEDULER}
            if SCHEDULER not in obs:
                info = {}
            return obs, rewards, {"__all__": False}, {"__all__": False}, info
        # RLlib wants a last observation, with a legal action, of everybody who has acted.
        obs = {SCHEDULER: self._scheduler_observation()}
        for agent in list(self._played):
            rewards[agent] = self._collect(agent)
            obs[agent] = self._idle_observation()
        info[SCHEDULER] |= self.core.episode_summary(0)
        done = {agent: True for agent in obs} | {"__all__": True}
        return obs, rewards, done, {"__all__": False}, info

    def _observe(self) -> Values:
        """Observations of whoever acts next: the agents that are due, else the scheduler."""
        self._due = []
        if self._learned:
            envs, slots = self.core.agents.due()
            if slots.size:
                self._due = slots.tolist()
                seen = self.core.agents.observe(envs, slots)
                return {
                    job_agent(k): {name: value[j] for name, value in seen.items()}
                    for j, k in enumerate(self._due)
                }
        return {SCHEDULER: self._scheduler_observation()}

    def _scheduler_observation(self) -> Values:
        return {name: value[0] for name, value in self.core.observation().items()}

    def _idle_observation(self) -> Values:
        space = agent_observation_space()
        obs = {name: box.sample() * 0 for name, box in space.spaces.items()}
        obs["mask"][0] = 1
        return obs

    def _declare(self, action_dict: Values) -> None:
        world, game = self.core.world, self.core.game
        slots = np.array(self._due, dtype=np.int64)
        envs = np.zeros_like(slots)
        actions = np.array([int(action_dict[job_agent(k)]) for k in self._due], dtype=np.int64)
        for k in self._due:
            self._played[job_agent(k)] = record_demand(world, game, 0, k)
        self.core.agents.declare(envs, slots, self.core.agents.observe(envs, slots), actions)
        self._due = []

    def _collect(self, agent: str) -> float:
        """What the job that `agent` last declared for has earned since."""
        if agent not in self._played:
            return 0.0
        price = self.config.env.demand_price
        return reward_since(self.core.world, 0, self._played.pop(agent), price)

    @override(MultiAgentEnv)
    def get_observation_space(self, agent_id: str) -> gym.Space:
        return self.observation_spaces[agent_id]

    @override(MultiAgentEnv)
    def get_action_space(self, agent_id: str) -> gym.Space:
        return self.action_spaces[agent_id]


_KEYS = ("config", "seed", "part")
"""Of what a `SchedulingEnv` is made with."""


def _settings(given: Any) -> tuple[Config, int, Any]:
    """The experiment, the seed and the part that `given` names, or their defaults."""
    where = "SchedulingEnv's config"
    if given is not None and not isinstance(given, Mapping):
        raise UserError(f"{where}: needs a dictionary with {', '.join(_KEYS)}, not {quoted(given)}")
    settings = dict(given or {})
    for key in settings:
        if key not in _KEYS:
            hint = do_you_mean(str(key), _KEYS)
            raise UserError(f"{where}: unknown key {quoted(key)}; known: {', '.join(_KEYS)}{hint}")
    experiment = settings.get("config")
    if not isinstance(experiment, Config):
        if experiment is not None and not isinstance(experiment, Mapping):
            raise UserError(
                f"{where}: key 'config' needs a Config or its nested dictionary, not "
                f"{quoted(experiment)}"
            )
        experiment = validate_config(dict(experiment or {}))
    seed = settings.get("seed", experiment.seed)
    if not is_whole(seed, 0, MOST_SEED):
        raise UserError(f"{where}: key 'seed' needs a whole number >= 0, not {quoted(seed)}")
    return experiment, seed, settings.get("part", "train")


register_env(ENV_NAME, SchedulingEnv)
