"""A look at what training would find: versions, Ray's cluster and its authentication, devices."""

from __future__ import annotations

import json
import logging
import os
import stat
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from marl_sched.clusters import pins
from marl_sched.training.records import versions
from marl_sched.training.session import probe

MODES = ("disabled", "token")
"""Of Ray's authentication, as Ray 2.60 names them."""

PACKAGES = ("scipy", "pyarrow", "gymnasium")
"""Looked at besides those that every run records."""


@dataclass
class Findings:
    """What was seen, and what is wrong with it."""

    versions: dict[str, str] = field(default_factory=dict)
    address: str | None = None
    """HOST:PORT of the cluster; None: training would start a local one."""
    auto: bool = False
    """Whether the cluster of this machine was looked for."""
    authentication: dict[str, str | None] = field(default_factory=dict)
    """`mode` as Ray takes it here, and where the `token` comes from."""
    here: dict[str, float] = field(default_factory=dict)
    """CPUs and GPUs that this process may use."""
    cluster: dict[str, float] | None = None
    """Nodes, CPUs and GPUs of the cluster."""
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def examine(address: str | None, allow_open: bool) -> Findings:
    """Look around.

    Args:
        address: of a Ray cluster, `auto` for the one of this machine; None takes RAY_ADDRESS.
        allow_open: a cluster that asks for no token is then a warning, not an error.
    """
    logging.getLogger("ray").setLevel(logging.ERROR)
    found = Findings(versions=_versions())
    _check_ray(found)
    _authentication(found)
    _devices(found)
    address = address or os.environ.get("RAY_ADDRESS") or None
    if address == "auto":
        found.auto = True
        address = _started_here(found)
    if address is not None:
        found.address = address
        _cluster(found, address, allow_open)
    return found


def _versions() -> dict[str, str]:
    found = versions()
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _check_ray(found: Findings) -> None:
    here, wanted = found.versions.get("ray", "none"), pins.RAY_VERSION
    if here.split(".")[:2] != wanted.split(".")[:2]:
        found.errors.append(
            f"Ray {here} is installed, and this project works with {wanted}: pip install -e ."
        )


def _authentication(found: Findings) -> None:
    """As Ray 2.60 reads it: the mode's variable, else the token mode if there is a token."""
    mode = os.environ.get("RAY_AUTH_MODE")
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    source: str | None = None
    if os.environ.get("RAY_AUTH_TOKEN"):
        source = "RAY_AUTH_TOKEN"
    elif path.is_file():
        source = str(path)
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            found.warnings.append(f"{path} can be read by other users: chmod 600 {path}")
    if mode is None:
        mode = "disabled" if source is None else "token"
    found.authentication = {"mode": mode.lower(), "token": source}
    if mode.lower() not in MODES:
        found.errors.append(f"RAY_AUTH_MODE={mode}: Ray knows {' and '.join(MODES)}")
    if mode.lower() == "token" and source is None:
        found.errors.append(
            "RAY_AUTH_MODE=token, and there is no token: copy the cluster's to ~/.ray/auth_token, "
            "or make one by `ray get-auth-token --generate`"
        )


def _devices(found: Findings) -> None:
    import torch
    from ray._private.accelerators import NvidiaGPUAcceleratorManager

    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    usable = torch.cuda.device_count() if torch.cuda.is_available() else 0
    seen = NvidiaGPUAcceleratorManager.get_current_node_num_accelerators()
    found.here = {"cpus": float(cpus or 1), "gpus": float(usable)}
    if seen > usable:
        found.warnings.append(
            f"the machine has {seen} NVIDIA GPUs, and PyTorch {torch.__version__} can use "
            f"{usable}: install a PyTorch built for the machine's driver"
        )


def _started_here(found: Findings) -> str | None:
    from ray._private.services import find_bootstrap_address

    address: str | None = find_bootstrap_address(None)
    if address is None:
        found.errors.append("--address auto: no Ray cluster runs on this machine")
    return address


def _cluster(found: Findings, address: str, allow_open: bool) -> None:
    reason = probe(address)
    open_to_all = probe(address, RAY_AUTH_MODE="disabled", RAY_AUTH_TOKEN="") is None
    if reason is not None and not open_to_all:
        hint = " (or the token here is not the cluster's own)" if "healthy" in reason else ""
        found.errors.append(f"{address}: no Ray cluster answers there: {reason}{hint}")
        return
    if open_to_all:
        message = (
            f"{address}: the cluster asks for no token: anybody who reaches it can run code on "
            "it; start Ray with RAY_AUTH_MODE=token on every machine"
        )
        (found.warnings if allow_open else found.errors).append(message)
        if found.authentication["mode"] == "token":
            # A client with a token is not let in by a cluster without one.
            return
    if not address.startswith("ray://"):
        _nodes(found, address)


def _nodes(found: Findings, address: str) -> None:
    """Ask the cluster's control store, which also answers a machine that is no node of it."""
    from ray._private.authentication.authentication_token_setup import (
        maybe_enable_token_auth_if_token_available,
    )
    from ray._private.state import GlobalState
    from ray._raylet import GcsClient, GcsClientOptions  # type: ignore[attr-defined]

    maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    state = GlobalState()
    state._initialize_global_state(
        GcsClientOptions.create(
            address, None, allow_cluster_id_nil=True, fetch_cluster_id_if_nil=False
        )
    )
    try:
        alive = [node for node in state.node_table() if node["Alive"]]
    finally:
        state.disconnect()
    found.cluster = {"nodes": float(len(alive))} | {
        name.lower() + "s": sum(node["Resources"].get(name, 0.0) for node in alive)
        for name in ("CPU", "GPU")
    }
    text = GcsClient(address=address).internal_kv_get(b"CLUSTER_METADATA", b"cluster")
    for key, name in (("ray_version", "ray"), ("python_version", "python")):
        there = None if text is None else json.loads(text).get(key)
        here = found.versions[name]
        if there is not None and there.split(".")[:2] != here.split(".")[:2]:
            found.errors.append(
                f"{address}: runs {name} {there}, and here is {here}: Ray wants the same minor "
                "version everywhere"
            )
