"""YAML whose every value still knows its line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from marl_sched.errors import do_you_mean

DEEPEST = 100
"""Levels of nesting; far more than any launch file has, and what holds itself has no end."""

MOST_VALUES, MOST_CHARACTERS = 20_000, 4_000_000
"""Of a document in which every alias stands for all that it names: a few lines of aliases to lists
of aliases hold more values than there is memory for."""

LONGEST_NUMBER = 400
"""Characters; Python takes time that grows with their square, and a double has 309 digits."""

SHOWN = 60
"""Characters of what a message quotes."""

Path = tuple[str | int, ...]
"""Keys and positions that lead from a document's root to a value."""


@dataclass(frozen=True, order=True)
class Problem:
    """What is wrong in a file, and where."""

    line: int
    message: str


@dataclass(frozen=True)
class Document:
    """One YAML document."""

    value: Any
    lines: dict[Path, int]
    """Line of each value's key (or of the value itself in a list), counted from 1."""

    def line(self, path: Iterable[str | int]) -> int:
        """Line of the value at `path`, or of the nearest thing around it."""
        found = tuple(path)
        while found and found not in self.lines:
            found = found[:-1]
        return self.lines.get(found, 1)


def parse(text: str) -> tuple[list[Document], list[Problem]]:
    """The documents of a YAML text, and what keeps them from being read as they were meant."""
    problems: list[Problem] = []
    documents = []
    try:
        for node in yaml.compose_all(text, Loader=_Loader):
            if node is None:
                continue
            lines: dict[Path, int] = {(): node.start_mark.line + 1}
            problems += _walk(node, (), lines, _Room())
            documents.append(Document(_value(node), lines))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = 1 if mark is None else mark.line + 1
        problems.append(Problem(line, f"not YAML: {getattr(error, 'problem', None) or error}"))
    except RecursionError:
        problems.append(Problem(1, "not YAML: is nested too deeply"))
    return documents, problems


class _Loader(yaml.SafeLoader):
    """Says which value it cannot make, such as the date 2020-99-99, and where."""

    _composed = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._composed += 1
        if self._composed > MOST_VALUES:
            mark = self.peek_event().start_mark
            raise ConstructorError(None, None, f"holds more than {MOST_VALUES:,} values", mark)
        return super().compose_node(parent, index)

    def fetch_flow_collection_start(self, token: Any) -> None:
        # At each bracket the scanner looks at all that are open.
        if self.flow_level >= DEEPEST:
            raise ConstructorError(None, None, "is nested too deeply", self.get_mark())
        super().fetch_flow_collection_start(token)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        kind = node.tag.rpartition(":")[2]
        if kind in ("int", "float") and len(node.value) > LONGEST_NUMBER:
            message = f"a number of {len(node.value):,} characters"
            raise ConstructorError(None, None, message, node.start_mark)
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            message = f"{shown(node.value)!r} is no {kind}"
            raise ConstructorError(None, None, message, node.start_mark) from None


def shown(value: Any) -> str:
    """`value` as a message quotes it."""
    text = str(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 2]}.."


def _value(node: yaml.Node) -> Any:
    loader = _Loader("")
    try:
        return loader.construct_document(node)
    finally:
        loader.dispose()


class _Room:
    """What a document may still hold."""

    def __init__(self) -> None:
        self.values, self.characters = MOST_VALUES, MOST_CHARACTERS

    def take(self, node: yaml.Node) -> None:
        """Count a node, as often as it is named.

        Raises:
            ConstructorError: when it is one too many.
        """
        self.values -= 1
        if isinstance(node, yaml.ScalarNode):
            self.characters -= len(node.value)
        if self.values < 0 or self.characters < 0:
            message = (
                f"holds more than {MOST_VALUES:,} values or {MOST_CHARACTERS:,} characters, each "
                "alias counted as what it stands for"
            )
            raise ConstructorError(None, None, message, node.start_mark)


def _walk(node: yaml.Node, path: Path, lines: dict[Path, int], room: _Room) -> Iterator[Problem]:
    """Note the lines below `node`; a key that is there twice is a problem.

    Raises:
        ConstructorError: when `node` holds itself, or too much.
    """
    room.take(node)
    if len(path) > DEEPEST:
        raise ConstructorError(None, None, "is nested too deeply, or in itself", node.start_mark)
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*path, index)] = item.start_mark.line + 1
            yield from _walk(item, (*path, index), lines, room)
    elif isinstance(node, yaml.MappingNode):
        for key, item in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # `_value` refuses it
            name, line = _name(key), key.start_mark.line + 1
            if (*path, name) in lines:
                yield Problem(line, f"{dotted((*path, name))}: is there twice")
            lines[(*path, name)] = line
            room.take(key)
            yield from _walk(item, (*path, name), lines, room)


def _name(key: yaml.ScalarNode) -> Any:
    """A key as the document's value has it: not all are text."""
    plain = key.tag.rpartition(":")[2] in ("str", "merge", "value")
    return key.value if plain else _value(key)


def dotted(path: Iterable[str | int]) -> str:
    """A path as people write it: spec.containers[0].image."""
    text = ""
    for part in path:
        if isinstance(part, int) and not isinstance(part, bool):
            text += f"[{part}]"
        else:
            text += f".{shown(part)}" if text else shown(part)
    return text


def leaves(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """Path and value of all that is neither a list nor a mapping."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from leaves(item, (*path, name))
    else:
        yield path, value


def odd_names(value: Any, path: Path, document: Document) -> Iterator[Problem]:
    """Names in mappings that are no text, which no JSON schema can judge."""
    pairs: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, list):
        pairs = enumerate(value)
    elif isinstance(value, dict):
        pairs = value.items()
        for name in value:
            if not isinstance(name, str):
                where = dotted((*path, str(name)))
                yield Problem(document.line((*path, name)), f"{where}: a name must be text")
    for name, item in pairs:
        yield from odd_names(item, (*path, name), document)


def unknown(path: Path, name: Any, known: Iterable[str], document: Document) -> Problem:
    """The problem of a field `name`, any value of YAML, which a mapping at `path` must not have."""
    hint = do_you_mean(shown(name), known)
    where = dotted((*path, str(name)))
    return Problem(document.line((*path, name)), f"{where}: unknown field{hint}")


def schema_problems(errors: Iterable[Any], document: Document) -> list[Problem]:
    """jsonschema's errors, each with its line; a misspelt field is named."""
    return [problem for error in errors for problem in _of_error(error, document)]


def _of_error(error: Any, document: Document) -> Iterator[Problem]:
    path: Path = tuple(error.absolute_path)
    if error.validator in ("additionalProperties", "required") and isinstance(error.instance, dict):
        # What is missing may be there under a misspelt name, which is the better thing to name.
        known = error.schema.get("properties", {})
        wrong = [name for name in error.instance if name not in known] if known else []
        for name in wrong:
            yield unknown(path, name, set(known) - set(error.instance), document)
        if wrong:
            return
    message = "is empty" if error.instance is None else error.message
    if len(message) > 160:
        message = f"{shown(error.instance)!r} does not fit ({error.validator})"
    where = f"{dotted(path)}: " if path else ""
    yield Problem(document.line(path), where + message)
