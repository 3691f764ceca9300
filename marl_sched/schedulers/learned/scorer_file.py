"""A trained scorer on disk: `manifest.json` and one safetensors file, see `marl_sched.artefact`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from marl_sched import artefact
from marl_sched.errors import UserError
from marl_sched.schedulers.learned.family import SIZE, parse_weights, shifted, theta_at
from marl_sched.schedulers.learned.guard import Ranges, problem_of
from marl_sched.schedulers.learned.scorer import (
    FEATURES,
    HIDDEN,
    INDEX_PARAMS,
    NUM_INDEX_PARAMS,
    NUM_WEIGHTS,
)

FORMAT = "marl_sched.scorer/2"
FORMER_FILE = "scorer.json"
"""What the first format consisted of."""

PRETRAINED = "pretrained"
"""Name of the scorer that ships with the package."""

PRETRAINED_FOLDER = Path(__file__).parent / PRETRAINED

_TENSOR, _FAMILY = "weights", "thetas"
_COMMAND = "marl-sched train --algo es"


@dataclass(frozen=True)
class ScorerRecord:
    """A scorer and where it comes from."""

    params: dict[str, float]
    """Of the elastic index below it, in the rule's order."""
    weights: tuple[float, ...]
    iteration: int
    """0: nothing did better than the base on validation."""
    validation: float
    """Cost, as `env.reward` weighs it (by default mean JCT), against the base on validation
    sequences, percent; negative = less."""
    config: dict[str, Any]
    fallback: dict[str, float]
    """Parameters of the index that decides alone in states unlike those of training."""
    seen: Ranges | None = None
    """Of the global features, in training; None: no state counts as unknown."""
    versions: dict[str, str] = field(default_factory=dict)
    features: tuple[str, ...] = FEATURES
    hidden: int = HIDDEN
    format: str = FORMAT
    algo: str = "es"
    command: str = ""
    """That trained it; empty where nobody noted it."""
    note: str = ""
    """What else its users should know, such as how it was chosen."""
    git_commit: str | None = None
    """Of the source tree that trained it."""
    terms: tuple[str, ...] = ()
    """Of the reward, at whose weights it can be taken; empty: it is for one set of weights."""
    thetas: tuple[tuple[float, ...], ...] = ()
    """(1 + K, SIZE) of the K terms, see `learned.family`; `params` and `weights` are those at
    even weights."""


def save_scorer(
    record: ScorerRecord,
    folder: Path,
    weights: str | None = None,
    others: Mapping[str, str] | None = None,
) -> Path:
    """Write `folder/manifest.json` and its weights; a reader sees all old or all new files.

    Args:
        weights: name of the safetensors file; None takes one of the iteration's own, as is right
            where the next one replaces it while others read.
        others: SHA-256 of further files in the folder that belong to the scorer.
    """
    name = weights or f"weights-{record.iteration}.safetensors"
    manifest = {"format": record.format, "algo": record.algo} | asdict(record)
    del manifest["weights"], manifest["thetas"]
    arrays = {_TENSOR: np.asarray(record.weights, np.float64)}
    if record.terms:
        arrays[_FAMILY] = np.asarray(record.thetas, np.float64)
    digest = artefact.write_weights(folder / name, arrays)
    manifest["files"] = {name: digest, **(others or {})}
    manifest["numbers_sha256"] = _numbers_digest(record)
    return artefact.write_manifest(folder, manifest, {name})


def split_name(name: str | Path) -> tuple[Path, str]:
    """Where the scorer called `FOLDER` or `FOLDER:term=weight,..` lies, and the weights."""
    if str(name) == PRETRAINED:
        return PRETRAINED_FOLDER, ""
    head, _, tail = str(name).rpartition(":")
    if not head or Path(name).exists() or not Path(head).is_dir():
        return Path(name), ""
    return Path(head), tail


def path_of(name: str | Path) -> Path:
    """Where the scorer called `name` lies."""
    return split_name(name)[0]


def is_scorer(name: str) -> bool:
    """Whether `name` is the folder of a scorer, or of a run that trained one, or `pretrained`."""
    if not name:
        return False
    path = path_of(name)
    folder = artefact.folder_of(path)
    if folder is None:
        return _former_file(path) is not None
    # Of a damaged one too, so that reading it can say what is wrong.
    return FORMAT.partition("/")[0].encode() in (folder / artefact.MANIFEST).read_bytes()


def _former_file(path: Path) -> Path | None:
    found = (path / artefact.BEST / FORMER_FILE, path / FORMER_FILE)
    return next((file for file in found if file.is_file()), None)


def find_scorer(name: str | Path) -> Path:
    """The folder of the artefact.

    Raises:
        UserError: where there is none, or one of the first format.
    """
    path = path_of(name)
    former = _former_file(path) if artefact.folder_of(path) is None else None
    if former is not None:
        raise UserError(f"{former}: a scorer of the first format, which is no longer read; train "
                        "again with this version")  # fmt: skip
    return artefact.find(path, "scorer", _COMMAND)


