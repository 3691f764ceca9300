"""The networks of the learned agents: what a job asks for, and what it expects to earn.

Axes: B observations, F features, L levels of demand; the legal ones come first in `mask`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import gymnasium as gym
import torch
from torch import Tensor, nn

from marl_sched.models.network import ILLEGAL_LOGIT

AgentObservation = Mapping[str, Tensor]
"""own (B,F), mask (B,L) with 1 = legal."""


@dataclass(frozen=True)
class AgentSizes:
    """All that is needed to build the networks; plain numbers."""

    features: int
    levels: int
    hidden: int = 64

    @classmethod
    def of_spaces(
        cls, observation_space: gym.Space, action_space: gym.Space, **widths: int
    ) -> AgentSizes:
        """Sizes that fit the agents' spaces."""
        assert isinstance(observation_space, gym.spaces.Dict)
        assert isinstance(action_space, gym.spaces.Discrete)
        shape = observation_space["own"].shape or ()
        return cls(features=shape[0], levels=int(action_space.n), **widths)

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


def _body(sizes: AgentSizes) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(sizes.features, sizes.hidden), nn.ReLU(),
        nn.Linear(sizes.hidden, sizes.hidden), nn.ReLU(),
    )  # fmt: skip


class AgentNetwork(nn.Module):
    """Logits (B, L) of demanding each level, illegal ones out of reach.

    The head counts levels down from the highest that the job can use: asking for all of it,
    which is what an honest agent accepts, is the same output whatever the job. Its bias is
    the log-odds of asking for all against anything less.
    """

    def __init__(self, sizes: AgentSizes) -> None:
        super().__init__()
        self.body = _body(sizes)
        self.head = nn.Linear(sizes.hidden, sizes.levels)

    def forward(self, obs: AgentObservation) -> Tensor:
        below = self.head(self.body(obs["own"].float()))
        legal = obs["mask"] > 0
        most = legal.sum(dim=-1, keepdim=True)
        others = torch.log((most - 1).clamp(min=1).float())
        below = torch.cat([below[..., :1] + others, below[..., 1:]], dim=-1)
        levels = torch.arange(below.shape[-1], device=below.device)
        logits = below.gather(-1, (most - 1 - levels).clamp(min=0))
        return logits.masked_fill(~legal, ILLEGAL_LOGIT)

    @torch.no_grad()
    def initialise_head(self, honest: float) -> None:
        """Nothing but a head start for asking for all that the job can use."""
        self.head.weight.zero_()
        self.head.bias.zero_()
        self.head.bias[0] += honest


class AgentValueNetwork(nn.Module):
    """The return that an agent expects: (B,)."""

    def __init__(self, sizes: AgentSizes) -> None:
        super().__init__()
        self.body = _body(sizes)
        self.head = nn.Linear(sizes.hidden, 1)

    def forward(self, obs: AgentObservation) -> Tensor:
        return self.head(self.body(obs["own"].float())).squeeze(-1)
