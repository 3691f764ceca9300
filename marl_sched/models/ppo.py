"""PPO's RLlib modules: masked policies that start where nothing was learned, and values."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, ValueFunctionAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from ray.rllib.utils.annotations import override
from torch import Tensor, nn

from marl_sched.models.agent import AgentNetwork, AgentSizes, AgentValueNetwork
from marl_sched.models.draw import draw_categorical
from marl_sched.models.module import ActingModule, arrays_of
from marl_sched.models.network import ActionNetwork, ValueNetwork, masked_logits, sizes_from


class MaskedPPOModule(ActingModule, ValueFunctionAPI, InferenceOnlyAPI):
    """A policy and a value network of their own; subclasses say which.

    `compute_values` answers in units of the running spread of returns about their running
    mean (`value_mean`, `value_std`); the learner connector converts. Source of that and of
    `rescale_values`: van Hasselt et al., Learning values across many orders of magnitude
    (PopArt), NeurIPS 2016.
    """

    value_mean: Tensor
    value_std: Tensor
    value_updates: Tensor

    @override(ActingModule)
    def setup(self) -> None:
        super().setup()
        self.policy, self.value = self.make_networks()
        self.register_buffer("value_mean", torch.zeros(()))
        self.register_buffer("value_std", torch.ones(()))
        self.register_buffer("value_updates", torch.zeros((), dtype=torch.int64))

    def make_networks(self) -> tuple[nn.Module, nn.Module]:
        """The policy, and the value with a last linear layer `head`."""
        raise NotImplementedError

    def logits(self, obs: Any) -> Tensor:
        """(B, M), illegal actions out of reach."""
        raise NotImplementedError

    @override(InferenceOnlyAPI)
    def get_non_inference_attributes(self) -> list[str]:
        return ["value"]

    @override(TorchRLModule)
    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {Columns.ACTION_DIST_INPUTS: self.logits(batch[Columns.OBS])}

    def acting_logits(self, obs: Any) -> np.ndarray:
        """`logits` (B, M) where no gradient is needed."""
        with torch.inference_mode():
            return self.logits(obs).cpu().numpy()

    @override(TorchRLModule)
    def _forward_inference(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        logits = torch.from_numpy(self.acting_logits(batch[Columns.OBS]))
        return {Columns.ACTION_DIST_INPUTS: logits, Columns.ACTIONS: logits.argmax(dim=-1)}

    @override(TorchRLModule)
    def _forward_exploration(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        logits = self.acting_logits(batch[Columns.OBS])
        actions, logp = draw_categorical(logits, self.rng)
        return {
            Columns.ACTION_DIST_INPUTS: torch.from_numpy(logits),
            Columns.ACTIONS: torch.from_numpy(actions),
            Columns.ACTION_LOGP: torch.from_numpy(logp),
        }

    @override(ValueFunctionAPI)
    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> Tensor:
        return self.value(batch[Columns.OBS])

    @torch.no_grad()
    def rescale_values(self, mean: float, std: float) -> None:
        """Set the units of values, leaving the values themselves where they are."""
        head = self.value.head
        assert isinstance(head, nn.Linear)
        ratio = float(self.value_std) / std
        head.weight.mul_(ratio)
        head.bias.mul_(ratio).add_((float(self.value_mean) - mean) / std)
        self.value_mean.fill_(mean)
        self.value_std.fill_(std)


class PPOModule(MaskedPPOModule):
    """The scheduler's. `model_config`: sizes (dict), commit_bias.

    The policy's last layers start at zero but for commit's bias, so that the greedy action of
    a fresh module is `commit`, which takes the base schedule.
    """

    @override(MaskedPPOModule)
    def make_networks(self) -> tuple[nn.Module, nn.Module]:
        sizes = sizes_from(self.model_config)
        policy = ActionNetwork(sizes)
        policy.initialise_heads(scale=0.0, commit=self.model_config["commit_bias"])
        return policy, ValueNetwork(sizes)

    @override(MaskedPPOModule)
    def logits(self, obs: Any) -> Tensor:
        return masked_logits(self.policy(obs), obs["mask"])

    @override(MaskedPPOModule)
    def acting_logits(self, obs: Any) -> np.ndarray:
        return self.compiled(self.policy)(arrays_of(obs))


class AgentModule(MaskedPPOModule):
    """The one of all learned agents. `model_config`: sizes (dict), honest_bias.

    The greedy action of a fresh module is to ask for all that the job can use.
    """

    @override(MaskedPPOModule)
    def make_networks(self) -> tuple[nn.Module, nn.Module]:
        sizes = AgentSizes(**self.model_config["sizes"])
        policy = AgentNetwork(sizes)
        policy.initialise_head(honest=self.model_config["honest_bias"])
        return policy, AgentValueNetwork(sizes)

    @override(MaskedPPOModule)
    def logits(self, obs: Any) -> Tensor:
        return self.policy(obs)
