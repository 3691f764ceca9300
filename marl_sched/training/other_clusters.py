"""Clusters to train on: the configured one, and those of `env.train_clusters` beside it."""

from __future__ import annotations

import numpy as np

from marl_sched.config import Config
from marl_sched.envs.episodes import load_part
from marl_sched.types import Cluster


def training_clusters(config: Config) -> list[str]:
    """The configured cluster, then the others."""
    return list(dict.fromkeys((config.cluster, *config.env.train_clusters)))


def on_runners_cluster(config: Config, worker_index: int) -> Config:
    """The experiment of an env runner: they take the clusters in turn, at the same offered load.

    A compiled world has one cluster, so that all environments of a runner share it. Jobs that
    do not fit are left out.
    """
    clusters = training_clusters(config)
    cluster = clusters[max(0, worker_index - 1) % len(clusters)]
    if cluster == config.cluster:
        return config
    load = config.workload.load
    if load is None:
        gpus = Cluster.parse(config.cluster).num_gpus
        own = load_part(config, "train").offered_load(gpus)
        load = own if 0 < own < np.inf else None
    workload = config.workload.model_copy(update={"load": load, "skip_bad_rows": True})
    return config.model_copy(update={"cluster": cluster, "workload": workload})


def check_clusters(config: Config) -> None:
    """Raise a `UserError` where a cluster cannot be read, or leaves no jobs."""
    for number in range(len(training_clusters(config))):
        load_part(on_runners_cluster(config, 1 + number), "train")
