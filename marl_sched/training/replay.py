"""A replay buffer of arrays: prioritised, n-step, without an object per transition.

Slots of a ring hold the observations in the order in which they were taken. A transition is
a slot, its n-step reward, and the slot of the observation n steps later, which was taken by
the same environment, later, and so is overwritten later: no observation is stored twice.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ray.rllib.utils.annotations import override
from ray.rllib.utils.replay_buffers.prioritized_episode_buffer import (
    PrioritizedEpisodeReplayBuffer,
)

from marl_sched.training.gae import discounts
from marl_sched.training.rollout import SCHEDULER, Arrays, ModuleRollout, Rollout

PRIORITY_FLOOR = 1e-6
"""Keeps a transition without error reachable."""


class SumTree:
    """Priorities of N slots, drawn and updated in batches of any size in O(log N) array steps."""

    def __init__(self, capacity: int) -> None:
        self._leaves = 1 << max(1, (capacity - 1).bit_length())
        # Node i has the children 2i and 2i+1; the leaves are the second half.
        self._sums = np.zeros(2 * self._leaves)

    @property
    def total(self) -> float:
        return float(self._sums[1])

    def __getitem__(self, slots: np.ndarray) -> np.ndarray:
        return self._sums[slots + self._leaves]

    def set(self, slots: np.ndarray, priorities: np.ndarray | float) -> None:
        nodes = slots + self._leaves
        self._sums[nodes] = priorities
        while nodes[0] > 1:
            # Recomputed from the children, so that repeated nodes do no harm.
            nodes = nodes >> 1
            self._sums[nodes] = self._sums[2 * nodes] + self._sums[2 * nodes + 1]

    def find(self, mass: np.ndarray) -> np.ndarray:
        """Slots at cumulated priority `mass` (B,) float64 in [0, total)."""
        mass = mass.copy()
        nodes = np.ones(len(mass), dtype=np.int64)
        while nodes[0] < self._leaves:
            left = self._sums[2 * nodes]
            # An empty right side is never entered, whatever rounding did to the mass.
            right = (mass >= left) & (self._sums[2 * nodes + 1] > 0)
            mass -= np.where(right, left, 0.0)
            nodes = 2 * nodes + right
        return nodes - self._leaves


def n_step(
    rewards: np.ndarray, discount: np.ndarray, dones: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """n-step returns of the first T - n of T steps.

    R_t = sum over k < n of D_k r_{t+k}, where D_k is the product of the discounts of the steps
    t..t+k-1: 0 beyond the end of the episode.

    Args:
        rewards: (T, B) float64.
        discount: (T, B) float64, as of `gae.discounts`.
        dones: (T, B) bool, the step ended an episode.
        n: >= 1.

    Returns:
        (T-n, B) each: R float64; D_n float64, of what follows; terminated bool, the episode
        ended within.
    """
    count = len(rewards) - n
    total = np.zeros((count, rewards.shape[1]))
    factor = np.ones(total.shape)
    ended = np.zeros(total.shape, dtype=bool)
    for k in range(n):
        window = slice(k, k + count)
        total += factor * rewards[window]
        factor *= discount[window]
        ended |= dones[window]
    return total, factor, ended


class ArrayReplayBuffer(PrioritizedEpisodeReplayBuffer):
    """Transitions with `n_step`, minus the log of the discount of what follows.

    Priority P_i = |TD error|^alpha, weight (N P_i / sum P)^-beta over the batch's greatest.

    Source: Schaul et al., Prioritized Experience Replay, ICLR 2016; weights are normalised by
    the batch's maximum instead of the buffer's.
    """

    def __init__(
        self,
        capacity: int = 100_000,
        *,
        n_step: int = 3,
        gamma: float = 0.99,
        discount_per_h: float = 0.0,
        alpha: float = 0.6,
        beta: float = 0.4,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(capacity=capacity, alpha=alpha, beta=beta)
        self._n, self._gamma, self._per_h = n_step, gamma, discount_per_h
        self._alpha, self._beta = alpha, beta
        self._rng = np.random.default_rng(seed)
        self._size = 0
        self._head = 0  # slot that is written next
        self._highest = 1.0  # highest priority so far, given to new transitions
        self._priorities = SumTree(capacity)
        self._obs: Arrays = {}
        self._columns: Arrays = {
            "actions": np.zeros(capacity, np.int64),
            "rewards": np.zeros(capacity, np.float32),
            "n_step": np.zeros(capacity, np.float32),
            "terminateds": np.zeros(capacity, bool),
        }
        self._next_slot = np.zeros(capacity, np.int64)
        self._open: dict[int, dict[str, Any]] = {}  # last n steps of each runner
        self._drawn: np.ndarray | None = None

    @override(PrioritizedEpisodeReplayBuffer)
    def add(self, episodes: list[Rollout] | Rollout, *args: Any, **kwargs: Any) -> None:
        """Append whole rollouts; a step becomes a transition n steps later."""
        for rollout in [episodes] if isinstance(episodes, Rollout) else episodes:
            part = rollout.modules[SCHEDULER]
            slots = self._store(part, rollout)
            self._close(part, rollout, slots)

    def _store(self, part: ModuleRollout, rollout: Rollout) -> np.ndarray:
        """Write observations and actions into the ring; their slots (T, B)."""
        count = len(rollout)
        if count > self.capacity:
            raise ValueError(f"a rollout of {count} steps exceeds the buffer of {self.capacity}")
        slots = (self._head + np.arange(count)) % self.capacity
        self._priorities.set(slots, 0.0)
        for name, value in part.obs.items():
            if name not in self._obs:
                self._obs[name] = np.zeros((self.capacity, *value.shape[2:]), value.dtype)
            self._obs[name][slots] = value[:-1].reshape(count, *value.shape[2:])
        self._columns["actions"][slots] = part.actions.reshape(-1)
        self._head = (self._head + count) % self.capacity
        self._size = min(self._size + count, self.capacity)
        return slots.reshape(rollout.num_steps, rollout.num_envs)

    def _close(self, part: ModuleRollout, rollout: Rollout, slots: np.ndarray) -> None:
        """Complete the transitions whose n-th next observation has now been taken."""
        steps = {
            "slots": slots,
            "rewards": part.rewards,
            "discount": discounts(part.dt_s, part.dones, self._gamma, self._per_h),
            "dones": part.dones,
        }
        before = self._open.get(rollout.worker_index)
        # A restarted runner begins fresh episodes: its last open steps are lost.
        if before is not None and before["end"] == rollout.start:
            steps = {name: np.concatenate([before[name], steps[name]]) for name in steps}
        slots = steps["slots"]
        if len(slots) > self._n:
            reward, factor, ended = n_step(
                steps["rewards"], steps["discount"], steps["dones"], self._n
            )
            # RLlib's loss raises its gamma to this; what is terminated it leaves out itself.
            with np.errstate(divide="ignore"):
                exponent = np.where(ended, 0.0, -np.log(factor))
            done = slots[: -self._n].reshape(-1)
            self._columns["rewards"][done] = reward.reshape(-1)
            self._columns["n_step"][done] = exponent.reshape(-1)
            self._columns["terminateds"][done] = ended.reshape(-1)
            self._next_slot[done] = slots[self._n :].reshape(-1)
            self._priorities.set(done, self._highest)
        tail = {name: value[-self._n :] for name, value in steps.items()}
        self._open[rollout.worker_index] = tail | {"end": rollout.start + rollout.num_steps}

    @override(PrioritizedEpisodeReplayBuffer)
    def sample(self, num_items: int | None = None, **kwargs: Any) -> list[ReplayBatch]:
        """A batch of `num_items` transitions, one from each equal share of the priorities."""
        count = num_items or 1
        total = self._priorities.total
        if total <= 0:
            raise ValueError("no transition is complete yet")
        shares = (np.arange(count) + self._rng.random(count)) / count
        slots = self._priorities.find(np.minimum(shares * total, np.nextafter(total, 0.0)))
        weights = (self._size * self._priorities[slots] / total) ** -self._beta
        columns: Arrays = {name: value[slots] for name, value in self._columns.items()}
        columns["weights"] = (weights / weights.max()).astype(np.float32)
        following = self._next_slot[slots]
        self._drawn = slots
        return [
            ReplayBatch(
                columns,
                obs={name: value[slots] for name, value in self._obs.items()},
                next_obs={name: value[following] for name, value in self._obs.items()},
            )
        ]

    @override(PrioritizedEpisodeReplayBuffer)
    def update_priorities(self, priorities: np.ndarray, module_id: Any = None) -> None:
        """Set the priorities of the last sample to its |TD errors| (B,)."""
        assert self._drawn is not None
        raised = (np.abs(priorities).astype(np.float64) + PRIORITY_FLOOR) ** self._alpha
        # Of slots drawn twice, every copy carries the same error.
        self._priorities.set(self._drawn, raised)
        self._highest = max(self._highest, float(raised.max()))
        self._drawn = None

    @override(PrioritizedEpisodeReplayBuffer)
    def get_num_timesteps(self, *args: Any, **kwargs: Any) -> int:
        return self._size

    @override(PrioritizedEpisodeReplayBuffer)
    def __len__(self) -> int:
        return self._size

    @override(PrioritizedEpisodeReplayBuffer)
    def get_metrics(self) -> Any:
        return self.metrics.reduce()

    @override(PrioritizedEpisodeReplayBuffer)
    def get_state(self) -> dict[str, Any]:
        """Nothing: a resumed run refills its buffer, which takes `learning_starts` decisions."""
        return {}

    @override(PrioritizedEpisodeReplayBuffer)
    def set_state(self, state: dict[str, Any]) -> None:
        del state


class ReplayBatch:
    """One sampled batch, on its way to the learner's connector."""

    def __init__(self, columns: Arrays, obs: Arrays, next_obs: Arrays) -> None:
        self.columns = columns
        self.obs = obs
        self.next_obs = next_obs

    def __len__(self) -> int:
        return len(self.columns["actions"])
