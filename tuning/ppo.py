"""Hyperparameters of PPO: Optuna proposes, successive halving ends the poor ones early.

    marl-sched tune ppo
    python tuning/ppo.py --trials 24 --minutes-per-trial 10 --out runs/ppo-itp \
        --trace ../shared/data/itp/cluster05.csv --cluster 16x8

Each trial trains on the training part and is scored by its best network on validation, in percent
of the base schedule's cost (negative: better). Trials are compared at a ninth and a third of
their time.

Result, in --out: results.parquet, summary.md, best.yaml for `marl-sched train --config`,
trials/NAME, a run's folder each.
Expected: a spread of several percent between step sizes; very small ones stay at their start.
Duration with the defaults: at most 6 minutes and the starts on 2 cores, less what halving saves.
The same command goes on after a kill.
"""

from marl_sched.tuning.page import Halving, Sweep, even, log
from marl_sched.tuning.worlds import EDITS

SWEEP = Sweep(
    title="PPO",
    search="optuna",
    settings=EDITS,
    space={
        "training.ppo.lr": log(1e-3, 3e-2),
        "training.ppo.entropy": even(0.0, 0.02),
        "training.ppo.lambda_": even(0.8, 1.0),
        "training.ppo.clip": even(0.1, 0.3),
        "model.commit_bias": even(-1.0, 2.0),
    },
    trials=10,
    minutes_per_trial=2.0,
    halving=Halving(rungs=(0.25, 0.5)),
)

if __name__ == "__main__":
    from marl_sched.cli.tune import run_page

    run_page(__file__)
