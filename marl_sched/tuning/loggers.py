"""Where trials are logged besides TensorBoard, which Ray Tune always writes."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

from marl_sched.errors import UserError

PACKAGES = {"mlflow": "mlflow", "wandb": "wandb"}


def check_loggers(names: tuple[str, ...]) -> None:
    """Refuse unknown loggers and those that are not installed.

    Raises:
        UserError: naming what to install.
    """
    for name in names:
        if name not in PACKAGES:
            known = ", ".join(PACKAGES)
            raise UserError(f"--logger {name!r}: known: {known}; TensorBoard is always written")
        if importlib.util.find_spec(PACKAGES[name]) is None:
            raise UserError(
                f"--logger {name}: {name} is not installed; pip install {PACKAGES[name]}, or "
                "leave --logger out"
            )


def logger_callbacks(names: tuple[str, ...], out: Path, title: str) -> list[Any]:
    """Tune callbacks of the loggers; MLflow writes below `out` unless MLFLOW_TRACKING_URI says
    otherwise, Weights & Biases wants WANDB_API_KEY or WANDB_MODE=offline."""
    check_loggers(names)
    found: list[Any] = []
    if "mlflow" in names:
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        where = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{out / 'mlflow.db'}")
        found.append(MLflowLoggerCallback(tracking_uri=where, experiment_name=title))
    if "wandb" in names:
        from ray.air.integrations.wandb import WandbLoggerCallback

        found.append(WandbLoggerCallback(project="marl_sched", group=title))
    return found
