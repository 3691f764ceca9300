"""One network over a set of jobs: its weights do not depend on how many slots there are.

Axes: B observations, K job slots, F features of a job, H job width, D context width,
A algorithms, M = 1 + A + 2K actions in the order
    commit | take algorithm 0..A-1 | slot 0..K-1 one level up | slot 0..K-1 one level down,
and commit always legal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn

Observation = Mapping[str, Tensor]
"""jobs (B,K,F) with jobs[:,:,0] = 1 where occupied, cluster (B,C), globals (B,G),
weights (B,W), mask (B,M) with 1 = legal."""

ILLEGAL_LOGIT = -1e9
"""Finite, so that the entropy and KL of masked policies stay finite: 0 * -1e9 is 0."""


@dataclass(frozen=True)
class NetworkSizes:
    """All that is needed to build a network; plain numbers, so that it travels as a dict."""

    job_features: int
    cluster_features: int
    global_features: int
    weight_features: int
    num_algorithms: int
    job_hidden: int = 32
    context_hidden: int = 64

    @classmethod
    def of_spaces(
        cls, observation_space: gym.Space, action_space: gym.Space, **widths: int
    ) -> NetworkSizes:
        """Sizes that fit an environment's spaces."""
        assert isinstance(observation_space, gym.spaces.Dict)
        assert isinstance(action_space, gym.spaces.Discrete)
        shapes = {name: space.shape or () for name, space in observation_space.items()}
        num_slots, job_features = shapes["jobs"]
        return cls(
            job_features=job_features,
            cluster_features=shapes["cluster"][0],
            global_features=shapes["globals"][0],
            weight_features=shapes["weights"][0],
            num_algorithms=int(action_space.n) - 1 - 2 * num_slots,
            **widths,
        )

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


class JobSetEncoder(nn.Module):
    """Embeds every job with shared weights, then pools them into one context."""

    def __init__(self, sizes: NetworkSizes) -> None:
        super().__init__()
        width, context = sizes.job_hidden, sizes.context_hidden
        plain = sizes.cluster_features + sizes.global_features + sizes.weight_features
        self.job = nn.Sequential(
            nn.Linear(sizes.job_features, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )
        self.context = nn.Sequential(
            nn.Linear(2 * width + plain, context),
            nn.ReLU(),
            nn.Linear(context, context),
            nn.ReLU(),
        )

    def forward(self, obs: Observation) -> tuple[Tensor, Tensor]:
        """Embeddings (B,K,H), zero for empty slots, and context (B,D)."""
        jobs = obs["jobs"].float()
        occupied = jobs[..., :1]  # (B,K,1)
        embedded = self.job(jobs) * occupied
        mean = embedded.sum(dim=1) / occupied.sum(dim=1).clamp(min=1.0)
        # After a ReLU nothing is negative, so the zeros of empty slots never win.
        highest = embedded.amax(dim=1)
        plain = [obs[name].float() for name in ("globals", "cluster", "weights")]
        return embedded, self.context(torch.cat([mean, highest, *plain], dim=-1))


class ActionNetwork(nn.Module):
    """One number per action, illegal ones included: (B, M)."""

    def __init__(self, sizes: NetworkSizes) -> None:
        super().__init__()
        width, context = sizes.job_hidden, sizes.context_hidden
        self.encoder = JobSetEncoder(sizes)
        self.round_head = nn.Linear(context, 1 + sizes.num_algorithms)
        self.slot_from_job = nn.Linear(width, width)
        self.slot_from_context = nn.Linear(context, width, bias=False)
        self.slot_head = nn.Linear(width, 2)

    def forward(self, obs: Observation) -> Tensor:
        return self.heads(*self.encoder(obs))

    def heads(self, embedded: Tensor, context: Tensor) -> Tensor:
        hidden = self.slot_from_job(embedded) + self.slot_from_context(context).unsqueeze(1)
        steps = self.slot_head(torch.relu(hidden))  # (B,K,2)
        return torch.cat([self.round_head(context), steps[..., 0], steps[..., 1]], dim=-1)

    @torch.no_grad()
    def initialise_heads(self, scale: float, commit: float) -> None:
        """Last layers uniform in +-`scale`, and a head start for `commit`."""
        for layer in (self.round_head, self.slot_head):
            layer.weight.uniform_(-scale, scale)
            layer.bias.uniform_(-scale, scale)
        self.round_head.bias[0] += commit


class ValueNetwork(nn.Module):
    """A state value per observation, on an encoder of its own: (B,).

    Separate from the policy: returns are tens of percent, so that through a shared encoder
    the value's gradient would drown the policy's.
    """

    def __init__(self, sizes: NetworkSizes) -> None:
        super().__init__()
        self.encoder = JobSetEncoder(sizes)
        self.head = nn.Linear(sizes.context_hidden, 1)

    def forward(self, obs: Observation) -> Tensor:
        return self.head(self.encoder(obs)[1]).squeeze(-1)


class DuelingNetwork(nn.Module):
    """Q values (B, M), illegal actions at -inf.

    Q(s,a) = V(s) + A(s,a) - mean of A(s,.) over the legal actions.
    Source: Wang et al., Dueling Network Architectures, ICML 2016; the mean is over legal
    actions, so that illegal ones, which nothing ever trains, do not move it.
    """

    def __init__(self, sizes: NetworkSizes) -> None:
        super().__init__()
        self.actions = ActionNetwork(sizes)
        self.state_value = nn.Linear(sizes.context_hidden, 1)

    def forward(self, obs: Observation) -> Tensor:
        embedded, context = self.actions.encoder(obs)
        advantage = self.actions.heads(embedded, context)
        legal = obs["mask"] > 0
        count = legal.sum(dim=-1, keepdim=True).clamp(min=1)
        mean = (advantage * legal).sum(dim=-1, keepdim=True) / count
        q_values = self.state_value(context) + advantage - mean
        return q_values.masked_fill(~legal, float("-inf"))


def masked_logits(logits: Tensor, mask: Tensor) -> Tensor:
    """Logits (B, M) with illegal actions out of reach, and `commit` weighed by their number.

    The log of the number of other legal actions is added to commit's logit: its bias then is
    the log-odds of committing against editing at all, whatever the number of slots.
    """
    legal = mask > 0
    others = legal[..., 1:].sum(dim=-1).clamp(min=1)
    commit = logits[..., :1] + torch.log(others.float()).unsqueeze(-1)
    return torch.cat([commit, logits[..., 1:]], dim=-1).masked_fill(~legal, ILLEGAL_LOGIT)


def sizes_from(model_config: Mapping[str, Any]) -> NetworkSizes:
    """The sizes inside a module's configuration."""
    return NetworkSizes(**model_config["sizes"])
