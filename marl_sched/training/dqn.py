"""DQN on batched rollouts: double Q, n-step, prioritised replay, target network."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
from ray.rllib.algorithms.dqn import DQN, DQNConfig
from ray.rllib.algorithms.dqn.torch.dqn_torch_learner import DQNTorchLearner
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.connectors.learner import LearnerConnectorPipeline
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.learner import Learner
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils.annotations import override
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    LEARNER_RESULTS,
    LEARNER_UPDATE_TIMER,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    REPLAY_BUFFER_SAMPLE_TIMER,
    SYNCH_WORKER_WEIGHTS_TIMER,
    TD_ERROR_KEY,
    TIMERS,
)
from ray.rllib.utils.numpy import convert_to_numpy

from marl_sched.config import Config
from marl_sched.models.dqn import DQNModule
from marl_sched.training import common
from marl_sched.training.common import FusedAdamLearner, to_device
from marl_sched.training.continuing import ContinuingAlgorithm
from marl_sched.training.learner_placement import SpreadRunners, check_learners
from marl_sched.training.replay import ReplayBatch
from marl_sched.training.rollout import SCHEDULER
from marl_sched.training.runner import DEFAULT_ENV_CLASS
from marl_sched.training.sampling import SamplesInTime

TARGET_UPDATES = "target_updates"

FRAGMENT_STEPS = 16
"""Steps of every environment between updates; longer ones save round trips to the runners."""

UPDATES_TOGETHER = 4
"""Updates in one call of the learner, whose books take a fifth of an update's time. Priorities
are as old as that when a batch is drawn."""


class ReplayToBatch(ConnectorV2):
    """Learner connector: one batch of replayed transitions, as tensors."""

    @override(ConnectorV2)
    def __call__(
        self, *, rl_module: Any, batch: dict[str, Any], episodes: list[ReplayBatch], **kwargs: Any
    ) -> dict[str, Any]:
        (replayed,) = episodes
        device = next(rl_module[SCHEDULER].parameters()).device
        columns: dict[str, Any] = {n: to_device(v, device) for n, v in replayed.columns.items()}
        columns[Columns.OBS] = {n: to_device(v, device) for n, v in replayed.obs.items()}
        columns[Columns.NEXT_OBS] = {n: to_device(v, device) for n, v in replayed.next_obs.items()}
        return {SCHEDULER: columns}


class DQNLearner(FusedAdamLearner, DQNTorchLearner):
    """RLlib's DQN learner on our batches, with the target's counter in its checkpoints."""

    @override(Learner)
    def build(self) -> None:
        # RLlib's `build` inserts a piece into the default pipeline, which then is replaced.
        super().build()
        self._learner_connector = LearnerConnectorPipeline(connectors=[ReplayToBatch()])

    @override(Learner)
    def _create_iterator_if_necessary(
        self, *, minibatch_size: int, **kwargs: Any
    ) -> Iterator[MultiAgentBatch]:
        """One replayed batch after the other, as views; RLlib's own iterator copies them."""
        (whole,) = super()._create_iterator_if_necessary(**kwargs)
        rows = dict(whole[SCHEDULER])
        for start in range(0, len(rows[Columns.ACTIONS]), minibatch_size):
            views = rows_of(rows, slice(start, start + minibatch_size))
            yield MultiAgentBatch({SCHEDULER: SampleBatch(views)}, minibatch_size)

    @override(Learner)
    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        state = super().get_state(components, not_components=not_components, **kwargs)
        if self._check_component(TARGET_UPDATES, components, not_components):
            state[TARGET_UPDATES] = dict(self.last_update_ts_by_mid)
        return state

    @override(Learner)
    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        if TARGET_UPDATES in state:
            self.last_update_ts_by_mid = defaultdict(int, state[TARGET_UPDATES])


def rows_of(columns: Mapping[str, Any], rows: slice) -> dict[str, Any]:
    """Views of some rows of nested columns."""
    return {
        name: rows_of(value, rows) if isinstance(value, Mapping) else value[rows]
        for name, value in columns.items()
    }


