"""How well a generation of evolution strategies tells good perturbations from bad ones.

    python benchmarks/es_signal.py RUN --sigma 0.05 0.1 0.2 --json

For each sigma, 24 antithetic pairs of scorers around the last one of RUN, a folder of `train --algo
es`, play the same sequences of its training. Prints the standard deviation of a sequence's
difference within a pair, percent of the cost, and the reliability of the mean over 8 sequences: the
share of the variance between pairs that does not come from which sequences were drawn,
extrapolated from the correlation of random halves (Spearman-Brown). Takes some minutes a sigma.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from marl_sched.config import Config, load_config
from marl_sched.schedulers.learned.family import SIZE
from marl_sched.training.es import STATE, perturbations
from marl_sched.training.records import RunFolder
from marl_sched.training.sequences import draw, log_ratios, play

PAIRS, SPLITS, GENERATION = 24, 400, 8


def differences(
    config: Config, theta: np.ndarray, sigma: float, sequences: int, seed: int
) -> np.ndarray:
    """(S, PAIRS) float64: log cost of theta + sigma e less that of theta - sigma e.

    Args:
        theta: as of `play`: of a family, what is moved is the scorer at a sequence's weights.
    """
    rng = np.random.default_rng(seed)
    drawn = draw(config, "train", rng, sequences)
    offsets = perturbations(rng.standard_normal((PAIRS, SIZE)), sigma)
    found = []
    for sequence in drawn:
        logs = log_ratios(play(config, sequence, theta, offsets)[0][None], [sequence])[0]
        found.append(logs[:PAIRS] - logs[PAIRS:])
    return np.array(found)


def reliability(found: np.ndarray, seed: int) -> float:
    """Of the mean over GENERATION sequences, from the correlation of random halves of S."""
    rng, half = np.random.default_rng(seed), len(found) // 2
    halves = []
    for _ in range(SPLITS):
        order = rng.permutation(len(found))
        means = found[order[:half]].mean(axis=0), found[order[half:]].mean(axis=0)
        halves.append(np.corrcoef(*means)[0, 1])
    r = float(np.mean(halves))
    longer = GENERATION / half
    return longer * r / (1.0 + (longer - 1.0) * r)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--sigma", type=float, nargs="+", default=[0.05, 0.1, 0.2])
    parser.add_argument("--sequences", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    config = load_config(given.run / "config.yaml")
    checkpoint = RunFolder(given.run).latest_checkpoint()
    if checkpoint is None:
        raise SystemExit(f"{given.run}: no checkpoint of `train --algo es` here")
    with np.load(checkpoint / STATE, allow_pickle=False) as saved:
        theta = saved["average"]
    report = {}
    for sigma in given.sigma:
        found = differences(config, theta, sigma, given.sequences, given.seed)
        report[str(sigma)] = {
            "difference_sd_percent": 100.0 * float(found.std(axis=1).mean()),
            "reliability": reliability(found, given.seed),
        }
    if given.json:
        print(json.dumps(report))
        return
    for name, row in report.items():
        print(f"sigma {name}: sd of a sequence {row['difference_sd_percent']:.2f} %, reliability "
              f"of a generation {row['reliability']:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
