"""`marl-sched simulate`: one classic scheduler over a whole workload."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marl_sched.cli import options as o
from marl_sched.types import Cluster

if TYPE_CHECKING:
    from marl_sched.config import Config
    from marl_sched.evaluation.metrics import JobResults
    from marl_sched.schedulers import Scheduler
    from marl_sched.workload.jobs import Workload


def simulate(
    scheduler: Annotated[
        str,
        typer.Option(
            help="NAME or NAME:param=value, `pretrained` (`list` names them), or an ES run."
        ),
    ] = "elastic_index",
    trace: o.Trace = None,
    format: o.Format = None,
    cluster: o.ClusterOption = None,
    load: o.Load = None,
    estimate_noise: o.Noise = None,
    seed: o.Seed = None,
    placement: o.PlacementRule = None,
    node_mtbf_h: Annotated[
        float | None,
        typer.Option(
            help="Mean time between failures of a node, hours; repair: --set sim.node_mttr_h=1.",
            show_default="nodes do not fail",
        ),
    ] = None,
    node_events: Annotated[
        Path | None,
        typer.Option(
            help="CSV of nodes that go down, come up or are reclaimed: time_s, node, event, "
            "notice_s."
        ),
    ] = None,
    jobs_out: Annotated[Path | None, typer.Option(help="Write one CSV row a job.")] = None,
    events: Annotated[
        Path | None, typer.Option(help="Write every event to this Parquet file.")
    ] = None,
    skip_bad_rows: o.SkipBadRows = False,
    config: o.ConfigFile = None,
    set_: o.Settings = None,
    as_json: o.Json = False,
) -> None:
    """Run a classic scheduler over a workload and print what became of the jobs.

    Jobs may name GPU types, shares, dependencies, cancellations and failures in the trace. Other
    rules are settings: sim.job_mtbf_h, sim.checkpoint_interval_s, sim.max_retries, sim.sharing,
    sim.network_contention, sim.tenant_quota, sim.cross_rack_rate, sim.decide_on, sim.repack
    (`marl-sched settings` explains them).
    """
    from marl_sched.cli import tables
    from marl_sched.schedulers import get_scheduler

    if scheduler == "list":
        tables.print_schedulers()
        return
    rule = get_scheduler(scheduler)
    check_outputs(
        {"--jobs-out": jobs_out, "--events": events},
        {"--trace": trace, "--node-events": node_events, "--config": config},
    )
    options = o.workload_options(trace, format, cluster, load, estimate_noise, seed, skip_bad_rows)
    options |= {
        "sim__placement": placement,
        "sim__node_mtbf_h": node_mtbf_h,
        "sim__node_events": None if node_events is None else str(node_events),
    }
    settings = o.Given(config, set_, options).resolve()
    workload, results = _run(rule, settings, log_events=events is not None)
    _write(workload, results, jobs_out, events)
    if as_json:
        print(_json(scheduler, workload, results))
    else:
        title = f"{scheduler} on {workload.name}, cluster {Cluster.parse(settings.cluster)}"
        tables.print_summary(title, results.summary())


def _run(rule: Scheduler, settings: Config, log_events: bool) -> tuple[Workload, JobResults]:
    """The jobs of the settings, and what became of them."""
    from marl_sched.cli import tables
    from marl_sched.envs.play import PLAYED
    from marl_sched.evaluation.simulate import simulate as run
    from marl_sched.workload import load_workload

    machines = Cluster.parse(settings.cluster)
    quotas = settings.sim.tenant_quota
    workload = load_workload(settings.workload, machines, settings.seed, quotas)
    tables.report_skipped(workload.skipped)
    if len(workload) == 0:
        tables.fail_empty(workload.name)
    tables.compile_kernels((*PLAYED, rule.rule))
    noise, seed = settings.workload.estimate_noise, settings.seed
    with tables.status("simulating") as shown:
        results = run(
            workload,
            machines,
            rule,
            settings.sim,
            noise,
            seed,
            log_events=log_events,
            tell=lambda text: shown.update(f"simulating: {text}"),
        )
    return workload, results


def _write(
    workload: Workload, results: JobResults, jobs_out: Path | None, events: Path | None
) -> None:
    from marl_sched.evaluation.events import write_events

    if jobs_out is not None:
        results.write_csv(jobs_out)
    if events is not None and results.events is not None:
        write_events(events, results.events, workload.job_id)


def _json(scheduler: str, workload: Workload, results: JobResults) -> str:
    """One object; JSON has no NaN."""
    shown = {key: None if value != value else value for key, value in results.summary().items()}
    return json.dumps({"scheduler": scheduler, "skipped_rows": workload.skipped, **shown})


def check_outputs(outputs: dict[str, Path | None], inputs: dict[str, Path | str | None]) -> None:
    """See before a long run that its results can be written and are no file that it reads.

    Args:
        outputs, inputs: path by option.

    Raises:
        UserError: naming the options.
    """
    from marl_sched.errors import UserError
    from marl_sched.files import check_writable

    taken = {Path(path).resolve(): option for option, path in inputs.items() if path is not None}
    for option, path in outputs.items():
        if path is None:
            continue
        target = check_writable(path)
        if target in taken:
            raise UserError(f"{option} {path}: that is the file of {taken[target]} too")
        taken[target] = option
