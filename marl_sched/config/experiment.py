"""All settings of an experiment."""

from __future__ import annotations

from pydantic import model_validator

from marl_sched.config.env import EnvConfig
from marl_sched.config.evaluation import EvaluationConfig
from marl_sched.config.model import ModelConfig
from marl_sched.config.section import Section, Seed
from marl_sched.config.sim import SimConfig
from marl_sched.config.training import TrainingConfig
from marl_sched.config.workload import WorkloadConfig


class Config(Section):
    """The whole experiment."""

    seed: Seed = 0
    cluster: str = "8x8"
    """`NODESxGPUS[:TYPE]` joined with `+`, or the path of a YAML file (docs/inputs.md)."""
    workload: WorkloadConfig = WorkloadConfig()
    sim: SimConfig = SimConfig()
    env: EnvConfig = EnvConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @property
    def training_seed(self) -> int:
        """Seed of networks, exploration and drawn episodes: `training.seed`, else `seed`."""
        return self.seed if self.training.seed is None else self.training.seed

    @model_validator(mode="after")
    def _learned_agents_need_ppo(self) -> Config:
        if self.env.agents == "learned" and self.training.algo != "ppo":
            raise ValueError(
                "--agents learned is trained by PPO only: take --algo ppo, or --agents honest, "
                "greedy or yielding"
            )
        return self
