"""Parameters of the classic schedulers, each tuned with the same budget.

    marl-sched tune baselines
    python tuning/baselines.py --trials 64 --out runs/baselines-itp \
        --trace ../shared/data/itp/cluster05.csv --cluster 16x8

Each trial is `marl-sched tune-baseline` for one scheduler: random search with successive halving
over `--trials` sets of parameters, on validation sequences. Two schedulers at a time.

Result, in --out: results.parquet and summary.md (mean JCT against the scheduler's own defaults on
validation, and the parameters), trials/NAME/tuned.yaml; the last lines give the best one as
--scheduler NAME:param=value,.. for all other commands.
Expected: on validation 0 to -3 %, never above 0, as the defaults are among the sets; on the
held-out jobs about as much, for single schedulers nothing (elastic_index 42.8 to 42.3 min, hesrpt
45.3 to 43.7, elastic_las 44.1 to 44.2).
Duration with the defaults: 1.5 minutes on 2 busy cores. The same command goes on after a kill.
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
