"""Playing a suite: every scheduler on every cell, what is finished kept on disk."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from marl_sched.config import Config
from marl_sched.errors import UserError
from marl_sched.evaluation.compare import compare, part_episodes
from marl_sched.evaluation.entrants import Metrics, Player
from marl_sched.evaluation.limits import Limits, Runs, limits_of
from marl_sched.evaluation.simulate import Tell, silent
from marl_sched.evaluation.windows import evidence_of, with_draws
from marl_sched.files import write_text

RECORD = "marl_sched.suite/2"
"""First line of what a cell leaves on disk; another number where its meaning changes."""


@dataclass(frozen=True)
class CellRun:
    """A cell that is to be played, or was."""

    name: str
    part: str
    config: Config

    def fingerprint(self) -> str:
        """Digest of all that its results depend on, but for the schedulers."""
        data = self.config.model_dump(mode="json")
        kept = {key: data[key] for key in ("seed", "cluster", "workload", "sim", "evaluation")}
        del kept["evaluation"]["schedulers"]
        # Of files it is their content that counts.
        files = {("workload", "trace"): self.config.workload.trace,
                 ("sim", "node_events"): self.config.sim.node_events}  # fmt: skip
        for (section, key), path in files.items():
            if path is not None:
                kept[section][key] = _digest(Path(path))
        if Path(self.config.cluster).is_file():
            kept["cluster"] = _digest(Path(self.config.cluster))
        text = json.dumps([RECORD, self.part, kept], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def play_cell(
    cell: CellRun, players: Sequence[Player], folder: Path | None = None, say: Tell = silent
) -> dict[str, Any]:
    """The report of one cell, see `compare.compare`; who was played before is not played again.

    Args:
        folder: where the cell's record lies; None keeps none.
        say: told whose turn it is, and how far a slow one is.

    Raises:
        UserError: where the folder holds a record made under other settings, or two players
            have the same name.
    """
    names = [player.name for player in players]
    if len(set(names)) < len(names):
        raise UserError(f"players {', '.join(names)}: each needs a name of its own")
    record = _Record(cell, folder)
    config = with_draws(cell.config, cell.part)
    episodes = part_episodes(config, cell.part, config.evaluation.episodes)
    if record.limits is None:
        say("lower bounds")
        record.keep_limits(limits_of(config, cell.part, episodes))
    runs: Runs = {}
    for player in players:
        played = None if player.identity is None else record.runs.get(player.identity)
        if played is None:
            say(player.name)
            tell = partial(_say_of, say, player.name)
            played = player.play(config, cell.part, episodes, tell)
            record.keep_run(player.identity, played)
        runs[player.name] = [dict(summary) for summary in played]
    assert record.limits is not None
    record.limits.add_useful(runs)
    classic = tuple(player.name for player in players if player.classic)
    report = compare(runs, classic, evidence_of(config, cell.part, episodes), record.limits)
    report["interval"]["draws"] = config.evaluation.draws
    return report | {
        "cell": cell.name,
        "part": cell.part,
        "cluster": config.cluster,
        "episodes_asked": cell.config.evaluation.episodes,
    }


def _say_of(say: Tell, name: str, text: str) -> None:
    say(f"{name}: {text}")


class _Record:
    """The JSON file of a cell, rewritten whole after each scheduler."""

    def __init__(self, cell: CellRun, folder: Path | None) -> None:
        self.path = None if folder is None else folder / f"{cell.name}.json"
        self.fingerprint = cell.fingerprint()
        self.limits: Limits | None = None
        self.runs: Runs = {}
        if self.path is None or not self.path.is_file():
            return
        try:
            kept = json.loads(self.path.read_text(encoding="utf-8"))
            same = kept["fingerprint"] == self.fingerprint
            limits, self.runs = kept["limits"], kept["runs"]
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{self.path}: not a record of a suite; delete it") from None
        if not same:
            raise UserError(
                f"{self.path}: made with other settings or another trace; choose another --out, "
                "or delete it"
            )
        self.limits = None if limits is None else Limits(**limits)

    def keep_limits(self, limits: Limits) -> None:
        self.limits = limits
        self._write()

    def keep_run(self, identity: str | None, played: Metrics) -> None:
        if identity is not None:
            self.runs[identity] = played
            self._write()

    def _write(self) -> None:
        if self.path is None:
            return
        limits = None if self.limits is None else self.limits.as_dict()
        data = {"fingerprint": self.fingerprint, "limits": limits, "runs": self.runs}
        write_text(self.path, json.dumps(data) + "\n")


def overview(cells: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Each scheduler over all cells, best first.

    Returns:
        {scheduler: {"mean_percent", "worst_percent"}}: its mean JCT against the best classic
        scheduler of each cell, as a geometric mean over cells and where it is worst.
    """
    found = {}
    for name in cells[0]["schedulers"]:
        if any(cell["best_classic"] is None for cell in cells):
            continue
        excess = [cell["vs_best_classic"][name]["avg_jct_percent"]["mean"] for cell in cells]
        logs = [math.log1p(value / 100.0) for value in excess]
        mean = 100.0 * math.expm1(sum(logs) / len(logs))
        found[name] = {"mean_percent": mean, "worst_percent": max(excess)}
    return dict(sorted(found.items(), key=lambda item: item[1]["mean_percent"]))
