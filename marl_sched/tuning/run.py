"""A sweep and where it goes; the experiment of each of its trials."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marl_sched.config import Config, validate_config
from marl_sched.errors import UserError
from marl_sched.tuning.page import Sweep
from marl_sched.tuning.plan import REWARD, SCHEDULER, Proposal

Say = Callable[[str, Mapping[str, Any]], None]
"""(name of a trial, its newest figures): `new` where they are of this process's own work, `again`
where its worker died and it starts again: why."""


@dataclass(frozen=True)
class Run:
    """A sweep and where it goes."""

    sweep: Sweep
    config: Config
    """The experiment of every trial, but for what the trial itself sets."""
    out: Path
    concurrent: int = 2
    address: str | None = None
    """Of a Ray cluster to join, whose machines all see `out`; None starts a local one."""
    loggers: tuple[str, ...] = ()

    @property
    def trials(self) -> Path:
        return self.out / "trials"


def trial_config(
    config: Config, proposal: Proposal, simplex: Collection[str] = (), where: str = "sweep"
) -> Config:
    """The experiment of a trial: its values, its own seed of training, its budget.

    Args:
        simplex: terms of the reward that are weighed; of a trial that has weights for these, all
            other terms are 0, but for those that it sets itself.
        where: begins what an error says.

    Raises:
        UserError: for a setting that is none, or a value that it cannot have.
    """
    data = config.model_dump(mode="json")
    values = {key: value for key, value in proposal.values.items() if key != SCHEDULER}
    if any(f"{REWARD}{term}" in values for term in simplex):
        # Completion time's default of 1 included.
        data["env"]["reward"] = dict.fromkeys(data["env"]["reward"], 0.0)
    for key, value in values.items():
        into = data
        *sections, name = key.split(".")
        for section in sections:
            into = into.setdefault(section, {})
            if not isinstance(into, dict):
                raise UserError(f"{where}: unknown setting {key!r}: {section} has no parts")
        into[name] = value
    training = data["training"]
    if training["seed"] is None:
        training["seed"] = config.seed
    training["seed"] += proposal.seed
    for limit in ("minutes", "iterations"):
        if training[limit] is not None:
            training[limit] *= proposal.budget
    if proposal.parent is None:
        training["es"]["half_life"] *= proposal.budget
    return validate_config(data, f"{where}, trial {proposal.name}")
