"""A task small enough to learn in seconds, behind the interface of the batched environment."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from marl_sched.config import Config

PATH = "tests.training.fake_env:FakeBatchedEnv"
JOB_FEATURES, CLUSTER_FEATURES, WEIGHTS = 4, 2, 7
EPISODE_STEPS = 10


class FakeBatchedEnv:
    """One point for the right action, an episode is ten decisions.

    `edit`: commit while globals[0] is 1, else the marked slot one level up; every second
    decision is a sub-step that takes no time. `meta`: commit or the algorithm that globals marks.
    """

    def __init__(self, config: Config, num_envs: int, seed: int, part: str = "train") -> None:
        self.num_envs = num_envs
        self.meta = config.env.actions == "meta"
        self.slots, self.algorithms = config.env.job_slots, len(config.env.algorithms)
        self.num_actions = 1 + self.algorithms + 2 * self.slots
        self._rng = np.random.default_rng(seed)
        self._episodes: list[dict[str, float]] = []
        shapes = {
            "jobs": (self.slots, JOB_FEATURES),
            "cluster": (CLUSTER_FEATURES,),
            "globals": (1 + self.algorithms,),
            "weights": (WEIGHTS,),
        }
        spaces: dict[str, gym.Space] = {
            name: gym.spaces.Box(-10.0, 10.0, shape, np.float32) for name, shape in shapes.items()
        }
        spaces["mask"] = gym.spaces.Box(0, 1, (self.num_actions,), np.int8)
        self.observation_space = gym.spaces.Dict(spaces)
        self.action_space: gym.Space = gym.spaces.Discrete(self.num_actions)

    def reset(self) -> dict[str, np.ndarray]:
        # Rows are out of step with each other, as those of a real environment soon are.
        self._step = np.arange(self.num_envs) % EPISODE_STEPS
        self._return = np.zeros(self.num_envs)
        return self._observe()

    def _observe(self) -> dict[str, np.ndarray]:
        rows = np.arange(self.num_envs)
        jobs = np.zeros((self.num_envs, self.slots, JOB_FEATURES), np.float32)
        occupied = self._rng.integers(1, self.slots + 1, self.num_envs)
        jobs[..., 0] = np.arange(self.slots) < occupied[:, None]
        jobs[..., 2] = self._rng.random(jobs.shape[:2]) * jobs[..., 0]
        marked = self._rng.integers(0, occupied)
        jobs[rows, marked, 1] = 1.0
        plain = np.zeros((self.num_envs, 1 + self.algorithms), np.float32)
        mask = np.zeros((self.num_envs, self.num_actions), np.int8)
        if self.meta:
            self._right = self._rng.integers(0, 1 + self.algorithms, self.num_envs)
            plain[rows, self._right] = 1.0
            mask[:, : 1 + self.algorithms] = 1
        else:
            plain[:, 0] = self._rng.random(self.num_envs) < 0.5
            mask[:, 0] = 1
            up = slice(1 + self.algorithms, 1 + self.algorithms + self.slots)
            mask[:, up] = jobs[..., 0]
            self._right = np.where(plain[:, 0] > 0, 0, 1 + self.algorithms + marked)
        self._mask = mask
        cluster = np.ones((self.num_envs, CLUSTER_FEATURES), np.float32)
        weights = np.full((self.num_envs, WEIGHTS), 1 / WEIGHTS, np.float32)
        self._seen: dict[str, np.ndarray] = {
            "jobs": jobs,
            "cluster": cluster,
            "globals": plain,
            "weights": weights,
            "mask": mask.copy(),
        }
        return self._seen

    def observation(self) -> dict[str, np.ndarray]:
        return self._seen

    def step(
        self, actions: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
        assert (self._mask[np.arange(self.num_envs), actions] == 1).all(), "illegal action"
        reward = (actions == self._right).astype(np.float64)
        self._return += reward
        dt_s = np.where(self._step % 2 == 0, 0.0, 60.0)
        self._step = self._step + 1
        done = self._step >= EPISODE_STEPS
        for row in np.flatnonzero(done):
            self._episodes.append(
                {
                    "return": float(self._return[row]),
                    "jct_vs_base_percent": -float(self._return[row]),
                    "decisions": float(EPISODE_STEPS),
                }
            )
        self._return[done] = 0.0
        self._step[done] = 0
        return self._observe(), reward, dt_s, done

    def pop_episodes(self) -> list[dict[str, float]]:
        episodes, self._episodes = self._episodes, []
        return episodes

    def get_state(self) -> dict[str, Any]:
        return {
            "rng": self._rng.bit_generator.state,
            "step": self._step.copy(),
            "return": self._return.copy(),
            "right": self._right,
            "mask": self._mask,
            "seen": self._seen,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        self._rng.bit_generator.state = state["rng"]
        self._step, self._return = state["step"].copy(), state["return"].copy()
        self._right, self._mask, self._seen = state["right"], state["mask"], state["seen"]
