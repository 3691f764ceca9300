"""How often the 95 % intervals of comparisons hold the truth.

    python benchmarks/interval_coverage.py --windows 1000 --cache coverage.npz

Plays schedulers on many windows of jobs, each of fresh jobs and fresh draws of what a seed decides.
The truth is the figure over all windows. Then windows are picked at random, as many as an
evaluation has, and the interval that `evaluate` would give is asked whether it holds the truth. The
comparisons are those with the tuned index, some of rules that differ only in rare events, and, where
a window was played in two draws, a scheduler with itself (A-A: the truth is 0).

Windows of a trace: traces of the same kind are made from blocks of consecutive jobs of a real one.
What was looked at while the method was chosen stands apart from what was not (`confirm`).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from marl_sched.config import Config
from marl_sched.envs.batched import load_part
from marl_sched.evaluation.compare import Arena, part_episodes
from marl_sched.evaluation.statistics import Evidence, Interval, mean_interval, ratio_interval
from marl_sched.schedulers import get_scheduler

SCHEDULERS = ("fcfs", "fcfs_backfill", "srtf", "tiresias:tuned", "equi", "afs",
              "elastic_srtf:tuned", "elastic_index", "elastic_index:tuned")  # fmt: skip
INDEX = "elastic_index:tuned"
PAIRS = (
    *((name, INDEX) for name in SCHEDULERS if name != INDEX),
    ("afs", "equi"),
    ("tiresias:tuned", "srtf"),
    ("srtf", "fcfs_backfill"),
    ("fcfs", "fcfs_backfill"),
)
RARE = {("tiresias:tuned", "srtf"), ("srtf", "fcfs_backfill"), ("fcfs", "fcfs_backfill")}
"""Pairs that do the same but in rare events, of which a window has one in 20 to 50."""
ALONE = ("fcfs", "srtf", INDEX)
COUNTS = (3, 5, 10, 20, 60)


@dataclass(frozen=True)
class Kind:
    """A workload of which any number of windows can be had."""

    confirm: bool
    settings: dict[str, Any] = field(default_factory=dict)
    trace: str | None = None
    """In the data folder, resampled."""


KINDS = {
    "built-in": Kind(False),
    "heavier tail": Kind(
        False, {"workload": {"synthetic": {"sigma": 2.2, "max_duration_s": 2592000.0}}}
    ),
    "ITP 02": Kind(False, {"cluster": "8x8", "workload": {"load": 0.9}}, "itp/cluster02.csv"),
    "busy, half rigid": Kind(
        True, {"cluster": "4x8", "workload": {"load": 1.2, "elastic_fraction": 0.5}}
    ),
    "heavier tail, 16x8": Kind(
        True, {"cluster": "16x8", "workload": {"load": 0.7, "synthetic": {"sigma": 2.0}}}
    ),
    "ITP 01": Kind(True, {"cluster": "4x8", "workload": {"load": 0.9}}, "itp/cluster01.csv"),
    "ITP 05": Kind(True, {"cluster": "8x8", "workload": {"load": 0.9}}, "itp/cluster05.csv"),
}
DRAWS, WINDOWS, JOBS, BLOCK = 25, 10, 128, 64
"""Draws of a chunk of the built-in workload; windows of one of a trace, their jobs, and the length
of the blocks that it is made of."""


def play(kind: Kind, number: int, data: Path, folder: Path) -> np.ndarray:
    """(windows, draws, schedulers) mean JCTs of the chunk `number` of a workload."""
    draws, windows, part, judged = 2, WINDOWS, "whole", {"jobs_per_episode": JOBS}
    settings = {**kind.settings, "seed": number}
    if kind.trace is None:
        draws, windows, part, judged = DRAWS, 1, "test", {}
    else:
        path = resampled(kind, number, data, folder)
        settings["workload"] = {**kind.settings["workload"], "trace": str(path)}
    settings["evaluation"] = {**judged, "draws": draws, "episodes": draws * windows}
    config = Config.model_validate(settings)
    arena = Arena(config, part, part_episodes(config, part, draws * windows))
    runs = [[s["avg_jct_s"] for s in arena.play(get_scheduler(n))] for n in SCHEDULERS]
    found = np.array(runs).T.reshape(draws, windows, len(SCHEDULERS))
    return found.reshape(-1, 1, len(SCHEDULERS)) if windows == 1 else found.swapaxes(0, 1)


def resampled(kind: Kind, number: int, data: Path, folder: Path) -> Path:
    """A trace of blocks of consecutive jobs of a real one, each with its gaps between arrivals."""
    assert kind.trace is not None
    real = {"trace": str(data / kind.trace), "skip_bad_rows": True}
    jobs = load_part(Config.model_validate({**kind.settings, "workload": real}), "whole")
    rng = np.random.default_rng(number)
    firsts = rng.integers(0, len(jobs) - BLOCK, WINDOWS * JOBS // BLOCK)
    rows = (firsts[:, None] + np.arange(BLOCK)).ravel()
    gaps_s = jobs.arrival_s[rows + 1] - jobs.arrival_s[rows]
    arrival_s = np.concatenate([[0.0], np.cumsum(gaps_s)[:-1]])
    path = folder / f"{number}.csv"
    cells = zip(arrival_s.tolist(), jobs.duration_s[rows].tolist(), jobs.num_gpus[rows].tolist(),
                strict=True)  # fmt: skip
    lines = [f"{i},{a!r},{d!r},{g}" for i, (a, d, g) in enumerate(cells)]
    path.write_text("\n".join(["job_id,arrival_s,duration_s,num_gpus", *lines]) + "\n")
    return path


def held(found: list[Interval], truth: float) -> float:
    """Share of the intervals that hold the truth."""
    return float(np.mean([one.low <= truth <= one.high for one in found]))


def coverage(jct: np.ndarray, count: int, trials: int) -> dict[str, tuple[float, float]]:
    """Coverage and difference, percent, by comparison, of `count` windows out of (W, D, S)."""
    rng = np.random.default_rng(count)
    picks = [rng.choice(len(jct), count, replace=False) for _ in range(trials)]
    draws = jct.shape[1]
    evidence = Evidence(np.repeat(np.arange(count), draws))
    place = {name: i for i, name in enumerate(SCHEDULERS)}
    rows = {}
    for a, b in PAIRS:
        ours, theirs = jct[:, :, place[a]], jct[:, :, place[b]]
        truth = ours.sum() / theirs.sum()
        found = [ratio_interval(ours[p].ravel(), theirs[p].ravel(), evidence) for p in picks]
        rows[f"{a} / {b}"] = (held(found, truth), 100 * (truth - 1))
    for a in ALONE:
        ours = jct[:, :, place[a]]
        found = [mean_interval(ours[p].ravel(), evidence) for p in picks]
        rows[f"{a}, its mean"] = (held(found, ours.mean()), 0.0)
    if draws > 1:
        for a in ("fcfs_backfill", INDEX):
            one, other = jct[:, 0, place[a]], jct[:, 1, place[a]]
            apart = Evidence.apart(count)
            found = [ratio_interval(one[p], other[p], apart) for p in picks]
            rows[f"{a} / itself (A-A)"] = (held(found, 1.0), 0.0)
    return rows


def report(pools: dict[str, np.ndarray], trials: int) -> None:
    """Coverage by comparison, workload and number of windows, as a page of Markdown."""
    for name, jct in pools.items():
        kind = "confirm" if KINDS[name].confirm else "choose"
        counts = [count for count in COUNTS if 4 * count <= len(jct)]
        columns = {count: coverage(jct, count, trials) for count in counts}
        print(f"\n{name} ({kind}): {len(jct)} windows in {jct.shape[1]} draw(s)\n")
        print("| comparison | truth, % | " + " | ".join(f"{c} windows" for c in counts) + " |")
        print("|---|---:|" + "---:|" * len(counts))
        for row in columns[counts[0]]:
            cells = " | ".join(f"{columns[count][row][0]:.3f}" for count in counts)
            print(f"| {row} | {columns[counts[0]][row][1]:+.1f} | {cells} |")
        rare = {f"{a} / {b}" for a, b in RARE}
        for words, chosen in (
            ("rare events", rare),
            ("the others", set(columns[counts[0]]) - rare),
        ):
            ends = [sorted(columns[count][row][0] for row in chosen) for count in counts]
            print(
                f"| **{words}** | | "
                + " | ".join(f"{e[0]:.2f} to {e[-1]:.2f}" for e in ends)
                + " |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--windows", type=int, default=1000, help="of each workload")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=60.0, help="after which nothing is played")
    parser.add_argument("--cache", type=Path, help="what was played before and is kept")
    arguments = parser.parse_args()
    pools: dict[str, np.ndarray] = {}
    if arguments.cache is not None and arguments.cache.is_file():
        pools = dict(np.load(arguments.cache))
    end_s = time.monotonic() + 60.0 * arguments.minutes
    while time.monotonic() < end_s:
        short = [name for name in KINDS if len(pools.get(name, ())) < arguments.windows]
        if not short:
            break
        name = min(short, key=lambda one: len(pools.get(one, ())))
        number = len(pools.get(name, ())) // (DRAWS if KINDS[name].trace is None else WINDOWS)
        with tempfile.TemporaryDirectory() as folder:
            more = play(KINDS[name], number, arguments.data, Path(folder))
        pools[name] = np.concatenate([pools[name], more]) if name in pools else more
        if arguments.cache is not None:
            np.savez(arguments.cache, **pools)
    report({name: pools[name] for name in KINDS if name in pools}, arguments.trials)


if __name__ == "__main__":
    main()
