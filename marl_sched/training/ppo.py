"""PPO on batched rollouts: the learner's connector, its checkpointed state, the configuration."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from ray.rllib.algorithms.ppo import PPO, PPOConfig
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.learner import Learner
from ray.rllib.evaluation.postprocessing import Postprocessing
from ray.rllib.utils.annotations import override

from marl_sched.config import Config
from marl_sched.models.ppo import PPOModule
from marl_sched.training import common
from marl_sched.training.common import to_device
from marl_sched.training.continuing import ContinuingAlgorithm
from marl_sched.training.gae import advantages, discounts
from marl_sched.training.rollout import Arrays, ModuleRollout, Rollout
from marl_sched.training.runner import DEFAULT_ENV_CLASS

KL_COEFFICIENTS = "kl_coefficients"

VALUE_SCALE_RATE = 0.05
"""Weight of a new batch in the running mean and spread of value targets, once warmed up."""


class RolloutsToBatch(ConnectorV2):
    """Learner connector: rollouts -> one flat, shuffled train batch per module."""

    def __init__(self, gamma: float, lambda_: float) -> None:
        super().__init__()
        self._gamma = gamma
        self._lambda = lambda_

    @override(ConnectorV2)
    def __call__(
        self, *, rl_module: Any, batch: dict[str, Any], episodes: list[Rollout], **kwargs: Any
    ) -> dict[str, Any]:
        module_ids = sorted({name for rollout in episodes for name in rollout.modules})
        return {
            module_id: self._module_batch(
                rl_module[module_id].unwrapped(),
                [r.modules[module_id] for r in episodes if module_id in r.modules],
            )
            for module_id in module_ids
        }

    def _module_batch(self, module: PPOModule, parts: list[ModuleRollout]) -> dict[str, Any]:
        device = next(module.parameters()).device
        columns = [self._columns(module, part, device) for part in parts]
        flat = {name: np.concatenate([c[name] for c in columns]) for name in columns[0]}
        targets = flat.pop("targets")
        mean, std = update_value_scale(module, targets)
        flat[Postprocessing.VALUE_TARGETS] = ((targets - mean) / std).astype(np.float32)
        advantage = flat[Postprocessing.ADVANTAGES]
        spread = max(1e-8, float(advantage.std()))
        flat[Postprocessing.ADVANTAGES] = (
            (advantage - advantage.mean()) / spread
        ).astype(np.float32)
        # RLlib's first epoch takes minibatches as they come: without this, in order of time.
        order = np.random.permutation(len(advantage))
        obs = {
            name: np.concatenate([flatten(part, part.obs[name][:-1]) for part in parts])
            for name in parts[0].obs
        }
        tensors: dict[str, Any] = {n: to_device(v[order], device) for n, v in flat.items()}
        tensors[Columns.OBS] = {n: to_device(v[order], device) for n, v in obs.items()}
        return tensors

    def _columns(self, module: PPOModule, part: ModuleRollout, device: torch.device) -> Arrays:
        values = value_estimates(module, part.obs, part.actions.ndim, device)
        discount = discounts(part.dt_s, part.dones, self._gamma)
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


def flatten(part: ModuleRollout, value: np.ndarray) -> np.ndarray:
    """(T, *rows, ...) -> (decisions, ...), leaving out rows that took none."""
    flat = value.reshape(-1, *value.shape[part.actions.ndim :])
    return flat if part.valid is None else flat[part.valid.reshape(-1)]


@torch.no_grad()
def value_estimates(
    module: PPOModule, obs: Arrays, num_axes: int, device: torch.device, chunk: int = 4096
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


def update_value_scale(module: PPOModule, targets: np.ndarray) -> tuple[float, float]:
    """Move the units of the value network towards this batch of targets; its new units."""
    module.value_updates += 1
    rate = max(VALUE_SCALE_RATE, 1.0 / float(module.value_updates))
    old_mean, old_std = float(module.value_mean), float(module.value_std)
    mean = old_mean + rate * (float(targets.mean()) - old_mean)
    old_square, square = old_std**2 + old_mean**2, float((targets**2).mean())
    variance = old_square + rate * (square - old_square) - mean**2
    std = max(1e-3, variance**0.5 if variance > 0 else 0.0)
    module.rescale_values(mean, std)
    return mean, std


class PPOLearner(PPOTorchLearner):
    """RLlib's PPO learner, with its KL coefficients in its checkpoints."""

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


class SchedulingPPO(ContinuingAlgorithm, PPO):
    """RLlib's PPO, with checkpoints that continue exactly."""


def ppo_config(config: Config, env_class: str = DEFAULT_ENV_CLASS) -> PPOConfig:
    """Our settings as RLlib's: `ppo_config(config).build_algo()` is ready to train."""
    settings = config.training.ppo
    num_envs = common.num_sampling_envs(config)
    fragment = -(-settings.batch_size // num_envs)
    spec = common.module_spec(
        config, PPOModule, common.spaces_of(config, env_class),
        commit_bias=config.model.commit_bias,
    )
    algorithm = common.configure(
        PPOConfig(algo_class=SchedulingPPO), config, spec, env_class, fragment
    )
    gamma, lambda_ = settings.gamma, settings.lambda_
    return (
        algorithm.training(
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
            train_batch_size_per_learner=fragment * num_envs,
            minibatch_size=min(settings.minibatch_size, fragment * num_envs),
            grad_clip=settings.grad_clip,
            grad_clip_by="global_norm",
        )
        .learners(
            learner_class=PPOLearner,
            learner_connector=lambda *_: RolloutsToBatch(gamma, lambda_),
            add_default_connectors_to_learner_pipeline=False,
        )
    )
