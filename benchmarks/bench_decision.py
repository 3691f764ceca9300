"""How long one decision of a trained scheduler takes with many active jobs, on one thread.

    python benchmarks/bench_decision.py --json
    python benchmarks/bench_decision.py --scheduler runs/es --network runs/ppo

A burst of jobs arrives at once on 64 nodes of 8 GPUs and is played until fewer than 1,000 (5,000)
are left; decisions on the way are timed, in milliseconds, p50 and p99, by the wall's clock and in
processor time of the one thread (`cpu_`), which leaves out what other programs took:

* `onnx`: the scorer as exported, in full: features, network by onnxruntime, levels of all jobs;
  `onnx_features`, `onnx_network` and `onnx_fill` are its parts;
* `rule`: the same decision by the compiled rule, which the exported one is checked against;
* `index`: `elastic_index`, which it corrects;
* `ppo`: one pass of a PPO network of the default sizes (or of --network) through onnxruntime on an
  observation that shows 1,000 (5,000) jobs; `ppo_compiled`: the same by our compiled pass.
  Weights do not change its cost. A round is at most `env.max_edits` such passes.

Expect p99 of `onnx` below 5 ms for 1,000 jobs. Takes two minutes, and one more to compile.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from marl_sched.config import Config, load_config
from marl_sched.envs.batched import BatchedSchedulingEnv, spec_spaces
from marl_sched.evaluation.simulate import begin
from marl_sched.export.checkpoint import load_checkpoint
from marl_sched.export.graph import network_graph, scorer_graph
from marl_sched.export.onnx_file import session_of
from marl_sched.export.parity import SCORER_TOLERANCE, corrected
from marl_sched.models.network import ActionNetwork, NetworkSizes
from marl_sched.models.policy import LearnedPolicy, Manifest
from marl_sched.schedulers import Scheduler, get_scheduler
from marl_sched.schedulers.learned.scorer_file import ScorerRecord
from marl_sched.schedulers.learned.scorer_inputs import inputs_of, levels_by, scores_of
from marl_sched.types import Cluster
from marl_sched.workload import load_workload

CLUSTER = "64x8"
DECISIONS = 400
WARM = 3
"""Decisions before that."""

MARGIN = 1.2
"""Jobs of the burst over those that have to be active."""


class Times:
    """Milliseconds by name: as they pass, and of the processor."""

    def __init__(self) -> None:
        self.found: dict[str, list[tuple[float, float]]] = {}

    def __call__(self, name: str, do: Callable[[], Any]) -> Any:
        begun = clocks()
        result = do()
        self.add(name, begun)
        return result

    def add(self, name: str, begun: np.ndarray) -> None:
        passed, worked = (1e3 * (clocks() - begun)).tolist()
        self.found.setdefault(name, []).append((passed, worked))

    def summary(self) -> dict[str, dict[str, float]]:
        found = {}
        for name, times in self.found.items():
            p50, p99 = np.percentile(times, [50, 99], axis=0).tolist()
            found[name] = {
                "p50_ms": p50[0], "p99_ms": p99[0], "cpu_p50_ms": p50[1], "cpu_p99_ms": p99[1],
                "decisions": len(times),
            }  # fmt: skip
        return found


def clocks() -> np.ndarray:
    """(2,) float64 seconds: of the wall, and of this thread on the processor."""
    return np.array([time.perf_counter(), time.thread_time()])


def burst(jobs: int, slots: int = 32) -> Config:
    """The built-in workload, all of which arrives at once."""
    return load_config(
        overrides=[
            f"cluster={CLUSTER}", f"workload.synthetic.num_jobs={int(MARGIN * jobs)}",
            "workload.load=10000", f"env.job_slots={slots}", "env.credit=shadow",
            f"env.jobs_per_episode={int(MARGIN * jobs)}", "env.train_load=null",
            "workload.split=[0.98, 0.01, 0.01]",
        ]
    )  # fmt: skip


def bench_scorer(record: ScorerRecord, rule: Scheduler, jobs: int, decisions: int) -> Times:
    """Decisions on at least `jobs` active jobs."""
    game = burst(jobs)
    machines = Cluster.parse(CLUSTER)
    workload = load_workload(game.workload, machines, game.seed)
    session = session_of(scorer_graph(record).SerializeToString())
    index = get_scheduler("elastic_index")
    times, params, timed = Times(), rule.param_array, 0
    simulation = begin(workload, machines, rule, game.sim, seed=game.seed)
    while timed < decisions + WARM and simulation.advance():
        view = simulation.view()
        if simulation.num_active >= jobs:
            begun = clocks()
            inputs = times("onnx_features", lambda v=view: inputs_of(v, params))
            table = times("onnx_network", lambda i=inputs: corrected(i, session))
            times("onnx_fill", lambda v=view, t=table: levels_by(v, t))
            times.add("onnx", begun)
            times("rule", lambda v=view: rule.levels(v))
            times("index", lambda v=view: index.levels(v))
            at = inputs.owner, inputs.step
            if not np.allclose(table[at], scores_of(view, params)[at], atol=SCORER_TOLERANCE):
                raise SystemExit("the exported scorer decides otherwise than the compiled rule")
            timed += 1
            if timed == WARM:  # the first calls load and compile
                times = Times()
        elif timed:
            break
        simulation.apply(rule.allocate(view))
    return times


def untrained(game: Config) -> LearnedPolicy:
    """A PPO network of the default sizes."""
    sizes = NetworkSizes.of_spaces(
        *spec_spaces(game),
        job_hidden=game.model.job_hidden,
        context_hidden=game.model.context_hidden,
    )
    network = ActionNetwork(sizes)
    state = {name: value.detach().numpy() for name, value in network.state_dict().items()}
    manifest = Manifest(
        "ppo", sizes.as_dict(), game.env.actions, list(game.env.algorithms), game.env.base,
        False, 0, None, {},
    )  # fmt: skip
    return LearnedPolicy(manifest, state)


def bench_network(folder: Path | None, jobs: int, decisions: int) -> Times:
    """Passes of a PPO network over observations that show `jobs` jobs."""
    game = burst(jobs, slots=jobs)
    found = None if folder is None else load_checkpoint(folder).trained
    policy = untrained(game) if found is None else found
    if not isinstance(policy, LearnedPolicy):
        raise SystemExit(f"{folder}: no PPO or DQN run")
    env = BatchedSchedulingEnv(game, 1, game.seed)
    session = session_of(network_graph(policy).SerializeToString())
    times, obs, timed = Times(), env.reset(), 0
    commit = np.zeros(1, dtype=np.int64)
    while timed < decisions + WARM:
        if obs["jobs"][0, :, 0].sum() >= jobs:
            timed += 1
            if timed == WARM:
                times = Times()
            times("ppo", lambda o=obs: session.run(["action"], o))
            times("ppo_compiled", lambda o=obs: policy.act(o))
        obs, _, _, done = env.step(commit)
        if done.any() and timed == 0:
            raise SystemExit(f"never {jobs} active jobs at once")
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scheduler", type=Path, default=Path("pretrained"))
    parser.add_argument("--network", type=Path, help="run folder of PPO; default: untrained")
    parser.add_argument("--jobs", type=int, nargs="*", default=[1000, 5000])
    parser.add_argument("--decisions", type=int, default=DECISIONS)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = load_checkpoint(given.scheduler)
    if not isinstance(found.trained, ScorerRecord):
        raise SystemExit(f"{given.scheduler}: no scorer")
    report: dict[str, Any] = {}
    for jobs in given.jobs:
        scorer = bench_scorer(found.trained, found.rule, jobs, given.decisions)
        network = bench_network(given.network, jobs, given.decisions)
        report[str(jobs)] = scorer.summary() | network.summary()
    if given.json:
        print(json.dumps(report))
        return
    for jobs, rows in report.items():
        print(f"{int(jobs):,} active jobs, ms")
        for name, row in rows.items():
            times = "   ".join(
                f"{key.removesuffix('_ms').replace('_', ' ')} {row[key]:7.3f}"
                for key in ("p50_ms", "p99_ms", "cpu_p50_ms", "cpu_p99_ms")
            )
            print(f"  {name:15} {times}   ({row['decisions']} decisions)")


if __name__ == "__main__":
    main()
