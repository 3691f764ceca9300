"""YAML that other people wrote: plain values, of bounded size, without surprises.

A key that is there twice is an error, as one of its values would be lost. So is what is nested too
deeply, holds itself, or stands for millions of values through aliases of aliases.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.constructor import ConstructorError

from marl_sched.errors import UserError, in_words, quoted
from marl_sched.files import read_text

LARGEST = 1 << 20
"""Bytes of a file."""

DEEPEST = 100
"""Levels of nesting."""

MOST_VALUES = 100_000
"""Values of a document, each alias counted as all that it stands for."""

MERGE = "tag:yaml.org,2002:merge"


class Forbidden(ConstructorError):
    """Well-formed YAML that is refused all the same: a mistake that would go unseen."""


class WithinItself(Forbidden):
    """A value that holds itself."""


class Composing(Composer):
    """Nodes as `yaml` composes them, but bounded; stands before a parser of any kind."""

    _depth = 0
    _sizes: dict[int, int]
    """Values below each node of the document that is complete, by id."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        mark = self.peek_event().start_mark  # type: ignore[attr-defined]
        alias = self.check_event(yaml.AliasEvent)  # type: ignore[attr-defined]
        if self._depth > DEEPEST:
            raise ConstructorError(None, None, "is nested too deeply, or in itself", mark)
        self._depth += 1
        try:
            node = super().compose_node(parent, index)
        finally:
            self._depth -= 1
        if alias:
            if id(node) not in self._sizes:
                raise WithinItself(None, None, "is nested too deeply, or in itself", mark)
            return node
        self._sizes[id(node)] = 1 + sum(self._sizes[id(part)] for part in _parts(node))
        if self._sizes[id(node)] > MOST_VALUES:
            problem = f"stands for more than {MOST_VALUES:,} values"
            raise ConstructorError(None, None, problem, mark)
        return node

    def compose_document(self) -> Any:
        self.anchors: dict[str, Any] = {}
        self._sizes = {}  # nodes of the document before are gone, and their ids are taken anew
        return super().compose_document()


def _parts(node: Any) -> list[Any]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


# The C parser is eight times faster, where PyYAML was built with it.
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Loader(Composing, _Base):  # type: ignore[misc]
    """As `yaml.SafeLoader`, bounded; refuses keys that are there twice."""

    def __init__(self, stream: Any) -> None:
        _Base.__init__(self, stream)  # not the composer's, which `Composing` does without

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """Says which value it cannot make, such as the date 2020-99-99."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            kind = str(node.tag).rpartition(":")[2]
            value = quoted(node.value) if isinstance(node, yaml.ScalarNode) else "what stands here"
            problem = f"{value} is no {quoted(kind)[1:-1]}"
            raise ConstructorError(None, None, problem, node.start_mark) from None

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        if isinstance(node, yaml.MappingNode):
            self._refuse_twice(node)
        return super().construct_mapping(node, deep)

    def _refuse_twice(self, node: yaml.MappingNode) -> None:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == MERGE:
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                continue  # `construct_mapping` says so
            if key in seen:
                problem = f"key {quoted(key)} is there twice; remove one"
                raise Forbidden(None, None, problem, key_node.start_mark)
            seen.add(key)


def load(text: str) -> Any:
    """The value of one YAML document; None where there is none.

    Raises:
        yaml.YAMLError: for anything else; `explain` says what is wrong with it.
    """
    try:
        return yaml.load(text, Loader=Loader)
    except (ValueError, RecursionError) as error:  # the parser's own
        raise ConstructorError(None, None, in_words(error)) from None


def explain(error: yaml.YAMLError) -> str:
    """What `load` refused, with its line."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if problem is None:
        return in_words(error)
    return f"{'' if mark is None else f'line {mark.line + 1}: '}{in_words(problem)}"


def read(path: Path, what: str, most: int = LARGEST) -> Any:
    """The value in a YAML file all of whose keys are text.

    Args:
        what: the file is to be, for messages.
        most: bytes.

    Raises:
        UserError: for a file that cannot be read or holds something else.
    """
    text = read_text(path, what, most)
    try:
        found = load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{what} {path}: not YAML: {explain(error)}") from None
    check_keys(found, f"{what} {path}")
    return found


def check_keys(value: Any, where: str) -> None:
    """See that all keys in `value` are text.

    Raises:
        UserError: naming one that is not: YAML takes 1, yes and 2020-01-01 for other things.
    """
    parts: list[Any] = []
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise UserError(
                    f"{where}: the key {quoted(key)} is no text; write it in quotes, as "
                    f"{quoted(str(key))}"
                )
        parts = list(value.values())
    elif isinstance(value, list):
        parts = value
    for part in parts:
        check_keys(part, where)
