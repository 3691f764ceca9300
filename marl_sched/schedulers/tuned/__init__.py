"""Parameters found by `marl-sched tune-baseline`: one YAML file a scheduler, with its command."""

from __future__ import annotations

from pathlib import Path

from marl_sched.errors import UserError

FOLDER = Path(__file__).parent


def tuned_names() -> tuple[str, ...]:
    """Schedulers with tuned parameters, by name."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def tuned_params(name: str) -> dict[str, float]:
    """The tuned parameters of scheduler `name`.

    Raises:
        UserError: where nobody has tuned it, naming those that are.
    """
    from marl_sched import safe_yaml

    path = FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise UserError(
            f"scheduler {name!r} has no tuned parameters; {', '.join(tuned_names())} have. "
            "`marl-sched tune-baseline` finds some"
        )
    found = safe_yaml.load(path.read_text(encoding="utf-8"))["params"]
    return {key: float(value) for key, value in found.items()}
