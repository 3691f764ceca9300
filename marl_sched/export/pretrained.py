"""The scorer that ships with the package, written whole from the folder of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from marl_sched.errors import UserError
from marl_sched.export.card import CARD, card_of
from marl_sched.export.checkpoint import Checkpoint
from marl_sched.export.onnx_file import manifest_path
from marl_sched.export.portable import portable
from marl_sched.export.write import export_onnx
from marl_sched.files import write_text
from marl_sched.schedulers.learned.scorer_file import ScorerRecord, save_scorer

WEIGHTS, ONNX = "weights.safetensors", "scorer.onnx"

LARGEST_BYTES = 2 * 1024**2


def write_pretrained(
    found: Checkpoint, folder: Path, results: list[Path], observations: int, seed: int, note: str
) -> dict[str, Any]:
    """Write manifest.json, weights.safetensors, scorer.onnx and MODEL_CARD.md into `folder`.

    Args:
        found: a scorer.
        results: folders that `evaluate --suite .. --out` left, for the model card.
        observations, seed: of the ONNX file's check.
        note: for the model card, such as how this scorer was chosen.

    Returns:
        The manifest of the ONNX file.

    Raises:
        UserError: for another scheduler, results of other weights, or a folder of more than 2 MB.
    """
    record = found.trained
    if not isinstance(record, ScorerRecord):
        raise UserError(
            f"--pretrained ships a scorer of `train --algo es`, and this is a {found.algo.upper()} "
            "network; export that one by --onnx"
        )
    facts = found.facts()
    record = replace(
        record,
        config=portable(record.config),
        command=portable(facts["command"]),
        git_commit=facts["git_commit"],
        note=note,
    )
    found = replace(found, trained=record, run={})
    card = card_of(record, found.digest, results)
    manifest = export_onnx(found, folder / ONNX, observations, seed)
    save_scorer(record, folder, WEIGHTS, {ONNX: manifest["sha256"]})
    write_text(folder / CARD, card)
    mine = ("manifest.json", WEIGHTS, ONNX, manifest_path(Path(ONNX)).name, CARD)
    size = sum((folder / name).stat().st_size for name in mine)
    if size > LARGEST_BYTES:
        raise UserError(f"{folder}: {size:,} bytes are more than what may ship ({LARGEST_BYTES:,})")
    return manifest