def load_scorer(name: str | Path) -> ScorerRecord:
    """Read the scorer of a run's folder, or of its `best` folder, or the one called `pretrained`.

    One that was trained for all weights of the reward is taken at `FOLDER:term=weight,..`, or
    without these at the weights of its run's `env.reward` as far as it was trained for them.

    Raises:
        UserError: when there is none, or it is damaged or of another version, or takes no such
            weights.
    """
    record, wanted = load_record(name), split_name(name)[1]
    if record.terms and wanted:
        return at_weights(record, parse_weights(wanted, record.terms, str(name)))
    if wanted:
        raise UserError(f"{name}: that scorer is for one set of weights; leave out {wanted!r}")
    return at_weights(record, record.config["env"]["reward"]) if record.terms else record


def load_record(name: str | Path) -> ScorerRecord:
    """As `load_scorer`; one for all weights as it was saved."""
    folder = find_scorer(name)
    with artefact.readable(folder, "scorer"):
        data = artefact.read_manifest(folder, FORMAT)
        files = dict(data.pop("files"))
        read = {file: artefact.read_verified(folder, file, files[file]) for file in files}
        arrays = artefact.arrays_of(read[_weights_among(files)])
        weights = tuple(arrays[_TENSOR].tolist())
        terms = tuple(data.pop("terms", ()))
        thetas = tuple(map(tuple, arrays[_FAMILY].tolist())) if terms else ()
        digest = data.pop("numbers_sha256")
        params = _by_name(data.pop("params"))
        fallback = _by_name(data.pop("fallback"))
        seen = data.pop("seen")
        if seen is not None:
            seen = {str(name): (float(low), float(high)) for name, (low, high) in seen.items()}
        features = tuple(data.pop("features"))
        record = ScorerRecord(
            params=params,
            weights=weights,
            fallback=fallback,
            seen=seen,
            features=features,
            terms=terms,
            thetas=thetas,
            **data,
        )
    _check(folder, record, digest)
    return record


def at_weights(record: ScorerRecord, weights: Mapping[str, float]) -> ScorerRecord:
    """The scorer that one for all weights of its terms is at some; evenly, where these have none
    of its terms. Its `config` has them as reward."""
    given = np.array([weights.get(term, 0.0) for term in record.terms], np.float64)
    given = given / given.sum() if given.sum() > 0 else np.full(given.size, 1.0 / given.size)
    theta = theta_at(np.asarray(record.thetas, np.float64).ravel(), given)
    env = record.config["env"]
    reward = dict.fromkeys(env["reward"], 0.0)
    reward |= dict(zip(record.terms, given.tolist(), strict=True))
    return replace(
        record,
        params=shifted(record.fallback, theta),
        weights=tuple(theta[NUM_INDEX_PARAMS:].tolist()),
        config=record.config | {"env": env | {"reward": reward}},
        terms=(),
        thetas=(),
    )


def _by_name(params: Mapping[str, Any]) -> dict[str, float]:
    """Parameters of the index in the rule's order, whatever theirs is in the file."""
    if set(params) != set(INDEX_PARAMS):
        raise ValueError(f"parameters {', '.join(params)} instead of {', '.join(INDEX_PARAMS)}")
    return {name: float(params[name]) for name in INDEX_PARAMS}


def _numbers_digest(record: ScorerRecord) -> str:
    """SHA-256 of the numbers beside the weights that decide."""
    text = json.dumps([record.params, record.fallback, record.seen], sort_keys=True)
    return artefact.sha256(text.encode())


def weights_digest(name: str | Path) -> str:
    """SHA-256 of the weights of a scorer, by its manifest: the same wherever it was copied to."""
    folder = find_scorer(name)
    with artefact.readable(folder, "scorer"):
        files = artefact.read_manifest(folder, FORMAT)["files"]
        return str(files[_weights_among(files)])


def _weights_among(files: dict[str, str]) -> str:
    (name,) = (file for file in files if file.endswith(".safetensors"))
    return name


def _check(folder: Path, record: ScorerRecord, digest: str) -> None:
    path = folder / artefact.MANIFEST
    if record.features != FEATURES or record.hidden != HIDDEN:
        raise UserError(
            f"{path}: its network sees other features or has {record.hidden} units; train again "
            "with this version"
        )
    if len(record.weights) != NUM_WEIGHTS:
        raise UserError(
            f"{path}: {len(record.weights)} weights instead of {NUM_WEIGHTS}; train again with "
            "this version"
        )
    sizes = [SIZE] * (1 + len(record.terms)) if record.terms else []
    if [len(theta) for theta in record.thetas] != sizes:
        raise UserError(f"{path}: not {len(sizes)} sets of {SIZE} weights; train again")
    if digest != _numbers_digest(record):
        raise UserError(
            f"{path}: its parameters or ranges do not match their SHA-256; the file was changed: "
            "copy the folder again or train again"
        )
    problem = problem_of(record.fallback, record.seen)
    if problem:
        raise UserError(f"{path}: {problem}; train again with this version")
    numbers = (*record.params.values(), *record.weights, *chain(*record.thetas))
    if not all(map(isfinite, numbers)):
        raise UserError(f"{path}: parameters or weights that are no numbers; train again")
