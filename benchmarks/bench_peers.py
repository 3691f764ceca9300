"""Our simulator beside two others on the same jobs and cluster, in one run, on one thread.

    python benchmarks/bench_peers.py --tiresias PATH/TO/simulator --accasim PATH/TO/python

--tiresias is the folder `simulator` of a checkout of SymbioticLab/Tiresias (Gu et al., NSDI 2019);
--accasim an interpreter that has AccaSim 1.1 installed (Galleguillos et al., Cluster Computing
2020). Either may be left out. Jobs are rigid and synthetic, times whole seconds, 64 nodes of 8
GPUs. A peer's CPU seconds are those of its process less those of one with a single job: reading
and start-up are not counted, and neither are ours. Prints the ratio; expect 100 and more.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from bench_simulator import seconds_of, synthetic

from marl_sched.types import Cluster
from marl_sched.workload import Workload

CLUSTER = Cluster.parse("64x8")

TIRESIAS_RULES = {"fcfs": "fifo", "las": "dlas-gpu"}
"""Our name and theirs; their `shortest` loses most of the jobs, so it is not compared."""

# Written for Python 2 and for a solver that these rules do not call.
TIRESIAS_START = """
import runpy, sys, types
sys.maxint = sys.maxsize
class Absent(types.ModuleType):
    def __getattr__(self, name): return type(name, (Exception,), {})
for name in ("cplex", "cplex.exceptions", "cplex.six", "cplex.six.moves"):
    sys.modules[name] = Absent(name)
sys.modules["cplex.six.moves"].range = range
sys.path.insert(0, ".")
runpy.run_path("run_sim.py", run_name="__main__")
"""

ACCASIM_START = """
import collections, collections.abc, sys
collections.Mapping = collections.abc.Mapping
from accasim.base.allocator_class import FirstFit
from accasim.base.scheduler_class import FirstInFirstOut
from accasim.base.simulator_class import Simulator
Simulator("jobs.swf", "cluster.json", FirstInFirstOut(FirstFit()), RESULTS_FOLDER_NAME="out",
          statistics_output=False, show_statistics=False).start_simulation()
"""


def whole_seconds(num_jobs: int) -> Workload:
    """Rigid synthetic jobs whose times the peers can read."""
    workload = synthetic(num_jobs, CLUSTER)
    return replace(
        workload,
        arrival_s=np.floor(workload.arrival_s),
        duration_s=np.maximum(np.floor(workload.duration_s), 1.0),
    )


def child_seconds(command: list[str], folder: Path) -> float:
    """CPU seconds of a process that must end well."""
    before = os.times()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"error: {command[0]} ended with {done.returncode}: {done.stderr[-800:]}")
    after = os.times()
    return (
        after.children_user
        + after.children_system
        - (before.children_user + before.children_system)
    )


def tiresias_seconds(folder: Path, workload: Workload, name: str) -> float:
    with tempfile.TemporaryDirectory() as place:
        rows = ["job_id,num_gpu,submit_time,iterations,model_name,duration,interval"]
        for j in range(len(workload)):
            arrival, seconds = int(workload.arrival_s[j]), int(workload.duration_s[j])
            rows.append(f"{j},{workload.num_gpus[j]},{arrival},100,resnet50,{seconds},0")
        jobs, cluster = Path(place) / "jobs.csv", Path(place) / "cluster.csv"
        jobs.write_text("\n".join(rows) + "\n")
        cluster.write_text(
            "num_switch,num_node_p_switch,num_gpu_p_node,num_cpu_p_node,mem_p_node\n"
            "1,64,8,128,256\n"
        )
        given = {"cluster_spec": cluster, "trace_file": jobs, "scheme": "yarn",
                 "schedule": TIRESIAS_RULES[name], "log_path": f"{place}/log"}  # fmt: skip
        options = [f"--{key}={value}" for key, value in given.items()]
        seconds = child_seconds([sys.executable, "-W", "ignore", "-c", TIRESIAS_START, *options],
                                folder)  # fmt: skip
        finished = len((Path(place) / "log" / "job.csv").read_text().splitlines()) - 1
        if finished != len(workload):
            sys.exit(f"error: Tiresias finished {finished} of {len(workload)} jobs")
        return seconds


def accasim_seconds(python: str, workload: Workload, _: str) -> float:
    with tempfile.TemporaryDirectory() as place:
        rows = []
        for j in range(len(workload)):
            gpus, seconds = workload.num_gpus[j], int(workload.duration_s[j])
            rows.append(f"{j + 1} {int(workload.arrival_s[j])} -1 {seconds} {gpus} -1 -1 {gpus} "
                        f"{seconds} 1 1 1 1 1 1 -1 -1 -1")  # fmt: skip
        (Path(place) / "jobs.swf").write_text("\n".join(rows) + "\n")
        system = {
            "system_name": "c", "start_time": 0, "groups": {"g": {"core": 8, "mem": 100000}},
            "resources": {"g": 64}, "equivalence": {"processor": {"core": 1}},
        }  # fmt: skip
        (Path(place) / "cluster.json").write_text(json.dumps(system))
        seconds = child_seconds([python, "-c", ACCASIM_START], Path(place))
        finished = len((Path(place) / "out" / "sched-jobs.swf").read_text().splitlines())
        if finished != len(workload):
            sys.exit(f"error: AccaSim finished {finished} of {len(workload)} jobs")
        return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tiresias", type=Path, metavar="DIR")
    parser.add_argument("--accasim", metavar="PYTHON")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 5000])
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    peers: list[tuple[str, str, Callable[[Workload, str], float]]] = []
    if args.tiresias:
        folder = args.tiresias.resolve()
        for rule in TIRESIAS_RULES:
            peers.append(("tiresias", rule, lambda w, n: tiresias_seconds(folder, w, n)))
    if args.accasim:
        peers.append(("accasim", "fcfs", lambda w, n: accasim_seconds(args.accasim, w, n)))
    if not peers:
        parser.error("name at least one peer: --tiresias DIR, --accasim PYTHON")
    report = []
    for size in args.sizes:
        workload = whole_seconds(size)
        for peer, rule, peer_seconds in peers:
            theirs = peer_seconds(workload, rule) - peer_seconds(workload.slice(0, 1), rule)
            ours = seconds_of(workload, CLUSTER, rule, repeats=5)
            row = {"jobs": size, "scheduler": rule, "peer": peer, "peer_cpu_s": theirs,
                   "cpu_s": ours, "ratio": theirs / ours}  # fmt: skip
            report.append(row)
            if not args.json:
                print(f"{size:7d} jobs  {rule:5s} {peer:9s} {theirs:8.3f} s  ours {ours:8.5f} s  "
                      f"{theirs / ours:7.0f} x")  # fmt: skip
    if args.json:
        print(json.dumps(report))


if __name__ == "__main__":
    main()
