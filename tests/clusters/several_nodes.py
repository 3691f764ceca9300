"""Trains on a head and three nodes, of which one dies and another comes; prints what it saw.

Run by test_nodes.py, in a process of its own and, where possible, on a host of its own.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import ray
from ray._private.state import actors
from ray.cluster_utils import Cluster

from marl_sched.errors import UserError
from marl_sched.training.placement import learner_gpus, most_gpus
from marl_sched.training.run import train
from tests.training.fake_env import PATH
from tests.training.test_train import settings

LOST_AFTER, AT_MOST = 3, 5000
"""Iterations until a node dies, and in which all must have happened."""

RUNNER, LEARNER = "BatchedEnvRunner", "_WrappedExecutable"
"""Names of the actors' classes; the second is Ray Train's, around RLlib's learner."""


class Done(Exception):
    """The scenario is through."""


def placed(class_name: str) -> list[str]:
    """Nodes of the living actors of a class."""
    return sorted(
        actor["Address"]["NodeID"]
        for actor in actors().values()
        if actor["State"] == "ALIVE" and actor["ActorClassName"].endswith(class_name)
    )


class Scenario:
    """Takes a node away in the middle of training and brings another one."""

    def __init__(self, cluster: Cluster, nodes: list[Any]) -> None:
        self._cluster, self._nodes = cluster, nodes
        self._killer: threading.Thread | None = None
        self._new: Any = None
        self.seen: dict[str, Any] = {"rows": [], "nodes": [node.node_id for node in nodes]}

    def __call__(self, row: dict[str, Any]) -> None:
        seen, iteration, runners = self.seen, row["iteration"], placed(RUNNER)
        seen["rows"].append((iteration, row["decisions"]))
        if iteration == LOST_AFTER:
            seen["runners"], seen["learners"] = runners, placed(LEARNER)
            victim = next(node for node in self._nodes if node.node_id == runners[0])
            seen["victim"] = victim.node_id
            # Beside training, so that it dies in the middle of a round.
            self._killer = threading.Thread(
                target=self._cluster.remove_node, args=(victim,), kwargs={"allow_graceful": False}
            )
            self._killer.start()
        elif self._killer is not None and self._new is None:
            if seen["victim"] not in runners:
                self._killer.join()
                seen["after_loss"], seen["lost_at"] = runners, iteration
                self._new = self._cluster.add_node(num_cpus=1)
                seen["new"] = self._new.node_id
        elif self._new is not None and self._new.node_id in runners:
            seen["at_the_end"] = runners
            raise Done


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
        nodes = [cluster.add_node(num_cpus=1, num_gpus=int(n == 2)) for n in range(3)]
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
            AT_MOST,
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
