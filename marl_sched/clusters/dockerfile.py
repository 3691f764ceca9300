"""Validation of Dockerfiles: instructions, one Ray everywhere, its token."""

from __future__ import annotations

import re
import shlex
from difflib import get_close_matches
from pathlib import Path

from marl_sched.clusters import pins
from marl_sched.clusters.located import Problem

INSTRUCTIONS = tuple(
    "ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL MAINTAINER ONBUILD RUN SHELL "
    "STOPSIGNAL USER VOLUME WORKDIR".split()
)
"""Of Docker's reference (BuildKit 0.20)."""

_HEREDOC = re.compile(r"\d*<<(-?)([^<]+)")
"""A word after which the lines up to a delimiter belong to RUN, COPY or ADD; as BuildKit has it."""

_IMAGE = re.compile(r"rayproject/ray(?:-ml)?:(\d+\.\d+\.\d+)")


def is_one(path: Path, text: str) -> bool:
    """By its name, or by its first instruction."""
    if path.name.startswith("Dockerfile") or path.suffix.lower() == ".dockerfile":
        return True
    if path.suffix in (".yaml", ".yml"):
        return False
    instructions, _ = _instructions(text)
    return bool(instructions) and re.match(r"(FROM|ARG)\s", instructions[0][1]) is not None


def problems(text: str) -> list[Problem]:
    """What is wrong with a Dockerfile."""
    found, token, start = [], False, False
    instructions, awaited = _instructions(text)
    names = [words.split(None, 1)[0].upper() for _, words in instructions]
    for (line, words), name in zip(instructions, names, strict=True):
        if name not in INSTRUCTIONS:
            near = get_close_matches(name, INSTRUCTIONS, n=1)
            hint = f"; do you mean {near[0]}?" if near else ""
            found.append(Problem(line, f"{words.split(None, 1)[0]}: unknown instruction{hint}"))
        elif len(words.split()) == 1:
            found.append(Problem(line, f"{name}: says nothing"))
        elif not start and name not in ("FROM", "ARG"):
            found.append(Problem(line, f"{name}: comes before FROM"))
        start = start or name == "FROM"
        image = _IMAGE.search(words)
        if name == "FROM" and image is not None and image[1] != pins.RAY_VERSION:
            found.append(
                Problem(line, f"FROM: Ray {image[1]}, and this project works with "
                        f"{pins.RAY_VERSION}")
            )  # fmt: skip
        if name == "ENV":
            token = token or re.search(r"\bRAY_AUTH_MODE[= ][\"']?token\b", words) is not None
        if re.search(r"\bRAY_AUTH_TOKEN\b", words):
            found.append(Problem(line, "RAY_AUTH_TOKEN: whoever has the image has the token"))
    if awaited:
        message = f"<<{awaited[0][1]}: no line {awaited[0][1]} ends it"
        found.append(Problem(instructions[-1][0], message))
    if "FROM" not in names:
        found.append(Problem(1, "FROM: is missing"))
    elif not token:
        found.append(Problem(1, "ENV RAY_AUTH_MODE=token: is missing: an open Ray"))
    return found


def _instructions(text: str) -> tuple[list[tuple[int, str]], list[tuple[bool, str]]]:
    """Line of each instruction, and its words, continued lines and heredocs joined; and the
    `_delimiters` still awaited at the end."""
    found: list[tuple[int, list[str]]] = []
    continued, awaited = False, list[tuple[bool, str]]()
    for number, line in enumerate(text.splitlines(), start=1):
        if awaited:
            tabs, delimiter = awaited[0]
            if (line.lstrip("\t") if tabs else line) == delimiter:
                awaited.pop(0)
            else:
                found[-1][1].append(line)
            continue
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        if not continued:
            found.append((number, []))
        found[-1][1].append(stripped.removesuffix("\\"))
        continued = stripped.endswith("\\")
        if not continued:
            awaited = _delimiters(" ".join(found[-1][1]).strip())
    joined = ((number, " ".join(parts).strip()) for number, parts in found)
    return [(number, words) for number, words in joined if words], awaited


def _delimiters(words: str) -> list[tuple[bool, str]]:
    """Of an instruction's heredocs: whether tabs before it do not count, and the delimiter."""
    if not re.match(r"(ONBUILD\s+)?(RUN|COPY|ADD)\s", words, re.IGNORECASE):
        return []
    try:
        matches = map(_HEREDOC.fullmatch, shlex.split(words, posix=False))
    except ValueError:  # a quote without its other one
        return []
    return [(bool(one[1]), re.sub("[\"']", "", one[2])) for one in matches if one is not None]
