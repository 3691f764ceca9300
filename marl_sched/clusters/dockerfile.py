"""Validation of Dockerfiles: instructions, one Ray everywhere, its token."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path

from marl_sched.clusters import pins
from marl_sched.clusters.located import Problem

INSTRUCTIONS = tuple(
    "ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL MAINTAINER ONBUILD RUN SHELL "
    "STOPSIGNAL USER VOLUME WORKDIR".split()
)
"""Of Docker's reference (BuildKit 0.20)."""

_IMAGE = re.compile(r"rayproject/ray(?:-ml)?:(\d+\.\d+\.\d+)")


def is_one(path: Path, text: str) -> bool:
    """By its name, or by its first instruction."""
    if path.name.startswith("Dockerfile") or path.suffix.lower() == ".dockerfile":
        return True
    if path.suffix in (".yaml", ".yml"):
        return False
    instructions = _instructions(text)
    return bool(instructions) and re.match(r"(FROM|ARG)\s", instructions[0][1]) is not None


def problems(text: str) -> list[Problem]:
    """What is wrong with a Dockerfile."""
    found, token, start = [], False, False
    instructions = _instructions(text)
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
    if "FROM" not in names:
        found.append(Problem(1, "FROM: is missing"))
    elif not token:
        found.append(Problem(1, "ENV RAY_AUTH_MODE=token: is missing: an open Ray"))
    return found


def _instructions(text: str) -> list[tuple[int, str]]:
    """Line of each instruction, and its words, continued lines joined."""
    found: list[tuple[int, str]] = []
    continued = False
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        words = stripped.removesuffix("\\")
        if continued:
            found[-1] = (found[-1][0], f"{found[-1][1]} {words}")
        else:
            found.append((number, words))
        continued = stripped.endswith("\\")
    return found
