"""Joining a Ray cluster, or starting a local one for as long as a run takes."""

from __future__ import annotations

import logging
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

from marl_sched.errors import UserError

CONNECT_TIMEOUT_S = 3.0


@contextmanager
def ray_session(address: str | None, num_env_runners: int) -> Iterator[None]:
    """Have Ray at hand: the one of this process, the one at `address`, or a new local one.

    A local cluster listens on the loopback interface only, without dashboard, and ends with
    the block. A connection to `address` is left, not stopped.

    Raises:
        UserError: when nothing answers at `address`.
    """
    if ray.is_initialized():
        yield
        return
    # One thread per process: runners and learner would otherwise fight for the same cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    for name in ("ray", "ray.rllib", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if address is not None:
        _join(address)
        try:
            yield
        finally:
            ray.shutdown()
        return
    with tempfile.TemporaryDirectory(prefix="marl-", ignore_cleanup_errors=True) as folder:
        ray.init(
            address="local",
            num_cpus=max(os.cpu_count() or 1, num_env_runners),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _node_ip_address="127.0.0.1",
            _temp_dir=str(Path(folder)),
        )
        try:
            yield
        finally:
            ray.shutdown()


def _join(address: str) -> None:
    plain = address.removeprefix("ray://")
    host, found, port = plain.rpartition(":")
    if address != "auto":
        if not found or not port.isdigit():
            raise UserError(
                f"--address {address!r}: write HOST:PORT, for example 10.0.0.1:6379, or auto"
            )
        try:
            socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S).close()
        except OSError as error:
            raise UserError(
                f"--address {address}: no Ray cluster answers there ({error.strerror or error}); "
                "start one with `ray start --head`, or leave --address out for a local one"
            ) from None
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"--address {address}: cannot join a Ray cluster there ({reason}); start one with "
            "`ray start --head`, or leave --address out for a local one"
        ) from None
