"""`marl-sched evaluate --suite`: schedulers on a suite of clusters and conditions."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from marl_sched.cli import options as o


def evaluate_suite(
    name: str,
    data: Path | None,
    schedulers: list[str],
    given: o.Given,
    out: Path | None,
    as_json: bool,
) -> None:
    """Play every cell, print a table each and one over all; --out keeps records and reports."""
    from marl_sched.cli import tables
    from marl_sched.cli.evaluate import say_which_index_is_missing
    from marl_sched.envs.episodes import load_part
    from marl_sched.evaluation.entrants import load_player
    from marl_sched.evaluation.suite_report import markdown
    from marl_sched.evaluation.suite_run import CellRun, overview, play_cell
    from marl_sched.evaluation.suites import BASELINES, get_suite
    from marl_sched.files import write_text

    suite = get_suite(name)
    players = [load_player(one, given.resolve) for one in schedulers or BASELINES]
    digests = {p.name: p.weights_sha256 for p in players if p.weights_sha256 is not None}
    reports = []
    for cell in suite.cells:
        resolved = given.resolve(suite.settings(cell, data))
        tables.report_skipped(load_part(resolved, cell.part).skipped)
        run = CellRun(cell.name, cell.part, resolved)
        with tables.status(cell.name) as shown:
            folder = None if out is None else out / "cells"
            report = play_cell(run, players, folder, partial(_show, shown, cell.name))
        report["weights_sha256"] = digests
        report["agents"] = {player.name: player.agents for player in players}
        reports.append(report)
        if not as_json:
            tables.print_comparison(f"{cell.name} ({resolved.cluster})", report)
    say_which_index_is_missing(players)
    over = overview(reports)
    command = o.command_line()
    whole = {
        "suite": name,
        "what": suite.what,
        "command": command,
        "cells": reports,
        "overview": over,
    }
    text = json.dumps(whole)
    if out is not None:
        write_text(out / "report.json", text + "\n")
        write_text(out / "report.md", markdown(whole, command))
    if as_json:
        print(text)
    elif over:
        tables.print_overview(f"{name}: mean JCT against the best classic one of each cell", over)


def _show(shown: Any, cell: str, who: str) -> None:
    shown.update(f"{cell}: {who}")
