"""Jobs that can never run are refused when they are read: too large for a node, or their quota."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from marl_sched.config import SimConfig, WorkloadConfig
from marl_sched.errors import UserError
from marl_sched.sim.job_fields import quotas_of
from marl_sched.types import Cluster
from marl_sched.workload import Workload, load_workload
from marl_sched.workload.parents import Parents

SLURM = """JobID|User|Account|Submit|ElapsedRaw|ReqTRES|State
1|a|l|2024-01-01T00:00:00|3600|cpu=64,gres/gpu=1,mem=256G|COMPLETED
2|a|l|2024-01-01T00:00:00|3600|cpu=192,gres/gpu=2,mem=64G|COMPLETED
3|a|l|2024-01-01T00:00:00|3600|cpu=8,gres/gpu=1,mem=64G|COMPLETED
"""


def load(
    path: Path,
    cluster: str,
    quotas: dict[str, float] | None = None,
    skip_bad_rows: bool = False,
) -> Workload:
    config = WorkloadConfig(trace=str(path), skip_bad_rows=skip_bad_rows)
    return load_workload(config, Cluster.parse(cluster), 0, quotas)


@pytest.mark.parametrize("cluster", ["1x2", "3x1:T4+1x2:A100"])
def test_a_job_with_many_cpus_is_told_which_cluster_file_to_write(
    tmp_path: Path, cluster: str
) -> None:
    """What the message says to write holds all jobs of the trace: 96 CPUs, 256 GB a GPU."""
    trace, file = tmp_path / "t.txt", tmp_path / "cluster.yaml"
    trace.write_text(SLURM)
    with pytest.raises(UserError, match="row 2: job '1' asks for 1 GPUs with 64 cpu") as caught:
        load(trace, cluster)
    said = str(caught.value)
    assert "a node has cpus 16, memory_gb 128, network_gbps 25 for each of its GPUs unless" in said
    assert "docs/inputs.md" in said and "--skip-bad-rows" in said
    found = re.search(r"write `(nodes: \[.*\])` to a file", said)
    assert found is not None
    file.write_text(found[1])
    workload = load(trace, str(file))
    assert len(workload) == 3
    larger, given = Cluster.parse(str(file)), Cluster.parse(cluster)
    assert str(larger) == str(given)
    assert larger.nodes[0].num_cpus == 96 * given.nodes[0].num_gpus


def test_the_mend_of_one_job(tmp_path: Path) -> None:
    trace = tmp_path / "t.txt"
    trace.write_text("\n".join(SLURM.split("\n")[:2]) + "\n")
    with pytest.raises(UserError) as caught:
        load(trace, "1x2")
    assert "`nodes: [{count: 1, gpus: 2, cpus: 128, memory_gb: 512}]`" in str(caught.value)


def test_a_job_with_too_many_gpus_is_told_to_take_a_larger_cluster(tmp_path: Path) -> None:
    trace = tmp_path / "t.txt"
    small = SLURM.replace("cpu=64", "cpu=8").replace("256G", "64G")
    trace.write_text(small.replace("gres/gpu=2", "gres/gpu=3"))
    with pytest.raises(UserError, match="row 3: job '2' asks for 3 GPUs .*; give a larger --clust"):
        load(trace, "1x2")


QUOTA = """job_id,arrival_s,duration_s,num_gpus,tenant,elastic,min_gpus,gpu_milli,depends_on
a,5,10,2,x,0,,,
b,1,10,1,y,0,,,a
c,2,10,4,z,1,1,,
d,3,10,4,z,1,3,,
e,4,10,1,w,0,,500,
f,6,10,1,x,0,,,
"""


@pytest.mark.parametrize(
    ("quotas", "message"),
    [
        ({"x": 1}, "row 2: job 'a' holds at least 2 GPUs, and its tenant 'x' may hold 1; raise"),
        ({"z": 2}, "row 5: job 'd' holds at least 3 GPUs, and its tenant 'z' may hold 2"),
        ({"w": 0.4}, "row 6: job 'e' holds at least 0.5 GPUs, and its tenant 'w' may hold 0.4"),
        ({"y": 0}, "row 3: job 'b' holds at least 1 GPUs, and its tenant 'y' may hold 0"),
    ],
)
def test_a_job_above_its_quota_is_refused_by_its_id(
    tmp_path: Path, quotas: dict[str, float], message: str
) -> None:
    path = tmp_path / "t.csv"
    path.write_text(QUOTA)
    with pytest.raises(UserError, match=message):
        load(path, "2x4", quotas=quotas)
    left = load(path, "2x4", quotas=quotas, skip_bad_rows=True)
    assert left.skipped["above its tenant's quota"] == 1
    # Whoever builds the simulation from Python gets the same answer.
    with pytest.raises(UserError, match=message.partition(": ")[2]):
        quotas_of(load(path, "2x4"), SimConfig(tenant_quota=quotas))


def test_jobs_within_their_quota_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(QUOTA)
    quotas = {"x": 2, "y": 1, "z": 3, "w": 0.5}
    assert len(load(path, "2x4", quotas=quotas)) == 6
    # Who waits for a job that goes, goes too; who stays keeps what was drawn for it.
    left = load(path, "2x4", quotas={"x": 1}, skip_bad_rows=True)
    assert left.job_id.tolist() == ["c", "d", "e", "f"]
    assert left.skipped == {"above its tenant's quota": 1, "depends_on: a skipped job": 1}
    with pytest.raises(UserError, match="no job is left"):
        load(path, "2x4", quotas=dict.fromkeys("xyzw", 0.0), skip_bad_rows=True)


def test_a_long_chain_of_jobs_that_wait_is_left_out_at_once() -> None:
    """Level by level this would take the square of its length, hours."""
    jobs = 200_000
    child = np.arange(1, jobs)
    chain = Parents.from_edges(child, child - 1, jobs)
    gone = np.zeros(jobs, bool)
    gone[10] = True
    assert chain.descendants(gone).sum() == jobs - 10
