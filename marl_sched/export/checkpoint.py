"""What can be exported: a run's folder, its `best` folder, or one of RLlib's checkpoints."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

from marl_sched.artefact import finite, readable
from marl_sched.checkpoints import PROGRESS, Damaged, read_progress
from marl_sched.config import load_config
from marl_sched.errors import UserError, redacted
from marl_sched.models.policy import BASE, Arrays, LearnedPolicy, Manifest, load_policy
from marl_sched.models.state_file import load_state
from marl_sched.schedulers import Scheduler, scorer_of_record
from marl_sched.schedulers.learned.guard import Guard
from marl_sched.schedulers.learned.scorer import GLOBAL_FEATURES
from marl_sched.schedulers.learned.scorer_file import (
    ScorerRecord,
    is_scorer,
    load_scorer,
    path_of,
    weights_digest,
)

RLLIB = "rllib_checkpoint.json"
"""Marks the folder of an RLlib algorithm's checkpoint, as earlier versions wrote."""

_MODULE = Path("learner_group/learner/rl_module/scheduler")
_PREFIXES = {"ppo": "policy.", "dqn": "q_net."}

_SECOND_STAGE = "trainer"
"""Folder of a checkpoint whose run began by a scorer: what goes on by now."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained scheduler and where it comes from."""

    trained: ScorerRecord | LearnedPolicy
    digest: str
    """SHA-256 of its weights' file; empty for checkpoints, which have more in theirs."""
    run: dict[str, Any]
    """What the run's run.json says; empty without one."""

    @property
    def algo(self) -> str:
        trained = self.trained
        return trained.algo if isinstance(trained, ScorerRecord) else trained.manifest.algo

    @property
    def rule(self) -> Scheduler:
        """Of a scorer, whose network decides everywhere: what its guard does is not in the file."""
        assert isinstance(self.trained, ScorerRecord)
        return scorer_of_record(replace(self.trained, seen=None), "scorer")

    def notices(self) -> list[str]:
        """What whoever exports it should know."""
        trained = self.trained
        if isinstance(trained, ScorerRecord):
            if trained.iteration == 0:
                return ["note: nothing did better than the index on validation, so this network "
                        "corrects nothing; train longer"]  # fmt: skip
            return []
        found = []
        if trained.manifest.is_base:
            found.append(
                "note: no network did better than the base schedule on validation, so the file's "
                f"`action` is always commit: {trained.manifest.base}; train longer"
            )
        if trained.manifest.plays is not None:
            found.append(
                "note: no network did clearly better on validation than a single algorithm, so the "
                f"file's `action` is always {trained.manifest.plays}, "
                f"{trained.manifest.algorithms[trained.manifest.plays - 1]}, or commit where that "
                "is not legal; train longer"
            )
        if trained.agent_state() is not None:
            found.append("note: only the scheduler's network is exported, not the agents'")
        return found

    def facts(self) -> dict[str, Any]:
        """Its provenance, and what a user of the network must know, for a manifest."""
        trained = self.trained
        found: dict[str, Any] = {"algo": self.algo}
        if isinstance(trained, ScorerRecord):
            found |= {"params": trained.params, "features": list(trained.features)}
            low, high = Guard(trained.fallback, trained.seen).known
            ends = zip(low.tolist(), high.tolist(), strict=True)
            known = {n: e for n, e in zip(GLOBAL_FEATURES, ends, strict=True) if isfinite(e[0])}
            found |= {"fallback": trained.fallback, "known": known}
            record: Any = trained
        else:
            record = trained.manifest
            names = ("sizes", "actions", "algorithms", "base", "is_base", "plays")
            found |= {name: getattr(record, name) for name in names}
        return found | {
            "iteration": record.iteration,
            "validation": record.validation,
            "weights_sha256": self.digest,
            "command": redacted(str(self.run.get("command") or getattr(record, "command", ""))),
            "git_commit": self.run.get("git_commit") or getattr(record, "git_commit", None),
            "versions": record.versions,
            "config": record.config,
        }


