"""The compiled pass against torch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from marl_sched.models.forward import Forward
from marl_sched.models.network import ActionNetwork, DuelingNetwork, masked_logits
from tests.models.test_network import SIZES, observation


def by_torch(network: ActionNetwork | DuelingNetwork, obs: dict[str, torch.Tensor]) -> np.ndarray:
    with torch.no_grad():
        scores = network(obs)
        if isinstance(network, ActionNetwork):
            scores = masked_logits(scores, obs["mask"])
        return scores.numpy()


@pytest.mark.parametrize("kind", [ActionNetwork, DuelingNetwork])
@pytest.mark.parametrize(("slots", "batch"), [(1, 1), (6, 5), (64, 40)])
def test_equals_torch(kind: type, slots: int, batch: int) -> None:
    torch.manual_seed(slots)
    network, obs = kind(SIZES), observation(slots, batch, seed=slots)
    obs["jobs"] = obs["jobs"][:, torch.randperm(slots)]  # empty slots anywhere
    obs["jobs"][0] = 0.0
    arrays = {name: value.numpy() for name, value in obs.items()}
    forward = Forward(network)
    np.testing.assert_allclose(forward(arrays), by_torch(network, obs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [ActionNetwork, DuelingNetwork])
def test_follows_the_weights(kind: type) -> None:
    network, other, obs = kind(SIZES), kind(SIZES), observation(6)
    arrays = {name: value.numpy() for name, value in obs.items()}
    forward = Forward(network)
    before = forward(arrays)
    network.load_state_dict(other.state_dict())
    np.testing.assert_array_equal(forward(arrays), Forward(other)(arrays))
    assert forward.is_current() and (forward(arrays) != before).any()
    network.double()  # other memory
    assert not forward.is_current()
