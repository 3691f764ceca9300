"""Where trials are logged besides TensorBoard, which Ray Tune always writes."""

from __future__ import annotations

import importlib
import importlib.util
import os
import time
from pathlib import Path
from typing import Any

from marl_sched.errors import UserError

PACKAGES = {"mlflow": "mlflow", "wandb": "wandb"}

WRITER_S = 3.0
"""Grace of the writer of Weights & Biases 0.31: without it files of 7 bytes were seen."""

ENDS = ("state", "reason")
"""What a trial's last report says in words."""


def check_loggers(names: tuple[str, ...]) -> None:
    """Refuse unknown loggers and those that are not installed.

    Raises:
        UserError: naming what to install, or which key is missing.
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
        if name == "wandb":
            _check_key()


def _check_key() -> None:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_MODE") in ("offline", "disabled"):
        return
    logged_in = getattr(importlib.import_module("wandb"), "api", None)  # by `wandb login`
    if not getattr(logged_in, "api_key", None):
        raise UserError(
            "--logger wandb: no key for Weights & Biases; set WANDB_API_KEY, run `wandb login`, or "
            "keep its files here with WANDB_MODE=offline"
        )


def logger_callbacks(names: tuple[str, ...], out: Path, title: str) -> list[Any]:
    """Tune callbacks of the loggers: each trial is a run with its values as parameters, what it
    reports as metrics, and how it ended.

    MLflow writes below `out` unless MLFLOW_TRACKING_URI says otherwise; Weights & Biases wants
    WANDB_API_KEY or WANDB_MODE=offline.
    """
    check_loggers(names)
    makers = {"mlflow": _mlflow, "wandb": _wandb}
    return [makers[name](out, title) for name in names]


def _mlflow(out: Path, title: str) -> Any:
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    mlflow: Any = importlib.import_module("mlflow")
    where = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{out / 'mlflow.db'}")

    class Logger(MLflowLoggerCallback):
        """With the end of a trial as tags, since metrics are numbers alone."""

        def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
            super().log_trial_result(iteration, trial, _without_config(result))
            for name in ENDS:
                if result.get(name):
                    client = mlflow.MlflowClient(tracking_uri=where)
                    client.set_tag(self._trial_runs[trial], name, result[name])

    return Logger(tracking_uri=where, experiment_name=title)


def _wandb(out: Path, title: str) -> Any:
    from ray.air.integrations.wandb import WandbLoggerCallback

    class Logger(WandbLoggerCallback):
        """With the end of a trial in its configuration, since only numbers are logged."""

        AUTO_CONFIG_KEYS = [*WandbLoggerCallback.AUTO_CONFIG_KEYS, *ENDS]

        def _cleanup_logging_actor(self, trial: Any) -> None:
            # `wandb.finish` returns before its writer, which dies with the actor, is through.
            time.sleep(WRITER_S)
            super()._cleanup_logging_actor(trial)

        def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
            super().log_trial_result(iteration, trial, _without_config(result))

    return Logger(project="marl_sched", group=title, excludes=["job"])


def _without_config(result: dict[str, Any]) -> dict[str, Any]:
    """A report without the trial's values, which are parameters already."""
    return {name: value for name, value in result.items() if name != "config"}
