"""How fast the simulator runs, on one thread, after compilation.

    python benchmarks/bench_simulator.py --json
    python benchmarks/bench_simulator.py --philly ../shared/data/philly/philly.csv
    python benchmarks/bench_simulator.py --million
    python benchmarks/bench_simulator.py --tenants
    python benchmarks/bench_simulator.py --active 1000 10000
    python benchmarks/bench_simulator.py --planners

Prints jobs per CPU second on rigid synthetic jobs (64 nodes of 8 GPUs, offered load 0.9) for
growing traces, from the first event to the results; with --philly the CPU seconds of FCFS, SRTF
and LAS on the whole Philly trace and 312 nodes of 8; with --million those of one million jobs under
FCFS with all that comes before the first event, and the process's peak memory. Beside them a bare
heap loop for strict FCFS with counted GPUs, no placement and no results: the ceiling. Expect
200,000 to 600,000 jobs per CPU second for FCFS and 50,000 to 200,000 for preemptive rules. Takes a
minute or two.

With --tenants CPU seconds of 100,000 jobs on 512 nodes of 8 under FCFS, SRTF and DRF: without
tenants, and with 100 and 10,000 tenants, each of which has a quota. Expect the same seconds with
100 as with 10,000. Under SRTF quotas cost several times the seconds without any.

With --active CPU seconds of so many jobs that arrive at once, so that all of them are active until
they end, on one GPU and on 512 nodes of 8; and from each size to the next the
exponent e of seconds ~ jobs^e. At 10,000 jobs expect
0.1 s for FCFS, 0.2 to 4 s for the others on one GPU and 1 to 12 s on the large cluster, and e from
1.0 (FCFS) to 1.4 (the index) and 1.9 (LAS) on one GPU. The large cluster is not full with 1,000.

With --planners CPU seconds of the schedulers that solve programs, on 500 jobs, of one GPU type and
of three (Gavel's in rounds of 360 s, its default); beside them what their authors' simulators took
as whole processes. Expect 0.1 to 0.3 s for Gavel's and 0.4 to 5 s for Sia.
"""

from __future__ import annotations

import argparse
import heapq
import json
import resource
import time
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numba
import numpy as np

from marl_sched.config import SimConfig, load_config
from marl_sched.evaluation.simulate import begin, run, simulate
from marl_sched.schedulers import REGISTRY, get_scheduler
from marl_sched.types import Cluster
from marl_sched.workload import Workload, load_workload

RIGID = "workload.elastic_fraction=0"


def synthetic(num_jobs: int, cluster: Cluster) -> Workload:
    """Rigid jobs at an offered load of 0.9."""
    settings = [RIGID, f"workload.synthetic.num_jobs={num_jobs}"]
    return load_workload(load_config(None, settings).workload, cluster, seed=0)


def seconds_of(
    workload: Workload,
    cluster: Cluster,
    name: str,
    repeats: int = 3,
    sim: SimConfig | None = None,
) -> float:
    """CPU seconds from the first event to the results, best of some; compiled before."""
    scheduler, taken = get_scheduler(name), []
    for _ in range(repeats):
        simulation = begin(workload, cluster, scheduler, sim)
        begun = time.process_time()
        run(simulation, scheduler, workload, cluster.num_gpus)
        taken.append(time.process_time() - begun)
    return min(taken)


@numba.njit
def bare_fcfs(arrival_s: np.ndarray, duration_s: np.ndarray, gpus: np.ndarray, free: int) -> float:
    """Strict FCFS with a heap of ends and nothing else; the last start."""
    ends = [(0.0, 0)]
    now = 0.0
    for i in range(arrival_s.size):
        now = max(now, arrival_s[i])
        while ends and (ends[0][0] <= now or gpus[i] > free):
            at, back = heapq.heappop(ends)
            now = max(now, at)
            free += back
        free -= gpus[i]
        heapq.heappush(ends, (now + duration_s[i], gpus[i]))
    return now


def bench_bare(workload: Workload, num_gpus: int) -> float:
    """Jobs per CPU second of `bare_fcfs`."""
    given = (workload.arrival_s, workload.duration_s, workload.num_gpus, num_gpus)
    bare_fcfs(*given)
    begun = time.process_time()
    bare_fcfs(*given)
    return len(workload) / (time.process_time() - begun)


def bench_synthetic(sizes: list[int], names: list[str]) -> dict[str, Any]:
    """Jobs per CPU second by scheduler and number of jobs."""
    cluster = Cluster.parse("64x8")
    warm = synthetic(200, cluster)
    for name in names:
        simulate(warm, cluster, get_scheduler(name))
    rates: dict[str, Any] = {name: {} for name in names}
    for size in sizes:
        workload = synthetic(size, cluster)
        for name in names:
            rates[name][size] = size / seconds_of(workload, cluster, name)
        rates.setdefault("bare_heap", {})[size] = bench_bare(workload, cluster.num_gpus)
    return rates


def bench_philly(path: str) -> dict[str, float]:
    """CPU seconds on the whole trace."""
    cluster = Cluster.parse("312x8")
    config = load_config(None, [RIGID, f"workload.trace={path}"])
    workload = load_workload(config.workload, cluster, seed=0)
    for name in ("fcfs", "srtf", "las"):
        simulate(workload.slice(0, 200), cluster, get_scheduler(name))
    return {name: seconds_of(workload, cluster, name) for name in ("fcfs", "srtf", "las")}


def bench_million() -> dict[str, float]:
    """CPU seconds of one million jobs, and the peak memory of this process."""
    cluster = Cluster.parse("64x8")
    simulate(synthetic(200, cluster), cluster, get_scheduler("fcfs"))
    workload = synthetic(1_000_000, cluster)
    begun = time.process_time()
    simulate(workload, cluster, get_scheduler("fcfs"))
    seconds = time.process_time() - begun
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "peak_rss_mb": peak_kb / 1024.0}


