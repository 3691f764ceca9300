"""What one random edit of the base schedule does to an episode: the signal that learning has.

    python benchmarks/edit_effects.py --seconds 60 --json

In about a third of the rounds, one random legal edit is made and the base schedule goes on;
the reward is the exact change of the episode's cost in percent. Prints the number of edits,
their mean effect with its standard error, its standard deviation, and the share that helped.
Expect a mean near zero and a standard deviation of more than one percent: after an edit the
whole future of the cluster differs. Takes the given time, and one minute to compile.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

from marl_sched.config import load_config
from marl_sched.envs.batched import BatchedSchedulingEnv

NUM_ENVS = 32
EDITED_SHARE = 0.35


def measure(cluster: str, seconds: float, seed: int = 0) -> dict[str, float]:
    """Effects of single random edits on the built-in workload, percent of the base's cost."""
    config = load_config(None, ["env.actions=edit", "env.max_edits=1", f"cluster={cluster}"])
    env = BatchedSchedulingEnv(config, NUM_ENVS, seed)
    rng = np.random.default_rng(seed)
    obs = env.reset()
    effects: list[float] = []
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        noise = rng.random(obs["mask"].shape) * obs["mask"]
        actions = np.where(rng.random(NUM_ENVS) < EDITED_SHARE, noise.argmax(axis=1), 0)
        obs, reward, _, _ = env.step(actions)
        effects += reward[actions > 0].tolist()
    values = np.array(effects)
    return {
        "num_edits": len(values),
        "mean_percent": float(values.mean()),
        "standard_error_percent": float(values.std() / np.sqrt(len(values))),
        "standard_deviation_percent": float(values.std()),
        "helped_fraction": float((values > 0).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cluster", default="8x8")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    report = measure(args.cluster, args.seconds)
    if args.json:
        print(json.dumps(report))
        return
    for name, value in report.items():
        print(f"{name:28s} {value:.4g}")


if __name__ == "__main__":
    main()
