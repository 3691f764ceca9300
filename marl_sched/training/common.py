"""Settings that PPO and DQN share: environment, runners, modules, fault tolerance."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModule, RLModuleSpec
from ray.rllib.utils.annotations import override

from marl_sched.config import Config
from marl_sched.models.network import NetworkSizes
from marl_sched.training.learner_placement import learner_gpus, learner_resources
from marl_sched.training.rollout import AGENT, SCHEDULER
from marl_sched.training.runner import DEFAULT_ENV_CLASS, BatchedEnvRunner


def spaces_of(config: Config, env_class: str) -> tuple[gym.Space, gym.Space]:
    """Observation and action space, without building an environment where that can be helped."""
    if env_class == DEFAULT_ENV_CLASS:
        from marl_sched.envs.batched import spec_spaces

        return spec_spaces(config)
    from marl_sched.training.runner import load_env_class

    env = load_env_class(env_class)(config, num_envs=1, seed=0, part="train")
    return env.observation_space, env.action_space


def module_spec(
    config: Config,
    module_class: type[RLModule],
    spaces: tuple[gym.Space, gym.Space],
    **settings: Any,
) -> RLModuleSpec:
    """The scheduler's module, with its sizes as plain numbers."""
    sizes = NetworkSizes.of_spaces(
        *spaces, job_hidden=config.model.job_hidden, context_hidden=config.model.context_hidden
    )
    return RLModuleSpec(
        module_class=module_class,
        observation_space=spaces[0],
        action_space=spaces[1],
        model_config={"sizes": sizes.as_dict(), **settings},
    )


def configure(
    algorithm: Any, config: Config, specs: dict[str, RLModuleSpec], env_class: str, fragment: int
) -> Any:
    """Fill an RLlib `AlgorithmConfig` with all that does not depend on the algorithm.

    Args:
        specs: module id -> module; the environment's spaces are the scheduler's.
        fragment: steps of each environment in one call to a runner's `sample`.
    """
    training = config.training
    taken = learner_resources(config, learner_gpus(config))
    return (
        algorithm.environment(
            observation_space=specs[SCHEDULER].observation_space,
            action_space=specs[SCHEDULER].action_space,
            env_config={"config": config.model_dump(mode="json"), "env_class": env_class},
        )
        .framework("torch")
        .env_runners(
            env_runner_cls=BatchedEnvRunner,
            num_env_runners=training.num_env_runners,
            num_envs_per_env_runner=training.num_envs_per_runner,
            rollout_fragment_length=fragment,
            num_cpus_per_env_runner=1,
            sample_timeout_s=600.0,
            merge_env_runner_states=False,
            # Weights are sent without waiting; were one more in flight than allowed, it would
            # be dropped, and the run would depend on timing.
            max_requests_in_flight_per_env_runner=100,
        )
        .multi_agent(policies=set(specs), policy_mapping_fn=module_of)
        .rl_module(rl_module_spec=MultiRLModuleSpec(rl_module_specs=specs))
        .learners(
            num_learners=training.num_learners,
            num_gpus_per_learner=taken["GPU"],
            num_cpus_per_learner=taken["CPU"],
            custom_resources_per_learner={
                name: amount for name, amount in taken.items() if name not in ("CPU", "GPU")
            },
        )
        .fault_tolerance(restart_failed_env_runners=True, delay_between_env_runner_restarts_s=1.0)
        .debugging(seed=config.training_seed, log_level="ERROR")
    )


class FusedAdamLearner(TorchLearner):
    """Mixin in front of an RLlib learner: its Adam, in one pass instead of ten a parameter."""

    @override(TorchLearner)
    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        parameters = self.get_parameters(self.module[module_id])
        self.register_optimizer(
            module_id=module_id,
            optimizer=torch.optim.Adam(parameters, fused=True),
            params=parameters,
            lr_or_lr_schedule=config.lr,
        )


def use_configured_rate(learner: Any) -> None:
    """Let a learner's optimisers take the step size of its configuration."""
    for optimizer in learner._named_optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = learner.config.lr


def module_of(agent_id: Any, episode: Any, **kwargs: Any) -> str:
    """Policy mapping: the scheduler's own module, and one for all others."""
    return SCHEDULER if agent_id == SCHEDULER else AGENT


def to_device(value: np.ndarray, device: torch.device) -> torch.Tensor:
    """As tensor, in the same memory where that is writable and on the same device.

    What remote runners send are read-only views of Ray's object store.
    """
    return torch.from_numpy(value if value.flags.writeable else value.copy()).to(device)


def num_sampling_envs(config: Config) -> int:
    """Environments that sample at the same time, over all runners."""
    return max(1, config.training.num_env_runners) * config.training.num_envs_per_runner
