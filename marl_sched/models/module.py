"""What the RLlib modules of all algorithms share."""

from __future__ import annotations

import numpy as np
from ray.rllib.core.rl_module.rl_module import RLModule
from ray.rllib.core.rl_module.torch import TorchRLModule
from ray.rllib.utils.annotations import override
from typing_extensions import Self


class ActingModule(TorchRLModule):
    """A module with random numbers of its own, cheap to ask for actions."""

    @override(RLModule)
    def setup(self) -> None:
        self.rng = np.random.default_rng(0)  # env runners put their own here

    def train(self, mode: bool = True) -> Self:
        """Switch between training and evaluation, only where that changes something.

        RLlib sets the mode of all submodules at each forward pass, which takes as long as the
        pass does.
        """
        return self if mode == self.training else super().train(mode)
