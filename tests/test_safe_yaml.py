"""The one reader of YAML: plain values of bounded size, and nothing twice."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from marl_sched import safe_yaml
from marl_sched.errors import UserError

BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{new}: &{new} [{', '.join(10 * [f'*{old}'])}]\n"
    for old, new in zip("abcdefg", "bcdefgh", strict=True)
)
"""377 bytes that stand for 10^8 values."""

MERGES = "a: &a {x: 1}\n" + "".join(
    f"{new}: &{new} {{<<: [{', '.join(10 * [f'*{old}'])}]}}\n"
    for old, new in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: key 'a' is there twice; remove one"),
        ("x: {a: 1, b: 2, a: 1}\n", "line 1: key 'a' is there twice"),
        ("1: 2\n1.0: 3\n", "line 2: key 1.0 is there twice"),
        ("a: &a [*a]\n", "line 1: is nested too deeply, or in itself"),
        ("a:\n  &a\n  b: *a\n", "line 3: is nested too deeply, or in itself"),
        ("[" * 200 + "]" * 200, "line 1: is nested too deeply"),
        ("{a: " * 200 + "}" * 200, "line 1: is nested too deeply"),
        ("- " * 200, "line 1: is nested too deeply"),
        (BOMB, "stands for more than 100,000 values"),
        (MERGES, "stands for more than 100,000 values"),
        ("day: 2020-13-01\n", "line 1: '2020-13-01' is no timestamp"),
        ("n: " + "9" * 5000, "is no int"),
        ("x: !!python/object/apply:os.system [ls]\n", "could not determine a constructor"),
        ("a: 1\n---\na: 2\n", "found another document"),
        ("a: [1\n", "line 2: "),
        ("a: \x00", ""),
        ("a: *" + "x" * 70_000, "found undefined alias"),
        ("a: !" + "x" * 70_000 + " 1", "could not determine a constructor"),
        (f"a: &a {'x' * 1000}\nb: !!float [{'*a, ' * 20_000}]", "line 2: "),
    ],
)
def test_what_is_refused(text: str, problem: str) -> None:
    with pytest.raises(yaml.YAMLError) as caught:
        safe_yaml.load(text)
    said = safe_yaml.explain(caught.value)
    assert problem in said and len(said) < 400


def test_what_is_read() -> None:
    text = "x: &x {a: 1}\ny: {<<: *x, a: 2}\nz: [*x, 2.5, null, 2020-01-02, 'a']\n"
    assert safe_yaml.load(text) == yaml.safe_load(text)
    assert safe_yaml.load("") is None
    # As many values as are read, without an alias.
    many = "[" + "1, " * (safe_yaml.MOST_VALUES // 2) + "]"
    assert len(safe_yaml.load(many)) == safe_yaml.MOST_VALUES // 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nodes: {1: 2}\n", r"the key 1 is no text; write it in quotes, as '1'"),
        ("on: 3\n", r"the key True is no text"),
        ("- {~: 3}\n", r"the key None is no text"),
        ("a: 1\na: 2\n", r"not YAML: line 2: key 'a' is there twice"),
    ],
)
def test_a_file_has_keys_of_text(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=f"^page {path}: {message}"):
        safe_yaml.read(path, "page")


def test_a_file_is_of_bounded_size(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("# " + "x" * safe_yaml.LARGEST)
    with pytest.raises(UserError, match="at most 1 are read; split it"):
        safe_yaml.read(path, "page")
