"""The env runner: B environments stepped as arrays, one forward pass for all of them.

RLlib's own runner spends nine tenths of its time on episode objects, connectors and metrics
per agent; this one keeps its interface (weights, state, metrics, fault tolerance) and hands
over whole arrays.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Collection
from typing import Any

import numpy as np
import ray
import torch
from ray.rllib.core import COMPONENT_RL_MODULE
from ray.rllib.core.columns import Columns
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES, INPUT_ENV_SPACES
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.utils.annotations import override
from ray.rllib.utils.checkpoints import Checkpointable
from ray.rllib.utils.metrics import (
    EPISODE_RETURN_MEAN,
    NUM_ENV_STEPS_SAMPLED,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_EPISODES,
    WEIGHTS_SEQ_NO,
)

from marl_sched.config import Config
from marl_sched.envs.learned_agents import Declarations
from marl_sched.training.other_clusters import on_runners_cluster
from marl_sched.training.rollout import (
    AGENT,
    SCHEDULER,
    Arrays,
    Rollout,
    RolloutRecorder,
    join,
    with_choice,
)

EPISODE_SUMS = "episode_sums"
"""Metrics key of sums over the episodes that ended; divide by `num_episodes`."""

AGENT_SUMS = "agent_sums"
"""Metrics key of sums over declarations in episodes that ended; divide by their `count`."""

DEFAULT_ENV_CLASS = "marl_sched.envs.batched:BatchedSchedulingEnv"


def load_env_class(path: str) -> Any:
    """The batched environment named `package.module:Class`."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def worker_seed(seed: int, worker_index: int, purpose: int) -> int:
    """Independent seeds for each worker's environments (purpose 0) and actions (1)."""
    return int(np.random.SeedSequence([seed, worker_index, purpose]).generate_state(1)[0])


