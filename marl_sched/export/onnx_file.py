"""ONNX files with their manifest: written after a check, and verified when they are loaded."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from math import isnan
from pathlib import Path
from typing import Any

from marl_sched.artefact import sha256
from marl_sched.errors import UserError
from marl_sched.export.parity import Parity
from marl_sched.files import check_writable, replacing, write_text

FORMAT = "marl_sched.onnx/1"

Session = Any
"""An `onnxruntime.InferenceSession`."""


def library(name: str) -> Any:
    """The module `onnx` or `onnxruntime`.

    Raises:
        UserError: where it is not installed, saying how to.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"ONNX files need the library {name} ({error}); install it: "
            "pip install -e '.[onnx]', or pip install onnx onnxruntime"
        ) from None


def manifest_path(path: Path) -> Path:
    """Of the ONNX file `path`: NAME.onnx.json beside it."""
    return path.with_name(f"{path.name}.json")


def session_of(data: bytes, threads: int = 1) -> Session:
    """A session of onnxruntime on the CPU.

    Raises:
        ValueError: for what is no model, or one that this version of onnxruntime cannot run.
    """
    runtime = library("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own classes, which share no base below this one
        raise ValueError(" ".join(str(error).split())[:200]) from None


def write_onnx(
    model: Any, out: Path, facts: Mapping[str, Any], check: Callable[[Session], Parity]
) -> dict[str, Any]:
    """Write `out` and its manifest where the model agrees with what it was made from.

    Args:
        model: a `ModelProto`.
        facts: of the manifest.
        check: compares a session of the model; what it finds goes into the manifest.

    Returns:
        The manifest.

    Raises:
        UserError: where they disagree; nothing is written then.
    """
    if out.suffix != ".onnx":
        raise UserError(f"--onnx {out}: give a name that ends in .onnx")
    check_writable(manifest_path(out))
    data = model.SerializeToString(deterministic=True)
    with replacing(out) as temporary:
        temporary.write_bytes(data)
        found = check(session_of(data))
        if isnan(found.max_difference):
            raise UserError(
                f"{out}: not written, some scores of this network are no numbers: its training has "
                "diverged or its file is damaged; train again"
            )
        if not found.passed:
            raise UserError(
                f"{out}: not written, the exported network differs from its module ({found}); "
                "this is an error in the export: please report it"
            )
    record = {
        "format": FORMAT,
        "file": out.name,
        "sha256": sha256(data),
        "opset": model.opset_import[0].version,
        "inputs": _shapes(model.graph.input),
        "outputs": _shapes(model.graph.output),
        "parity": found.as_dict(),
        **facts,
        "exported_with": {name: library(name).__version__ for name in ("onnx", "onnxruntime")},
    }
    write_text(manifest_path(out), json.dumps(record, indent=2) + "\n")
    return record


def _shapes(values: Any) -> dict[str, list[int | str]]:
    """Name to shape; open axes by name."""
    return {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in values
    }


def load_onnx(path: Path, threads: int = 1) -> tuple[Session, dict[str, Any]]:
    """A session of a file that `write_onnx` wrote, and its manifest.

    Raises:
        UserError: where a file is missing, damaged, or another one than the manifest says.
    """
    beside = manifest_path(path)
    for file in (path, beside):
        if not file.is_file():
            raise UserError(
                f"{file}: no such file; `marl-sched export CHECKPOINT --onnx {path.name}` writes "
                "the ONNX file and its manifest"
            )
    try:
        manifest = json.loads(beside.read_text(encoding="utf-8"))
        format, digest = manifest["format"], manifest["sha256"]
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from None
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{beside}: not a readable manifest ({reason}); export again") from None
    if format != FORMAT:
        raise UserError(f"{beside}: format {format!r} is not {FORMAT!r}; export again")
    if sha256(data) != digest:
        raise UserError(
            f"{path}: does not match the SHA-256 in {beside.name}; the file is damaged or another "
            "one: export again"
        )
    try:
        return session_of(data, threads), manifest
    except ValueError as error:
        raise UserError(f"{path}: onnxruntime cannot load it ({error}); export again") from None
