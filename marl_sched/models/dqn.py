"""DQN's RLlib module: dueling Q values with true masks, a target network, masked exploration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from ray.rllib.algorithms.dqn.dqn_learner import QF_NEXT_PREDS, QF_PREDS, QF_TARGET_NEXT_PREDS
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.utils import make_target_network
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, QNetAPI, TargetNetworkAPI
from ray.rllib.core.rl_module.rl_module import RLModule
from ray.rllib.core.rl_module.torch import TorchRLModule
from ray.rllib.utils.annotations import override
from torch import Tensor, nn

from marl_sched.models.draw import epsilon_greedy
from marl_sched.models.module import ActingModule, arrays_of
from marl_sched.models.network import DuelingNetwork, sizes_from

HEAD_SCALE = 1e-3
"""Small, so that early targets are the rewards; not zero, which would tie all actions."""

COMMIT_PREFERENCE = 0.05
"""Head start of `commit`, several times what weights of `HEAD_SCALE` add up to: the greedy
policy starts at the base schedule."""


def epsilon_at(decisions: int, bounds: Sequence[float], over: int) -> float:
    """From bounds[0] to bounds[1], linear over the first `over` decisions, then constant."""
    return bounds[0] + min(1.0, decisions / over) * (bounds[1] - bounds[0])


class DQNModule(ActingModule, QNetAPI, TargetNetworkAPI, InferenceOnlyAPI):
    """`model_config`: sizes (dict), epsilon (first, last), epsilon_decisions.

    Illegal actions have Q = -inf in the online and in the target network.
    """

    @override(ActingModule)
    def setup(self) -> None:
        super().setup()
        self.q_net = DuelingNetwork(sizes_from(self.model_config))
        self.q_net.actions.initialise_heads(scale=HEAD_SCALE, commit=COMMIT_PREFERENCE)
        nn.init.uniform_(self.q_net.state_value.weight, -HEAD_SCALE, HEAD_SCALE)

    def epsilon(self, decisions: int) -> float:
        """Chance of a random action after `decisions` of the whole run."""
        config = self.model_config
        return epsilon_at(decisions, config["epsilon"], config["epsilon_decisions"])

    @override(InferenceOnlyAPI)
    def get_non_inference_attributes(self) -> list[str]:
        return ["target_q_net"]

    @override(TargetNetworkAPI)
    def make_target_networks(self) -> None:
        self.target_q_net = make_target_network(self.q_net)

    @override(TargetNetworkAPI)
    def get_target_network_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        return [(self.q_net, self.target_q_net)]

    @override(TargetNetworkAPI)
    def forward_target(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {QF_PREDS: self.target_q_net(batch[Columns.OBS])}

    @override(QNetAPI)
    def compute_q_values(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {QF_PREDS: self.q_net(batch[Columns.OBS])}

    @override(TorchRLModule)
    def _forward_inference(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        q_values = self.compiled(self.q_net)(arrays_of(batch[Columns.OBS]))
        return {Columns.ACTIONS: torch.from_numpy(q_values.argmax(axis=-1))}

    @override(TorchRLModule)
    def _forward_exploration(
        self, batch: dict[str, Any], t: int = 0, **kwargs: Any
    ) -> dict[str, Any]:
        obs = arrays_of(batch[Columns.OBS])
        q_values = self.compiled(self.q_net)(obs)
        actions = epsilon_greedy(q_values, obs["mask"], self.epsilon(t), self.rng)
        return {Columns.ACTIONS: torch.from_numpy(actions)}

    @override(RLModule)
    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        following = batch[Columns.NEXT_OBS]
        return {
            QF_PREDS: self.compute_q_values(batch)[QF_PREDS],
            QF_NEXT_PREDS: self._without_graph(self.q_net, following),
            QF_TARGET_NEXT_PREDS: self._without_graph(self.target_q_net, following),
        }

    def _without_graph(self, network: DuelingNetwork, obs: Mapping[str, Tensor]) -> Tensor:
        """Q values (B, M) of which no gradient is taken; compiled, where that can be."""
        if obs["jobs"].device.type == "cpu":
            return torch.from_numpy(self.compiled(network)(arrays_of(obs)))
        with torch.no_grad():
            return network(obs)
