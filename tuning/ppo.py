"""Hyperparameters of PPO: Optuna proposes, successive halving ends the poor ones early.

    marl-sched tune ppo
    python tuning/ppo.py --trials 24 --minutes-per-trial 10 --out runs/ppo-itp \
        --trace ../shared/data/itp/cluster05.csv --cluster 16x8

Each trial starts from equal shares of the GPUs (`env.base=equi`) and learns to move GPUs from job
to job; it is scored by its best network on validation, in percent of the base's cost (negative:
better). Trials are compared at a quarter and a half of their time.

Result, in --out: results.parquet, summary.md, best.yaml for `marl-sched train --config`,
trials/NAME, a run's folder each.
Expected: on two busy cores, three of ten trials stopped early, the others between -3 and -20 %,
that is 1.33 to 1.12 h of mean completion time on the held-out jobs; equal shares take 1.32 h, the
tuned index 1.02 h. Networks of two minutes do not reach the index: the page tells settings apart.
Duration with the defaults: 9 minutes on 2 busy cores (at most 10 and the starts).
The same command goes on after a kill.
"""

from marl_sched.tuning.page import Halving, Sweep, even, log
from marl_sched.tuning.worlds import EDITS, OVERLOAD

SWEEP = Sweep(
    title="PPO",
    search="optuna",
    world=OVERLOAD,
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
