"""PPO on batched rollouts: the learner's connector, its checkpointed state, the configuration."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from itertools import chain
from typing import Any

import numpy as np
import torch
from ray.rllib.algorithms.ppo import PPO, PPOConfig
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.learner import Learner
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.evaluation.postprocessing import Postprocessing
from ray.rllib.policy.sample_batch import MultiAgentBatch
from ray.rllib.utils.annotations import override
from ray.rllib.utils.metrics import (
    ALL_MODULES,
    ENV_RUNNER_RESULTS,
    LEARNER_RESULTS,
    LEARNER_UPDATE_TIMER,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_MODULE_STEPS_TRAINED_LIFETIME,
    SYNCH_WORKER_WEIGHTS_TIMER,
    TIMERS,
)
from ray.rllib.utils.minibatch_utils import MiniBatchCyclicIterator

from marl_sched.config import Config
from marl_sched.envs.learned_agents import Declarations, agent_action_space, agent_observation_space
from marl_sched.models.agent import AgentSizes
from marl_sched.models.ppo import AgentModule, MaskedPPOModule, PPOModule
from marl_sched.training import common
from marl_sched.training.common import FusedAdamLearner, to_device
from marl_sched.training.continuing import ContinuingAlgorithm
from marl_sched.training.gae import advantages, discounts
from marl_sched.training.learner_placement import SpreadRunners, check_learners
from marl_sched.training.rollout import (
    AGENT,
    SCHEDULER,
    Arrays,
    ModuleRollout,
    Rollout,
    join,
)
from marl_sched.training.runner import DEFAULT_ENV_CLASS
from marl_sched.training.sampling import SamplesInTime

KL_COEFFICIENTS = "kl_coefficients"

VALUE_SCALE_RATE = 0.05
"""Weight of a new batch in the running mean and spread of value targets, once warmed up."""


class RolloutsToBatch(ConnectorV2):
    """Learner connector: rollouts -> one flat, shuffled train batch per module."""

    def __init__(self, gamma: float, lambda_: float, discount_per_h: float = 0.0) -> None:
        super().__init__()
        self._gamma = gamma
        self._per_h = discount_per_h
        self._lambda = lambda_

    @override(ConnectorV2)
    def __call__(
        self, *, rl_module: Any, batch: dict[str, Any], episodes: list[Rollout], **kwargs: Any
    ) -> dict[str, Any]:
        module_ids = sorted({name for rollout in episodes for name in rollout.modules})
        batches = {
            module_id: self._module_batch(
                rl_module[module_id].unwrapped(),
                [r.modules[module_id] for r in episodes if module_id in r.modules],
            )
            for module_id in module_ids
        }
        declared = [r.declarations for r in episodes if r.declarations is not None]
        if declared:
            batches[AGENT] = declarations_batch(rl_module[AGENT].unwrapped(), join(declared))
        return batches

    def _module_batch(self, module: MaskedPPOModule, parts: list[ModuleRollout]) -> dict[str, Any]:
        device = next(module.parameters()).device
        columns = [self._columns(module, part, device) for part in parts]
        flat = {name: np.concatenate([c[name] for c in columns]) for name in columns[0]}
        obs = {
            name: np.concatenate([flatten(part, part.obs[name][:-1]) for part in parts])
            for name in parts[0].obs
        }
        return train_batch(module, obs, flat)

    def _columns(
        self, module: MaskedPPOModule, part: ModuleRollout, device: torch.device
    ) -> Arrays:
        values = value_estimates(module, part.obs, part.actions.ndim, device)
        discount = discounts(part.dt_s, part.dones, self._gamma, self._per_h)
        advantage = advantages(part.rewards, values, discount, self._lambda, part.valid)
        assert part.logp is not None and part.logits is not None
        columns = {
            Columns.ACTIONS: part.actions,
            Columns.ACTION_LOGP: part.logp,
            Columns.ACTION_DIST_INPUTS: part.logits,
            Postprocessing.ADVANTAGES: advantage,
            "targets": advantage + values[:-1],
        }
        return {name: flatten(part, value) for name, value in columns.items()}


def declarations_batch(module: MaskedPPOModule, declared: Declarations) -> dict[str, Any]:
    """Train batch of the agents' module: returns are known, so nothing is bootstrapped.

    Log-probabilities are those of the weights that declared, an episode ago at most: PPO's
    ratio corrects for that, and its clipping and KL penalty bound the correction.
    """
    device = next(module.parameters()).device
    values = value_estimates(module, declared.obs, 1, device)
    flat = {
        Columns.ACTIONS: declared.actions,
        Columns.ACTION_LOGP: declared.columns["logp"],
        Columns.ACTION_DIST_INPUTS: declared.columns["logits"],
        Postprocessing.ADVANTAGES: declared.returns - values,
        "targets": declared.returns,
    }
    return train_batch(module, declared.obs, flat)


def train_batch(module: MaskedPPOModule, obs: Arrays, flat: Arrays) -> dict[str, Any]:
    """Shuffled tensors of decisions, with advantages and value targets in units of one.

    Args:
        obs: (D, ..) of each decision.
        flat: (D, ..) columns; `targets` in units of the reward.
    """
    device = next(module.parameters()).device
    flat = dict(flat)
    targets = flat.pop("targets")
    mean, std = update_value_scale(module, targets)
    flat[Postprocessing.VALUE_TARGETS] = ((targets - mean) / std).astype(np.float32)
    advantage = flat[Postprocessing.ADVANTAGES]
    spread = max(1e-8, float(advantage.std()))
    flat[Postprocessing.ADVANTAGES] = ((advantage - advantage.mean()) / spread).astype(np.float32)
    # RLlib's first epoch takes minibatches as they come: without this, in order of time.
    order = np.random.permutation(len(advantage))
    tensors: dict[str, Any] = {n: to_device(v[order], device) for n, v in flat.items()}
    tensors[Columns.OBS] = {n: to_device(v[order], device) for n, v in obs.items()}
    return tensors


def flatten(part: ModuleRollout, value: np.ndarray) -> np.ndarray:
    """(T, *rows, ...) -> (decisions, ...), leaving out rows that took none."""
    flat = value.reshape(-1, *value.shape[part.actions.ndim :])
    return flat if part.valid is None else flat[part.valid.reshape(-1)]


@torch.no_grad()
def value_estimates(
    module: MaskedPPOModule, obs: Arrays, num_axes: int, device: torch.device, chunk: int = 4096
) -> np.ndarray:
    """(T+1, *rows) float64, in units of the reward."""
    shape = next(iter(obs.values())).shape[:num_axes]
    flat = {name: value.reshape(-1, *value.shape[num_axes:]) for name, value in obs.items()}
    parts = []
    for start in range(0, int(np.prod(shape)), chunk):
        rows = {n: to_device(v[start : start + chunk], device) for n, v in flat.items()}
        parts.append(module.compute_values({Columns.OBS: rows}).cpu().numpy())
    scaled = np.concatenate(parts).astype(np.float64).reshape(shape)
    return scaled * float(module.value_std) + float(module.value_mean)


def update_value_scale(module: MaskedPPOModule, targets: np.ndarray) -> tuple[float, float]:
    """Move the units of the value network towards this batch of targets; its new units."""
    module.value_updates += 1
    rate = max(VALUE_SCALE_RATE, 1.0 / float(module.value_updates))
    old_mean, old_std = float(module.value_mean), float(module.value_std)
    first, square = over_learners(float(targets.mean()), float((targets**2).mean()))
    mean = old_mean + rate * (first - old_mean)
    old_square = old_std**2 + old_mean**2
    variance = old_square + rate * (square - old_square) - mean**2
    std = max(1e-3, variance**0.5 if variance > 0 else 0.0)
    module.rescale_values(mean, std)
    return mean, std


def over_learners(*figures: float) -> list[float]:
    """Means of `figures` over all learners, which must end up with the same network."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return list(figures)
    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    together = torch.tensor(figures, dtype=torch.float64, device=device)
    torch.distributed.all_reduce(together)
    return (together / torch.distributed.get_world_size()).tolist()


