"""What an error quotes is cut, and so is the error."""

from __future__ import annotations

from marl_sched.errors import (
    LONGEST_MESSAGE,
    LONGEST_QUOTE,
    UserError,
    do_you_mean,
    in_words,
    listed,
    quoted,
)


def test_a_value_is_quoted_as_python_writes_it_or_cut() -> None:
    assert quoted("a b") == "'a b'" and quoted(3.5) == "3.5" and quoted("it's") == '"it\'s"'
    for value in ("x" * 70_000, 10**4000, 10**6000, ["y" * 70_000], {"a": "z" * 70_000}):
        assert len(quoted(value)) <= LONGEST_QUOTE
    assert quoted("x" * 70_000).startswith("'xxx") and quoted("x" * 70_000).endswith("xxx'")
    assert ".." in quoted("x" * 200)
    # A thousand times the same million characters are never written out.
    assert len(quoted({"a": [["x" * 10**6] * 1000] * 1000})) <= LONGEST_QUOTE


def test_names_are_listed_up_to_a_number_of_them() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed(str(i) for i in range(12)) == ", ".join(map(str, range(12)))
    assert listed(map(str, range(1000)), 2) == "0, 1, .."
    assert len(listed(["x" * 70_000] * 1000)) < 12 * (LONGEST_QUOTE + 2) + 4


def test_what_a_library_says_is_one_line() -> None:
    assert in_words(ValueError("a\n  b\tc")) == "a b c"
    assert in_words(KeyError()) == "KeyError"
    assert len(in_words(ValueError("x" * 70_000))) <= 2 * LONGEST_QUOTE


def test_a_long_error_keeps_its_beginning_and_its_mend() -> None:
    text = str(UserError("trace t.csv: " + "x" * 70_000 + "; correct it"))
    assert len(text) == LONGEST_MESSAGE
    assert text.startswith("trace t.csv: xx") and text.endswith("xx; correct it")
    assert str(UserError("short")) == "short"


def test_a_long_name_is_like_no_other() -> None:
    assert do_you_mean("prioritty", ["priority", "tenant"]) == "; do you mean priority?"
    assert do_you_mean("x" * 70_000, ["priority"]) == ""