def bench_tenants(num_jobs: int = 100_000) -> dict[str, dict[str, float]]:
    """CPU seconds by scheduler and number of tenants, all of which have a quota."""
    cluster = Cluster.parse("512x8")
    rng = np.random.default_rng(0)
    report: dict[str, dict[str, float]] = {}
    plain = synthetic(num_jobs, cluster)
    for name in ("fcfs", "srtf", "drf"):
        report[name] = {}
        for tenants in (0, 100, 10_000):
            workload, sim = plain, SimConfig()
            if tenants:
                names = tuple(f"t{k}" for k in range(tenants))
                owner = rng.integers(0, tenants, num_jobs)
                workload = replace(plain, tenant=owner, tenants=names)
                sim = SimConfig(tenant_quota=dict.fromkeys(names, 4096.0))
            simulate(workload.slice(0, 200), cluster, get_scheduler(name), sim)
            seconds = seconds_of(workload, cluster, name, 1, sim)
            report[name][f"{tenants} tenants"] = seconds
    return report


BURST = ("fcfs", "fcfs_backfill", "srtf", "las", "elastic_index")


def bench_active(
    sizes: list[int], names: list[str], clusters: list[str]
) -> dict[str, dict[str, float]]:
    """CPU seconds by cluster, scheduler and number of jobs, which are active all at once."""
    report: dict[str, dict[str, float]] = {}
    for text in clusters:
        cluster = Cluster.parse(text)
        for name in names:
            taken = report[f"{text} {name}"] = {}
            simulate(burst(50, cluster), cluster, get_scheduler(name))
            for size in sizes:
                taken[f"{size:,}"] = seconds_of(burst(size, cluster), cluster, name, 1)
            for small, large in pairwise(sizes):
                ratio = taken[f"{large:,}"] / taken[f"{small:,}"]
                exponent = float(np.log(ratio) / np.log(large / small))
                taken[f"exponent to {large:,}"] = exponent
    return report


def burst(num_jobs: int, cluster: Cluster) -> Workload:
    """Jobs, half of them elastic, that all arrive at once."""
    settings = ["workload.elastic_fraction=0.5", f"workload.synthetic.num_jobs={num_jobs}"]
    workload = load_workload(load_config(None, settings).workload, cluster, seed=0)
    return replace(workload, arrival_s=np.zeros(num_jobs))


MIXED = "36x4:V100+36x4:P100+36x4:K80"
PLANNERS: dict[str, tuple[str, float | None]] = {
    "max_min_fairness": (MIXED, 6.7),
    "max_sum_throughput": (MIXED, None),
    "min_total_duration": (MIXED, None),
    "gandiva_fair": (MIXED, None),
    "sia": ("6x4:T4+2x8:A100+3x8:V100", 214.0),
}
"""Schedulers that solve programs -> a cluster of three GPU types like the authors', and the CPU
seconds of their simulators: Gavel on 500 generated jobs, Sia on 160, whole processes on a machine
with two cores and nothing else to do."""


def bench_planners(num_jobs: int = 500) -> dict[str, dict[str, float]]:
    """CPU seconds by scheduler and cluster, the authors' beside them, how many times theirs are."""
    report: dict[str, dict[str, float]] = {}
    jobs = load_config(None, [f"workload.synthetic.num_jobs={num_jobs}"]).workload
    for name, (mixed, theirs) in PLANNERS.items():
        rounds = ["sim.decide_on=rounds", "sim.round_s=360"] if name != "sia" else []
        sim = load_config(None, rounds).sim
        for text in ("64x8", mixed):
            cluster = Cluster.parse(text)
            workload = load_workload(jobs, cluster, seed=0)
            simulate(workload.slice(0, 30), cluster, get_scheduler(name), sim)
            taken = seconds_of(workload, cluster, name, sim=sim)
            peer = {} if theirs is None else {"theirs": theirs, "times": theirs / taken}
            report[f"{name} {text}"] = {"ours": taken} | peer
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--schedulers", nargs="+")
    parser.add_argument("--all", action="store_true", help="every compiled scheduler")
    parser.add_argument("--philly", metavar="FILE")
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--tenants", action="store_true")
    parser.add_argument("--active", type=int, nargs="+", metavar="JOBS")
    parser.add_argument("--clusters", nargs="+", default=["1x1", "512x8"], help="of --active")
    parser.add_argument("--planners", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    usual = BURST if args.active else ("fcfs", "sjf", "srtf", "las")
    names = args.schedulers or list(usual)
    if args.all:
        names = [name for name, rule in REGISTRY.items() if rule.compiled]
    report: dict[str, Any] = {}
    if args.million:  # alone, so that the peak is its own
        report["million_jobs"] = bench_million()
    elif args.philly:
        report["philly_312x8_cpu_s"] = bench_philly(args.philly)
    elif args.tenants:
        report["tenants_512x8_cpu_s"] = bench_tenants()
    elif args.active:
        report["active_jobs_cpu_s"] = bench_active(args.active, names, args.clusters)
    elif args.planners:
        report["planners_500_jobs_cpu_s"] = bench_planners()
    else:
        report["jobs_per_cpu_s"] = bench_synthetic(args.sizes, names)
    if args.json:
        print(json.dumps(report))
        return
    for title, part in report.items():
        print(title)
        for name, value in part.items():
            values = value if isinstance(value, dict) else {"": value}
            digits = 1 if max(values.values()) > 1000.0 else 2
            cells = "  ".join(f"{size} {rate:>12,.{digits}f}" for size, rate in values.items())
            print(f"  {name:22s} {cells}")


if __name__ == "__main__":
    main()
