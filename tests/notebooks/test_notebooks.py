"""Every notebook runs from top to bottom, and what is committed was run and names no machine."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbclient
import nbformat
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def named(path: Path) -> str:
    return path.stem


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_committed_with_outputs_and_without_machine_paths(path: Path) -> None:
    notebook = read(path)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    pictures = 0
    for cell in code:
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output.text
            pictures += "image/png" in output.get("data", {})
            words = {k: v for k, v in output.get("data", {}).items() if k.startswith("text/")}
            text = json.dumps(words) + output.get("text", "")
            assert not re.search(r"/(home|root|tmp|work|Users|usr|opt)/", text), text
    assert pictures >= 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_imports_only(path: Path) -> None:
    source = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "code")
    assert not re.search(r"^\s*(def|class) ", source, re.MULTILINE)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARL_SCHED_FAST", "1")
    # Its kernel must find this source tree, whatever is installed.
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    client = nbclient.NotebookClient(
        read(path),
        timeout=200,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute()
