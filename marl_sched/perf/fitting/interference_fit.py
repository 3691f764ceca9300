"""Write the interference table from the published measurements of pairs on one GPU.

Command, from the project's root (about 1 s):

    python -m marl_sched.perf.fitting.interference_fit --data ../shared/data \\
        --out marl_sched/perf/interference.yaml

It prints the table and writes it; the shipped one is this command's output.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from marl_sched.errors import UserError
from marl_sched.files import write_text
from marl_sched.perf.fitting.measurements import gavel_pairs

CORRESPONDENCE = {
    "resnet18": "ResNet-18",
    "ncf": "Recommendation",
    "lstm": "LM",
    "transformer": "Transformer",
    "resnet50": "ResNet-50",
}
"""Our models to those of the measurements. Recommendation is an autoencoder on MovieLens, not
neural collaborative filtering, but the same kind: a step of microseconds on little data."""

STAND_IN = {
    "vgg16": "resnet50",
    "inception3": "resnet50",
    "yolov3": "resnet50",
    "bert": "transformer",
    "gpt2": "transformer",
    "deepspeech2": "lstm",
}
"""Models that nobody measured beside others, to the measured one of the same kind: convolutions on
large images, attention, recurrence."""

GPU_TYPES = ("k80", "p100")
"""Measured on. The V100 rows mix machines (see `recipes`) and are left out."""

HEADER = """\
# Relative speed of two training jobs that share one GPU. Measured, not written by hand:
#   python -m marl_sched.perf.fitting.interference_fit --data ../shared/data \\
#       --out marl_sched/perf/interference.yaml
#
# source: Narayanan et al., Gavel, OSDI 2020; stanford-futuredata/gavel @ c4fa400,
#   physical_cluster_throughputs.json: steps/s of each pair of jobs on one K80 or P100, over steps/s
#   alone. The median over the pairs of batch sizes that fit, then the mean of the two GPU types.
# speed: row: whose speed; entries in the order of the rows: beside whom.
# pairs: number of measured pairs of batch sizes behind each entry.
# stand_in: measured: false. Nobody measured these models beside others; each takes the place of the
#   measured model of the same kind (convolutions on large images, attention, recurrence).
"""


def fit(data: Path) -> tuple[np.ndarray, np.ndarray]:
    """Relative speeds (M, M) float64 in (0, 1] of `CORRESPONDENCE`, and pairs behind each (M, M).

    Raises:
        UserError: without the measurements, or where a pair of models was never measured.
    """
    names = list(CORRESPONDENCE.values())
    speed = np.zeros((len(GPU_TYPES), len(names), len(names)))
    pairs = np.zeros((len(names), len(names)), dtype=np.int64)
    for t, gpu_type in enumerate(GPU_TYPES):
        found: dict[tuple[str, str], list[float]] = {}
        for mine, other, relative in gavel_pairs(data, gpu_type):
            # A co-runner never speeds a job up: above 1 is noise.
            found.setdefault((mine, other), []).append(min(relative, 1.0))
        for i, mine in enumerate(names):
            for j, other in enumerate(names):
                if (mine, other) not in found:
                    raise UserError(f"{data}: {mine} beside {other} on {gpu_type} is not measured")
                speed[t, i, j] = np.median(found[mine, other])
                pairs[i, j] += len(found[mine, other])
    return speed.mean(axis=0), pairs


def to_yaml(speed: np.ndarray, pairs: np.ndarray) -> str:
    """The file's text, a line a row."""
    lines = [HEADER + "speed:"]
    names = list(CORRESPONDENCE)
    for name, row in zip(names, speed.tolist(), strict=True):
        lines.append(f"  {name}: [{', '.join(f'{value:.3f}' for value in row)}]")
    lines.append("pairs:")
    for name, counts in zip(names, pairs.tolist(), strict=True):
        lines.append(f"  {name}: [{', '.join(map(str, counts))}]")
    lines.append("stand_in:")
    lines += [f"  {model}: {stand_in}" for model, stand_in in STAND_IN.items()]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Fit, print, write; 2 on bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m marl_sched.perf.fitting.interference_fit", description=__doc__
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the measurements")
    parser.add_argument("--out", type=Path, required=True, help="table to write")
    given = parser.parse_args(arguments)
    try:
        text = to_yaml(*fit(given.data))
        write_text(given.out, text)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(text[len(HEADER) :], end="")
    print(f"wrote {given.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
