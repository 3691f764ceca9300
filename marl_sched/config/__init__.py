"""Every setting of the project, validated; an unknown key is an error.

`load_config(file, overrides)` resolves defaults < YAML file < `--set a.b=c`. The resolved
configuration is saved beside each run as `config.yaml` and can be passed back with `--config`.
"""

from marl_sched.config.env import (
    ActionSpace,
    AgentBehaviour,
    Credit,
    EnvConfig,
    RewardTerm,
    RewardWeights,
)
from marl_sched.config.evaluation import EvaluationConfig
from marl_sched.config.experiment import Config
from marl_sched.config.load import (
    flat,
    load_config,
    merge,
    named_settings,
    parse_config,
    save_config,
    validate_config,
)
from marl_sched.config.model import ModelConfig
from marl_sched.config.sim import Placement, SimConfig
from marl_sched.config.training import (
    Algorithm,
    DQNSettings,
    ESSettings,
    PPOSettings,
    TrainingConfig,
)
from marl_sched.config.workload import SyntheticConfig, TraceFormat, WorkloadConfig

__all__ = [
    "ActionSpace",
    "AgentBehaviour",
    "Algorithm",
    "Config",
    "Credit",
    "DQNSettings",
    "ESSettings",
    "EnvConfig",
    "EvaluationConfig",
    "ModelConfig",
    "PPOSettings",
    "Placement",
    "RewardTerm",
    "RewardWeights",
    "SimConfig",
    "SyntheticConfig",
    "TraceFormat",
    "TrainingConfig",
    "WorkloadConfig",
    "flat",
    "load_config",
    "merge",
    "named_settings",
    "parse_config",
    "save_config",
    "validate_config",
]
