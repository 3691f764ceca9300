"""A sweep small enough for tests, which is also a page: `marl-sched tune tests/tuning/pages.py`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from marl_sched.tuning import worlds
from marl_sched.tuning.page import Halving, Sweep, log

META: dict[str, Any] = {
    "env": {
        "actions": "meta",
        "base": "elastic_index",
        "algorithms": ["elastic_index:p=0.2", "elastic_index:p=0.4", "elastic_index:h=0.1,b=1"],
    },
    "model": {"commit_bias": -1.0},
    "training": worlds.QUICK,
}
"""A choice among schedules that differ in what they favour (`p`: weight on short jobs, `h` and `b`:
on keeping what runs)."""

QUICK = [
    "--episodes", "2", "--set", "workload.synthetic.num_jobs=600",
    "--set", "env.jobs_per_episode=60", "--set", "training.validation_episodes=2",
    "--set", "training.ppo.batch_size=256", "--set", "training.validation_every=1",
    "--set", "training.checkpoint_every=1", "--set", "evaluation.schedulers=[fcfs]",
]  # fmt: skip

SWEEP = Sweep(
    title="quick",
    search="optuna",
    world=worlds.OVERLOAD,
    settings=META,
    space={"training.ppo.lr": log(1e-3, 1e-2)},
    trials=3,
    minutes_per_trial=1.0,
    halving=Halving(rungs=(0.5,)),
)

WEIGHTS = replace(
    SWEEP,
    search="grid",
    space={},
    halving=None,
    simplex=("completion_time", "fairness"),
    points={"jct": (1.0, 0.0), "fair": (0.0, 1.0)},
    trials=2,
    conditioned=True,
)

PBT = replace(
    SWEEP,
    search="pbt",
    halving=None,
    simplex=("completion_time", "fairness"),
    objectives=("valid_avg_jct_s",),
    trials=4,
    population=2,
)
