"""Launch files: what can be asked for, and the templates that they are written from."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from marl_sched import __version__
from marl_sched.clusters import pins
from marl_sched.errors import UserError

ENVS_PER_RUNNER, STEPS_PER_RUNNER = 16, 32
"""Environments of a runner (the default of training) and their steps in one iteration: with fewer,
the fixed cost of an iteration, some 30 ms, would be more than the sampling (docs/scaling.md)."""

SMALLEST_BATCH = 4096
"""Decisions of an iteration by default."""

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


@dataclass(frozen=True)
class Launch:
    """What a launch file is written for; None takes the target's own value."""

    nodes: int | None = None
    """Machines that sample, besides the head; with Slurm all machines."""
    cpus_per_node: int | None = None
    gpus_per_node: int | None = None
    """GPUs of the machine that learns (with Slurm and on your own machines, of each); 0: the
    learner runs on CPUs."""
    minutes: float = 30.0
    storage: str | None = None
    image: str = pins.IMAGE
    region: str | None = None
    project: str = "YOUR-PROJECT"
    machine: str | None = None
    gpu_machine: str | None = None
    hosts: tuple[str, ...] = ("192.168.1.10", "192.168.1.11", "192.168.1.12")
    """Head first."""
    ssh_user: str = "ubuntu"
    ami: str = "ami-EDIT-ME"


@dataclass(frozen=True)
class Target:
    """One kind of launch file; `defaults` are written where the user says nothing."""

    name: str
    path: str
    """Of the committed file, which is what `render NAME` writes, below the project."""
    about: str
    defaults: dict[str, Any] = field(default_factory=dict)

    @property
    def template(self) -> str:
        return PurePosixPath(self.path).name + ".j2"


_CLOUD = {"nodes": 4, "cpus_per_node": 8, "gpus_per_node": 1}

TARGETS = {
    target.name: target
    for target in (
        Target("local", "clusters/local.yaml", "`ray up` on your own machines",
               {"cpus_per_node": 8, "gpus_per_node": 0}),
        Target("aws", "clusters/aws.yaml", "`ray up` on AWS", _CLOUD | {"region": "us-west-2"}),
        Target("gcp", "clusters/gcp.yaml", "`ray up` on Google Cloud",
               _CLOUD | {"region": "us-central1"}),
        Target("rayjob", "clusters/kuberay/rayjob.yaml", "one training run on Kubernetes",
               {"nodes": 2, "cpus_per_node": 4, "gpus_per_node": 0}),
        Target("raycluster", "clusters/kuberay/raycluster.yaml",
               "a lasting, autoscaled cluster on Kubernetes", _CLOUD),
        Target("slurm", "clusters/slurm/train.sbatch", "one training run under Slurm",
               {"nodes": 2, "cpus_per_node": 32, "gpus_per_node": 1}),
        Target("docker", "clusters/Dockerfile", "the image that Kubernetes runs"),
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
    return environment.get_template(target.template).render(
        values(target, launch) | {"path": path or target.path}
    )


def values(target: Target, launch: Launch) -> dict[str, Any]:
    """What the template of `target` may name."""
    given = {name: value for name, value in vars(launch).items() if value is not None}
    known = {name: None for name in vars(launch)} | target.defaults | given
    if target.name == "local":
        if not launch.hosts:
            raise UserError("--hosts: name the head, then the workers: HEAD,WORKER,..")
        known["nodes"] = len(launch.hosts) - 1
    for option in ("nodes", "cpus_per_node", "gpus_per_node"):
        least = 0 if option == "gpus_per_node" or target.name == "local" else 1
        if known[option] is not None and known[option] < least:
            raise UserError(
                f"--{option.replace('_', '-')} {known[option]}: must be {least} or more"
            )
    known |= _machines(target, known)
    if target.name != "docker":
        known |= _sizes(target, known)
    return known | {
        "ray_version": pins.RAY_VERSION,
        "python_version": pins.PYTHON_VERSION,
        "base_image": pins.BASE_IMAGE,
        "kuberay_version": pins.KUBERAY_VERSION,
        "version": __version__,
        "name": target.name,
        "cpu_image": GCP_CPU_IMAGE,
        "gpu_image": GCP_GPU_IMAGE,
        "client": CLOUD_CLIENTS.get(target.name),
    }


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
    if known["gpus_per_node"]:
        # Learners take equal shares of a runner's environments.
        learners = math.gcd(known["gpus_per_node"], ENVS_PER_RUNNER)
        words.append(f"--num-learners {learners} --num-gpus-per-learner 1")
    if batch > SMALLEST_BATCH:
        words.append(f"--set training.ppo.batch_size={batch}")
    words.append(f"--minutes {known['minutes']:g}")
    if known["storage"]:
        words.append(f"--storage {known['storage']}")
    return {"train_options": words}


def _machines(target: Target, known: dict[str, Any]) -> dict[str, Any]:
    """Types of machines on a cloud, from their sizes."""
    if target.name not in ("aws", "gcp"):
        return {}
    by_cpus = AWS_CPU_MACHINES if target.name == "aws" else GCP_CPU_MACHINES
    by_gpus = AWS_GPU_MACHINES if target.name == "aws" else GCP_GPU_MACHINES
    return {
        "head_machine": by_cpus[4],
        "machine": known["machine"] or _choose(by_cpus, known["cpus_per_node"], "cpus", "machine"),
        "gpu_machine": known["gpu_machine"]
        or (
            _choose(by_gpus, known["gpus_per_node"], "gpus", "gpu-machine")
            if known["gpus_per_node"]
            else None
        ),
    }


def _choose(table: dict[int, str], count: int, what: str, option: str) -> str:
    if count not in table:
        sizes = ", ".join(map(str, table))
        raise UserError(
            f"--{what}-per-node {count}: no machine of that size is known here ({sizes}); choose "
            f"one of these, or name the type by --{option}"
        )
    return table[count]
