"""`marl-sched export`: a trained scheduler as an ONNX file, or as a folder to ship."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from marl_sched.cli import options as o


def export(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            help="A run's folder, its best/ folder, one of its checkpoints/iter_N, or `pretrained`."
        ),
    ],
    onnx: Annotated[
        Path | None,
        typer.Option(help="ONNX file to write, NAME.onnx; NAME.onnx.json says what it is."),
    ] = None,
    pretrained: Annotated[
        Path | None,
        typer.Option(
            help="Folder to write a scorer to as it ships: manifest.json, weights.safetensors, "
            "scorer.onnx, MODEL_CARD.md."
        ),
    ] = None,
    results: Annotated[
        list[Path] | None,
        typer.Option(
            help="With --pretrained: folder that `evaluate --suite .. --out` wrote, for the model "
            "card; may be repeated."
        ),
    ] = None,
    note: Annotated[
        str, typer.Option(help="With --pretrained: a sentence for the model card.")
    ] = "",
    trust: Annotated[
        bool,
        typer.Option(
            "--trust",
            help="Read RLlib's own checkpoints too, as earlier versions wrote: pickles, which can "
            "run any code.",
        ),
    ] = False,
    observations: Annotated[
        int, typer.Option(min=1, help="Compared between the module and the ONNX file.")
    ] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the play that they come from.")] = 0,
    as_json: o.Json = False,
) -> None:
    """Write a trained scheduler as an ONNX file that serves any number of jobs.

    Before it is kept, the file is run by onnxruntime on observations of real play and compared
    with the module; a difference is an error and leaves no file.
    """
    from marl_sched.cli import tables
    from marl_sched.errors import UserError
    from marl_sched.export.checkpoint import load_checkpoint
    from marl_sched.export.onnx_file import library

    if onnx is None and pretrained is None:
        raise UserError("say what to write: --onnx NAME.onnx, or --pretrained FOLDER")
    if results and pretrained is None:
        raise UserError("--results go into the model card of --pretrained FOLDER; `marl-sched "
                        "model-card` writes one alone")  # fmt: skip
    for name in ("onnx", "onnxruntime"):
        library(name)
    found = load_checkpoint(checkpoint, trust)
    written: dict[Path, dict[str, Any]] = {}
    with tables.status("comparing with the module (the first time kernels are compiled)"):
        if onnx is not None:
            from marl_sched.export.write import export_onnx

            written[onnx] = export_onnx(found, onnx, observations, seed)
        if pretrained is not None:
            from marl_sched.export.pretrained import write_pretrained

            written[pretrained] = write_pretrained(
                found, pretrained, results or [], observations, seed, note
            )
    for notice in found.notices():
        tables.notices.print(notice, highlight=False)
    if as_json:
        print(json.dumps({str(path): manifest for path, manifest in written.items()}))
        return
    from marl_sched.export.parity import Parity

    for path, manifest in written.items():
        what = f"{manifest['algo']} of iteration {manifest['iteration']}"
        print(f"{path}: {what}, SHA-256 {manifest['sha256'][:12]}..")
        print(f"compared on {Parity(**manifest['parity'])}")


def model_card(
    checkpoint: Annotated[Path, typer.Argument(help="A scorer's folder, or `pretrained`.")],
    results: Annotated[
        list[Path],
        typer.Option(help="Folder that `evaluate --suite .. --out` wrote; may be repeated."),
    ],
    out: Annotated[
        Path | None, typer.Option(help="File to write.", show_default="standard output")
    ] = None,
) -> None:
    """Write the model card of a trained scorer from the results of `evaluate --suite`.

    Every figure in it comes from the manifest or the result files, which must be of the same
    weights.
    """
    from marl_sched.export.card import model_card as card
    from marl_sched.files import write_text

    text = card(checkpoint, results)
    if out is None:
        print(text, end="")
    else:
        write_text(out, text)
        print(f"{out}: model card from {len(results)} result folders")
