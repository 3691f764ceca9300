"""The files of one training run: configuration, metrics, checkpoints, provenance."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from marl_sched.checkpoints import (
    PROGRESS,
    Damaged,
    folders_in,
    iteration_of,
    parse_progress,
    problem_of,
    read_progress,
    seal,
)
from marl_sched.config import Config, flat, load_config, parse_config, save_config
from marl_sched.errors import UserError
from marl_sched.files import check_folder, move_folder, write_text, writing
from marl_sched.locks import alone, check_free
from marl_sched.schedulers.learned.scorer_file import is_scorer, load_scorer
from marl_sched.training.storage import Storage

Row = dict[str, Any]

COLUMNS = (
    "iteration",
    "elapsed_s",
    "decisions",
    "decisions_per_s",
    "num_episodes",
    "episode_return_mean",
    "jct_vs_base_percent",
    "validation_percent",
    "policy_loss",
    "value_loss",
    "explained_variance",
    "kl",
    "kl_coefficient",
    "entropy",
    "q_loss",
    "q_mean",
    "td_error",
    "epsilon",
    "gradient_norm",
    "sample_s",
    "update_s",
    "agent_return_mean",
    "agent_demand_mean",
    "agent_entropy",
    "warm_start",
)
"""Columns of metrics.csv; those of the other algorithm, or of learned agents without any, stay
empty. `agent_return_mean` is over declarations in episodes that ended, `agent_demand_mean` is
the most GPUs accepted per GPU requested in the trace, `agent_entropy` is of rows trained on. Of
evolution strategies, `decisions` counts jobs played by all networks of all generations.
`warm_start` is 1 in the iterations of a warm start and 0 after it, when `jct_vs_base_percent` is
against the scorer that came out of it; `validation_percent` is against `env.base` throughout."""

CHECKPOINTS_KEPT = 2

_OTHERS = "another run"

_FREE_ON_RESUME = {
    "minutes",
    "iterations",
    "validation_every",
    "checkpoint_every",
    "num_env_runners",
    "num_gpus_per_learner",
    "learner_resource",
}
"""Settings of `training` that a resumed run may change."""


class RunFolder:
    """Where a run is kept; every method leaves it readable if the process dies inside."""

    def __init__(self, out: Path, storage: Storage | None = None) -> None:
        self.out = out
        self.storage = storage
        self.metrics = out / "metrics.csv"
        self.checkpoints = out / "checkpoints"
        self.best = out / "best"
        self.network = out / "network"
        """The best network of PPO or DQN on validation, also where `best` is something simpler."""
        self.base = out / "base"
        """The best scorer of a warm start, on which PPO or DQN act."""

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other runs out of the folder, which is made where it is not there.

        Raises:
            WriteError: when one is going on there.
        """
        new = not self.out.exists()
        check_folder(self.out)
        self.out.mkdir(parents=True, exist_ok=True)
        try:
            with alone(self.out, _OTHERS):
                yield
        finally:
            if new and self.out.is_dir() and not any(self.out.iterdir()):
                self.out.rmdir()

    def prepare(self, config: Config, resume: bool, overwrite: bool) -> Path | None:
        """Make the folder ready; the checkpoint to continue from, if any.

        Raises:
            UserError: as `check`, or when there are checkpoints and all are damaged.
        """
        self._check_places(config, resume, overwrite)
        checkpoint = self.latest_checkpoint()
        if self.storage is not None:
            local = None if checkpoint is None else iteration_of(checkpoint)
            self.storage.prepare(self.out, local, resume, overwrite)
            checkpoint = self.latest_checkpoint()
        if resume:
            self._leave_damaged(checkpoint)
        elif self._holds_a_run():
            self._clear()
            checkpoint = None
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        for left_over in self.checkpoints.glob(".*"):
            shutil.rmtree(left_over, ignore_errors=True)
        save_config(config, self.out / "config.yaml")
        return checkpoint

    def _leave_damaged(self, checkpoint: Path | None) -> None:
        """Say why an older checkpoint is gone on from, and remove the newer ones: the run makes
        them again."""
        if checkpoint is None:
            self.check_whole()
            if (self.out / "run.json").exists():
                _say(f"{self.checkpoints}: no checkpoint to go on from; the run starts afresh")
            return
        for newer in folders_in(self.checkpoints):
            if iteration_of(newer) > iteration_of(checkpoint):
                _say(f"{problem_of(newer)}; going on from the checkpoint before: {checkpoint.name}")
                shutil.rmtree(newer, ignore_errors=True)

    def check_whole(self) -> None:
        """Refuse to start afresh where checkpoints are there and all are damaged.

        Raises:
            UserError: naming a file of the newest.
        """
        found = folders_in(self.checkpoints)
        if found and self.latest_checkpoint() is None:
            raise UserError(
                f"{problem_of(found[-1])}; no other checkpoint is whole: put a whole copy of "
                "it back, or begin another run in another --out"
            )

    def check(self, config: Config, resume: bool, overwrite: bool) -> None:
        """See, leaving nothing behind, that a run may be kept in the folder and in its storage.

        Raises:
            UserError: when one of them holds another run, or one that is going on or whose
                checkpoints are all damaged, or cannot be written.
        """
        check_free(self.out, _OTHERS)
        self._check_places(config, resume, overwrite)
        if resume and self.last_progress() is None:
            self.check_whole()

    def _check_places(self, config: Config, resume: bool, overwrite: bool) -> None:
        """`check`, within the lock."""
        saved = self.out / "config.yaml"
        if resume:
            if saved.is_file():
                _check_same(config, load_config(saved), str(saved), "--out")
        elif self._holds_a_run() and not overwrite:
            raise UserError(
                f"{self.out}: holds a run already; continue it with --resume auto, or "
                "choose another --out"
            )
        check_folder(self.out)
        if self.storage is not None:
            self.storage.check(resume, overwrite)
            where = f"--storage {self.storage.uri}: {saved.name}"
            text = self.storage.read(saved.name) if resume else None
            if text is not None:
                _check_same(config, parse_config(text, where), where, "--storage")

    def _holds_a_run(self) -> bool:
        return (self.out / "run.json").exists() or bool(folders_in(self.checkpoints))

    def _clear(self) -> None:
        for folder in (self.checkpoints, self.best, self.network, self.base):
            shutil.rmtree(folder, ignore_errors=True)
        for name in ("metrics.csv", "run.json", "config.yaml", "evaluation.json"):
            (self.out / name).unlink(missing_ok=True)

    def warm_start(self) -> tuple[int, float] | None:
        """Iteration and validation score of the warm start's best; None without one."""
        if not is_scorer(str(self.base)):
            return None
        record = load_scorer(self.base)
        return record.iteration, record.validation

    def latest_checkpoint(self) -> Path | None:
        """Folder of the newest whole checkpoint, if there is any."""
        newest_first = reversed(folders_in(self.checkpoints))
        return next((folder for folder in newest_first if problem_of(folder) is None), None)

    def last_progress(self) -> tuple[str, dict[str, Any]] | None:
        """Where a run goes on from with `resume`, and `progress.json` of its newest checkpoint.

        Here or in the storage, whichever is further, as in `prepare`; None without a checkpoint.

        Raises:
            UserError: when the storage does not answer.
        """
        checkpoint = self.latest_checkpoint()
        local = None if checkpoint is None else iteration_of(checkpoint)
        if self.storage is not None:
            for newest in self.storage.iterations(self.storage.files()):
                if local is not None and newest <= local:
                    break
                name = f"checkpoints/iter_{newest}/{PROGRESS}"
                text = self.storage.read(name, errors="replace") or ""
                with suppress(Damaged):  # fetched it will be left with a word
                    return self.storage.uri, parse_progress(text, name)
        return None if checkpoint is None else (str(self.out), read_progress(checkpoint))

    def save_checkpoint(self, algorithm: Any, progress: Mapping[str, Any]) -> Path:
        """Save under a temporary name, rename, and drop all but the last two."""
        name = f"iter_{progress['iteration']}"
        temporary = self.checkpoints / f".{name}"
        shutil.rmtree(temporary, ignore_errors=True)
        final = self.checkpoints / name
        algorithm.save_to_path(str(temporary.resolve()))
        seal(temporary, progress)
        move_folder(temporary, final)
        for old in folders_in(self.checkpoints)[:-CHECKPOINTS_KEPT]:
            shutil.rmtree(old, ignore_errors=True)
        if self.storage is not None:
            self.storage.mirror(self.out)
        return final

    def append(self, row: Row) -> None:
        """Add a row to metrics.csv in one write, so that a kill leaves whole lines."""
        values = [_text(row.get(name)) for name in COLUMNS]
        begun = self.metrics.is_file() and self.metrics.stat().st_size > 0
        lines = [values] if begun else [list(COLUMNS), values]
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows(lines)
        with writing(self.metrics), open(self.metrics, "ab", buffering=0) as file:
            file.write(buffer.getvalue().encode())
            os.fsync(file.fileno())

    def rows(self) -> list[Row]:
        """Rows of metrics.csv, numbers as float; a cut last line is left out, and so are lines
        that are no rows."""
        return [row for _, row in self._lines() if row is not None]

    def drop_rows_after(self, iteration: int) -> None:
        """Forget what was recorded after the checkpoint that the run goes on from.

        Lines that are no rows, as of a file that was damaged, are dropped with a word.
        """
        if not self.metrics.is_file():
            return
        lines = self._lines()
        kept = [cells for cells, row in lines if row is not None and row["iteration"] <= iteration]
        if not kept or any(row is None for _, row in lines):
            _say(f"{self.metrics}: damaged; the run goes on without the lines that are lost")
        table = [COLUMNS, *([cells.get(name, "") for name in COLUMNS] for cells in kept)]
        write_text(self.metrics, "".join(",".join(line) + "\n" for line in table))

    def _lines(self) -> list[tuple[dict[str, str], Row | None]]:
        """Cells by column of the whole lines of metrics.csv, and their numbers; None of a line that
        is no row."""
        if not self.metrics.is_file():
            return []
        text = self.metrics.read_bytes().decode("utf-8", errors="replace")
        lines = text[: text.rfind("\n") + 1].splitlines()
        names = tuple(lines[0].split(",")) if lines else COLUMNS
        if names[0] == "iteration" and set(names) <= set(COLUMNS):
            lines = lines[1:]
        else:  # of which one line is lost, most likely the heading
            names = COLUMNS
        found = []
        for line in lines:
            cells = line.split(",")
            found.append((dict(zip(names, cells, strict=False)), _row_of(names, cells)))
        return found

    def write_run(self, **facts: Any) -> None:
        """Merge facts into run.json."""
        write_text(self.out / "run.json", json.dumps(self.read_run() | facts, indent=2) + "\n")

    def read_run(self) -> dict[str, Any]:
        """What run.json says; empty without one, and with a word where it is damaged."""
        path = self.out / "run.json"
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, RecursionError):
            _say(f"{path}: damaged; what it said of the run is lost")
            return {}


