"""Joining a Ray cluster, or starting a local one for as long as a run takes."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, TextIO

import ray
from ray._private import ray_constants

from marl_sched.errors import UserError
from marl_sched.locks import scratch_folder
from marl_sched.signals import sigterm_kept

CONNECT_TIMEOUT_S = 3.0
HEALTH_TIMEOUT_S = 30.0


@contextmanager
def ray_session(address: str | None, num_cpus: int) -> Iterator[None]:
    """Have Ray at hand: the one of this process, the one at `address`, or a new local one.

    A local cluster ends with the block, see `local_ray`; a connection to `address` is left, not
    stopped.

    Args:
        num_cpus: that a local cluster is to have at least: runners take one each even where
            processors are fewer.

    Raises:
        UserError: when nothing answers at `address`.
    """
    if ray.is_initialized():
        yield
        return
    # One thread per process: runners and learner would otherwise fight for the same cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # RLlib's fault tolerance makes Ray's core print a warning per runner, as an error.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    for name in ("ray", "ray.rllib", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if address is not None:
        with sigterm_kept():
            _join(address)
        try:
            yield
        finally:
            ray.shutdown()
        return
    with local_ray(max(os.cpu_count() or 1, num_cpus), logging_level=logging.ERROR):
        yield


@contextmanager
def local_ray(num_cpus: int, **options: Any) -> Iterator[None]:
    """A Ray cluster on this machine, for this user alone and as long as the block.

    It has no dashboard, listens on loopback only, and lets in only who has the user's Ray token
    (Ray's default for a cluster that a program starts). Its files lie in a folder that nobody else
    may enter. Other programs cannot join it: Ray would look for it at the machine's outer address.
    Programs that are to share a Ray start one with `ray start --head` and join it by --address.

    Args:
        options: of `ray.init` besides.
    """
    with scratch_folder() as folder:
        # Ray lets everybody into the folder that it is given, so it gets one below ours.
        own = Path(folder) / "ray"
        _start(own, num_cpus, options)
        try:
            _close(own)
            yield
        finally:
            ray.shutdown()


def _start(folder: Path, num_cpus: int, options: dict[str, Any]) -> None:
    """Start a local cluster, with its files in `folder`.

    Raises:
        UserError: when it does not come up.
    """
    try:
        with _private(), _loopback(), _quiet(), sigterm_kept():
            ray.init(
                address="local",
                num_cpus=num_cpus,
                include_dashboard=False,
                log_to_driver=False,
                _temp_dir=str(folder),
                **options,
            )
    except Exception as error:
        # Ray raises plain `Exception`s here, of many words.
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"a local Ray does not start ({reason}); see that the machine has memory, disk "
            f"({tempfile.gettempdir()}) and processors left, and try again"
        ) from error


@contextmanager
def _private() -> Iterator[None]:
    """Files that this process and those that it starts make are for this user alone.

    Ray writes the user's token, where there is none, as readable as it writes all files.
    """
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def _loopback() -> Iterator[None]:
    """A Ray that starts takes the loopback address for its node's, and so listens there alone.

    Ray takes every loopback address that it is given (`_node_ip_address`) for the machine's outer
    one. What it does not, it reads from this constant: whether a machine may be one of a cluster,
    which those with macOS are not.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def _close(folder: Path) -> None:
    """Take back from others what Ray has opened to them, whatever its mask was."""
    for path in (folder, *folder.rglob("*")):
        with suppress(OSError):  # a log that has just been renamed
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o700)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what compiled code writes to standard error out of the way; exceptions still rise.

    Announcing that it obeys its log level is the one line that Ray cannot be told to leave.
    What Python says meanwhile still arrives.
    """
    sys.stderr.flush()
    loud, saved = _past_descriptor_2(), os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        with _in_place_of_stderr(loud):
            yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nothing)


@lru_cache(maxsize=1)
def _past_descriptor_2() -> TextIO:
    """Standard error by a descriptor of its own; never closed, as log handlers may keep it."""
    return os.fdopen(os.dup(2), "w", buffering=1)


@contextmanager
def _in_place_of_stderr(file: TextIO) -> Iterator[None]:
    """Let Python write to `file` where it would write to descriptor 2; tests write elsewhere."""
    before = sys.stderr
    try:
        plain = before.fileno() == 2
    except (OSError, ValueError, AttributeError):
        plain = False
    if plain:
        sys.stderr = file
    try:
        yield
    finally:
        sys.stderr = before


def probe(address: str, **environment: str) -> str | None:
    """Why no cluster can be reached at HOST:PORT, within seconds; None when one can.

    `ray.init` itself would try for minutes.

    Args:
        environment: variables to ask with, in place of this process's own.
    """
    host, found, port = address.removeprefix("ray://").rpartition(":")
    if not found or not port.isdigit() or not 0 < int(port) < 2**16:
        return "it is not HOST:PORT, for example 10.0.0.1:6379, nor auto"
    try:
        socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S).close()
    except OSError as error:
        return error.strerror or str(error)
    if address.startswith("ray://"):
        return None
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            timeout=HEALTH_TIMEOUT_S,
            env={**os.environ, **environment},
        )
    except subprocess.TimeoutExpired:
        return "what listens there does not answer as Ray does"
    return None if done.returncode == 0 else "what listens there is not a healthy Ray cluster"


@contextmanager
def losing_ray_is_told() -> Iterator[None]:
    """Say in one line that Ray's own processes, not what runs in them, have failed.

    Raises:
        UserError: in place of Ray's error.
    """
    from ray.exceptions import RayError, RayTaskError

    try:
        yield
    except RayTaskError:
        raise
    except RayError as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"Ray has failed ({type(error).__name__}: {reason}); see that its machines are up and "
            "have memory left, and go on with --resume auto"
        ) from error


def _join(address: str) -> None:
    reason = probe(address) if address != "auto" else None
    if reason is not None:
        raise UserError(
            f"--address {address}: no Ray cluster answers there ({reason}); start one with "
            "`ray start --head`, or leave --address out for a local one"
        )
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"--address {address}: cannot join a Ray cluster there ({reason}); start one with "
            "`ray start --head`, or leave --address out for a local one"
        ) from None
