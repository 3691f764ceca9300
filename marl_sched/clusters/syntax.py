"""Kubernetes' ways to write names, labels and quantities; of each, what is wrong with a text.

Source: "Object names and IDs", "Labels and selectors", "Annotations" and "Quantity" of Kubernetes'
documentation, and RFC 1035 and 1123 for names of hosts.
"""

from __future__ import annotations

import ipaddress
import re
from base64 import b64decode
from collections.abc import Callable
from fractions import Fraction
from typing import Any

Rule = Callable[[str], str | None]
"""What is wrong with a text, as the rest of a sentence that begins with it; None: nothing."""

_LABEL = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"


def _rule(pattern: str, longest: int, what: str) -> Rule:
    compiled = re.compile(pattern)

    def rule(text: str) -> str | None:
        if len(text) > longest:
            return f"has {len(text):,} characters, and {longest} are the most"
        return None if compiled.fullmatch(text) is not None else f"must be {what}"

    return rule


subdomain = _rule(
    rf"{_LABEL}(?:\.{_LABEL})*", 253,
    "small letters, digits, '-' and '.', with a letter or digit at each end (RFC 1123)",
)  # fmt: skip
label = _rule(
    _LABEL, 63, "small letters, digits and '-', with a letter or digit at each end (RFC 1123)"
)
label_1035 = _rule(
    r"[a-z](?:[-a-z0-9]*[a-z0-9])?", 63,
    "small letters, digits and '-', with a letter first and no '-' last (RFC 1035)",
)  # fmt: skip
path_segment = _rule(r"(?!\.{1,2}$)[^/%]+", 253, "without '/' and '%', and not '.' or '..'")
port_name = _rule(
    r"(?=.*[a-z])(?!.*--)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?", 15,
    "small letters, digits and single '-' within, and at least one letter",
)  # fmt: skip
data_key = _rule(r"(?!\.{1,2}$)[-._a-zA-Z0-9]+", 253, "letters, digits, '-', '_' and '.'")
variable = _rule(r"[ -<>-~]+", 32_768, "printable ASCII without '='")
label_value = _rule(
    r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?", 63,
    "letters, digits, '-', '_' and '.', with a letter or digit at each end",
)  # fmt: skip
_component = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
image = _rule(
    rf"(?:[A-Za-z0-9.-]+(?::\d+)?/)?{_component}(?:/{_component})*(?::[\w][\w.-]*)?"
    r"(?:@[a-z0-9]+(?:[+._-][a-z0-9]+)*:[0-9a-fA-F]{32,})?",
    4096, "REGISTRY/NAME:TAG, the name in small letters",
)  # fmt: skip


medium = _rule(r"Memory|HugePages(?:-.+)?", 253, "Memory or HugePages")
percentage = _rule(r"\d{1,6}%", 7, "a number, or a percentage such as 25%")
_FIELD = r"[0-9A-Za-z*/,?-]+"
schedule = _rule(
    rf"\s*(?:(?:CRON_)?TZ=\S+\s+)?(?:@[a-z]+(?:\s\S+)?|{_FIELD}(?:\s+{_FIELD}){{4}})\s*", 200,
    "five fields, as for cron: minute, hour, day, month, weekday",
)  # fmt: skip


def network(text: str) -> str | None:
    """An address with the length of its prefix, as in 10.0.0.0/8."""
    try:
        ipaddress.ip_interface(text)
    except ValueError:
        return "must be a network such as 10.0.0.0/8"
    return None if "/" in text else "must be a network such as 10.0.0.0/8"


def base64(text: str) -> str | None:
    """As bytes are written in JSON; line breaks do not count."""
    try:
        b64decode(re.sub(r"[\r\n]", "", text), validate=True)
    except ValueError:
        return "must be written in base64; stringData takes plain text"
    return None


def shorter(rule: Rule, longest: int) -> Rule:
    """`rule` for names that something is appended to."""
    return lambda text: (
        f"has {len(text)} characters, and {longest} are the most" if len(text) > longest
        else rule(text)
    )  # fmt: skip


def prefix_of(rule: Rule) -> Rule:
    """`rule` for `generateName`, to which random letters are appended."""
    return lambda text: rule(f"{text}a")


def label_key(text: str) -> str | None:
    """[PREFIX/]NAME, as keys of labels and annotations are."""
    prefix, slash, name = text.rpartition("/")
    wrong = label_value(name) if name else "must end with a name"
    if wrong is None and slash:
        wrong = subdomain(prefix)
        wrong = wrong and f"has a prefix that {wrong}"
    return wrong


def annotation_key(text: str) -> str | None:
    """As `label_key`; capitals in the prefix do not count."""
    prefix, slash, name = text.rpartition("/")
    return label_key(f"{prefix.lower()}{slash}{name}")


_QUANTITY = re.compile(
    r"([+-]?)(\d+(?:\.\d*)?|\.\d+)(?:(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE])|[eE]([+-]?\d{1,2}))?"
)
_SUFFIXES = {
    **{f"{letter}i": Fraction(1024) ** power for power, letter in enumerate("KMGTPE", 1)},
    **{letter: Fraction(1000) ** power for power, letter in enumerate("kMGTPE", 1)},
    **{letter: Fraction(1000) ** -power for power, letter in enumerate("mun", 1)},
}


def quantity(value: Any) -> Fraction | None:
    """The number that a quantity such as 500m, 8Gi or 1e3 is; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    match = _QUANTITY.fullmatch(str(value))
    if match is None:
        return None
    sign, digits, suffix, exponent = match.groups()
    factor = _SUFFIXES[suffix] if suffix else Fraction(10) ** int(exponent or 0)
    return (-1 if sign == "-" else 1) * Fraction(digits) * factor
