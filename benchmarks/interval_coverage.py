"""How often the 95 % intervals of comparisons hold the truth.

    python benchmarks/interval_coverage.py --windows 1000 --cache coverage.npz

Plays schedulers on many windows of jobs, each of fresh jobs and fresh draws of what a seed decides.
The truth is the figure over all windows. Then windows are picked at random, as many as an
evaluation has, and the interval that `evaluate` would give is asked whether it holds the truth.
The comparisons are those with the tuned index, some of rules that differ only in rare events, and,
where a window was played in two draws, a scheduler with itself (A-A: the truth is 0).

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
from marl_sched.envs.episodes import load_part
from marl_sched.evaluation.compare import Arena, part_episodes
from marl_sched.evaluation.statistics import Evidence, ratio_interval
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
RARE = 4.0
"""Skewness, over all windows, of what they move a comparison by, beyond which it is said to hang on
rare events: those that differ in one window of 20 or fewer have it."""
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


@dataclass(frozen=True)
class Question:
    """A comparison: figures (W, D) of two sides; the second is ones for a mean by itself."""

    ours: np.ndarray
    theirs: np.ndarray
    truth: float
    """Ratio over all windows."""

    @property
    def skewness(self) -> float:
        moved = self.ours.mean(axis=1) / self.ours.mean() - self.theirs.mean(axis=1) / (
            self.theirs.mean()
        )
        spread = moved.std()
        return float((moved**3).mean() / spread**3) if spread > 1e-12 else 0.0

    def covered(self, picks: list[np.ndarray]) -> float:
        """Share of the intervals, from the windows of each pick, that hold the truth."""
        windows, draws = len(picks[0]), self.ours.shape[1]
        evidence = Evidence(np.repeat(np.arange(windows), draws))
        hits = 0
        for pick in picks:
            ours, theirs = self.ours[pick].ravel(), self.theirs[pick].ravel()
            found = ratio_interval(ours, theirs, evidence)
            assert found.low is not None and found.high is not None
            hits += found.low <= self.truth <= found.high
        return hits / len(picks)


def questions(jct: np.ndarray) -> dict[str, Question]:
    """What is asked of the mean JCTs (W, D, S) of a workload."""
    side = {name: jct[:, :, i] for i, name in enumerate(SCHEDULERS)}
    asked = {
        f"{a} / {b}": Question(side[a], side[b], side[a].sum() / side[b].sum()) for a, b in PAIRS
    }
    for a in ALONE:
        asked[f"{a}, its mean"] = Question(side[a], np.ones_like(side[a]), side[a].mean())
    if jct.shape[1] > 1:
        for a in ("fcfs_backfill", INDEX):
            asked[f"{a} / itself (A-A)"] = Question(side[a][:, :1], side[a][:, 1:2], 1.0)
    # Two that did the same in every window need no interval.
    return {name: one for name, one in asked.items() if (one.ours != one.theirs).any()}


def report(pools: dict[str, np.ndarray], trials: int) -> None:
    """Coverage by comparison, workload and number of windows, as a page of Markdown."""
    ends: dict[tuple[bool, bool, int], list[float]] = {}
    for name, jct in pools.items():
        counts = [count for count in COUNTS if 4 * count <= len(jct)]
        rng = np.random.default_rng(0)
        picks = {
            count: [rng.choice(len(jct), count, replace=False) for _ in range(trials)]
            for count in counts
        }
        confirm = KINDS[name].confirm
        print(f"\n{name} ({'confirm' if confirm else 'choose'}): {len(jct)} windows, "
              f"draws of each: {jct.shape[1]}\n")  # fmt: skip
        print("| comparison | truth, % | skewness | " + " | ".join(map(str, counts)) + " |")
        print("|---|---:|---:|" + "---:|" * len(counts))
        for row, asked in questions(jct).items():
            rare = abs(asked.skewness) > RARE
            found = {count: asked.covered(picks[count]) for count in counts}
            for count, share in found.items():
                ends.setdefault((rare, confirm, count), []).append(share)
            truth = "" if "mean" in row else f"{100 * (asked.truth - 1):+.1f}"
            cells = " | ".join(f"{share:.3f}" for share in found.values())
            print(f"| {row} | {truth} | {asked.skewness:+.1f} | {cells} |", flush=True)
    print("\nCoverage by number of windows: lowest, median and highest\n")
    print("| comparisons | " + " | ".join(map(str, COUNTS)) + " |")
    print("|---|" + "---:|" * len(COUNTS))
    for rare in (False, True):
        for confirm in (False, True):
            some = [ends.get((rare, confirm, count), [np.nan]) for count in COUNTS]
            cells = " | ".join(
                f"{min(one):.2f}, {np.median(one):.2f}, {max(one):.2f}" for one in some
            )
            kind = "rare events" if rare else "ordinary"
            words = "confirm" if confirm else "choose"
            print(f"| {kind} ({words}, {len(some[0])}) | {cells} |")


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
            np.savez(arguments.cache, allow_pickle=False, **pools)
    report({name: pools[name] for name in KINDS if name in pools}, arguments.trials)


if __name__ == "__main__":
    main()
