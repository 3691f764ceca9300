"""`marl-sched simulate`: one classic scheduler over a whole workload."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from marl_sched.cli import options as o


def simulate(
    scheduler: Annotated[
        str, typer.Option(help="NAME or NAME:param=value; `--scheduler list` names them.")
    ] = "elastic_index",
    trace: o.Trace = None,
    format: o.Format = None,
    cluster: o.ClusterOption = None,
    load: o.Load = None,
    estimate_noise: o.Noise = None,
    seed: o.Seed = None,
    jobs_out: Annotated[Path | None, typer.Option(help="Write one CSV row a job.")] = None,
    skip_bad_rows: o.SkipBadRows = False,
    config: o.ConfigFile = None,
    set_: o.Settings = None,
    as_json: o.Json = False,
) -> None:
    """Run a classic scheduler over a workload and print what became of the jobs."""
    from marl_sched.cli import tables
    from marl_sched.envs.play import PLAYED
    from marl_sched.evaluation.simulate import simulate as run
    from marl_sched.schedulers import get_scheduler
    from marl_sched.types import Cluster
    from marl_sched.workload import load_workload

    if scheduler == "list":
        tables.print_schedulers()
        return
    rule = get_scheduler(scheduler)
    settings = o.resolve(
        config=config,
        settings=set_,
        **o.workload_options(trace, format, cluster, load, estimate_noise, seed, skip_bad_rows),
    )
    machines = Cluster.parse(settings.cluster)
    workload = load_workload(settings.workload, machines, settings.seed)
    tables.report_skipped(workload.skipped)
    if len(workload) == 0:
        tables.fail_empty(workload.name)
    tables.compile_kernels((*PLAYED, rule.rule))
    with tables.status("simulating"):
        results = run(
            workload,
            machines,
            rule,
            settings.sim,
            settings.workload.estimate_noise,
            settings.seed,
        )
    summary = results.summary()
    if jobs_out is not None:
        results.write_csv(jobs_out)
    if as_json:
        print(json.dumps({"scheduler": scheduler, "skipped_rows": workload.skipped, **summary}))
    else:
        tables.print_summary(f"{scheduler} on {workload.name}, cluster {machines}", summary)
