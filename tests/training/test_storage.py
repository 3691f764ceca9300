"""A run's folder on another file system: a path, an S3 server, and what goes wrong."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from marl_sched.checkpoints import seal
from marl_sched.config import Config, load_config, save_config
from marl_sched.errors import UserError
from marl_sched.training.records import RunFolder
from marl_sched.training.run import check_places
from marl_sched.training.storage import Storage


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    """HOST:PORT of an S3 server with a bucket `runs`."""
    server_module = pytest.importorskip("moto.server")
    boto3 = pytest.importorskip("boto3")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        boto3.client("s3", endpoint_url=f"http://{host}:{port}").create_bucket(Bucket="runs")
        yield f"{host}:{port}"
    server.stop()


@pytest.fixture(params=["path", "s3"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "path":
        return str(tmp_path / "shared" / "one")
    server = request.getfixturevalue("s3_server")
    return f"s3://runs/{tmp_path.name}?endpoint_override={server}&scheme=http"


def write(out: Path, iteration: int, weights: str = "w") -> None:
    """A run's folder with one checkpoint."""
    folder = out / "checkpoints" / f"iter_{iteration}"
    (folder / "learner").mkdir(parents=True)
    (folder / "learner" / "state.npz").write_text(f"{weights}{iteration}")
    seal(folder, {"iteration": iteration})
    (out / "metrics.csv").write_text(f"iteration\n{iteration}\n")
    (out / "run.json").write_text("{}")


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_what_is_fetched_is_what_was_kept(uri: str, tmp_path: Path) -> None:
    out, storage = tmp_path / "out", Storage(uri)
    write(out, 1)
    storage.prepare(out, None, resume=False, overwrite=False)
    storage.mirror(out)
    write(out, 2)
    shutil.rmtree(out / "checkpoints" / "iter_1")
    storage.mirror(out)
    back = tmp_path / "back"
    assert Storage(uri).fetch(back) == 4
    assert contents(back) == contents(out)
    assert storage.latest_iteration(storage.files()) == 2
    if "://" not in uri:
        assert [path.name for path in Path(uri, "checkpoints").iterdir()] == ["iter_2"]


def test_a_run_goes_on_from_the_newer_of_both(uri: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, 4)
    Storage(uri).finish(out)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    Storage(uri).prepare(elsewhere, None, resume=True, overwrite=False)
    assert contents(elsewhere) == contents(out)
    ahead = tmp_path / "ahead"
    write(ahead, 9)
    Storage(uri).prepare(ahead, 9, resume=True, overwrite=False)
    assert set(contents(ahead)) == {
        "checkpoints/iter_9/learner/state.npz",
        "checkpoints/iter_9/progress.json",
        "metrics.csv",
        "run.json",
    }


def test_another_run_is_not_overwritten(uri: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, 1)
    Storage(uri).finish(out)
    with pytest.raises(UserError, match="holds a run already"):
        Storage(uri).prepare(tmp_path / "new", None, resume=False, overwrite=False)
    Storage(uri).prepare(tmp_path / "new", None, resume=False, overwrite=True)
    assert Storage(uri).files() == {}


def test_a_checkpoint_without_its_mark_does_not_count(uri: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, 3)
    (out / "checkpoints" / "iter_3" / "progress.json").unlink()
    storage = Storage(uri)
    storage.finish(out)
    assert storage.latest_iteration(storage.files()) is None


def test_marks_are_written_last_and_removed_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, out = Storage(str(tmp_path / "shared")), tmp_path / "out"
    write(out, 1)
    put: list[str] = []
    whole = Storage._put

    def record(self: Storage, path: Path, name: str) -> None:
        put.append(name)
        whole(self, path, name)

    monkeypatch.setattr(Storage, "_put", record)
    storage.mirror(out)
    assert put[-1] == "checkpoints/iter_1/progress.json" and len(put) == 4
    storage.mirror(out)
    assert len(put) == 4  # nothing has changed


@pytest.mark.parametrize("bad", ["nonsense://x/y", "s3://"])
def test_a_bad_address_is_one_line(bad: str) -> None:
    with pytest.raises(UserError, match="^--storage "):
        Storage(bad)
    with pytest.raises(UserError, match="^" + bad):
        Storage(bad, option="")


def test_google_cloud_is_known() -> None:
    assert Storage("gs://anonymous@bucket/runs/one")._root == "bucket/runs/one"


def test_a_path_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    storage = Storage(str(tmp_path / "file" / "below"))
    with pytest.raises(UserError, match="--storage"):
        storage.prepare(tmp_path / "out", None, resume=False, overwrite=False)


