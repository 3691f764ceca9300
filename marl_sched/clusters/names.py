"""Names that users give for launch files: what shells, YAML and the clouds take unharmed."""

from __future__ import annotations

import re
from typing import Any

from marl_sched.errors import UserError

_WORD = r"[A-Za-z0-9][A-Za-z0-9_.-]*"

PATTERNS = {
    "image": (rf"{_WORD}(?::\d+)?(?:/{_WORD})*(?::{_WORD})?(?:@sha256:[0-9a-f]{{64}})?",
              "REGISTRY/NAME:TAG"),
    "region": (r"[a-z0-9]+(-[a-z0-9]+)+", "a region such as us-east1 or eu-west-1"),
    "project": (r"[A-Za-z0-9][A-Za-z0-9:.-]*[A-Za-z0-9]", "a project's id"),
    "machine": (_WORD, "a machine type"),
    "gpu_machine": (_WORD, "a machine type"),
    "ami": (r"ami-[A-Za-z0-9-]+", "ami- and the image's number"),
    "ssh_user": (r"[A-Za-z_][A-Za-z0-9_.-]*", "a user's name"),
    "storage": (r"(?:s3|gs)://[^/@:\s\"'`$\\!?]+/[^\s\"'`$\\!]+|[^-\s\"'`$\\!:][^\s\"'`$\\!:]*",
                "a path, s3://BUCKET/PATH or gs://BUCKET/PATH, without spaces, quotes, $ and "
                "credentials"),
}  # fmt: skip
"""Option -> what its whole text must match, and how to say that."""

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|[0-9A-Fa-f:]*:[0-9A-Fa-f:]+")


def check_names(given: dict[str, Any]) -> None:
    """Refuse what would not stay one word of a launch file.

    Raises:
        UserError: naming the option.
    """
    for name, (pattern, what) in PATTERNS.items():
        value = given.get(name)
        if value is not None and re.fullmatch(pattern, value) is None:
            option = "--" + name.replace("_", "-")
            raise UserError(f"{option} {value!r}: must be {what}")
    hosts = given.get("hosts")
    if hosts is None:
        return
    for host in hosts:
        if _HOST.fullmatch(host) is None:
            raise UserError(f"--hosts: {host!r} is no machine's name; HEAD,WORKER,.. are wanted")
    if not hosts or len(set(hosts)) < len(hosts):
        raise UserError("--hosts: name the head, then the workers, each once: HEAD,WORKER,..")
