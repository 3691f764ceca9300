"""Exporting one checkpoint to ONNX."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from marl_sched.export.checkpoint import Checkpoint
from marl_sched.export.graph import network_graph, scorer_graph
from marl_sched.export.onnx_file import write_onnx
from marl_sched.export.parity import network_parity, scorer_parity
from marl_sched.schedulers.learned.scorer_file import ScorerRecord


def export_onnx(found: Checkpoint, out: Path, observations: int, seed: int) -> dict[str, Any]:
    """Write the ONNX file `out` and its manifest, which is returned; errors as of `write_onnx`."""
    trained = found.trained
    if isinstance(trained, ScorerRecord):
        model, rule = scorer_graph(trained), found.rule
        check = partial(scorer_parity, rule, count=observations, seed=seed)
    else:
        model = network_graph(trained)
        check = partial(network_parity, trained, count=observations, seed=seed)
    return write_onnx(model, out, found.facts(), check)