class SchedulingDQN(SamplesInTime, ContinuingAlgorithm, SpreadRunners, DQN):
    """RLlib's DQN, with an exact training intensity and iterations that keep within a time.

    The stock step rounds the ratio of updates to samples and counts the local runner as one
    that samples; here what is owed is carried over, so that `training_intensity` replayed
    decisions follow each sampled one whatever the number of runners.
    """

    _owed_updates = 0.0

    @override(DQN)
    def training_step(self) -> None:
        """One whole iteration: RLlib's own count of steps would not let it end early."""
        wanted = self.config.env_config["config"]["training"]["dqn"]["decisions_per_iteration"]
        while self.decisions_sampled < wanted:
            before = self.decisions_sampled
            finite = self._sample_and_learn()
            left_s = self.left_s()
            if not finite or (left_s is not None and left_s <= 0.0):
                return
            if self.decisions_sampled == before:  # every runner was lost
                return
            self.restore_env_runners(self.env_runner_group)

    def _sample_and_learn(self) -> bool:
        """One fragment of each runner, and the updates that it is worth; whether these were
        finite."""
        rollouts = self.sample_rollouts(None, self.left_s())
        if not rollouts:
            return True
        self.local_replay_buffer.add(rollouts)
        sampled = sum(len(rollout) for rollout in rollouts)
        if len(self.local_replay_buffer) < self.config.num_steps_sampled_before_learning_starts:
            return True
        batch_size = self.config.total_train_batch_size
        self._owed_updates += sampled * self.config.training_intensity / batch_size
        owed, self._owed_updates = divmod(self._owed_updates, 1.0)
        updates, finite = int(owed), True
        for done in range(0, updates, UPDATES_TOGETHER):
            finite &= self._update(min(UPDATES_TOGETHER, updates - done), batch_size)
        if updates:
            with self.metrics.log_time((TIMERS, SYNCH_WORKER_WEIGHTS_TIMER)):
                self._sync_weights()
        return finite

    def _sync_weights(self) -> None:
        """Hand the weights to all runners; to a lone local one without Ray's object store."""
        group = self.env_runner_group
        if group.num_remote_env_runners() > 0:
            group.sync_weights(from_worker_or_learner_group=self.learner_group, inference_only=True)
            return
        state = self.learner_group.get_state(
            components=f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}", inference_only=True
        )
        group.local_env_runner.set_state(state[COMPONENT_LEARNER])

    def _update(self, updates: int, batch_size: int) -> bool:
        """Replay `updates` batches, learn from one after the other, and hand back their errors;
        whether these were finite."""
        with self.metrics.log_time((TIMERS, REPLAY_BUFFER_SAMPLE_TIMER)):
            batches = self.local_replay_buffer.sample(num_items=updates * batch_size)
        with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
            decisions = self.metrics.peek(
                (ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME), default=0
            )
            results = self.learner_group.update(
                episodes=batches,
                timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: decisions},
                minibatch_size=batch_size,
            )
        # Taken out of the results: a number per replayed decision is no metric.
        errors = results[0][SCHEDULER].pop(TD_ERROR_KEY).peek()
        self.metrics.aggregate(results, key=LEARNER_RESULTS)
        found = np.concatenate([np.atleast_1d(part) for part in convert_to_numpy(errors)])
        finite = bool(np.isfinite(found).all())
        if finite:
            self.local_replay_buffer.update_priorities(found)
        return finite


def dqn_config(config: Config, env_class: str = DEFAULT_ENV_CLASS) -> DQNConfig:
    """Our settings as RLlib's: `dqn_config(config).build_algo()` is ready to train."""
    check_learners(config)
    settings = config.training.dqn
    num_envs = common.num_sampling_envs(config)
    fragment = min(FRAGMENT_STEPS, max(1, settings.decisions_per_iteration // num_envs))
    spec = common.module_spec(
        config,
        DQNModule,
        common.spaces_of(config, env_class),
        epsilon=list(settings.epsilon),
        epsilon_decisions=settings.epsilon_decisions,
    )
    algorithm = common.configure(
        DQNConfig(algo_class=SchedulingDQN),
        config,
        {SCHEDULER: spec},
        env_class,
        max(fragment, settings.n_step),
    )
    return (
        algorithm.learners(learner_class=DQNLearner)
        .training(
            lr=settings.lr,
            # The loss takes gamma ** n_step; the buffer gives n_step as -log of the discount.
            gamma=math.exp(-1.0),
            n_step=settings.n_step,
            double_q=True,
            dueling=True,
            num_atoms=1,
            td_error_loss_fn="huber",
            train_batch_size_per_learner=settings.batch_size,
            num_steps_sampled_before_learning_starts=settings.learning_starts,
            target_network_update_freq=settings.target_update,
            training_intensity=settings.training_intensity,
            grad_clip=settings.grad_clip,
            grad_clip_by="global_norm",
            # By name: RLlib looks for "EpisodeReplayBuffer" in it, and a class would not do.
            replay_buffer_config={
                "type": "marl_sched.training.replay.ArrayReplayBuffer",
                "capacity": settings.buffer_size,
                "n_step": settings.n_step,
                "gamma": settings.gamma,
                "discount_per_h": settings.discount_per_h,
                "alpha": settings.alpha,
                "beta": settings.beta,
                "seed": config.training_seed,
            },
        )
        .reporting(
            min_time_s_per_iteration=None,
            # See `SchedulingDQN.training_step`.
            min_sample_timesteps_per_iteration=None,
        )
    )