def test_a_failure_in_the_middle_is_mended_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    storage, out = Storage(str(tmp_path / "shared")), tmp_path / "out"
    write(out, 1)

    def broken(self: Storage, path: Path, name: str) -> None:
        raise OSError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "_put", broken)
        storage.mirror(out)
        assert "no room" in caplog.text
        with pytest.raises(UserError, match="whole in"):
            storage.finish(out)
    storage.finish(out)
    assert contents(tmp_path / "shared") == contents(out)


def test_what_would_lie_outside_is_not_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bucket may hold any name; a folder has none of these."""
    write(tmp_path / "shared", 1)
    storage = Storage(str(tmp_path / "shared"))
    names = storage.files() | {"checkpoints/../../escaped": 1}
    monkeypatch.setattr(Storage, "files", lambda self: names)
    with pytest.raises(UserError, match="'checkpoints/../../escaped' is no file of a run"):
        storage.fetch(tmp_path / "back" / "run")
    assert not (tmp_path / "back").exists()


def test_credentials_are_in_no_message(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody listens at that port."""
    storage = Storage("s3://KEY:SECRET@b/r?endpoint_override=127.0.0.1:1&scheme=http")
    write(tmp_path, 1)
    storage.mirror(tmp_path)
    for act in (lambda: storage.finish(tmp_path), lambda: storage.fetch(tmp_path)):
        with pytest.raises(UserError, match=r"s3://\*\*\*@b/r") as error:
            act()
        assert "SECRET" not in str(error.value) and "KEY" not in str(error.value)
    assert "***@b/r" in caplog.text and "SECRET" not in caplog.text


def test_nothing_to_fetch(uri: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing is there"):
        Storage(uri).fetch(tmp_path / "back")
    assert not os.path.exists(tmp_path / "back")


def run_of(out: Path, seed: int, iteration: int) -> Config:
    """A run's folder, and what it was trained with."""
    config = load_config(overrides=[f"seed={seed}", "env.credit=lookahead"])
    write(out, iteration, f"seed{seed}-")
    save_config(config, out / "config.yaml")
    (out / "best").mkdir()
    (out / "best" / "manifest.json").write_text(f"{seed}")
    return config


@pytest.mark.parametrize(("mine", "other"), [(5, 10), (10, 5), (5, 5)])
def test_a_run_does_not_go_on_with_the_storage_of_another(
    mine: int, other: int, uri: str, tmp_path: Path
) -> None:
    out, foreign, back = tmp_path / "out", tmp_path / "foreign", tmp_path / "back"
    config = run_of(out, 1, mine)
    run_of(foreign, 2, other)
    Storage(uri).finish(foreign)
    before = contents(out)
    wrong = r"^--storage .*: config.yaml: seed was 2 and now is 1; .* another --storage$"
    with pytest.raises(UserError, match=wrong):
        RunFolder(out, Storage(uri)).prepare(config, resume=True, overwrite=False)
    with pytest.raises(UserError, match=wrong):
        check_places(config, out, uri, resume=True)
    assert contents(out) == before
    Storage(uri).fetch(back)
    assert contents(back) == contents(foreign)


@pytest.mark.parametrize(("here", "there"), [(5, 10), (10, 5)])
def test_a_run_goes_on_with_its_own_storage(
    here: int, there: int, uri: str, tmp_path: Path
) -> None:
    out, kept = tmp_path / "out", tmp_path / "kept"
    run_of(out, 1, here)
    config = run_of(kept, 1, there)
    Storage(uri).finish(kept)
    longer = config.model_copy(
        update={"training": config.training.model_copy(update={"iterations": 99})}
    )
    found = RunFolder(out, Storage(uri)).prepare(longer, resume=True, overwrite=False)
    assert found == out / "checkpoints" / "iter_10"


def test_settings_in_the_storage_that_cannot_be_read(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    for data in (b"\xff\xfe", b"a: [1\n", b"unknown: 1\n"):
        (shared / "config.yaml").write_bytes(data)
        with pytest.raises(UserError, match="--storage"):
            check_places(Config(), tmp_path / "out", str(shared), resume=True)


@pytest.mark.parametrize("resume", [True, False])
def test_seeing_that_a_run_can_be_kept_leaves_nothing(resume: bool, tmp_path: Path) -> None:
    check_places(Config(), tmp_path / "runs" / "out", str(tmp_path / "far" / "one"), resume)
    assert not list(tmp_path.iterdir())


def test_a_run_that_is_replaced_leaves_nothing_of_the_former(tmp_path: Path) -> None:
    config = run_of(tmp_path, 1, 5)
    (tmp_path / "evaluation.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("the user's own")
    assert RunFolder(tmp_path).prepare(config, resume=False, overwrite=True) is None
    assert set(contents(tmp_path)) == {"config.yaml", "notes.txt"}
