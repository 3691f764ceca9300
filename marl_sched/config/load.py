"""From files, `--set` and options to a `Config`, and back to a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from marl_sched import safe_yaml
from marl_sched.config.experiment import Config
from marl_sched.errors import UserError, quoted
from marl_sched.files import read_text, write_text


def load_config(
    file: Path | None = None,
    overrides: tuple[str, ...] | list[str] = (),
    defaults: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
) -> Config:
    """Resolve `defaults` (nested) < YAML `file` < `overrides` ("a.b=c") < `options` (nested).

    Raises:
        UserError: naming the file or key, what is wrong with it, and what is known there.
    """
    data: dict[str, Any] = {}
    given = [defaults or {}]
    if file is not None:
        given.append(_read_yaml(file))
    given += [*map(_parse_override, overrides), options or {}]
    try:
        for settings in given:
            merge(data, settings)
    except RecursionError:
        raise UserError("configuration: a section of settings is within itself") from None
    return validate_config(data, where=str(file) if file is not None else "configuration")


def named_settings(
    file: Path | None = None, overrides: tuple[str, ...] | list[str] = ()
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a YAML file and what "a.b=c" name, each as `a.b` -> value.

    Raises:
        UserError: as `load_config`.
    """
    said: dict[str, Any] = {}
    for one in overrides:
        merge(said, _parse_override(one))
    return flat({} if file is None else _read_yaml(file)), flat(said)


def parse_config(text: str, where: str) -> Config:
    """What `save_config` wrote; `where` names it in errors.

    Raises:
        UserError: as `load_config`.
    """
    return validate_config(_parse_settings(text, where), where)


def validate_config(data: dict[str, Any], where: str = "configuration") -> Config:
    """A `Config` of nested plain data, or a `UserError` naming the first bad key."""
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{where}: {_first_problem(error.errors()[0])}") from None


def _first_problem(found: ErrorDetails) -> str:
    """What is wrong with which setting."""
    key = ".".join(str(part) for part in found["loc"])
    if found["type"] == "extra_forbidden":
        section = found["loc"][:-1]
        parent = ".".join(str(part) for part in section) or "the configuration"
        known = ", ".join(_known_keys(section))
        return f"unknown setting {quoted(key)}; known in {parent}: {known}"
    message = found["msg"].removeprefix("Value error, ")
    if not key:  # settings that do not go together
        return message
    return f"setting {key}={quoted(found.get('input'))}: {message}"


def save_config(config: Config, path: Path) -> None:
    """Write `config` as YAML; `load_config` reads it back."""
    write_text(path, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))


def merge(into: dict[str, Any], new: dict[str, Any]) -> None:
    """Put nested settings `new` over those in `into`.

    Raises:
        UserError: for settings where `into` has one value.
    """
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        elif isinstance(value, dict):
            if into.get(key) is not None:
                raise UserError(
                    f"setting {quoted(key)} is a section of settings, not {quoted(into[key])}"
                )
            into[key] = {}
            merge(into[key], value)
        else:
            into[key] = value


def flat(data: Mapping[str, Any], separator: str = ".", prefix: str = "") -> dict[str, Any]:
    """Nested `data` as `outer.inner` -> value; a mapping without entries is a value."""
    found: dict[str, Any] = {}
    for key, value in data.items():
        nested = isinstance(value, Mapping) and value
        name = f"{prefix}{key}"
        found |= flat(value, separator, name + separator) if nested else {name: value}
    return found


def _read_yaml(file: Path) -> dict[str, Any]:
    text = read_text(file, "configuration file", safe_yaml.LARGEST)
    return _parse_settings(text, f"configuration file {file}")


def _parse_settings(text: str, where: str) -> dict[str, Any]:
    try:
        data = safe_yaml.load(text)
    except safe_yaml.WithinItself:
        raise UserError(f"{where}: {_WITHIN_ITSELF}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{where}: not YAML: {safe_yaml.explain(error)}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise UserError(f"{where}: needs settings as 'key: value' lines")
    safe_yaml.check_keys(data, where)
    return data


_WITHIN_ITSELF = "a section of settings is within itself"


def _parse_override(text: str) -> dict[str, Any]:
    key, found, value = text.partition("=")
    if not found or not key.strip():
        raise UserError(
            f"--set {quoted(text)}: write it as key=value, for example --set sim.round_s=300"
        )
    try:
        parsed = safe_yaml.load(value)
    except safe_yaml.WithinItself:
        raise UserError(f"configuration: {_WITHIN_ITSELF}: --set {quoted(text)}") from None
    except safe_yaml.Forbidden as error:
        raise UserError(f"--set {quoted(text)}: {error.problem}") from None
    except yaml.YAMLError:
        parsed = value
    safe_yaml.check_keys(parsed, f"--set {quoted(text)}")
    parts = key.strip().split(".")
    if len(parts) > safe_yaml.DEEPEST:
        raise UserError(f"--set {quoted(text)}: no setting is within so many others")
    for part in reversed(parts):
        parsed = {part: parsed}
    return dict(parsed)


def _known_keys(loc: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = Config
    for part in loc:
        field = model.model_fields.get(str(part))
        annotation = field.annotation if field is not None else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return sorted(model.model_fields)
