"""Parameters of the classic schedulers, each tuned with the same budget.

    marl-sched tune baselines
    python tuning/baselines.py --trials 64 --out runs/baselines-itp \
        --trace ../shared/data/itp/cluster05.csv --cluster 16x8

Each trial is `marl-sched tune-baseline` for one scheduler: random search with successive halving
over `--trials` sets of parameters, on validation sequences. Two schedulers at a time.

Result, in --out: results.parquet and summary.md (mean JCT against the scheduler's own defaults on
validation, and the parameters), trials/NAME/tuned.yaml.
Expected: never above 0, as the defaults are among the sets.
Duration with the defaults: about 2 minutes on 2 cores. The same command goes on after a kill.
"""

from marl_sched.tuning.page import Sweep

SWEEP = Sweep(
    title="Classic schedulers",
    search="baselines",
    settings={"evaluation": {"episodes": 12}},
    schedulers=(
        "elastic_index",
        "elastic_srsf",
        "elastic_las",
        "elastic_tiresias",
        "elastic_gittins",
        "hesrpt",
        "tiresias",
    ),
    trials=24,
    minutes_per_trial=None,
)

if __name__ == "__main__":
    from marl_sched.cli.tune import run_page

    run_page(__file__)
