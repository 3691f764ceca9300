"""Launch files: what can be asked for, and the templates that they are written from."""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import yaml

from marl_sched import __version__
from marl_sched.clusters import pins
from marl_sched.clusters.names import check_names
from marl_sched.errors import UserError

ENVS_PER_RUNNER, STEPS_PER_RUNNER = 16, 32
"""Environments of a runner (the default of training) and their steps in one iteration: with fewer,
the fixed cost of an iteration, some 30 ms, would be more than the sampling (docs/scaling.md)."""

SMALLEST_BATCH = 4096
"""Decisions of an iteration by default."""

USABLE_RUNNERS = {"cpu": 15, "gpu": 36}
"""Runners that one run of PPO or DQN can use (docs/scaling.md): with 16 CPU learners, the most, and
with learners on GPUs, where the network of the driver's machine ends it at the latest."""

AWS_GPU_MACHINES = {1: "g6.xlarge", 4: "g6.12xlarge", 8: "g6.48xlarge"}
"""NVIDIA L4s of a machine -> its type (EC2, 2026)."""
GCP_GPU_MACHINES = {
    1: "g2-standard-4",
    2: "g2-standard-24",
    4: "g2-standard-48",
    8: "g2-standard-96",
}
"""As above, Compute Engine."""
AWS_CPU_MACHINES = {4: "m7i.xlarge", 8: "m7i.2xlarge", 16: "m7i.4xlarge", 32: "m7i.8xlarge"}
"""vCPUs of a machine -> its type."""
GCP_CPU_MACHINES = {
    4: "n2-standard-4",
    8: "n2-standard-8",
    16: "n2-standard-16",
    32: "n2-standard-32",
}

GCP_CPU_IMAGE = "projects/ubuntu-os-cloud/global/images/family/ubuntu-2204-lts"
GCP_GPU_IMAGE = (
    "projects/ubuntu-os-accelerator-images/global/images/family/"
    "ubuntu-accelerator-2204-amd64-with-nvidia-580"
)
CLOUD_CLIENTS = {"aws": "boto3>=1.40", "gcp": "google-api-python-client>=2.150"}
"""What Ray starts machines through; `pip install '.[clusters]'` brings both."""


MOST = {"nodes": 10_000, "cpus_per_node": 1024, "gpus_per_node": 64, "minutes": 525_600.0}
"""More is a slip of the finger."""


@dataclass(frozen=True)
class Launch:
    """What a launch file is written for; None takes the target's own value."""

    nodes: int | None = None
    """Machines that sample, besides the head; with Slurm all machines."""
    cpus_per_node: int | None = None
    gpus_per_node: int | None = None
    """GPUs of the machine that learns (with Slurm and on your own machines, of each); 0: the
    learner runs on CPUs."""
    minutes: float | None = None
    storage: str | None = None
    image: str | None = None
    region: str | None = None
    project: str | None = None
    machine: str | None = None
    gpu_machine: str | None = None
    hosts: tuple[str, ...] | None = None
    """Head first."""
    ssh_user: str | None = None
    ami: str | None = None


@dataclass(frozen=True)
class Target:
    """One kind of launch file."""

    name: str
    path: str
    """Of the committed file, which is what `render NAME` writes, below the project."""
    about: str
    defaults: dict[str, Any] = field(default_factory=dict)
    """Every option of `Launch` that it takes -> what is written where the user says nothing."""

    @property
    def template(self) -> str:
        return PurePosixPath(self.path).name + ".j2"


_SIZES = {"minutes": 30.0, "storage": None}
_CLOUD = {"nodes": 4, "cpus_per_node": 8, "gpus_per_node": 1}
_MACHINES = {"machine": None, "gpu_machine": None, "ssh_user": "ubuntu"}

