"""Public trace files: where each lies, pinned by commit, and its digest.

A page of data for `marl-sched trace fetch`. The digests are those of the files at these commits.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PublicFile:
    """One file of a public GitHub repository, or one member of an archive there."""

    repository: str
    commit: str
    path: str
    size: int
    """Bytes of the file at `path`."""
    sha256: str
    """Of the file at `path`."""
    licence: str
    what: str
    format: str
    """Name that --format takes; "" where no loader reads it by itself."""
    member: str = ""
    """File inside the archive at `path`; "" where `path` is the trace itself."""
    member_sha256: str = ""

    @property
    def suffix(self) -> str:
        """Of the trace's file name."""
        return "." + (self.member or self.path).rpartition(".")[2]

    @property
    def source(self) -> str:
        """For people."""
        inside = f" ({self.member})" if self.member else ""
        return f"{self.repository} @ {self.commit[:7]}, {self.path}{inside}"


_ITP = {
    "01": "27d707f576fce5637f9efec43f610da3d335f36e3c6fd4ded2f5bccfce05974a",
    "02": "7a5849e73aff9f9bc33f87c9bacadf8aab2f3a9e7bc5d70956f5cbf40126526c",
    "03": "282d765c5289ab0ba870f494dd2c67893f9d16d726fdc8a51f13b7412515dbf8",
    "04": "247850e4265f35749e98d15e82a67765301e81272334265f1fe60d65787892a9",
    "05": "1553359ddd673a0ffc531ca10e73ba729dbacbce905ce878dbb8499d2dbed0fb",
    "06": "52c0d9247d1de9b19a8bdafc25137daf6fa04f274ad3a2eb6dac51226ac2362e",
    "10": "139abea485b52090f5950d0f28d82878169df408e36052ec5c7cd04a3f3fcfa7",
}


def _itp(number: str) -> PublicFile:
    return PublicFile(
        "microsoft/elasticflow-traces",
        "277ed24d0e908c31a1c98145819e2e3853d8ac00",
        "data/raw-traces.tar.gz",
        1_943_846,
        "67398e1a89245c50ae0881bf997e6cda0c95f9f47980af5bc56d67998965669f",
        "MIT",
        f"Microsoft ITP, cluster {number}, 2021",
        "itp",
        f"cluster{number}.csv",
        _ITP[number],
    )


def _adaptdl(path: str, size: int, sha256: str, what: str, form: str, licence: str) -> PublicFile:
    commit = "c793c7089bd307462686339d29707925c461f9a9"
    return PublicFile(
        "petuum/adaptdl", commit, f"simulator/{path}", size, sha256, licence, what, form
    )


def _pollux(number: int, size: int, sha256: str) -> PublicFile:
    path, what = f"workloads/workload-{number}.csv", f"Pollux, workload {number}: 160 jobs"
    return _adaptdl(path, size, sha256, what, "pollux", "Apache-2.0")


def _muri(number: int, size: int, sha256: str) -> PublicFile:
    return PublicFile(
        "Rivendile/Muri",
        "4e69a78ce75f629a5a00abd48150a1860b341ce6",
        f"simulator/trace-data/trace{number}.csv",
        size,
        sha256,
        "Apache-2.0",
        f"Muri, trace {number}, derived from Philly",
        "muri",
    )


def _openb(name: str, size: int, sha256: str, what: str) -> PublicFile:
    return PublicFile(
        "hkust-adsl/kubernetes-scheduler-simulator",
        "8f3d6417353c5083c6d56617f255fadd8dc306bc",
        f"data/csv/openb_{name}.csv",
        size,
        sha256,
        "Apache-2.0",
        f"Alibaba GPU cluster, 2023: {what}",
        "openb",
    )


FILES: dict[str, PublicFile] = {
    "philly": _adaptdl(
        "traces/philly.csv",
        3_444_496,
        "ebffb3dd1589bdf4e7bcd74496201c5ded1d557d498ee14f560463f37ec353da",
        "Microsoft Philly, 2017",
        "philly",
        "Apache-2.0; data CC-BY-4.0",
    ),
    **{f"itp{number}": _itp(number) for number in _ITP},
    "chronus": PublicFile(
        "S-Lab-System-Group/ChronusArtifact",
        "bc7e15fefd53b80d1897170ab3c1aa7d353c3b79",
        "code/data/exp/trace_job_Philly_SLO.csv",
        1_845_942,
        "180fd7db3eeabe5df705c25259fcec972be2ba7b483887e26ca17e22d96b9f3e",
        "MIT",
        "Chronus: Philly with deadlines",
        "chronus",
    ),
    "muri1": _muri(1, 97_574, "534d02a4ebe53aee1f60d3fb33e3b2207550bb28813e677c962051058ebafbc5"),
    "muri3": _muri(3, 63_755, "fc8d59783486122d9f522b430c1d5a59fbee119b41feb67a3f67e0751340ce93"),
    "pollux1": _pollux(1, 4770, "0bff9c3a36b52c7025484b666d788001b1478cc4d84be409ca04b28f58f9d162"),
    "pollux2": _pollux(2, 4855, "83bec266667ec209a202c10975ab321e52eb4989e5ba420d18003ed03cf15c4e"),
    "pollux3": _pollux(3, 4691, "d76d5d1e3f9143b5453083de5c7a4c6576e884b41e86434a624b08f2c4277dc0"),
    "pollux4": _pollux(4, 4760, "22c400f59637ba0fc2c9be3b491f67e0765d1bf33d0a57d76101d770e4443f21"),
    "shockwave120": PublicFile(
        "uw-mad-dash/shockwave",
        "8a44f4a27a45760520386809b695d51b665b3679",
        "scheduler/traces/reproduce/"
        "120_0.2_5_100_40_25_0,0.5,0.5_0.6,0.3,0.09,0.01_multigpu_dynamic.trace",
        18_720,
        "f5728b8c038c330d21b98bc5930949d21769bd956e2ad457a4eb167dd33f34d6",
        "MIT",
        "Shockwave: 120 jobs of Gavel's models",
        "gavel",
    ),
    "openb-nodes": _openb(
        "node_list_gpu_node",
        42_353,
        "2beca64b4d3dfa342036a34b56a495c6cef9225db836c81f541282cb1df320b5",
        "1,213 nodes",
    ),
    "openb-default": _openb(
        "pod_list_default",
        575_468,
        "1ee7ed79c27a3b0861cda8ddba86a004c6aba904caafa329a76ae93ca63834a8",
        "8,152 pods",
    ),
    "openb-gpushare100": _openb(
        "pod_list_gpushare100",
        561_220,
        "12dbc07d6a49bf8641e2275a2ff5bf7be74b5df7d148d531e135b140b95f9a3d",
        "pods that all share GPUs",
    ),
    "openb-multigpu50": _openb(
        "pod_list_multigpu50",
        297_219,
        "206f2f5959db30ecb7c44e7f13197c8ec50b7a35558ad3777cc3662ef0fe5373",
        "pods, half of the GPU ones with several GPUs",
    ),
}
"""By the name that `trace fetch` takes."""
