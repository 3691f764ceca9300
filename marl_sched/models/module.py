"""What the RLlib modules of all algorithms share."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from ray.rllib.core.rl_module.rl_module import RLModule
from ray.rllib.core.rl_module.torch import TorchRLModule
from ray.rllib.utils.annotations import override
from torch import Tensor, nn
from typing_extensions import Self

from marl_sched.models.forward import Forward


class ActingModule(TorchRLModule):
    """A module with random numbers of its own, cheap to ask for actions."""

    @override(RLModule)
    def setup(self) -> None:
        self.rng = np.random.default_rng(0)  # env runners put their own here
        self._passes: dict[nn.Module, Forward] = {}

    def train(self, mode: bool = True) -> Self:
        """Switch between training and evaluation, only where that changes something.

        RLlib sets the mode of all submodules at each forward pass, which takes as long as the
        pass does.
        """
        return self if mode == self.training else super().train(mode)

    def compiled(self, network: nn.Module) -> Forward:
        """The compiled pass of one of this module's networks."""
        found = self._passes.get(network)
        if found is None or not found.is_current():
            found = self._passes[network] = Forward(network)
        return found


def arrays_of(obs: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Observations as RLlib hands them over, as arrays."""
    return {name: value.numpy() for name, value in obs.items()}