def _row_of(names: Sequence[str], cells: Sequence[str]) -> Row | None:
    """A line of metrics.csv; None where it is damaged."""
    try:
        row = {name: float(cell) if cell else None for name, cell in zip(names, cells, strict=True)}
    except ValueError:
        return None
    return None if row["iteration"] is None else row


def _say(text: str) -> None:
    logging.getLogger(__name__).warning("%s", text)


def _check_same(config: Config, saved: Config, where: str, option: str) -> None:
    """Refuse to go on, with other settings, from a run with the settings `saved`.

    Args:
        where: they were read.
        option: that chose the place.
    """
    before = flat(saved.model_dump(mode="json"))
    for key, value in flat(config.model_dump(mode="json")).items():
        section, _, name = key.rpartition(".")
        if section == "training" and name in _FREE_ON_RESUME:
            continue
        if key.startswith("evaluation.") or before.get(key) == value:
            continue
        raise UserError(
            f"{where}: {key} was {before.get(key)!r} and now is {value!r}; resume with the "
            f"run's own settings, or choose another {option}"
        )


def now() -> str:
    """The time in UTC, as ISO 8601 has it, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Versions that a result depends on."""
    found = {"python": platform.python_version()}
    for name in ("marl_sched", "ray", "torch", "numpy", "numba"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_commit(package: Path | None = None) -> str | None:
    """Commit of the checkout that the package is run from, with `-dirty` if it has changes.

    None outside of one: what is installed may lie anywhere in somebody else's repository.

    Args:
        package: folder of `marl_sched`; None: this one.
    """
    package = (package or Path(__file__).parents[1]).resolve()
    # Set where git calls a program, for example from a hook: they name the caller's repository.
    environment = {key: text for key, text in os.environ.items() if not key.startswith("GIT_")}

    def git(*command: str) -> str:
        return subprocess.run(
            ["git", *command],
            cwd=package.parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
            env=environment,
        ).stdout.strip()

    try:
        project = (package.parent / "pyproject.toml").read_text(encoding="utf-8")
        ours = re.search(r'^name = "marl_sched"$', project, re.MULTILINE) is not None
        # In the upper left corner of the repository, and one of its files.
        if not ours or git("rev-parse", "--show-prefix"):
            return None
        git("ls-files", "--error-unmatch", "pyproject.toml", f"{package.name}/__init__.py")
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain") else "")
    except (OSError, UnicodeDecodeError, subprocess.SubprocessError):
        return None


def _text(value: Any) -> str:
    if value is None or value != value:  # NaN: nothing was measured
        return ""
    return str(value) if isinstance(value, int) else f"{float(value):.6g}"
