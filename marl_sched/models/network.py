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

    def forward(self, obs: Observation) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings (R,H) of the R occupied slots, their places (R,), and context (B,D).

        Place b * K + k is slot k of observation b. Most slots are empty most of the time, and
        are not computed.
        """
        jobs = obs["jobs"].float()
        batch, num_slots, features = jobs.shape
        occupied = jobs[..., 0]  # (B,K)
        places = occupied.reshape(-1).nonzero().squeeze(1)
        embedded = self.job(jobs.reshape(-1, features).index_select(0, places))
        row = places // num_slots
        total = embedded.new_zeros(batch, embedded.shape[1]).index_add(0, row, embedded)
        mean = total / occupied.sum(dim=1, keepdim=True).clamp(min=1.0)
        # After a ReLU nothing is negative: zeros to begin with never win.
        highest = torch.zeros_like(total).scatter_reduce(
            0, row.unsqueeze(1).expand_as(embedded), embedded, "amax"
        )
        plain = [obs[name].float() for name in ("globals", "cluster", "weights")]
        return embedded, places, self.context(torch.cat([mean, highest, *plain], dim=-1))


class ActionNetwork(nn.Module):
    """One number per action, illegal ones included: (B, M); 0 for those of empty slots."""

    def __init__(self, sizes: NetworkSizes) -> None:
        super().__init__()
        width, context = sizes.job_hidden, sizes.context_hidden
        self.encoder = JobSetEncoder(sizes)
        self.round_head = nn.Linear(context, 1 + sizes.num_algorithms)
        self.slot_from_job = nn.Linear(width, width)
        self.slot_from_context = nn.Linear(context, width, bias=False)
        self.slot_head = nn.Linear(width, 2)

    def forward(self, obs: Observation) -> Tensor:
        return self.with_context(obs)[0]

    def with_context(self, obs: Observation) -> tuple[Tensor, Tensor]:
        """The numbers (B, M), and the context (B, D) that they come from."""
        embedded, places, context = self.encoder(obs)
        batch, num_slots = obs["jobs"].shape[:2]
        shared = self.slot_from_context(context).index_select(0, places // num_slots)
        moves = self.slot_head(torch.relu(self.slot_from_job(embedded) + shared))  # (R,2)
        moves = moves.new_zeros(batch * num_slots, 2).index_copy(0, places, moves)
        up, down = moves.view(batch, num_slots, 2).unbind(dim=-1)
        return torch.cat([self.round_head(context), up, down], dim=-1), context

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
        return self.head(self.encoder(obs)[2]).squeeze(-1)


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
        advantage, context = self.actions.with_context(obs)
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
    masked = logits.masked_fill(mask <= 0, ILLEGAL_LOGIT)
    masked[..., 0] += mask[..., 1:].sum(dim=-1).clamp(min=1).log()
    return masked


def sizes_from(model_config: Mapping[str, Any]) -> NetworkSizes:
    """The sizes inside a module's configuration."""
    return NetworkSizes(**model_config["sizes"])
