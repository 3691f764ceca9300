"""The options of `ray start`, from Ray itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

from marl_sched.clusters.located import shown

PORTS = re.compile(r"(?!min-|max-)(?:.*-)?port")


@lru_cache(maxsize=1)
def start_options() -> dict[str, Callable[[str], bool]]:
    """Long option -> whether a text is a value of it."""
    from ray.scripts.scripts import start

    return {
        option.removeprefix("--"): _checker(option.removeprefix("--"), param)
        for param in start.params
        for option in (*param.opts, *param.secondary_opts)
        if option.startswith("--")
    }


def _checker(name: str, param: Any) -> Callable[[str], bool]:
    """Numbers are none below 0, and ports have 16 bits; what else is text to Ray is taken."""
    kind = {"integer": int, "float": float}.get(param.type.name)

    def good(text: str) -> bool:
        if kind is None or "$" in text:  # a variable of the shell
            return True
        try:
            number = kind(text)
        except ValueError:
            return False
        return 0 <= number <= (65_535 if PORTS.fullmatch(name) else 2**63)

    return good


def wrong_options(words: list[str]) -> list[str]:
    """What is wrong with the words after `ray start`."""
    known = start_options()
    found = []
    for word, after in zip(words, [*words[1:], ""], strict=True):
        match = re.fullmatch(r"--([a-z][a-z0-9-]*)(?:=(.*))?", word)
        if match is None:
            continue
        name, value = match[1], after if match[2] is None else match[2]
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"; do you mean --{near[0]}?" if near else ""
            found.append(f"ray start --{name}: unknown option{hint}")
        elif not known[name](value.strip("\"'")):
            found.append(f"ray start --{name}: {shown(value)} is no value of it")
    return found