class BatchedEnvRunner(EnvRunner, Checkpointable):
    """`config.env_config` holds `config` (our configuration as a dict) and `env_class`."""

    @override(EnvRunner)
    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        torch.set_num_threads(1)
        self.worker_index = kwargs.get("worker_index") or 0
        self.spaces = kwargs.get("spaces")
        self.env: Any = None
        self.module: Any = None
        self._obs: Arrays | None = None
        self._declared: list[Declarations] = []
        self._steps = 0
        self._weights_seq_no = 0
        self._until_s: float | None = None
        # With remote workers the local runner only carries weights and counters.
        if self.worker_index > 0 or self.num_workers == 0 or config.create_env_on_local_worker:
            self.make_env()
        self.make_module()

    @override(EnvRunner)
    def make_env(self) -> None:
        settings = self.config.env_config
        config = Config.model_validate(settings["config"])
        env_class = load_env_class(settings.get("env_class", DEFAULT_ENV_CLASS))
        self.env = env_class(
            on_runners_cluster(config, self.worker_index),
            num_envs=self.config.num_envs_per_env_runner,
            seed=worker_seed(self.config.seed or 0, self.worker_index, 0),
            part="train",
        )
        self._obs = None

    @override(EnvRunner)
    def make_module(self) -> None:
        spec = self.config.get_multi_rl_module_spec(spaces=self.get_spaces(), inference_only=True)
        for module_spec in spec.rl_module_specs.values():
            module_spec.inference_only = True  # RLlib does not pass it on to sub-modules
        self.module = spec.build()
        for module_id in self.module.keys():
            self.module[module_id].eval()
        seed = worker_seed(self.config.seed or 0, self.worker_index, 1)
        for number, module_id in enumerate(sorted(self.module.keys())):
            self.module[module_id].rng = np.random.default_rng([seed, number])

    @override(EnvRunner)
    def sample(
        self,
        *,
        num_timesteps: int | None = None,
        num_episodes: int | None = None,
        explore: bool | None = None,
        random_actions: bool = False,
        force_reset: bool = False,
    ) -> list[Rollout]:
        """One fragment: `rollout_fragment_length` steps of every environment, or fewer where its
        time is over, see `sample_within`."""
        if num_episodes is not None or random_actions:
            raise NotImplementedError("the batched runner samples whole fragments only")
        num_envs = self.env.num_envs
        num_steps = self.config.get_rollout_fragment_length(self.worker_index)
        if num_timesteps is not None:
            num_steps = -(-num_timesteps // num_envs)
        explore = explore is None or explore
        if self._obs is None or force_reset:
            self._obs = self._declare(self.env.reset(), explore)
        recorder = RolloutRecorder(num_steps)
        for step in range(num_steps):
            if step > 0 and self._until_s is not None and time.monotonic() >= self._until_s:
                num_steps = step
                break
            recorder.observe(step, self._obs)
            columns = self._act(SCHEDULER, self._obs, explore)
            obs, rewards, dt_s, dones = self.env.step(columns["actions"])
            self._obs = self._declare(obs, explore)
            recorder.record(step, **columns, rewards=rewards, dt_s=dt_s, dones=dones)
            # All workers take as many decisions: the whole group's count, without asking it.
            self.num_env_steps_sampled_lifetime += num_envs * max(1, self.num_workers)
        self._until_s = None
        recorder.observe(num_steps, self._obs)
        rollout = Rollout(self.worker_index, self._steps, num_envs, num_steps)
        rollout.modules[SCHEDULER] = recorder.finish(num_steps)
        rollout.declarations = self._take_declarations()
        self._steps += num_steps
        self._log_sampled(len(rollout))
        return [rollout]

    def sample_within(self, seconds: float) -> None:
        """Let the next fragment end after its first step that is over in `seconds` from now."""
        self._until_s = time.monotonic() + seconds

    def _declare(self, obs: Arrays, explore: bool) -> Arrays:
        """Let the learned agents that are due declare; the scheduler's observation after it."""
        if AGENT not in self.module.keys():
            return obs
        desk = self.env.agents
        envs, slots = desk.due()
        if not envs.size:
            return obs
        seen = desk.observe(envs, slots)
        columns = self._act(AGENT, seen, explore)
        desk.declare(envs, slots, seen, columns.pop("actions"), columns)
        rows = np.unique(envs)
        for name, value in self.env.observation(rows).items():
            obs[name][rows] = value
        return obs

    def _take_declarations(self) -> Declarations | None:
        """Declarations to learn from, once there are enough of them.

        Their returns are known when their episodes end, so they come in bursts; what is left
        waits here. All runners together hand over at least about one minibatch.
        """
        declared = self.env.agents.pop() if AGENT in self.module.keys() else None
        if declared is not None:
            for name, value in (
                ("count", float(len(declared))),
                ("return", float(declared.returns.sum())),
                ("asked", float(declared.asked.sum())),
            ):
                self.metrics.log_value((AGENT_SUMS, name), value, reduce="sum")
            chosen = with_choice(declared)
            if chosen is not None:
                self._declared.append(chosen)
        waiting = sum(len(part) for part in self._declared)
        if not waiting or waiting < self.config.minibatch_size // max(1, self.num_workers):
            return None
        parts, self._declared = self._declared, []
        return join(parts)

    def _act(self, module_id: str, obs: Arrays, explore: bool) -> Arrays:
        """One forward pass: the module's actions and what its learner needs beside them."""
        batch = {Columns.OBS: {name: torch.from_numpy(value) for name, value in obs.items()}}
        module = self.module[module_id]
        if explore:
            out = module.forward_exploration(batch, t=self.num_env_steps_sampled_lifetime)
        else:
            out = module.forward_inference(batch)
        columns = {"actions": out[Columns.ACTIONS].numpy()}
        if explore and Columns.ACTION_LOGP in out:
            columns["logp"] = out[Columns.ACTION_LOGP].numpy()
            columns["logits"] = out[Columns.ACTION_DIST_INPUTS].numpy()
        return columns

    def _log_sampled(self, num_decisions: int) -> None:
        self.metrics.log_value(NUM_ENV_STEPS_SAMPLED, num_decisions, reduce="sum")
        self.metrics.log_value(NUM_ENV_STEPS_SAMPLED_LIFETIME, num_decisions, reduce="lifetime_sum")
        episodes = self.env.pop_episodes()
        self.metrics.log_value(NUM_EPISODES, len(episodes), reduce="sum")
        window = self.config.metrics_num_episodes_for_smoothing
        for episode in episodes:
            self.metrics.log_value(EPISODE_RETURN_MEAN, episode["return"], window=window)
            for name, value in episode.items():
                self.metrics.log_value((EPISODE_SUMS, name), float(value), reduce="sum")

    @override(EnvRunner)
    def get_metrics(self) -> Any:
        return self.metrics.reduce()

    @override(EnvRunner)
    def get_spaces(self) -> dict[str, Any]:
        spaces = (self.config.observation_space, self.config.action_space)
        if self.env is not None:
            spaces = (self.env.observation_space, self.env.action_space)
        elif self.spaces is not None:
            return dict(self.spaces)
        modules = self.config.rl_module_spec.rl_module_specs
        return {INPUT_ENV_SPACES: spaces, INPUT_ENV_SINGLE_SPACES: spaces} | {
            module_id: (spec.observation_space or spaces[0], spec.action_space or spaces[1])
            for module_id, spec in modules.items()
        }

    def get_world(self) -> dict[str, Any]:
        """Where this runner's environments and random draws are, to go on from there."""
        return {
            "env": self.env.get_state(),
            "begun": self._obs is not None,
            "declared": list(self._declared),
            "steps": self._steps,
            "decisions": self.num_env_steps_sampled_lifetime,
            "draws": {
                module_id: self.module[module_id].rng.bit_generator.state
                for module_id in self.module.keys()
            },
        }

    def set_world(self, world: dict[str, Any]) -> None:
        self.env.set_state(world["env"])
        # Not what was seen then: with other reward weights another episode has begun.
        self._obs = self.env.observation() if world["begun"] else None
        self._declared = list(world["declared"])
        self._steps = world["steps"]
        self.num_env_steps_sampled_lifetime = world["decisions"]
        for module_id, state in world["draws"].items():
            self.module[module_id].rng.bit_generator.state = state

    @override(Checkpointable)
    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        state: dict[str, Any] = {
            NUM_ENV_STEPS_SAMPLED_LIFETIME: self.num_env_steps_sampled_lifetime
        }
        if self._check_component(COMPONENT_RL_MODULE, components, not_components):
            state[COMPONENT_RL_MODULE] = self.module.get_state(
                components=self._get_subcomponents(COMPONENT_RL_MODULE, components),
                not_components=self._get_subcomponents(COMPONENT_RL_MODULE, not_components),
                **kwargs,
            )
            state[WEIGHTS_SEQ_NO] = self._weights_seq_no
        return state

    @override(Checkpointable)
    def set_state(self, state: dict[str, Any]) -> None:
        if COMPONENT_RL_MODULE in state:
            seq_no = state.get(WEIGHTS_SEQ_NO, 0)
            # 0 or absent forces the update; else only newer weights are taken.
            if seq_no == 0 or seq_no > self._weights_seq_no:
                weights = state[COMPONENT_RL_MODULE]
                if isinstance(weights, ray.ObjectRef):
                    weights = ray.get(weights)
                self.module.set_state(weights)
            if seq_no > 0:
                self._weights_seq_no = seq_no
        if NUM_ENV_STEPS_SAMPLED_LIFETIME in state:
            self.num_env_steps_sampled_lifetime = int(state[NUM_ENV_STEPS_SAMPLED_LIFETIME])

    @override(Checkpointable)
    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (), {"config": self.config}

    @override(Checkpointable)
    def get_checkpointable_components(self) -> list[tuple[str, Checkpointable]]:
        # The learner's checkpoint has the weights.
        return []

    @override(EnvRunner)
    def assert_healthy(self) -> None:
        assert self.module is not None and (self.env is not None or self.worker_index == 0)

    @override(EnvRunner)
    def stop(self) -> None:
        close = getattr(self.env, "close", None)
        if close is not None:
            close()
