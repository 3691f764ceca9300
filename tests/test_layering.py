"""Imports run one way, Ray and torch stay in their rooms, and `import marl_sched` is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "marl_sched"

_BASE = {
    "errors", "files", "locks", "quantities", "safe_yaml", "terms", "types", "config", "artefact",
    "checkpoints",
}  # fmt: skip
_KERNELS = {"compiled", "allocation"}
_RULES = {"perf", "workload", "sim", "schedulers"}

ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "files": {"errors"},
    "locks": {"errors"},
    "quantities": set(),
    "terms": set(),
    "safe_yaml": {"errors", "files"},
    "artefact": {"errors", "files"},
    "checkpoints": {"files", "artefact"},
    "types": {"errors", "quantities", "safe_yaml"},
    "config": {"errors", "files", "quantities", "safe_yaml", "terms"},
    "presets": {"errors"},
    "signals": set(),
    "folders": {"errors"},
    "compiled": {"errors", "folders", "types"},
    "perf": _BASE,
    "workload": _BASE | {"perf"},
    "allocation": {"compiled", "errors", "types"},
    "sim": _BASE | _KERNELS | {"perf", "workload"},
    "schedulers": _BASE | _KERNELS | {"perf"},
    "envs": _BASE | _RULES | _KERNELS,
    "reproduce": _BASE | _RULES | _KERNELS | {"evaluation"},
    "models": _BASE | _KERNELS,
    "evaluation": _BASE | _RULES | {"allocation", "envs", "models"},
    "training": _BASE | _RULES | {"envs", "models", "evaluation", "signals"},
    "export": _BASE | _RULES | {"envs", "models", "evaluation"},
    "tuning": _BASE | _RULES | _KERNELS | {"envs", "models", "evaluation", "training"},
    "clusters": {"errors", "files", "folders", "workload", "training"},
    "live": _BASE | {"allocation", "perf", "schedulers", "models"},
}
"""What each part may import of ours, besides itself; `cli` may import everything."""

ANYTHING = {"cli", "__main__", "__init__"}
HEAVY = {
    "ray": {"envs", "models", "training", "tuning", "live", "clusters"},
    "torch": {"models", "training", "clusters"},
}


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import that runs, wherever in the file it stands.

    Imports under `if TYPE_CHECKING` never run and are left out.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo.extend(node.orelse)
            continue
        todo.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                module = ".".join((*package_of(path)[: 1 - node.level or None], module)).strip(".")
            yield node.lineno, module
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def package_of(path: Path) -> tuple[str, ...]:
    return path.relative_to(PACKAGE.parent).parent.parts


def ours(name: str) -> str | None:
    """The part of marl_sched that a dotted name belongs to; None for anything else."""
    parts = name.split(".")
    if parts[0] != "marl_sched" or len(parts) == 1:
        return None
    exists = (PACKAGE / parts[1]).is_dir() or (PACKAGE / f"{parts[1]}.py").is_file()
    return parts[1] if exists else None


FILES = sorted(PACKAGE.rglob("*.py"))


def test_every_part_has_a_rule() -> None:
    parts = {part_of(path) for path in FILES}
    assert parts - set(ALLOWED) - ANYTHING == set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    part = part_of(path)
    for line, name in imported(path):
        target = ours(name)
        if target is not None and part not in ANYTHING:
            assert target == part or target in ALLOWED[part], f"{path}:{line}: {name}"
        for library, rooms in HEAVY.items():
            if name.split(".")[0] == library:
                assert part in rooms, f"{path}:{line}: {name}"


def test_the_reference_simulator_shares_nothing_with_the_kernels() -> None:
    files = sorted((Path(__file__).parent / "reference").glob("*.py"))
    assert files
    names = [name for file in files for _, name in imported(file)]
    assert not [name for name in names if name.startswith("marl_sched")]


@pytest.mark.parametrize(
    "code",
    [
        "import marl_sched",
        "import marl_sched.types, marl_sched.config, marl_sched.allocation.sharing",
        "import marl_sched.workload, marl_sched.perf, marl_sched.sim, marl_sched.schedulers",
        # The program's own path to its help texts.
        "from marl_sched.cli import main\n"
        "for words in (['--help'], ['train', '--help'], ['cluster', '--help']):\n"
        "    try:\n        main(words)\n    except SystemExit:\n        pass",
    ],
    ids=["package", "base", "parts", "help"],
)
def test_loads_neither_ray_nor_torch(code: str) -> None:
    check = "\nimport sys\nprint(sorted({'ray', 'torch'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code + check],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=PACKAGE.parent,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
