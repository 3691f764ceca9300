"""Sweep of the reward weights: what does a scheduler give up for what?

    marl-sched tune reward_weights
    python tuning/reward_weights.py --trials 8 --minutes-per-trial 5 --out runs/weights-itp \
        --trace ../shared/data/itp/cluster05.csv --cluster 16x8 --prefer fairness=0.5,jct=0.5

Each trial trains one scheduler with its own weights, a point of the simplex below, by evolution
strategies; `--search optuna` chooses the points by several objectives at once, instead of the grid.
With each seed one more is trained for all weights together, in as much time as the grid's trials
have together. Everybody, and the classic schedulers, plays the same held-out episodes and is judged
by raw metrics, never by its own weighted reward. Deadline misses take part where jobs have
deadlines (Chronus traces).

Result, in --out: results.parquet, hypervolume.parquet, summary.md, tradeoff.png, tradeoff.html,
best.yaml (settings of the best for --prefer, and its name for --scheduler), trials/NAME, a run's
folder each.
Expected, on two idle cores: hypervolume about 4.8 for the grid and 4.4 for the one scheduler for
all weights, 1.0 for the classic ones; completion times 3 to 4 % below the tuned index with three
quarters of its restarts, slowdown 13 % below, or a tenth of the restarts for a fifth more time
(docs/learning.md). Rigid classic schedulers take about twice as long or more.
Duration with the defaults: 13 minutes on 2 cores. The same command goes on after a kill.
"""

from marl_sched.tuning.page import Sweep
from marl_sched.tuning.worlds import EVOLVED, OVERLOAD

SWEEP = Sweep(
    title="Reward weights",
    search="grid",
    world=OVERLOAD,
    settings=EVOLVED,
    simplex=("completion_time", "slowdown", "fairness", "utilisation", "deadline", "preemption"),
    points={
        "completion_time": (1.0, 0.0, 0.0, 0.0, 0.0, 0.0),
        "fairness": (0.0, 0.0, 1.0, 0.0, 0.0, 0.0),
        "utilisation": (0.0, 0.0, 0.0, 1.0, 0.0, 0.0),
        "preemption": (0.0, 0.0, 0.0, 0.0, 0.0, 1.0),
        "deadline": (0.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        "balanced": (0.2, 0.2, 0.2, 0.2, 0.0, 0.2),
        "slowdown": (0.0, 1.0, 0.0, 0.0, 0.0, 0.0),
        "time_and_use": (0.5, 0.0, 0.0, 0.5, 0.0, 0.0),
    },
    objectives=(
        "valid_avg_jct_s",
        "valid_avg_slowdown",
        "valid_unfair_fraction",
        "-valid_gpu_useful_fraction",
        "valid_deadline_missed_fraction",
        "valid_overhead_gpu_s",
    ),
    trials=6,
    seeds=2,
    minutes_per_trial=1.0,
    conditioned=True,
)

if __name__ == "__main__":
    from marl_sched.cli.tune import run_page

    run_page(__file__)