TARGETS = {
    target.name: target
    for target in (
        Target("local", "clusters/local.yaml", "`ray up` on your own machines",
               _SIZES | {"cpus_per_node": 4, "gpus_per_node": 0, "ssh_user": "ubuntu",
                         "hosts": ("192.168.1.10", "192.168.1.11", "192.168.1.12")}),
        Target("aws", "clusters/aws.yaml", "`ray up` on AWS",
               _SIZES | _CLOUD | _MACHINES | {"region": "us-west-2", "ami": "ami-EDIT-ME"}),
        Target("gcp", "clusters/gcp.yaml", "`ray up` on Google Cloud",
               _SIZES | _CLOUD | _MACHINES | {"region": "us-central1", "project": "YOUR-PROJECT"}),
        Target("rayjob", "clusters/kuberay/rayjob.yaml", "one training run on Kubernetes",
               _SIZES | {"nodes": 2, "cpus_per_node": 4, "gpus_per_node": 0, "image": pins.IMAGE}),
        Target("raycluster", "clusters/kuberay/raycluster.yaml",
               "a lasting, autoscaled cluster on Kubernetes",
               _SIZES | _CLOUD | {"image": pins.IMAGE}),
        Target("slurm", "clusters/slurm/train.sbatch", "one training run under Slurm",
               _SIZES | {"nodes": 2, "cpus_per_node": 16, "gpus_per_node": 1}),
        Target("docker", "clusters/Dockerfile", "the image that Kubernetes runs",
               {"image": pins.IMAGE}),
    )
}  # fmt: skip


def render(name: str, launch: Launch, path: str | None = None) -> str:
    """The text of a launch file.

    Args:
        path: where it will lie, for the commands in its header; None: where the committed one
            does.

    Raises:
        UserError: for an unknown target, or a number that it cannot be written for.
    """
    target = TARGETS.get(name)
    if target is None:
        raise UserError(f"target {name!r} is not known; known: {', '.join(TARGETS)}")
    if path is not None and not path.isprintable():
        raise UserError(f"--out {path!r}: has a character that cannot be printed")
    from jinja2 import Environment, PackageLoader, StrictUndefined

    # Shell and YAML use braces and dollars themselves.
    environment = Environment(
        loader=PackageLoader("marl_sched.clusters"),
        variable_start_string="<<",
        variable_end_string=">>",
        block_start_string="<%",
        block_end_string="%>",
        comment_start_string="<#",
        comment_end_string="#>",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
        autoescape=False,
    )
    environment.filters["yaml"] = as_yaml
    return environment.get_template(target.template).render(
        values(target, launch) | {"path": shlex.quote(path or target.path)}
    )


def as_yaml(text: str) -> str:
    """`text` as a YAML value, in quotes where YAML would otherwise read something else."""
    return text if yaml.safe_load(f"[{text}]") == [text] else f"'{text}'"


def values(target: Target, launch: Launch) -> dict[str, Any]:
    """What the template of `target` may name; `note` is for who asked too.

    Raises:
        UserError: for an option that the target does not take or that cannot be written.
    """
    given = {name: value for name, value in vars(launch).items() if value is not None}
    for name in given:
        if name not in target.defaults:
            raise UserError(
                f"{_option(name)}: {target.name} has no such option; it takes "
                + ", ".join(map(_option, target.defaults))
            )
    check_names(given)
    known: dict[str, Any] = {**dict.fromkeys(vars(launch)), **target.defaults, **given}
    if target.name == "local":
        known["nodes"] = len(known["hosts"]) - 1
    _check_numbers(target, known)
    known |= _machines(target, known, given)
    if target.name != "docker":
        known |= _sizes(target, known)
    return known | {
        "ray_version": pins.RAY_VERSION,
        "python_version": pins.PYTHON_VERSION,
        "base_image": pins.BASE_IMAGE,
        "kuberay_version": pins.KUBERAY_VERSION,
        "redis_image": pins.REDIS_IMAGE,
        "version": __version__,
        "name": target.name,
        "given": given,
        "cpu_image": GCP_CPU_IMAGE,
        "gpu_image": GCP_GPU_IMAGE,
        "client": CLOUD_CLIENTS.get(target.name),
    }


