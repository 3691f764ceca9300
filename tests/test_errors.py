"""What is shown to users has no credentials in it."""

from __future__ import annotations

import sys

import pytest

from marl_sched.cli.options import command_line
from marl_sched.errors import UserError, redacted

SHOWN = {
    "s3://KEY:SECRET@bucket/runs": "s3://***@bucket/runs",
    "s3://KEY:SEC/RET+x@bucket/runs": "s3://***@bucket/runs",
    "s3://KEY:SEC@RET@bucket/runs": "s3://***@bucket/runs",
    "s3://KEY:SEC%2FRET@b/r?scheme=http": "s3://***@b/r?scheme=http",
    "s3://KEY@bucket/runs": "s3://***@bucket/runs",
    "s3://b/r?secret_key=SECRET&scheme=http": "s3://b/r?secret_key=***&scheme=http",
    "s3://b/r?access_key=KEY&session_token=SECRET": "s3://b/r?access_key=***&session_token=***",
    "gs://b/r?X-Goog-Signature=SECRET": "gs://b/r?X-Goog-Signature=***",
    "--storage 's3://KEY:SECRET@b/r': no": "--storage 's3://***@b/r': no",
    # Nothing to hide:
    "s3://bucket/runs/one?endpoint_override=10.0.0.1:9000&scheme=http": None,
    "s3://bucket/of:a@b": None,
    "/a/path:with@signs": None,
    "ray://10.0.0.1:10001": None,
    "mail a@b.c": None,
}


@pytest.mark.parametrize("text", SHOWN)
def test_credentials_are_taken_out(text: str) -> None:
    expected = SHOWN[text] or text
    assert redacted(text) == expected == redacted(expected)
    assert str(UserError(f"x {text}")) == f"x {expected}"


def test_nor_has_the_command_on_record(monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["train", "--storage", "s3://KEY:SECRET@bucket/runs", "--seed=1"]
    monkeypatch.setattr(sys, "argv", ["marl-sched", *given])
    assert command_line() == "marl-sched train --storage 's3://***@bucket/runs' --seed=1"
    monkeypatch.setattr(sys, "argv", ["marl-sched", "train", "--storage=s3://KEY:SECRET@b/r"])
    assert "SECRET" not in command_line()
