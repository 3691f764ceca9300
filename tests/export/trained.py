"""Small trained schedulers that fit the environment."""

from __future__ import annotations

from pathlib import Path

from marl_sched.config import Config, load_config
from marl_sched.envs.batched import spec_spaces
from marl_sched.models.network import ActionNetwork, DuelingNetwork, NetworkSizes
from marl_sched.models.policy import LearnedPolicy, Manifest, save_policy
from marl_sched.schedulers.learned.scorer_file import save_scorer
from tests.schedulers.learned.test_scorer import record


def policy_of(algo: str, config: Config | None = None, *, is_base: bool = False) -> LearnedPolicy:
    """Random weights for a game, the default one or that of `config`."""
    config = load_config() if config is None else config
    sizes = NetworkSizes.of_spaces(*spec_spaces(config))
    network = ActionNetwork(sizes) if algo == "ppo" else DuelingNetwork(sizes)
    state = {name: value.detach().numpy() for name, value in network.state_dict().items()}
    manifest = Manifest(
        algo=algo,
        sizes=sizes.as_dict(),
        actions=config.env.actions,
        algorithms=list(config.env.algorithms),
        base=config.env.base,
        is_base=is_base,
        iteration=7,
        validation=-1.5,
        config=config.model_dump(mode="json"),
    )
    return LearnedPolicy(manifest, state)


def write_runs(folder: Path) -> Path:
    """A run of each algorithm in `folder`, as far as export looks at it."""
    for algo in ("ppo", "dqn"):
        save_policy(policy_of(algo), folder / algo / "best")
    config = load_config().model_dump(mode="json")
    save_scorer(record(config=config), folder / "es" / "best")
    return folder
