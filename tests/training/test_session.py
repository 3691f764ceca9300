"""An address where nothing answers is one line of error, soon."""

from __future__ import annotations

import socket
import time

import pytest

from marl_sched.errors import UserError
from marl_sched.training import session


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1:1", "no Ray cluster answers there"),
        ("ray://127.0.0.1:1", "no Ray cluster answers there"),
        ("nonsense", "not HOST:PORT"),
    ],
)
def test_unreachable(monkeypatch: pytest.MonkeyPatch, address: str, reason: str) -> None:
    monkeypatch.setattr(session.ray, "is_initialized", lambda: False)
    begun = time.monotonic()
    with pytest.raises(UserError, match=reason) as caught, session.ray_session(address, 0):
        pass
    assert time.monotonic() - begun < 5 and "\n" not in str(caught.value)


def test_something_else_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "HEALTH_TIMEOUT_S", 1.0)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        reason = session.probe(f"127.0.0.1:{server.getsockname()[1]}")
    assert reason is not None and "Ray" in reason
