"""Files that are no table of ours: what they are, and how to make one of them.

A file is known by its first bytes, or by the columns of its header. The mends were written from
the origins' own descriptions of their columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from marl_sched.errors import listed

SACCT = "sacct -P -a -o JobID,User,Account,Submit,Start,End,ElapsedRaw,ReqTRES,AllocTRES,State"
"""Prints the accounting records that are read."""

OWN = "arrival_s and duration_s (seconds) and num_gpus"

_PACKED = {
    b"\x1f\x8b": ("gzip", "gunzip -k"),
    b"BZh": ("bzip2", "bunzip2 -k"),
    b"\xfd7zXZ": ("xz", "unxz -k"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd -k"),
    b"PK\x03\x04": ("zip", "unzip"),
}
"""First bytes of packed files: the program, and the command that unpacks."""

_OTHER = {
    b"\xd0\xcf\x11\xe0": "a spreadsheet; save it as CSV",
    b"ARROW1": "an Arrow (Feather) file; write it as Parquet",
    b"ORC": "an ORC file; write it as Parquet",
    b"SQLite format 3": "an SQLite database; write the table of jobs as CSV",
    b"\x89HDF": "an HDF5 file; write the table of jobs as Parquet",
    b"\x80\x04": "a pickle, which is never read as it can run any code; write it as Parquet",
    b"\x80\x05": "a pickle, which is never read as it can run any code; write it as Parquet",
    b"%PDF": "a PDF document; give the table in it as CSV",
    b"version https://git-lfs": "a pointer of Git LFS and not the file; get that: git lfs pull",
    b"<": "a web page or XML; download the raw file",
}
"""First bytes of other files: what they are, and the mend."""

_SPREADSHEET = b"[Content_Types].xml"
"""Is in the first lines of an .xlsx file, which is a zip."""

_TAR = (257, b"ustar")
"""Where a tar archive says that it is one."""

_KUBERNETES = (
    "a list of Kubernetes' objects; write a CSV file with a row a finished Workload: arrival_s = "
    "seconds from the first creationTimestamp to its own, duration_s = seconds from Admitted to "
    "Finished, num_gpus = count x the GPUs that its pods request, tenant = queueName"
)

_JSON = (
    (
        (b'"attempts"', b'"submitted_time"'),
        "Philly's job log; write a CSV file with a row a job: timestamp = submitted_time, duration "
        "= the seconds from the first start_time to the last end_time of its attempts, num_gpus = "
        "the GPUs in the detail of the last one, cluster = vc, without jobs that have no attempt",
    ),
    (
        (b'"tres"', b'"jobs"'),
        f"Slurm's JSON; let Slurm write text instead: {SACCT}",
    ),
    ((b'"apiVersion"', b'"kind"'), _KUBERNETES),
)
"""Words that a JSON file holds in its beginning: what it is, and the mend."""

_SWF_LINE = re.compile(rb"\s*-?\d+(\s+-?\d+(\.\d+)?){17}\s*$")
_GAVEL_CELLS = 10
_BEGINNING = 65_536


class Foreign(NamedTuple):
    """A table of somebody else's."""

    what: str
    columns: tuple[str, ...]
    """By which it is known."""
    mend: str


_WITHOUT_GPU = "rows with gpu_num 0 hold no GPU: --skip-bad-rows leaves them out"

FOREIGN = (
    Foreign(
        "the Acme trace of Kalos",
        ("job_id", "gpu_num", "submit_time", "duration", "queue", "mem_per_pod_GB"),
        "rename submit_time to timestamp and gpu_num to num_gpus, which makes it a philly trace, "
        "and subtract queue from duration, which counts from the submission here; " + _WITHOUT_GPU,
    ),
    Foreign(
        "a Helios or Acme trace",
        ("job_id", "user", "gpu_num", "cpu_num", "node_num", "state", "submit_time", "duration"),
        "rename submit_time to timestamp, gpu_num to num_gpus and vc (where there is one) to "
        "cluster, which makes it a philly trace; " + _WITHOUT_GPU,
    ),
    Foreign(
        "a trace of Alibaba PAI's simulator",
        ("num_gpu", "num_inst", "submit_time", "duration"),
        "write the csv format: arrival_s = submit_time, duration_s = duration, num_gpus = num_gpu "
        "x num_inst (a part of a GPU: num_gpus 1 and gpu_milli = 1000 x num_gpu), tenant = user, "
        "gpu_types = gpu_type, without rows that have num_gpu 0",
    ),
    Foreign(
        "a table of Alibaba PAI 2020",
        ("job_name", "task_name", "status", "start_time", "end_time"),
        "write the csv format from the table of tasks: arrival_s = start_time, duration_s = "
        "end_time - start_time, num_gpus = plan_gpu / 100 x inst_num (a part of a GPU: num_gpus 1 "
        "and gpu_milli = 10 x plan_gpu)",
    ),
    Foreign(
        "MIT SuperCloud's Slurm log",
        ("id_job", "time_submit", "time_start", "time_end", "tres_alloc"),
        "write the csv format: job_id = id_job, arrival_s = time_submit, duration_s = time_end - "
        "time_start, num_gpus = the numbers behind 1001= and 1002= in tres_alloc, tenant = "
        "id_user, without jobs that have neither",
    ),
    Foreign(
        "Alibaba's DLRM trace of 2025",
        ("instance_sn", "app_name", "gpu_request", "creation_time", "deletion_time"),
        "write the csv format: job_id = instance_sn, arrival_s = creation_time, duration_s = "
        "deletion_time - scheduled_time, num_gpus = gpu_request, tenant = app_name, without rows "
        "whose times are empty",
    ),
    Foreign(
        "Alibaba's spot GPU trace of 2026",
        ("job_name", "organization", "gpu_request", "worker_num", "submit_time", "duration"),
        "write the csv format: job_id = job_name, arrival_s = submit_time, duration_s = duration, "
        "num_gpus = gpu_request x worker_num, gpu_types = gpu_model, tenant = organization, "
        "priority = 1 where job_type is HP",
    ),
    Foreign(
        "a pod list of openb",
        ("name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli"),
        "`marl-sched reproduce openb --input FILE` reads it",
    ),
    Foreign(
        "a workload of Pollux",
        ("name", "time", "application", "num_replicas", "batch_size"),
        "`marl-sched reproduce pollux --input FILE` reads it",
    ),
    Foreign(
        "a list of machines, not of jobs",
        ("sn", "cpu_milli", "memory_mib", "gpu", "model"),
        "write the machines as a cluster file for --cluster",
    ),
    Foreign(
        "a list of machines, not of jobs",
        ("machineId", "number of GPUs"),
        "write the machines as a cluster file for --cluster",
    ),
    Foreign(
        "a list of machines, not of jobs",
        ("node_name", "gpu_model", "gpu_capacity_num", "cpu_num"),
        "write the machines as a cluster file for --cluster",
    ),
)

