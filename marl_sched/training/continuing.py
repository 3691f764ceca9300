"""Checkpoints that a run really continues from: what RLlib leaves out of its own."""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import Any

import numpy as np
import torch

WORLDS = "worlds"
"""Component of an algorithm's state: environments and random numbers of all processes."""


class ContinuingAlgorithm:
    """Mixin in front of an RLlib `Algorithm`: saves environments and random states too.

    With as many runners as before, a restored run goes on exactly where the saved one was;
    runners that the checkpoint does not know start fresh episodes.
    """

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        state = super().get_state(  # type: ignore[misc]
            components, not_components=not_components, **kwargs
        )
        if self._check_component(WORLDS, components, not_components):  # type: ignore[attr-defined]
            group = self.env_runner_group  # type: ignore[attr-defined]
            worlds = group.foreach_env_runner(
                lambda runner: (runner.worker_index, runner.get_world()),
                local_env_runner=group.num_remote_env_runners() == 0,
            )
            state[WORLDS] = {
                "runners": dict(worlds),
                "python": random.getstate(),
                "numpy": np.random.get_state(),
                "torch": torch.get_rng_state(),
            }
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)  # type: ignore[misc]
        if WORLDS not in state:
            return
        worlds = state[WORLDS]
        runners = worlds["runners"]
        group = self.env_runner_group  # type: ignore[attr-defined]

        def restore(runner: Any) -> None:
            if runner.worker_index in runners:
                runner.set_world(runners[runner.worker_index])

        group.foreach_env_runner(restore, local_env_runner=group.num_remote_env_runners() == 0)
        random.setstate(worlds["python"])
        np.random.set_state(worlds["numpy"])
        torch.set_rng_state(worlds["torch"])
