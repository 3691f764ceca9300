"""What the page of reproductions says about each experiment: our figures beside the published.

Each function reads one folder of data and returns None where inputs or published figures are
missing.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from marl_sched.errors import UserError
from marl_sched.reproduce import experiment
from marl_sched.reproduce.gavel_sections import gavel, real_cluster
from marl_sched.reproduce.section import Section, Timer, percent, read_json, seconds


def muri(data: Path, timer: Timer) -> Section | None:
    """R1."""
    folder = data / "muri"
    expected = read_json(folder / "expected.json")
    traces = [path for path in sorted(folder.glob("*.csv")) if path.stem in (expected or {})]
    if expected is None or not traces:
        return None
    module = experiment("muri")
    overheads = folder / "restart_overhead.csv"
    given = overheads if overheads.is_file() else None
    published = {"srtf": "SRTF", "srsf": "SRSF", "tiresias_l": "Tiresias_L"}
    metrics = {"avg_jct_s": "mean JCT", "p99_jct_s": "p99 JCT", "makespan_s": "makespan"}
    rows, commands = [], []
    for trace in traces:
        for name in module.SCHEDULERS:
            theirs = expected[trace.stem].get(published[name])
            if theirs is None:
                continue
            label = f"muri {trace.stem} {name}"
            ours = timer(label, lambda: module.run(trace, name, "8x8", given))  # noqa: B023
            for key, words in metrics.items():
                pair = (ours[key], theirs[key])
                rows.append((trace.stem, name, words, *map(seconds, pair), percent(*pair)))
            extra = "" if given is None else " --overheads $DATA/muri/restart_overhead.csv"
            commands.append(
                f"marl-sched reproduce muri --input $DATA/muri/{trace.name}{extra} "
                f"--scheduler {name}"
            )
    others = sorted({key for one in expected.values() for key in one} - set(published.values()))
    return Section(
        "R1: Muri's simulator (SIGCOMM 2022)",
        "8 nodes of 8 GPUs; at every arrival and end the cluster is emptied and jobs are placed "
        "in the scheduler's order, first fit, passing over those that find no room (Tiresias-L "
        "counts GPUs over the whole cluster instead). Every event charges each running job its "
        "measured start overhead, which predicted ends ignore.",
        ("trace", "scheduler", "figure", "ours, s", "theirs, s", "difference"),
        rows,
        commands,
        f"the artifact's other schedulers ({', '.join(others)})." if others else "nothing.",
    )


UPSTREAM_POLLUX_CPU_S = 1541.0
"""Of the artifact's simulator under its own policy on its workload-6 with so many jobs, on a 2-core
machine under load."""
UPSTREAM_POLLUX_JOBS = 160


def pollux(data: Path, timer: Timer) -> Section | None:
    """R2."""
    folder = data / "pollux"
    names = {"tiresias": "tiresias", "optimus_oracle": "optimus", "pollux": "pollux"}
    expected = {
        name: read_json(folder / "expected" / f"{file}.json") for name, file in names.items()
    }
    workloads = sorted((folder / "workloads").glob("*.csv"))
    if not workloads or not any(expected.values()):
        return None
    module = experiment("pollux")
    rows, commands, peers = [], [], {}
    for path in workloads:
        for name, published in expected.items():
            theirs = (published or {}).get("jct_s", {}).get(path.stem)
            if theirs is None:
                continue
            label = f"pollux {path.stem} {name}"
            result = timer(
                label,
                lambda: module.run(path, folder / "profiles", name, "16x4"),  # noqa: B023
            )
            ours = result["jcts_s"]
            same = sum(ours.get(job) == value for job, value in theirs.items())
            means = (_mean(ours), _mean(theirs))
            rows.append(
                (path.stem, name, *map(seconds, means), percent(*means), f"{same} of {len(theirs)}")
            )
            if name == "pollux" and len(theirs) == UPSTREAM_POLLUX_JOBS:
                peers[label] = UPSTREAM_POLLUX_CPU_S
            commands.append(
                f"marl-sched reproduce pollux --input $DATA/pollux/workloads/{path.name} "
                f"--profiles $DATA/pollux/profiles --scheduler {name}"
            )
    return Section(
        "R2: Pollux' simulator (OSDI 2021)",
        "16 nodes of 4 T4, decisions every 60 s, 30 s without progress after every change of "
        "place; speeds and statistical efficiency are interpolated between the artifact's "
        "measurements, by epoch. Tiresias and Optimus+Oracle are compared job by job. Pollux is "
        "our own search over its objective, beside its authors' genetic one: the mean counts. "
        "It corrects fitted speeds by measured ones, and lets a job grow to four times the GPUs "
        "that it has measured where theirs doubles them.",
        ("workload", "scheduler", "ours, mean JCT s", "theirs", "difference", "jobs the same"),
        rows,
        commands,
        "the artifact's cloud auto-scaling and hyper-parameter search.",
        peer_cpu_s=peers,
    )


def openb(data: Path, timer: Timer) -> Section | None:
    """R4."""
    folder = data / "openb"
    expected = folder / "expected_gpu_allocated_percent.csv"
    if not expected.is_file() or not (folder / "openb_node_list_gpu_node.csv").is_file():
        return None
    import pandas as pd

    module = experiment("openb")
    rows, commands = [], []
    table = pd.read_csv(expected)
    for (pods, policy), group in table.groupby(["workload", "policy"], sort=False):
        path = folder / f"{pods}.csv"
        if not path.is_file():
            continue
        name = module.SCHEDULERS[policy]
        loads = [int(load) for load in group["load_percent"]]
        label = f"openb {pods} {name}"
        result = timer(label, lambda: module.run(path, None, name, 10, loads))  # noqa: B023
        for load, theirs in zip(loads, group["mean_percent"], strict=True):
            ours = result["gpu_allocated_percent"][load]["mean_percent"]
            points = round(ours - theirs, 2) + 0.0  # no minus zero
            cells = (f"{ours:.2f}", f"{theirs:.2f}", f"{points:+.2f}")
            rows.append((str(pods).removeprefix("openb_pod_list_"), name, f"{load} %", *cells))
        given = " ".join(f"--load {load}" for load in loads)
        commands.append(
            f"marl-sched reproduce openb --input $DATA/openb/{path.name} --scheduler {name} {given}"
        )
    if not rows:
        return None
    return Section(
        "R4: fragmentation on Alibaba's cluster (FGD, ATC 2023)",
        "All pods arrive in random order on 1,213 nodes with 6,212 GPUs, none leaves, and a pod "
        "that fits nowhere is turned away. The figure is the share of GPUs held once the arrived "
        "pods have asked for 90 or 100 % of them, the mean over 10 orders; theirs have other "
        "random streams.",
        ("pods", "rule", "arrived", "ours, %", "theirs, %", "difference, points"),
        rows,
        commands,
        "the other pod lists of the paper.",
    )


def hesrpt(data: Path, timer: Timer) -> Section | None:
    """R5."""
    traces = sorted((data / "muri").glob("trace*.csv"))
    if not traces:
        return None
    module = experiment("hesrpt")
    rows, commands = [], []
    for path in traces:
        for weights in module.WEIGHTS:
            result = timer(
                f"hesrpt {path.stem} {weights}",
                lambda: module.run(path, 64, 0.5, weights, "duration"),  # noqa: B023
            )
            whole = result["whole_gpus"]
            for kind, ours, theirs in (
                ("divisible GPUs", result["simulated"], result["closed_form"]),
                ("whole GPUs", whole["simulated"], whole["value"]),
            ):
                cells = (f"{ours:.8g}", f"{theirs:.8g}", percent(ours, theirs))
                rows.append((path.stem, weights, kind, *cells))
            commands.append(
                f"marl-sched reproduce hesrpt --input $DATA/muri/{path.name} --column duration "
                f"--gpus 64 --weights {weights}"
            )
    return Section(
        "R5: the optimum for jobs that are all there (heSRPT, 2020)",
        "The run times of real traces as sizes, all present at time 0, on 64 GPUs where k GPUs "
        "are k^0.5 times as fast as one. Ours is the run from completion to completion, beside "
        "the closed form (for whole GPUs, the value of the optimality equation).",
        ("sizes", "weights", "GPUs", "ours", "closed form", "difference"),
        rows,
        commands,
        "arrivals over time, for which no closed form is known.",
    )


SECTIONS: dict[str, Callable[[Path, Timer], Section | None]] = {
    "muri": muri,
    "pollux": pollux,
    "gavel": gavel,
    "real cluster": real_cluster,
    "openb": openb,
    "hesrpt": hesrpt,
}


def build(name: str, data: Path, say: Callable[[str], None]) -> Section | None:
    """One section, or None where it cannot be had; `say` tells why."""
    timer = Timer(say)
    try:
        section = SECTIONS[name](data, timer)
    except UserError as error:
        say(f"left out {name}: {error}")
        return None
    if section is None:
        say(f"left out {name}: no inputs with published results in the data")
        return None
    section.cpu_s = timer.cpu_s
    return section


def _mean(jcts_s: dict[str, float]) -> float:
    return sum(jcts_s.values()) / len(jcts_s)
