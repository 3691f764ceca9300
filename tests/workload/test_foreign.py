"""Files of others: each is named for what it is, with a mend that works."""

from __future__ import annotations

import bz2
import gzip
import lzma
from pathlib import Path

import pytest

from marl_sched.errors import UserError
from marl_sched.workload.foreign import FOREIGN, Foreign
from marl_sched.workload.formats import read_trace
from tests.workload.test_formats import SLURM
from tests.workload.test_loaders import PHILLY

CASES = Path(__file__).parents[2].parent / "shared" / "cases"

HELIOS = """job_id,user,vc,gpu_num,cpu_num,node_num,state,submit_time,start_time,end_time,duration,\
queue
1425511,u,vcJ,1,1,1,COMPLETED,2020-06-09 18:41:01,2020-06-09 18:41:01,2020-06-10 04:55:09,36848,0
1425513,v,vcp,0,1,1,CANCELLED,2020-06-09 18:41:28,2020-06-09 18:41:28,2020-06-17 14:15:21,675233,0
"""
SACCT_JSON = '{"jobs": [{"job_id": 1, "tres": {"allocated": []}, "time": {"elapsed": 3600}}]}'
PHILLY_JSON = '[{"vc": "e", "jobid": "a", "attempts": [], "submitted_time": "2017-10-07 01:11:39"}]'
KUEUE = '{"apiVersion": "v1", "kind": "List", "items": []}'
SWF = "; Version: 2.2\n; MaxProcs: 128\n    1 0 5 100 8 -1 -1 8 200 -1 1 1 1 -1 1 1 -1 -1\n"
GAVEL = "ResNet-18 (batch size 32)\tpython x\tdir\t--steps\t1\t1000\t2\tstatic\t1\t-1\t100\t0.5\n"

CONTENTS = {
    "gzip": (gzip.compress(SLURM.encode()), "is packed by gzip; unpack it first: gunzip"),
    "bzip2": (bz2.compress(SLURM.encode()), "is packed by bzip2; unpack it first: bunzip2"),
    "xz": (lzma.compress(SLURM.encode()), "is packed by xz; unpack it first: unxz"),
    "zip": (b"PK\x03\x04rest", "is packed by zip; unpack it first: unzip"),
    "zstd": (b"\x28\xb5\x2f\xfdrest", "is packed by zstd"),
    "utf-16": (PHILLY.encode("utf-16"), "it is UTF-16, or no text at all; save it as UTF-8"),
    "parquet": (b"PAR1\x00\x00", "is a Parquet file; let its name end in .parquet"),
    "sacct --json": (SACCT_JSON.encode(), "is Slurm's JSON; .* sacct -P -a -o JobID,User"),
    "philly": (PHILLY_JSON.encode(), "is Philly's job log; write a CSV file .* timestamp = sub"),
    "kueue": (KUEUE.encode(), "is a list of Kubernetes' objects; write a CSV file"),
    "kueue as yaml": (b"apiVersion: v1\nitems: []\n", "is a list of Kubernetes' objects; write"),
    "spreadsheet": (b"PK\x03\x04..[Content_Types].xml", "is a spreadsheet; save it as CSV"),
    "tar": (b"x" * 257 + b"ustar", "is a tar archive; unpack it first: tar xf"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid 1\n", "get that: git lfs pull"),
    "web page": (b"<!DOCTYPE html>\n", "is a web page or XML; download the raw file"),
    "pickle": (b"\x80\x04abc", "is a pickle, which is never read"),
    "feather": (b"ARROW1", "write it as Parquet"),
    "sacct": (b"  JobID      User\n------ ---------\n     1        a\n", "let Slurm separate"),
    "json": (b'{"a": 1}', "is JSON; write a CSV or Parquet file that has the columns arrival_s"),
    "swf": (SWF.encode(), "is in the Standard Workload Format, .* write the csv format"),
    "gavel": (GAVEL.encode(), "is a trace of Gavel; `marl-sched reproduce gavel --input FILE`"),
    "comment": (b"; x\n" + PHILLY.encode(), "begins with lines of comment"),
    "no header": (b"a1b2,worker,1,Terminated,1700.0,2900.0,600.0,29.3,50.0,MISC\n",
                  "it has no header line, as its first line holds values"),
    "semicolons": (b"arrival_s;duration_s;num_gpus\n0;1;1\n", "separate its cells by commas"),
    "other names": (b"id,submit,runtime,gpus\na,0,5,1\n",
                    r"arrival_s \(here perhaps submit\), duration_s \(here perhaps runtime\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTENTS)
def test_what_a_file_is_and_how_to_mend_it(tmp_path: Path, name: str) -> None:
    data, message = CONTENTS[name]
    path = tmp_path / "trace.txt.gz"  # a name says nothing
    path.write_bytes(data)
    with pytest.raises(UserError, match=f"^trace {path}: .*{message}") as caught:
        read_trace(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


@pytest.mark.parametrize("table", FOREIGN, ids=lambda table: table.what)
def test_tables_of_others_are_named(tmp_path: Path, table: Foreign) -> None:
    what, columns, mend = table
    path = tmp_path / "t.csv"
    path.write_text(",".join((*columns, "other")) + "\n" + "1," * len(columns) + "1\n")
    with pytest.raises(UserError) as caught:
        read_trace(path)
    assert f"this is {what}: {mend}" in str(caught.value)
    # Columns of our formats, which would be a wrong mend here, are not offered.
    assert "muri has" not in str(caught.value)


def test_the_mend_of_helios_works(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(HELIOS)
    with pytest.raises(UserError, match="rename submit_time to timestamp, gpu_num to num_gpus"):
        read_trace(path)
    renamed = HELIOS.replace("submit_time", "timestamp").replace("gpu_num", "num_gpus")
    path.write_text(renamed.replace(",vc,", ",cluster,"))
    raw = read_trace(path, skip_bad_rows=True)
    assert raw.job_id.tolist() == ["1425511"] and raw.duration_s.tolist() == [36848.0]
    assert raw.tenant.tolist() == ["vcJ"]


@pytest.mark.skipif(not CASES.is_dir(), reason="the small inputs are not here (../shared/cases)")
def test_the_samples_of_other_formats() -> None:
    for path in sorted((CASES / "formats").iterdir()):
        with pytest.raises(UserError, match=r"write|rename|put the columns"):
            read_trace(path)
