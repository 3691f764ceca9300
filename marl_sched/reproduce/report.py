"""The page of reproductions: every experiment that the data allows, as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from marl_sched.errors import UserError
from marl_sched.reproduce.section import Section
from marl_sched.reproduce.sections import SECTIONS, build

TITLE = "# Published experiments, reproduced"

HEAD = """\
Other groups' inputs, their rules, their policies, on our simulator: do their numbers come out?
Written by `marl-sched reproduce report --data $DATA`; only the CPU seconds at the end change from
run to run. `$DATA` is the folder of the public files{where}.
Differences are ours over theirs."""


PEERS = """\
A first run on a machine compiles, and its seconds are in the table above and below. The published
simulator of Pollux was measured on a workload of as many jobs, under load."""


def report(data: Path, say: Callable[[str], None]) -> str:
    """Run what can be run and return the page.

    Args:
        data: folder with one folder a source.
        say: told of the progress.

    Raises:
        UserError: for a folder that is absent or holds nothing to run.
    """
    if not data.is_dir():
        raise UserError(f"--data {data}: no such folder")
    sections = [section for name in SECTIONS if (section := build(name, data, say)) is not None]
    if not sections:
        raise UserError(f"--data {data}: holds no experiment's inputs with published results")
    where = "" if data.is_absolute() else f", for example `{data.as_posix()}`"
    parts = [TITLE, HEAD.format(where=where), *map(_section, sections), _cpu(sections)]
    return "\n\n".join(parts) + "\n"


def _section(section: Section) -> str:
    commands = "\n".join(section.commands)
    return "\n\n".join(
        [
            f"## {section.title}",
            section.rules,
            table(section.header, section.rows),
            f"```\n{commands}\n```",
            f"Not reproduced: {section.missing}",
        ]
    )


def _cpu(sections: Sequence[Section]) -> str:
    rows = [(label, f"{spent:.1f}") for section in sections for label, spent in section.cpu_s]
    text = f"## CPU seconds\n\n{table(('run', 'CPU s'), rows)}"
    beside = [
        (label, f"{spent:.1f}", f"{theirs:,.0f}", f"{theirs / spent:,.0f}")
        for section in sections
        for label, spent in section.cpu_s
        if (theirs := section.peer_cpu_s.get(label)) is not None
    ]
    if beside:
        header = ("run", "ours, CPU s", "the published simulator's", "ratio")
        text += f"\n\n{PEERS}\n\n{table(header, beside)}"
    return text


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; columns that hold figures are set to the right."""
    right = [all(_is_figure(row[k]) for row in rows) for k in range(len(header))]
    rule = ["---:" if is_right else "---" for is_right in right]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def _is_figure(cell: str) -> bool:
    return cell[:1] in "+-<0123456789" and cell != ""
