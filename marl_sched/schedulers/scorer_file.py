"""A trained scorer on disk: one JSON file, nothing in which is executed when it is read."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from marl_sched.errors import UserError
from marl_sched.files import write_text
from marl_sched.schedulers.scorer import FEATURES, HIDDEN, NUM_INDEX_PARAMS, NUM_WEIGHTS

FORMAT = "marl_sched.scorer/1"
FILE = "scorer.json"
BEST = "best"


@dataclass(frozen=True)
class ScorerRecord:
    """A scorer and where it comes from."""

    params: dict[str, float]
    """Of the elastic index below it, in the rule's order."""
    weights: tuple[float, ...]
    iteration: int
    """0: nothing did better than the base on validation."""
    validation: float
    """Mean JCT against the base on validation sequences, percent; negative = shorter."""
    config: dict[str, Any]
    versions: dict[str, str] = field(default_factory=dict)
    features: tuple[str, ...] = FEATURES
    hidden: int = HIDDEN
    format: str = FORMAT


def save_scorer(record: ScorerRecord, folder: Path) -> Path:
    """Write `folder/scorer.json`, whole or not at all."""
    data = asdict(record) | {"sha256": _digest(record)}
    write_text(folder / FILE, json.dumps(data, indent=1) + "\n")
    return folder / FILE


def _digest(record: ScorerRecord) -> str:
    """Of the numbers that decide, as they are written."""
    text = json.dumps([record.params, list(record.weights), list(record.features)])
    return hashlib.sha256(text.encode()).hexdigest()


def _file_in(folder: Path) -> Path | None:
    found = (folder / BEST / FILE, folder / FILE)
    return next((path for path in found if path.is_file()), None)


def is_scorer(name: str) -> bool:
    """Whether `name` is the folder of a scorer, or of a run that trained one."""
    return bool(name) and _file_in(Path(name)) is not None


def load_scorer(folder: Path) -> ScorerRecord:
    """Read the scorer of a run's folder, or of its `best` folder.

    Raises:
        UserError: when there is none, or it is damaged or of another version.
    """
    path = _file_in(folder)
    if path is None:
        raise UserError(
            f"{folder}: no trained scorer here (no {BEST}/{FILE}); give the folder that "
            "`marl-sched train --algo es --out` wrote"
        )
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data.get("format") != FORMAT:
            raise UserError(f"{path}: format {data.get('format')!r} is not {FORMAT!r}; train again")
        digest = data.pop("sha256")
        params = {str(key): float(value) for key, value in data.pop("params").items()}
        weights = tuple(float(value) for value in data.pop("weights"))
        features = tuple(data.pop("features"))
        record = ScorerRecord(params=params, weights=weights, features=features, **data)
    except UserError:
        raise
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(
            f"{path}: not a readable scorer ({reason}); copy it again or train again"
        ) from None
    _check(path, record, digest)
    return record


def _check(path: Path, record: ScorerRecord, digest: Any) -> None:
    if record.features != FEATURES or record.hidden != HIDDEN:
        raise UserError(
            f"{path}: its network sees other features or has {record.hidden} units; train again "
            "with this version"
        )
    sizes = (len(record.params), len(record.weights))
    if sizes != (NUM_INDEX_PARAMS, NUM_WEIGHTS):
        raise UserError(
            f"{path}: {sizes[0]} parameters and {sizes[1]} weights instead of {NUM_INDEX_PARAMS} "
            f"and {NUM_WEIGHTS}; copy it again or train again"
        )
    if digest != _digest(record) or not all(map(isfinite, record.weights)):
        raise UserError(
            f"{path}: its numbers do not match their SHA-256; the file is damaged: copy it again "
            "or train again"
        )
