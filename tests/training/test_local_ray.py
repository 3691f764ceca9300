"""A local Ray of ours is for its user alone: where it listens, and who may enter its folder."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from marl_sched.compiled.jit import cache_folder

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
TRAIN = (
    "train", "--cluster", "2x4", "--num-env-runners", "1", "--iterations", "100000",
    "--set", "workload.synthetic.num_jobs=200", "--set", "training.ppo.batch_size=64",
    "--set", "training.validation_episodes=2", "--set", "training.validation_every=100000",
)  # fmt: skip


def listening(process: psutil.Process) -> dict[str, str]:
    """Address and port -> name of what listens, of a process and all that it started."""
    found = {}
    for one in (process, *process.children(recursive=True)):
        try:
            for connection in one.net_connections(kind="inet"):
                if connection.status == psutil.CONN_LISTEN:
                    found[f"{connection.laddr.ip}:{connection.laddr.port}"] = one.name()
        except psutil.NoSuchProcess:
            continue
    return found


def is_loopback(address: str) -> bool:
    return re.match(r"127\.|::1:|::ffff:127\.", address) is not None


def open_to_others(folder: Path) -> list[str]:
    """What in `folder` (itself too) others may read, write or enter."""
    return [
        f"{stat.S_IMODE(path.lstat().st_mode):o} {path}"
        for path in (folder, *folder.rglob("*"))
        if not path.is_symlink() and stat.S_IMODE(path.lstat().st_mode) & 0o077
    ]


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Not pytest's: Ray's socket paths must stay under 108 characters."""
    folder = Path(tempfile.mkdtemp(prefix="lr-", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_a_training_run_is_closed_to_others(tmp_path: Path, temporary: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    hidden = ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE", "RAY_ADDRESS")
    environment = {key: text for key, text in os.environ.items() if key not in hidden}
    environment |= {"HOME": str(home), "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)}
    environment["NUMBA_CACHE_DIR"] = str(cache_folder().parent)
    out = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-m", "marl_sched", *TRAIN, "--out", str(out)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True, umask=0o022,
    ) as program:  # fmt: skip
        try:
            while not (out / "metrics.csv").is_file():
                assert program.poll() is None, program.communicate()[0]
                time.sleep(0.2)
            # GCS, raylet, agents, the driver, a worker: fewer would mean that they were not found.
            found = listening(psutil.Process(program.pid))
            assert len(found) >= 8 and {"gcs_server", "raylet"} <= set(found.values())
            assert [one for one in found.items() if not is_loopback(one[0])] == []
            (folder,) = temporary.glob("marl-*")
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            assert folder.stat().st_uid == os.geteuid()
            (session,) = folder.glob("ray/session_2*")
            for inner in (session.parent, session, session / "logs", session / "sockets"):
                assert stat.S_IMODE(inner.stat().st_mode) == 0o700
            # The token that Ray makes where the user has none.
            assert open_to_others(home / ".ray") == []
            assert len((home / ".ray" / "auth_token").read_text()) == 64
            # The run itself is as readable as anything else that the user writes.
            assert stat.S_IMODE((out / "run.json").stat().st_mode) == 0o644
        finally:
            program.send_signal(signal.SIGINT)
            try:
                program.communicate(timeout=120)
            except subprocess.TimeoutExpired:
                program.kill()
                raise
    assert list(temporary.glob("marl-*")) == []