class PPOLearner(FusedAdamLearner, PPOTorchLearner):
    """RLlib's PPO learner, with its KL coefficients in its checkpoints.

    Modules train side by side but each for its own epochs: RLlib's own minibatches would
    repeat the shorter batch until the longest one is through, and would move the KL
    coefficient of a module that has no rows in this batch.
    """

    _modules_in_batch: frozenset[str] = frozenset()

    @override(Learner)
    def _create_iterator_if_necessary(
        self,
        *,
        num_epochs: int = 1,
        minibatch_size: int | None = None,
        shuffle_batch_per_epoch: bool = False,
        **kwargs: Any,
    ) -> Iterable[MultiAgentBatch]:
        whole = super()._create_iterator_if_necessary(
            num_epochs=num_epochs,
            minibatch_size=minibatch_size,
            shuffle_batch_per_epoch=shuffle_batch_per_epoch,
            **kwargs,
        )
        batch = whole._batch
        self._modules_in_batch = frozenset(batch.policy_batches)
        return chain.from_iterable(
            MiniBatchCyclicIterator(
                MultiAgentBatch({module_id: rows}, batch.env_steps()),
                num_epochs=num_epochs,
                minibatch_size=minibatch_size,
                shuffle_batch_per_epoch=shuffle_batch_per_epoch,
            )
            # The scheduler comes last: the gradient's norm is recorded for all, at each step.
            for module_id, rows in sorted(batch.policy_batches.items())
        )

    @override(PPOTorchLearner)
    def _update_module_kl_coeff(self, *, module_id: str, **kwargs: Any) -> None:
        if module_id in self._modules_in_batch:
            super()._update_module_kl_coeff(module_id=module_id, **kwargs)

    @override(Learner)
    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        state = super().get_state(components, not_components=not_components, **kwargs)
        if self._check_component(KL_COEFFICIENTS, components, not_components):
            state[KL_COEFFICIENTS] = {
                module_id: float(self.curr_kl_coeffs_per_module[module_id])
                for module_id in self.module.keys()
            }
        return state

    @override(Learner)
    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        for module_id, value in state.get(KL_COEFFICIENTS, {}).items():
            self.curr_kl_coeffs_per_module[module_id].data.fill_(value)


