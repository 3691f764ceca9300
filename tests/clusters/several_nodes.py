"""Trains on a head and three nodes, of which one dies and another comes; prints what it saw.

Run by test_nodes.py, in a process of its own and, where possible, on a host of its own.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import ray
from ray._private.state import actors, available_resources_per_node
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from marl_sched.errors import UserError
from marl_sched.training.learner_placement import learner_gpus, most_gpus
from marl_sched.training.run import train
from tests.training.fake_env import PATH
from tests.training.test_train import settings

LOST_AFTER = 3
"""Iterations before a node dies."""
PATIENCE_S = 150.0
"""For each thing that is waited for; what has not come by then fails its test."""
NODE_CPUS = 4
"""More than a node's runner takes: Ray by itself would put two on a node before the next."""

RUNNER, LEARNER = "BatchedEnvRunner", "_WrappedExecutable"
"""Names of the actors' classes; the second is Ray Train's, around RLlib's learner."""


class Done(Exception):
    """The scenario is through."""


def living(class_name: str) -> dict[str, str]:
    """Living actors of a class -> their nodes."""
    return {
        key: actor["Address"]["NodeID"]
        for key, actor in actors().items()
        if actor["State"] == "ALIVE" and actor["ActorClassName"].endswith(class_name)
    }


class Filler:
    """Takes what has been left of a node."""

    def here(self) -> bool:
        return True


class Scenario:
    """Takes a node away in the middle of training and brings another one.

    Called after each iteration; goes on to the next step once what it waits for is there.
    """

    def __init__(self, cluster: Cluster, nodes: list[Any]) -> None:
        self._cluster, self._nodes = cluster, nodes
        self._killer: threading.Thread | None = None
        self._fillers: list[Any] = []
        self._steps = iter((self._all_there, self._one_lost, self._new_used))
        self._step = next(self._steps)
        self._begun = time.monotonic()
        self.seen: dict[str, Any] = {"rows": [], "nodes": [node.node_id for node in nodes]}

    def __call__(self, row: dict[str, Any]) -> None:
        self.seen["rows"].append((row["iteration"], row["decisions"]))
        if row["iteration"] < LOST_AFTER:
            return
        runners = sorted(living(RUNNER).values())
        if self._step(row["iteration"], runners):
            following = next(self._steps, None)
            if following is None:
                raise Done
            self._step, self._begun = following, time.monotonic()
        elif time.monotonic() - self._begun > PATIENCE_S:
            self.seen["waited_for"] = f"{self._step.__name__}: runners on {runners}"
            raise Done

    def _all_there(self, iteration: int, runners: list[str]) -> bool:
        learners = living(LEARNER)
        if len(runners) < len(self._nodes) or not learners:
            return False
        self.seen |= {"runners": runners, "learners": learners, "first": iteration}
        # No room is left for the runner that will be lost.
        free = available_resources_per_node()
        for node in (node.node_id for node in self._nodes):
            place = NodeAffinitySchedulingStrategy(node, soft=False)
            left = free[node].get("CPU", 0.0)
            filler = ray.remote(num_cpus=left, scheduling_strategy=place)(Filler)
            self._fillers.append(filler.remote())
        ray.get([filler.here.remote() for filler in self._fillers], timeout=PATIENCE_S)
        victim = next(node for node in self._nodes if node.node_id == runners[0])
        self.seen["victim"] = victim.node_id
        # Beside training, so that it dies in the middle of a round.
        self._killer = threading.Thread(
            target=self._cluster.remove_node, args=(victim,), kwargs={"allow_graceful": False}
        )
        self._killer.start()
        return True

    def _one_lost(self, iteration: int, runners: list[str]) -> bool:
        left = [node for node in self.seen["runners"] if node != self.seen["victim"]]
        lost = self.seen["victim"] not in runners and len(runners) == len(left)
        # An iteration of two runners has to go by before the new node comes.
        if not lost or self.seen.setdefault("lost_at", iteration) == iteration:
            return False
        assert self._killer is not None
        self._killer.join()
        self.seen["after_loss"] = runners
        # Training goes on while it starts.
        self.seen["new"] = self._cluster.add_node(wait=False, num_cpus=1).node_id
        return True

    def _new_used(self, iteration: int, runners: list[str]) -> bool:
        if self.seen["new"] not in runners:
            return False
        self.seen |= {"at_the_end": runners, "learners_at_the_end": living(LEARNER)}
        return True


def check_gpus(seen: dict[str, Any]) -> None:
    """One of the nodes has a (logical) GPU: what learners would take."""
    seen["gpus"] = most_gpus()

    def asked(learners: int, each: float) -> float:
        more = (f"training.num_learners={learners}", f"training.num_gpus_per_learner={each}")
        return learner_gpus(settings("ppo", 1, *more))

    seen["asked"] = [asked(1, 1.0), asked(2, 0.5), asked(1, 0.0)]
    try:
        asked(2, 1.0)
    except UserError as error:
        seen["too_many"] = str(error)


def main() -> None:
    out, storage = Path(sys.argv[1]), sys.argv[2]
    head = {"num_cpus": 0, "include_dashboard": False, "resources": {"learner": 1}}
    cluster = Cluster(initialize_head=True, connect=False, head_node_args=head)
    try:
        nodes = [
            cluster.add_node(wait=False, num_cpus=NODE_CPUS, num_gpus=int(n == 2)) for n in range(3)
        ]
        cluster.wait_for_nodes(timeout=PATIENCE_S)
        ray.init(
            address=cluster.address,
            log_to_driver=False,
            runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}},
        )
        scenario = Scenario(cluster, nodes)
        scenario.seen["head"] = cluster.head_node.node_id
        check_gpus(scenario.seen)
        config = settings(
            "ppo",
            10**6,
            "training.num_env_runners=3",
            "training.num_learners=1",
            "training.learner_resource=learner",
            "training.ppo.batch_size=768",
        )
        try:
            train(
                config,
                out,
                storage=storage,
                progress=scenario,
                validate=lambda act, config: 0.0,
                env_class=PATH,
            )
        except Done:
            pass
        print(json.dumps(scenario.seen), flush=True)
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())
    main()