def load_checkpoint(path: Path, trust: bool = False) -> Checkpoint:
    """Read what `path` holds.

    Args:
        trust: also where that takes unpickling, which runs whatever code is in the file.

    Raises:
        UserError: where there is no trained scheduler, or it is damaged, or only a pickle and not
            trusted.
    """
    if is_scorer(str(path)):
        record = load_scorer(path)
        return Checkpoint(record, weights_digest(path), _run_of(path_of(path)))
    inner = path / _SECOND_STAGE if (path / _SECOND_STAGE).is_dir() else path
    if (inner / RLLIB).is_file():
        if not trust:
            raise UserError(
                f"{path}: a checkpoint of RLlib, which is made of pickles, and reading those runs "
                "whatever code is in them; export the run's folder, which has its best scheduler "
                "as plain numbers, or add --trust if you know who wrote this one"
            )
        return Checkpoint(_from_rllib(path, inner), "", _run_of(path))
    if (inner / "es.npz").is_file():
        raise UserError(
            f"{path}: a checkpoint of evolution strategies, to go on training from; export the "
            "run's folder, which has its best scorer"
        )
    if (path / PROGRESS).is_file():
        return Checkpoint(_from_state(path, inner), "", _run_of(path))
    policy = load_policy(path)
    return Checkpoint(policy, policy.manifest.sha256, _run_of(path))


def _run_of(path: Path) -> dict[str, Any]:
    """run.json of the run that `path` is of, or lies in."""
    path = path.resolve()
    for folder in (path, path.parent, path.parent.parent):
        if (folder / "run.json").is_file():
            with readable(folder, "run"):
                return dict(json.loads((folder / "run.json").read_text(encoding="utf-8")))
    return {}


def _from_state(path: Path, inner: Path) -> LearnedPolicy:
    """The acting network of a checkpoint of PPO or DQN, whose state lies in `inner`."""
    try:
        progress = read_progress(path)
        state = load_state(inner)
        modules = state["algorithm"]["learner_group"]["learner"]["rl_module"]
        sizes = state["sizes"]
        return _policy_of(
            path, progress["iteration"], state["algo"], sizes, modules["scheduler"],
            modules.get("agent"),
        )  # fmt: skip
    except Damaged as error:
        raise UserError(
            f"{error}; export the run's folder instead, or another checkpoint"
        ) from None
    except UserError:
        raise
    except Exception as error:  # whatever a file of another version lacks
        raise _unreadable(path, error) from None


def _from_rllib(path: Path, inner: Path) -> LearnedPolicy:
    """The acting network of an RLlib checkpoint in `inner`, as earlier versions wrote, by
    unpickling."""
    folder = inner / _MODULE
    try:
        state = pickle.loads((folder / "module_state.pkl").read_bytes())
        _, given = pickle.loads((folder / "class_and_ctor_args.pkl").read_bytes())[
            "ctor_args_and_kwargs"
        ]
        sizes = {"scheduler": given["model_config"]["sizes"]}
        algo = next(a for a, p in _PREFIXES.items() if any(name.startswith(p) for name in state))
        progress = json.loads((path / PROGRESS).read_text(encoding="utf-8"))
        return _policy_of(path, progress["iteration"], algo, sizes, state)
    except UserError:
        raise
    except Exception as error:  # whatever a damaged pickle raises
        raise _unreadable(path, error) from None


def _policy_of(
    path: Path,
    iteration: int,
    algo: str,
    sizes: dict[str, dict[str, int]],
    state: Arrays,
    agents: Arrays | None = None,
) -> LearnedPolicy:
    """The networks of the checkpoint `path`, in the game that its run's config.yaml says."""
    run = path.resolve().parent.parent
    config_file = run / "config.yaml"
    config = load_config(config_file if config_file.is_file() else None)
    if is_scorer(str(run / BASE)) and (path / _SECOND_STAGE).is_dir():
        # What PPO and DQN act on after a warm start.
        env = config.env.model_copy(update={"base": str(run / BASE)})
        config = config.model_copy(update={"env": env})
    env = config.env
    manifest = Manifest(
        algo, sizes["scheduler"], env.actions, list(env.algorithms), env.base, False, iteration,
        None, config.model_dump(mode="json"), agent_sizes=sizes.get("agent"),
    )  # fmt: skip
    return LearnedPolicy.of_module(
        manifest, finite(state), None if agents is None else finite(agents)
    )


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:120]
    return UserError(
        f"{path}: not a readable checkpoint of a marl-sched run ({reason}); export the run's "
        "folder instead"
    )
