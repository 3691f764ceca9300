"""The scheduling game: `SchedulingEnv` for RLlib, and its compiled batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from marl_sched.envs.multi_agent import SchedulingEnv

__all__ = ["SchedulingEnv"]


def __getattr__(name: str) -> Any:
    # Importing Ray takes seconds; simulation and evaluation do not need it.
    if name == "SchedulingEnv":
        from marl_sched.envs.multi_agent import SchedulingEnv

        return SchedulingEnv
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