class SchedulingPPO(SamplesInTime, ContinuingAlgorithm, SpreadRunners, PPO):
    """RLlib's PPO, with checkpoints that continue exactly and iterations that keep within a time.

    Learning takes as long as the last time, for each decision; what is left of an iteration's time
    is for sampling.
    """

    _learning_share = 0.25
    """Of an iteration's time, the last time."""

    @override(PPO)
    def training_step(self) -> None:
        begun_s, left_s = time.monotonic(), self.left_s()
        seconds = None if left_s is None else (1.0 - self._learning_share) * left_s
        rollouts = self.sample_rollouts(self.config.total_train_batch_size, seconds)
        if not rollouts:  # every runner was lost; RLlib restarts them before the next step
            return
        sampled_s = time.monotonic()
        trained = self._learn(rollouts)
        with self.metrics.log_time((TIMERS, SYNCH_WORKER_WEIGHTS_TIMER)):
            self.env_runner_group.sync_weights(
                from_worker_or_learner_group=self.learner_group,
                policies=trained,
                inference_only=True,
            )
        ended_s = time.monotonic()
        self._learning_share = (ended_s - sampled_s) / max(1e-9, ended_s - begun_s)

    def _learn(self, rollouts: list[Rollout]) -> set[str]:
        """Update the networks; the ids of the modules that took part."""
        sampled = (ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME)
        learned = (LEARNER_RESULTS, ALL_MODULES, NUM_MODULE_STEPS_TRAINED_LIFETIME)
        with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
            results = self.learner_group.update(
                episodes=rollouts,
                timesteps={
                    NUM_ENV_STEPS_SAMPLED_LIFETIME: self.metrics.peek(sampled),
                    NUM_MODULE_STEPS_TRAINED_LIFETIME: self.metrics.peek(learned, default=0),
                },
                num_epochs=self.config.num_epochs,
                minibatch_size=self.config.minibatch_size,
                shuffle_batch_per_epoch=self.config.shuffle_batch_per_epoch,
            )
            self.metrics.aggregate(results, key=LEARNER_RESULTS)
        return set(results[0]) - {ALL_MODULES}


def agent_spec(config: Config) -> RLModuleSpec:
    """The module that all learned agents share."""
    spaces = agent_observation_space(), agent_action_space()
    sizes = AgentSizes.of_spaces(*spaces, hidden=config.model.agent_hidden)
    return RLModuleSpec(
        module_class=AgentModule,
        observation_space=spaces[0],
        action_space=spaces[1],
        model_config={"sizes": sizes.as_dict(), "honest_bias": config.model.honest_bias},
    )


def ppo_config(config: Config, env_class: str = DEFAULT_ENV_CLASS) -> PPOConfig:
    """Our settings as RLlib's: `ppo_config(config).build_algo()` is ready to train."""
    check_learners(config)
    settings = config.training.ppo
    num_envs = common.num_sampling_envs(config)
    fragment = -(-settings.batch_size // num_envs)
    learners = max(1, config.training.num_learners)
    per_learner = fragment * num_envs // learners
    specs = {
        SCHEDULER: common.module_spec(
            config,
            PPOModule,
            common.spaces_of(config, env_class),
            commit_bias=config.model.commit_bias,
        )
    }
    if config.env.agents == "learned":
        specs[AGENT] = agent_spec(config)
    algorithm = common.configure(
        PPOConfig(algo_class=SchedulingPPO), config, specs, env_class, fragment
    )
    gamma, lambda_, per_h = settings.gamma, settings.lambda_, settings.discount_per_h
    return algorithm.training(
        lr=settings.lr,
        gamma=gamma,
        lambda_=lambda_,
        clip_param=settings.clip,
        use_kl_loss=True,
        kl_coeff=0.2,
        kl_target=settings.kl_target,
        entropy_coeff=settings.entropy,
        vf_loss_coeff=settings.value_loss_coeff,
        vf_clip_param=float("inf"),
        num_epochs=settings.epochs,
        train_batch_size_per_learner=per_learner,
        minibatch_size=min(settings.minibatch_size, per_learner),
        grad_clip=settings.grad_clip,
        grad_clip_by="global_norm",
    ).learners(
        learner_class=PPOLearner,
        learner_connector=lambda *_: RolloutsToBatch(gamma, lambda_, per_h),
        add_default_connectors_to_learner_pipeline=False,
    )
