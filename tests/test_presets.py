"""Every preset is a page of settings that resolves, and that options override."""

from __future__ import annotations

import pytest

from marl_sched.cli.options import resolve
from marl_sched.config import Config
from marl_sched.errors import UserError
from marl_sched.presets import PRESETS, preset_settings
from marl_sched.schedulers.tuned import tuned_names

EACH = [(name, algo) for name, page in PRESETS.items() for algo in page]


@pytest.mark.parametrize(("name", "algo"), EACH)
def test_resolves_and_is_overridden(name: str, algo: str) -> None:
    page = preset_settings(name, algo)

    def resolved(*settings: str, **options: object) -> Config:
        return resolve(config=None, settings=list(settings), base=page, training__algo=algo,
                       **options)  # fmt: skip

    config = resolved()
    assert config.training.algo == algo and (config.training.minutes or 0) < 20
    assert config.env.base == "elastic_index:tuned"
    other = resolved("training.es.lr=0.5", training__minutes=3.0)
    assert other.training.minutes == 3.0 and other.training.es.lr == 0.5
    assert other.training.es.pairs == config.training.es.pairs


def test_every_tuned_rule_is_among_the_baselines() -> None:
    named = preset_settings("fast", "ppo")["evaluation"]["schedulers"]
    assert {f"{name}:tuned" for name in tuned_names()} <= set(named)


def test_each_has_all_algorithms_and_an_unknown_name_is_refused() -> None:
    assert all(set(page) == {"ppo", "dqn", "es"} for page in PRESETS.values())
    with pytest.raises(UserError, match="'quick': unknown; known: fast"):
        preset_settings("quick", "ppo")
