"""What several pages start from: a world for those who name no trace, and ways to learn."""

from __future__ import annotations

from typing import Any

OVERLOAD: dict[str, Any] = {
    "cluster": "4x4",
    "workload": {"load": 1.3, "synthetic": {"max_duration_s": 86400.0}},
    "env": {
        "job_slots": 16,
        "jobs_per_episode": 128,
        "train_load": [1.0, 1.5],
        "train_restart_scale": None,
        "train_estimate_noise": None,
    },
}
"""A world in which a minute of training shows something: an overload that forces a choice between
objectives, and a cluster small enough for many episodes a minute."""

QUICK: dict[str, Any] = {
    "num_env_runners": 0,
    "validation_every": 4,
    "ppo": {"lr": 0.003, "entropy": 0.0, "batch_size": 512, "minibatch_size": 128},
    "dqn": {"decisions_per_iteration": 512, "learning_starts": 512, "target_update": 500},
    "es": {"pairs": 32, "sequences": 4},
}
"""Training in small quick steps, in the trial's own process."""

EDITS: dict[str, Any] = {
    "env": {"actions": "edit", "base": "equi"},
    "training": {**QUICK, "validation_every": 8},
}
"""A network has much to learn and hyperparameters show: it begins with equal shares, far from the
best known rule, and moves GPUs from job to job. (Beside the tuned index there is next to nothing to
learn, docs/learning.md: there all networks end as one single rule.)"""

EVOLVED: dict[str, Any] = {
    "env": {"base": "elastic_index:tuned"},
    "training": {**QUICK, "algo": "es"},
}
"""Evolution strategies, from the best index that was tuned for completion times."""
