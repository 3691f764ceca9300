"""Iterations of RLlib's algorithms that keep within a time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ray.rllib.execution.rollout_ops import synchronous_parallel_sample
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, ENV_RUNNER_SAMPLING_TIMER, TIMERS

from marl_sched.training.rollout import Rollout


class SamplesInTime:
    """Mixin in front of an RLlib `Algorithm`: env runners stop sampling when their time is over.

    Without a limit an iteration samples as much as is configured, and nothing depends on clocks.
    """

    decisions_sampled = 0
    """In the last iteration, by all env runners together."""
    _until_s: float | None = None

    def train_within(self, seconds: float | None) -> Mapping[str, Any]:
        """One iteration in about `seconds`; None: as large as is configured. RLlib's result."""
        self.decisions_sampled = 0
        self._until_s = None if seconds is None else time.monotonic() + seconds
        result: Mapping[str, Any] = self.train()  # type: ignore[attr-defined]
        return result

    def left_s(self) -> float | None:
        """Seconds until the iteration has to end; None without a limit."""
        return None if self._until_s is None else self._until_s - time.monotonic()

    def sample_rollouts(self, decisions: int | None, seconds: float | None) -> list[Rollout]:
        """What the env runners sample; empty when all of them were lost.

        Args:
            decisions: to go on until there are so many; None, or with a limit: one fragment of
                each runner.
            seconds: after which runners stop within their fragments; None: they do not.
        """
        group = self.env_runner_group  # type: ignore[attr-defined]
        if seconds is not None:
            group.foreach_env_runner(
                lambda runner: runner.sample_within(seconds),
                local_env_runner=group.num_remote_env_runners() == 0,
            )
        metrics, config = self.metrics, self.config  # type: ignore[attr-defined]
        rollouts: list[Rollout]
        with metrics.log_time((TIMERS, ENV_RUNNER_SAMPLING_TIMER)):
            rollouts, results = synchronous_parallel_sample(
                worker_set=group,
                max_env_steps=decisions if seconds is None else None,
                concat=True,
                sample_timeout_s=config.sample_timeout_s,
                _uses_new_env_runners=True,
                _return_metrics=True,
            )
        if rollouts:
            metrics.aggregate(results, key=ENV_RUNNER_RESULTS)
            self.decisions_sampled += sum(len(rollout) for rollout in rollouts)
        return rollouts
