"""How much two jobs that share one GPU slow each other down, as measured.

The table is `interference.yaml`, written by `python -m marl_sched.perf.fitting.interference_fit`.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from marl_sched.errors import UserError, in_words

SHIPPED = Path(__file__).with_name("interference.yaml")


def table(models: tuple[str, ...], path: Path | None = None) -> np.ndarray:
    """(M, M) float64 in (0, 1]: speed of `models[i]` beside `models[j]` over its speed alone.

    A model that nobody measured beside others takes the place of its stand-in in the file.

    Raises:
        UserError: for a model that the file does not know, or no such file.
    """
    speed, _ = _tables(models, path)
    return speed


def measured(models: tuple[str, ...], path: Path | None = None) -> np.ndarray:
    """(M, M) bool, True where the pair of models itself was measured."""
    _, known = _tables(models, path)
    return known


def _tables(models: tuple[str, ...], path: Path | None) -> tuple[np.ndarray, np.ndarray]:
    data = _load((path or SHIPPED).resolve())
    names, stand_in = list(data["speed"]), data["stand_in"]
    place = []
    for model in models:
        name = stand_in.get(model, model)
        if name not in names:
            known = ", ".join((*names, *stand_in))
            raise UserError(
                f"interference table: model {model!r} has no entry; known: {known}; add a stand-in"
            )
        place.append(names.index(name))
    rows = np.array([data["speed"][name] for name in names], dtype=np.float64)
    own = np.array([model not in stand_in for model in models], dtype=bool)
    return rows[np.ix_(place, place)], own[:, None] & own[None, :]


@lru_cache(maxsize=4)
def _load(path: Path) -> dict[str, Any]:
    import yaml

    from marl_sched import safe_yaml

    if not path.is_file():
        raise UserError(f"interference table {path}: no such file")
    try:
        data = safe_yaml.load(path.read_text(encoding="utf-8"))
        speed = np.array(list(data["speed"].values()), dtype=float)
        if speed.shape != (len(speed), len(speed)) or not ((speed > 0) & (speed <= 1)).all():
            raise ValueError("speed is not a square of numbers in (0, 1]")
        return {"speed": dict(data["speed"]), "stand_in": dict(data["stand_in"])}
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"interference table {path}: not one ({type(error).__name__}: "
            f"{in_words(error)}); write it with "
            "python -m marl_sched.perf.fitting.interference_fit"
        ) from None
