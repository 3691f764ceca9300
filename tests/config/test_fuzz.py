"""Damaged settings and `--set`: a configuration, or one line of error."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from marl_sched.config import Config, load_config
from tests.mutants import EXAMPLES, EXTREMES, damaged, read_or_refused

FILE = yaml.safe_dump(Config().model_dump(mode="json"), sort_keys=False).encode()
SHORT = b"""seed: &s 3
cluster: 2x4:T4
workload: {load: 0.9, tenants: [a, b], split: [0.6, 0.2, 0.2]}
sim:
  round_s: 300
  tenant_quota: {a: 3, "b": *s}
env: {reward: {slowdown: 1}, train_load: null}
"""
KEYS = ("seed", "cluster", "sim.round_s", "workload.load", "sim.tenant_quota", "env.reward",
        "workload.split", "training.seed", "sim", "a.b.c", "")  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged")


@settings(max_examples=EXAMPLES)
@given(seed=st.integers(0, 2**32), whole=st.booleans())
def test_files(folder: Path, seed: int, whole: bool) -> None:
    path = folder / "config.yaml"
    path.write_bytes(damaged(FILE if whole else SHORT, Random(seed)))
    found = read_or_refused(lambda: load_config(path))
    assert found is None or isinstance(found, Config)


@settings(max_examples=EXAMPLES)
@given(key=st.sampled_from(KEYS), value=st.sampled_from(EXTREMES) | st.text(max_size=30))
def test_options(key: str, value: str) -> None:
    found = read_or_refused(lambda: load_config(overrides=[f"{key}={value}"]))
    assert found is None or isinstance(found, Config)
