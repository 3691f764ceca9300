"""`trace fetch` against a local server: digests, what is in the way, no network."""

import hashlib
import io
import json
import tarfile
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import unquote

import pytest
from typer.testing import CliRunner

from marl_sched.cli.trace import app
from marl_sched.config import TraceFormat
from marl_sched.errors import UserError
from marl_sched.workload import download, sources
from marl_sched.workload.sources import FILES, PublicFile

TEXT = b"arrival_s,duration_s,num_gpus\n0,5,1\n"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def public(data: bytes, **changes) -> PublicFile:
    path = "data/a b,c.csv"
    file = PublicFile("us/traces", "f" * 40, path, len(data), digest(data), "MIT", "test", "csv")
    return replace(file, **changes)


@pytest.fixture
def served(monkeypatch):
    """Bytes by path, as a server on this machine hands them out; the paths that were asked for."""
    files: dict[str, bytes] = {}
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = unquote(self.path)
            asked.append(path)
            if path not in files:
                self.send_error(404)
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(files[path])

        def log_message(self, *_) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setattr(download, "RAW_ADDRESS", f"http://127.0.0.1:{server.server_port}")
    yield files, asked
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def table(monkeypatch):
    files: dict[str, PublicFile] = {"tiny": public(TEXT)}
    monkeypatch.setattr(sources, "FILES", files)
    monkeypatch.setattr(download, "FILES", files)
    return files


def run(*arguments: object) -> str:
    words = [str(argument) for argument in arguments]
    result = CliRunner().invoke(app, ["fetch", *words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


PLACE = f"/us/traces/{'f' * 40}/data/a b,c.csv"


def test_a_file_is_fetched_and_verified_once(tmp_path, served, table):
    files, asked = served
    files[PLACE] = TEXT
    out = tmp_path / "new" / "trace.csv"
    found = json.loads(run("tiny", "--out", out, "--json"))
    assert out.read_bytes() == TEXT
    assert (found["downloaded"], found["sha256"]) == (True, digest(TEXT))
    assert "already there" in run("tiny", "--out", out)
    assert asked == [PLACE]


def test_the_default_name(tmp_path, served, table, monkeypatch):
    served[0][PLACE] = TEXT
    monkeypatch.chdir(tmp_path)
    assert "wrote tiny.csv" in run("tiny")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.csv"]


@pytest.mark.parametrize("data", [TEXT + b"1,5,1\n", TEXT[:-1], b""])
def test_a_wrong_digest_writes_nothing(tmp_path, served, table, data):
    served[0][PLACE] = data
    with pytest.raises(UserError, match=f"SHA-256 is .*, not {digest(TEXT)}"):
        run("tiny", "--out", tmp_path / "trace.csv")
    assert list(tmp_path.iterdir()) == []


def test_a_different_file_is_not_overwritten(tmp_path, served, table):
    served[0][PLACE] = TEXT
    out = tmp_path / "trace.csv"
    out.write_text("mine")
    with pytest.raises(UserError, match="is there already .* choose another --out"):
        run("tiny", "--out", out)
    assert out.read_text() == "mine"
    with pytest.raises(UserError, match="it is a folder"):
        run("tiny", "--out", tmp_path)
    assert served[1] == []


def test_no_such_file_no_network_no_such_name(tmp_path, served, table, monkeypatch):
    out = tmp_path / "trace.csv"
    with pytest.raises(UserError, match="the server answers 404"):
        run("tiny", "--out", out)
    with pytest.raises(UserError, match="'huge' is not known; known: tiny"):
        run("huge", "--out", out)
    monkeypatch.setattr(download, "RAW_ADDRESS", "http://127.0.0.1:1")
    with pytest.raises(UserError, match="cannot be reached .*; check the network") as caught:
        run("tiny", "--out", out)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_member_of_an_archive(tmp_path, served, table):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        info = tarfile.TarInfo("inner.csv")
        info.size = len(TEXT)
        archive.addfile(info, io.BytesIO(TEXT))
    data = packed.getvalue()
    table["inner"] = public(data, member="inner.csv", member_sha256=digest(TEXT))
    served[0][PLACE] = data
    out = tmp_path / "trace.csv"
    run("inner", "--out", out)
    assert out.read_bytes() == TEXT
    table["inner"] = public(data, member="inner.csv", member_sha256="0" * 64)
    with pytest.raises(UserError, match="inner.csv: SHA-256 is"):
        run("inner", "--out", tmp_path / "other.csv")


def test_the_list(table):
    assert list(json.loads(run("list", "--json"))) == ["tiny"]
    assert "us/traces" in " ".join(run("list").split())


def test_the_table_is_well_formed():
    from typing import get_args

    assert len({file.member_sha256 or file.sha256 for file in FILES.values()}) == len(FILES)
    for name, file in FILES.items():
        assert len(file.commit) == 40, name
        assert len(file.sha256) == 64, name
        assert download.address(file).startswith("https://raw.githubusercontent.com/"), name
        assert file.suffix in (".csv", ".trace"), name
    later = {"pollux", "gavel", "openb"}
    assert {file.format for file in FILES.values()} <= set(get_args(TraceFormat)) | later


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("itp05", "itp/cluster05.csv"),
        ("chronus", "chronus/trace_job_Philly_SLO.csv"),
        ("muri1", "muri/trace1.csv"),
        ("pollux2", "pollux/workloads/workload-2.csv"),
        ("shockwave120", "shockwave/jobs120.trace"),
        ("openb-default", "openb/openb_pod_list_default.csv"),
    ],
)
def test_the_digests_are_those_of_the_files(shared_data, name, place):
    file = FILES[name]
    data = (shared_data / place).read_bytes()
    assert digest(data) == (file.member_sha256 or file.sha256)
    assert file.member or len(data) == file.size