def _check_numbers(target: Target, known: dict[str, Any]) -> None:
    # Under Slurm one CPU of each machine is Ray's own.
    fewest = 2 if target.name == "slurm" else 1
    least = {"nodes": int(target.name != "local"), "cpus_per_node": fewest, "gpus_per_node": 0}
    for name, most in MOST.items():
        value = known[name]
        if value is None:
            continue
        lowest = least.get(name)
        # Written so that NaN fails.
        if not (value <= most and (value > 0 if lowest is None else value >= lowest)):
            low = "more than 0" if lowest is None else f"{lowest} or more"
            raise UserError(f"{_option(name)} {value}: must be {low}, and {most:,.0f} at most")


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _sizes(target: Target, known: dict[str, Any]) -> dict[str, Any]:
    """Runners, learners and batch that fit the machines, and the words of the command."""
    cpus = known["cpus_per_node"]
    if target.name == "slurm":
        # A core of each machine is left to Ray itself, and on the first one two to the driver.
        runners = max(1, known["nodes"] * (cpus - 1) - 2)
    elif target.name == "local":
        runners = max(1, (known["nodes"] + 1) * cpus - 2)
    else:
        runners = known["nodes"] * cpus
    batch = max(SMALLEST_BATCH, runners * ENVS_PER_RUNNER * STEPS_PER_RUNNER)
    words = [f"--num-env-runners {runners}"]
    # Learners take equal shares of a runner's environments; without GPUs the driver learns.
    learners = math.gcd(known["gpus_per_node"], ENVS_PER_RUNNER) if known["gpus_per_node"] else 0
    if learners:
        words.append(f"--num-learners {learners} --num-gpus-per-learner 1")
    if batch > SMALLEST_BATCH:
        words.append(f"--set training.ppo.batch_size={batch}")
    words.append(f"--minutes {known['minutes']:g}")
    if known["storage"]:
        words.append(f"--storage {_storage(target, known['storage'])}")
    return {"train_options": words, "learners": learners, "note": _note(runners, learners)}


def _note(runners: int, learners: int) -> str | None:
    """What to say where more runners are asked for than one run can use."""
    usable = USABLE_RUNNERS["gpu" if learners else "cpu"]
    if runners <= usable:
        return None
    condition = "" if learners else " (with --num-learners 16)"
    return (
        f"one run of PPO or DQN uses at most about {usable} of these {runners:,} runners"
        f"{condition}: see docs/scaling.md; run several seeds, or --algo es"
    )


def _storage(target: Target, text: str) -> str:
    """As a shell's word; under Slurm a folder in it for each job, as `--out` has one: a job that is
    requeued keeps its id, and the next one finds no finished run there."""
    if target.name != "slurm":
        return _in_shell(text)
    # A path may hold a question mark; in an address the query and the fragment begin there.
    end = re.search(r"[?#]", text) if "://" in text else None
    at = len(text) if end is None else end.start()
    return f'"{text[:at].rstrip("/")}/slurm-$SLURM_JOB_ID{text[at:]}"'


def _in_shell(text: str) -> str:
    """As a shell's word, also within single quotes; `check_names` has let nothing through that
    double quotes do not cover."""
    return text if shlex.quote(text) == text else f'"{text}"'


def _machines(target: Target, known: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Types of machines on a cloud, from their sizes."""
    if target.name not in ("aws", "gcp"):
        return {}
    gpus = known["gpus_per_node"]
    if known["gpu_machine"] and not gpus:
        raise UserError("--gpu-machine: without GPUs no machine is the learner's; leave it out")
    for name, size in (("machine", "cpus_per_node"), ("gpu_machine", "gpus_per_node")):
        if known[name] and size not in given:
            raise UserError(f"{_option(name)} {known[name]}: say its size too, {_option(size)} N")
    by_cpus = AWS_CPU_MACHINES if target.name == "aws" else GCP_CPU_MACHINES
    by_gpus = AWS_GPU_MACHINES if target.name == "aws" else GCP_GPU_MACHINES
    return {
        "head_machine": by_cpus[4],
        "machine": known["machine"] or _choose(by_cpus, known["cpus_per_node"], "cpus", "machine"),
        "gpu_machine": known["gpu_machine"]
        or (_choose(by_gpus, gpus, "gpus", "gpu-machine") if gpus else None),
    }


def _choose(table: dict[int, str], count: int, what: str, option: str) -> str:
    if count not in table:
        sizes = ", ".join(map(str, table))
        raise UserError(
            f"--{what}-per-node {count}: no machine of that size is known here ({sizes}); choose "
            f"one of these, or name the type by --{option}"
        )
    return table[count]
