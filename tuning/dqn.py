"""Hyperparameters of DQN: Optuna proposes, successive halving ends the poor ones early.

    marl-sched tune dqn
    python tuning/dqn.py --trials 24 --minutes-per-trial 10 --out runs/dqn-itp \
        --trace ../shared/data/itp/cluster05.csv --cluster 16x8

As tuning/ppo.py, for DQN.

Result, in --out: results.parquet, summary.md, best.yaml for `marl-sched train --config`,
trials/NAME, a run's folder each.
Expected: on two busy cores, two of ten trials stopped early, the others at -17 to -23 %, that is
1.10 to 1.18 h of mean completion time on the held-out jobs; equal shares take 1.32 h, the tuned
index 1.02 h. DQN learns faster here than PPO.
Duration with the defaults: 10 minutes on 2 busy cores (at most 10 and the starts).
The same command goes on after a kill; of a trial that was running, the replay buffer is not
saved, so that it fills anew.
"""

from marl_sched.tuning.page import Halving, Sweep, even, log
from marl_sched.tuning.worlds import EDITS, OVERLOAD

SWEEP = Sweep(
    title="DQN",
    search="optuna",
    world=OVERLOAD,
    settings={**EDITS, "training": {**EDITS["training"], "algo": "dqn"}},
    space={
        "training.dqn.lr": log(1e-4, 1e-2),
        "training.dqn.gamma": even(0.8, 1.0),
        "training.dqn.training_intensity": log(1.0, 16.0),
        "training.dqn.alpha": even(0.0, 0.8),
    },
    trials=10,
    minutes_per_trial=2.0,
    halving=Halving(rungs=(0.25, 0.5)),
)

if __name__ == "__main__":
    from marl_sched.cli.tune import run_page

    run_page(__file__)
