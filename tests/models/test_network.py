"""The set-structured network: order of jobs, number of slots, masks, where it starts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from marl_sched.models.network import (
    ILLEGAL_LOGIT,
    ActionNetwork,
    DuelingNetwork,
    NetworkSizes,
    ValueNetwork,
    masked_logits,
)

SIZES = NetworkSizes(
    job_features=4, cluster_features=2, global_features=3, weight_features=7, num_algorithms=3
)
A = SIZES.num_algorithms


def observation(num_slots: int, batch: int = 5, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random observations whose first slots are occupied; about half of the actions legal."""
    rng = np.random.default_rng(seed)
    jobs = rng.normal(size=(batch, num_slots, 4)).astype(np.float32)
    occupied = np.arange(num_slots) < rng.integers(1, num_slots + 1, size=(batch, 1))
    jobs[..., 0] = occupied
    jobs *= occupied[..., None]
    mask = (rng.random((batch, 1 + A + 2 * num_slots)) < 0.5).astype(np.int8)
    mask[:, 0] = 1
    shapes = {"cluster": 2, "globals": 3, "weights": 7}
    plain = {n: rng.normal(size=(batch, size)).astype(np.float32) for n, size in shapes.items()}
    return {n: torch.from_numpy(v) for n, v in {"jobs": jobs, "mask": mask, **plain}.items()}


def split(scores: torch.Tensor, num_slots: int) -> tuple[torch.Tensor, ...]:
    """Scores of commit and algorithms, of ups, of downs."""
    return scores[:, : 1 + A], scores[:, 1 + A : 1 + A + num_slots], scores[:, 1 + A + num_slots :]


def test_empty_slots_change_nothing() -> None:
    network, value = ActionNetwork(SIZES), ValueNetwork(SIZES)
    few = observation(4)
    many = dict(few, jobs=torch.nn.functional.pad(few["jobs"], (0, 0, 0, 6)))
    for got, expected in zip(split(network(many), 10), split(network(few), 4), strict=True):
        torch.testing.assert_close(got[:, : expected.shape[1]], expected)
    torch.testing.assert_close(value(many), value(few))


def test_actions_follow_the_jobs_when_slots_are_reordered() -> None:
    network, obs = ActionNetwork(SIZES), observation(6)
    order = torch.tensor([3, 1, 5, 0, 4, 2])
    got = split(network(dict(obs, jobs=obs["jobs"][:, order])), 6)
    rest, up, down = split(network(obs), 6)
    torch.testing.assert_close(got[0], rest)
    torch.testing.assert_close(got[1], up[:, order])
    torch.testing.assert_close(got[2], down[:, order])


def test_no_job_at_all_is_finite() -> None:
    obs = observation(4)
    obs["jobs"] = torch.zeros_like(obs["jobs"])
    assert torch.isfinite(ActionNetwork(SIZES)(obs)).all()


@pytest.mark.parametrize("num_slots", [1, 8, 64])
def test_commit_bias_is_the_log_odds_of_committing(num_slots: int) -> None:
    network, obs = ActionNetwork(SIZES), observation(num_slots, seed=1)
    network.initialise_heads(scale=0.0, commit=1.0)
    obs["mask"][:, 1] = 1  # something else is legal
    chance = torch.softmax(masked_logits(network(obs), obs["mask"]), dim=-1)
    expected = torch.full((5,), 1.0 / (1.0 + np.exp(-1.0)))
    torch.testing.assert_close(chance[:, 0], expected.to(chance.dtype))


def test_illegal_actions_are_out_of_reach() -> None:
    obs = observation(6)
    legal = obs["mask"] > 0
    logits = masked_logits(ActionNetwork(SIZES)(obs), obs["mask"])
    assert (logits[~legal] == ILLEGAL_LOGIT).all() and (logits[legal] > -1e3).all()
    distribution = torch.distributions.Categorical(logits=logits)
    assert torch.isfinite(distribution.entropy()).all()
    q_values = DuelingNetwork(SIZES)(obs)
    assert torch.isneginf(q_values[~legal]).all() and torch.isfinite(q_values[legal]).all()


def test_dueling_mean_is_over_legal_actions() -> None:
    network, obs = DuelingNetwork(SIZES), observation(6)
    legal = obs["mask"] > 0
    q_values = network(obs).masked_fill(~legal, 0.0)
    _, context = network.actions.with_context(obs)
    mean = q_values.sum(dim=-1, keepdim=True) / legal.sum(dim=-1, keepdim=True)
    torch.testing.assert_close(mean, network.state_value(context))