_ALIKE = {
    "arrival_s": r"(sub|arriv|creat|queue_?time|timestamp|date|^time)",
    "duration_s": r"(dur|run_?time|elapsed|length|wall|jct)",
    "num_gpus": r"(gpu|gres|accel|replica|worker)",
}
"""What columns are called that could stand for those of the csv format."""


def content_problem(data: bytes) -> str | None:
    """What is wrong with a file of such bytes, and the mend; None where it may be a table."""
    if data.startswith(b"PK") and _SPREADSHEET in data[:_BEGINNING]:
        return "is a spreadsheet; save it as CSV"
    if data[_TAR[0] :].startswith(_TAR[1]):
        return "is a tar archive; unpack it first: tar xf FILE"
    for first, mend in _OTHER.items():
        if data.startswith(first):
            return f"is {mend}"
    for first, (program, command) in _PACKED.items():
        if data.startswith(first):
            return f"is packed by {program}; unpack it first: {command} FILE"
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data[:4]:
        return "cannot be read as CSV text: it is UTF-16, or no text at all; save it as UTF-8"
    beginning = data[:_BEGINNING].lstrip()
    if beginning.startswith((b"{", b"[")):
        for words, mend in _JSON:
            if all(word in data[: 16 * _BEGINNING] for word in words):
                return f"is {mend}"
        return f"is JSON; write a CSV or Parquet file that has the columns {OWN}"
    if beginning.startswith(b"apiVersion:"):
        return f"is {_KUBERNETES}"
    return _headless(beginning)


def _headless(beginning: bytes) -> str | None:
    lines = [line for line in beginning.splitlines() if line.strip()]
    rows = [line for line in lines if not line.lstrip().startswith(b";")]
    if rows and _SWF_LINE.match(rows[0]):
        return (
            "is in the Standard Workload Format, which counts processors and says nothing of GPUs; "
            "write the csv format from it: job_id = field 1, arrival_s = field 2, duration_s = "
            "field 4, num_gpus from field 5 by what a processor stands for there, without jobs "
            "that have -1 in one of them"
        )
    if lines and len(rows) < len(lines):
        return "begins with lines of comment (;); remove them, and give it a header line"
    if rows and rows[0].count(b"\t") + 1 >= _GAVEL_CELLS and b"batch size" in rows[0]:
        return "is a trace of Gavel; `marl-sched reproduce gavel --input FILE` reads it"
    return None


def header_problem(columns: Iterable[str]) -> str | None:
    """Whose table has this header, and the mend; None where nothing is known of it."""
    names = list(columns)
    for foreign in FOREIGN:
        if set(foreign.columns) <= set(names):
            return f"this is {foreign.what}: {foreign.mend}"
    if names and sum(_is_value(name) for name in names) > len(names) // 3:
        return (
            "it has no header line, as its first line holds values; put the columns' names before "
            "it (Alibaba's traces have them in a file beside: .header)"
        )
    if len(names) == 1 and "JobID" in names[0]:
        return f"let Slurm separate the cells: {SACCT}"
    if len(names) == 1 and re.search(r"[;\t]", names[0]):
        return "separate its cells by commas"
    found = {ours: _alike(pattern, names) for ours, pattern in _ALIKE.items()}
    if all(found.values()):
        guess = ", ".join(f"{ours} (here perhaps {theirs})" for ours, theirs in found.items())
        return f"the csv format needs {guess}: seconds from any origin, seconds, GPUs"
    return None


def _is_value(name: str) -> bool:
    return name == "" or bool(re.fullmatch(r"[-+]?[\d.:eE_ TZ/-]+", name[:40]))


def _alike(pattern: str, names: list[str]) -> str:
    found = [name for name in names if re.search(pattern, name[:80], re.IGNORECASE)]
    return listed(found, 2).replace(", ", " or ")
