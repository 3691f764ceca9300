"""Published experiments, run by their own rules on our simulator."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from marl_sched.errors import UserError

__all__ = ["experiment"]


def experiment(name: str) -> Any:
    """The module of an experiment, loaded when it is asked for.

    Raises:
        UserError: where this installation has none of that name.
    """
    try:
        return import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}.{name}":
            raise
        raise UserError(f"experiment {name!r}: not part of this installation") from None
