"""`marl-sched reproduce`: inputs in any form, JSON, tables, the page, and errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from marl_sched.cli.reproduce import spread
from marl_sched.errors import UserError
from marl_sched.reproduce.files import gavel_cluster, gavel_files, pollux_profiles
from marl_sched.reproduce.report import table
from marl_sched.reproduce.section import percent
from tests.cli.program import call, files_in
from tests.reproduce.test_gavel import line
from tests.reproduce.test_muri import JOBS

PODS = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n"
NODES = "sn,cpu_milli,memory_mib,gpu,model\nn0,8000,8192,2,T4\nn1,8000,8192,2,P100\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("one.csv", "two.csv"):
        (tmp_path / name).write_text(JOBS)
    rows = "".join(f"p{i},1000,1,1,{500 + 500 * (i % 2)},\n" for i in range(6))
    (tmp_path / "pods.csv").write_text(PODS + rows)
    (tmp_path / "openb_node_list_gpu_node.csv").write_text(NODES)
    (tmp_path / "sizes.csv").write_text("job_id,size\nx,9\ny,4\n")
    return tmp_path


def test_values_behind_an_option_belong_to_it() -> None:
    given = ["--input", "a", "b", "--json", "--input=c", "d", "--load", "90", "e"]
    assert spread(given, "--input") == [
        "--input", "a", "--input", "b", "--json", "--input=c", "--input", "d", "--load", "90", "e",
    ]  # fmt: skip
    assert spread(["--input", "--input"], "--input") == ["--input", "--input"]


def test_one_input_and_scheduler_are_one_object(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("reproduce", "muri", "--cluster", "1x2", "--scheduler", "srtf", "--json")
    seen = call(capsys, *given, "--input", folder / "one.csv")
    assert seen.code == 0, seen.err
    report = json.loads(seen.out)
    assert report["scheduler"] == "srtf"
    assert report["input"] == str(folder / "one.csv")
    assert report["jcts_s"] == pytest.approx({"a": 243.3, "b": 20.3, "c": 346.3})
    assert report["avg_jct_s"] == pytest.approx(203.3)
    assert report["p50_jct_s"] == pytest.approx(243.3)
    assert {"num_jobs", "num_finished", "p99_jct_s", "makespan_s"} <= set(report)
    assert call(capsys, *given, "--input", folder / "one.csv").out == seen.out


def test_several_are_a_list(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = ("--input", folder / "two.csv", folder / "one.csv", "--json")
    seen = call(capsys, "reproduce", "muri", *inputs, "--cluster", "1x2")
    assert seen.code == 0, seen.err
    found = [(Path(each["input"]).stem, each["scheduler"]) for each in json.loads(seen.out)]
    names = ("srtf", "srsf", "tiresias_l")
    assert found == [(stem, name) for stem in ("two", "one") for name in names]
    alone = call(capsys, "reproduce", "muri", folder / "one.csv", "--scheduler", "srsf",
                 "--scheduler", "srtf", "--json", "--cluster", "1x2")  # fmt: skip
    assert [each["scheduler"] for each in json.loads(alone.out)] == ["srsf", "srtf"]


def test_a_table_without_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen = call(capsys, "reproduce", "muri", "--input", folder / "one.csv", "--cluster", "1x2")
    assert seen.code == 0
    for words in ("one.csv", "srtf", "srsf", "tiresias_l", "mean JCT", "makespan", "3.4 min"):
        assert words in seen.out


def test_openb_by_load_and_seed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ("reproduce", "openb", "--input", folder / "pods.csv", "--seeds", "2")
    seen = call(capsys, *given, "--scheduler", "fgd", "--load", "60", "--load", "100", "--json")
    assert seen.code == 0, seen.err
    report = json.loads(seen.out)
    by_load = report["by_load"]
    assert list(by_load) == ["60", "100"]
    assert report["gpu_allocated_percent"] == by_load["100"]["mean_percent"] > 60
    assert set(by_load["60"]["by_seed"]) == {"0", "1"}
    shown = call(capsys, *given)
    assert all(name in shown.out for name in ("random", "best_fit", "dot_prod", "gpu_packing"))


def test_gavel_by_both_kinds_of_rounds(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "jobs.trace").write_text(line(2400, 0))
    (folder / "rates.json").write_text('{"v100": {"(\'A3C (batch size 4)\', 1)": {"null": 10}}}')
    (folder / "overheads.txt").write_text("[10]")
    inputs = ("--input", folder / "jobs.trace", folder / "rates.json", "--cluster", "1")
    given = ("reproduce", "gavel", *inputs, "--scheduler", "max_min_fairness", "--json")
    assert json.loads(call(capsys, *given).out)["jcts_s"]["0"] == pytest.approx(240.0)
    real = ("--overheads", folder / "overheads.txt")
    assert json.loads(call(capsys, *given, *real).out)["jcts_s"]["0"] == pytest.approx(260.0)
    ended = json.loads(call(capsys, *given, *real, "--overtime", "0.5").out)
    assert ended["jcts_s"]["0"] == pytest.approx(140.0)
    seen = call(capsys, *given, *real, "--overtime", "0")
    assert seen.code == 2 and "--overtime 0: must be a number > 0" in seen.err


def test_hesrpt_by_hand(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ("reproduce", "hesrpt", "--input", folder / "sizes.csv")
    report = json.loads(call(capsys, *given, "--gpus", "4", "--json").out)
    assert report["closed_form"] == pytest.approx((9 + 4 * 3**0.5) / 2)
    y_s = 4 / 3**0.5
    assert report["jcts_s"] == pytest.approx({"x": y_s + (9 - y_s) / 2, "y": y_s})
    assert report["makespan_s"] == report["jcts_s"]["x"]
    again = json.loads(call(capsys, *given, "--cluster", "2x2", "--json").out)
    assert again == report
    assert "closed form" in call(capsys, *given).out


CASES = {
    "no input": (["muri"], ["--input"]),
    "missing": (["muri", "--input", "@none.csv"], ["none.csv", "no such file"]),
    "unknown scheduler": (
        ["muri", "--input", "@one.csv", "--scheduler", "fifo"], ["fifo", "srtf", "tiresias_l"],
    ),
    "wrong file": (["muri", "--input", "@pods.csv"], ["pods.csv", "job_id"]),
    "too small": (
        ["muri", "--input", "@one.csv", "--cluster", "1x1"],
        ["'one'", "asks for 2 GPUs"],
    ),
    "bad cluster": (["muri", "--input", "@one.csv", "--cluster", "eight"], ["eight"]),
    "no overheads": (
        ["muri", "--input", "@one.csv", "--cluster", "1x2", "--overheads", "@none.csv"],
        ["none.csv"],
    ),
    "no nodes": (["openb", "--input", "@pods.csv", "--nodes", "@none.csv"], ["none.csv"]),
    "load": (["openb", "--input", "@pods.csv", "--load", "200"], ["200", "129"]),
    "exponent": (["hesrpt", "--input", "@sizes.csv", "--p", "1.5"], ["1.5"]),
    "weights": (["hesrpt", "--input", "@sizes.csv", "--weights", "x"], ["x", "slowdown"]),
    "both": (
        ["hesrpt", "--input", "@sizes.csv", "--gpus", "4", "--cluster", "2x2"],
        ["--gpus", "--cluster"],
    ),
    "report: no folder": (["report", "--data", "@none"], ["none", "no such folder"]),
    "report: nothing there": (["report", "--data", "@."], ["no experiment"]),
    "unknown experiment": (["murri"], ["murri"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_bad_input(
    case: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    arguments, words = CASES[case]
    before = files_in(folder)
    seen = call(capsys, "reproduce", *(text.replace("@", f"{folder}/") for text in arguments))
    assert seen.code == 2, seen
    assert seen.out == ""
    errors = [line for line in seen.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and seen.err.splitlines()[-1] == errors[0]
    for word in words:
        assert word in errors[0], (word, errors[0])
    assert files_in(folder) == before


def test_the_files_of_gavel_in_any_order(tmp_path: Path) -> None:
    trace, rates, epochs = (tmp_path / name for name in ("jobs.trace", "rates.json", "epochs"))
    trace.write_text("job\n")
    rates.write_text('{"v100": {}}')
    epochs.write_text("[]")
    for given in ([trace, rates, epochs], [epochs, rates, trace]):
        (files,) = gavel_files(given, None, None)
        assert (files.trace, files.throughputs, files.profile) == (trace, rates, epochs)
    with pytest.raises(UserError, match="name one with --throughputs"):
        gavel_files([trace], None, None)
    (tmp_path / "a_throughputs.json").write_text("{}")
    (files,) = gavel_files([trace], None, None)
    assert files.throughputs.name == "a_throughputs.json"
    assert files.profile is None
    (tmp_path / "b_throughputs.json").write_text("{}")
    with pytest.raises(UserError, match="a_throughputs.json, b_throughputs.json.*--throughputs"):
        gavel_files([trace], None, None)
    with pytest.raises(UserError, match="no job trace"):
        gavel_files([rates], None, None)
    with pytest.raises(UserError, match="given already"):
        gavel_files([trace, rates], tmp_path / "a_throughputs.json", None)


def test_clusters_of_gavel() -> None:
    assert gavel_cluster("32") == "32"
    assert gavel_cluster("32:16:8") == "32:16:8"
    assert gavel_cluster("8x4") == {"v100": 32}
    assert gavel_cluster("8x4:V100+2x4:K80") == {"v100": 32, "k80": 8}
    with pytest.raises(UserError):
        gavel_cluster("many")


def test_the_profiles_of_pollux(tmp_path: Path) -> None:
    (tmp_path / "workloads").mkdir()
    workload = tmp_path / "workloads" / "workload-1.csv"
    with pytest.raises(UserError, match="--profiles"):
        pollux_profiles(workload)
    (tmp_path / "profiles").mkdir()
    assert pollux_profiles(workload) == tmp_path / "profiles"


def test_differences_and_tables() -> None:
    assert percent(1.0, 1.0) == "0"
    assert percent(1.0 + 1e-9, 1.0) == "< 0.0001 %"
    assert percent(1.02, 1.0) == "+2.00 %"
    assert percent(0.99999, 1.0) == "-0.0010 %"
    assert table(("a", "b"), [("x", "1"), ("y", "-2")]) == (
        "| a | b |\n| --- | ---: |\n| x | 1 |\n| y | -2 |"
    )


def test_the_page(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = folder / "data", folder / "docs" / "page.md"
    (data / "muri").mkdir(parents=True)
    (data / "muri" / "trace1.csv").write_text(
        JOBS.replace("vgg,200", "vgg,200,203000").replace(
            "iteration_time", "iteration_time,duration"
        )
    )
    published = {"avg_jct_s": 200.0, "p99_jct_s": 346.3, "makespan_s": 400.0}
    (data / "muri" / "expected.json").write_text(json.dumps({"trace1": {"SRTF": published}}))
    pages = []
    for _ in range(2):
        seen = call(capsys, "reproduce", "report", "--data", data, "--out", out)
        assert seen.code == 0, seen.err
        assert seen.out == ""
        assert "running muri trace1 srtf" in seen.err and "left out openb" in seen.err
        pages.append(out.read_text())
    # On 8 nodes nobody waits; a pays 10 s at 50, 70.3 and 100 s, c at 233 s: 233, 20.3 and 213 s.
    before, _, cpu = pages[0].partition("## CPU seconds")
    assert before == pages[1].partition("## CPU seconds")[0]
    assert "| trace1 | srtf | mean JCT | 155.4 | 200.0 | -22.28 % |" in before
    assert "| trace1 | srtf | makespan | 313.0 | 400.0 | -21.75 % |" in before
    assert "--input $DATA/muri/trace1.csv --scheduler srtf" in before
    assert str(folder) not in pages[0]
    assert "| muri trace1 srtf |" in cpu
