"""Named pages of settings for `marl-sched train --preset`; options and `--set` come before them."""

from __future__ import annotations

from typing import Any

from marl_sched.errors import UserError

_TUNED = [
    "elastic_index:tuned",
    "elastic_index:trust=1",
    "elastic_srsf:tuned",
    "elastic_srtf:tuned",
    "elastic_las:tuned",
    "elastic_gittins:tuned",
    "elastic_tiresias:tuned",
    "elastic_fcfs:tuned",
    "hesrpt:tuned",
    "tiresias:tuned",
    "afs",
    "equi",
    "srtf",
]
"""What a trained scheduler has to beat: every rule that has been tuned, the index that corrects
estimates, and three without parameters."""

_FAST: dict[str, Any] = {
    "env": {"actions": "edit"},
    "training": {
        "minutes": 18.0,
        "validation_every": 10,
        "validation_episodes": 64,
        "checkpoint_every": 5,
    },
    "evaluation": {"schedulers": _TUNED},
}
_FAST_WARM = {**_FAST, "training": {**_FAST["training"], "warm_start": 0.75}}

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    # Better than the best tuned rule within 20 minutes on 2 cores (docs/learning.md).
    "fast": {"ppo": _FAST_WARM, "dqn": _FAST_WARM, "es": _FAST},
}
"""Settings by name and algorithm."""


def preset_settings(name: str, algo: str) -> dict[str, Any]:
    """The settings of preset `name` for an algorithm.

    Raises:
        UserError: for an unknown name, naming the known ones.
    """
    if name not in PRESETS:
        raise UserError(f"--preset {name!r}: unknown; known: {', '.join(PRESETS)}")
    return PRESETS[name][algo]
