"""`cluster validate`: a misspelt field is named, with its line; nothing open passes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from marl_sched.clusters import kubernetes, pins
from marl_sched.clusters.targets import TARGETS, Launch, render
from marl_sched.clusters.validate import validate
from marl_sched.errors import UserError
from marl_sched.workload import download
from tests.cli.program import call

OVERLAY = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"


@pytest.fixture
def crd_dir(shared_data: Path) -> Path:
    folder = shared_data / "kuberay"
    if not folder.is_dir():
        pytest.skip("KubeRay's definitions are not there: ../shared/data/kuberay")
    return folder


def broken(name: str, right: str, wrong: str) -> tuple[str, int]:
    """A launch file with the first line that begins with `right` spoilt, and its number."""
    lines = render(name, Launch()).splitlines(keepends=True)
    (number, *_) = [n for n, line in enumerate(lines) if line.lstrip(" -").startswith(right)]
    lines[number] = lines[number].replace(right, wrong, 1)
    return "".join(lines), number + 1


def check(name: str, text: str, crd_dir: Path | None = None) -> list[tuple[int, str]]:
    report = validate(Path(TARGETS[name].path), text, crd_dir)
    return [(problem.line, problem.message) for problem in report.problems]


def matching(found: list[tuple[int, str]], message: str) -> list[int]:
    return [line for line, what in found if message in what]


@pytest.mark.parametrize(
    ("name", "right", "wrong", "message"),
    [
        ("local", "setup_commands:", "setup_comands:", "do you mean setup_commands?"),
        ("local", "head_ip:", "head_ipp:", "provider.head_ipp: unknown field"),
        ("aws", "region:", "regoin:", "do you mean region?"),
        ("aws", "InstanceType:", "InstanceTyp:", "node_config.InstanceTyp: unknown field"),
        ("aws", "Ebs: {VolumeSize", "Ebs: {VolumeSice", "do you mean VolumeSize?"),
        ("aws", "min_workers:", "min_worker:", "do you mean min_workers?"),
        ("gcp", "diskSizeGb:", "diskSizeGB:", "do you mean diskSizeGb?"),
        ("gcp", "machineType:", "machinetype:", "do you mean machineType?"),
        ("slurm", "#SBATCH --nodes", "#SBATCH --node", "do you mean --nodes?"),
        ("slurm", 'first=$(scontrol show hostnames "$SLURM_JOB_NODELIST"',
         "first=$(scontrol show hostnames $SLURM_JOB_NODELIST", "shellcheck SC2086"),
        ("slurm", "}", "done", "bash: syntax error"),
        ("slurm", "#SBATCH --nodes", "#SBACTH --nodes", "do you mean #SBATCH?"),
        ("slurm", "#SBATCH --nodes=2", "#SBATCH --nodes=two", "two is no number of nodes"),
        ("slurm", "#SBATCH --time=60", "#SBATCH --time=soon", "soon is no time"),
        ("docker", "COPY", "COPPY", "do you mean COPY?"),
        ("docker", "WORKDIR", "WORKDIRR", "do you mean WORKDIR?"),
        ("docker", "FROM rayproject/ray:2.60.0", "FROM rayproject/ray:2.9.0", "Ray 2.9.0"),
        ("aws", "resources: {CPU", "resources: {CPUs", "do you mean CPU?"),
        ("gcp", "diskSizeGb: 100", "diskSizeGb: [1]", "diskSizeGb: must be of type integer"),
        ("gcp", "machineType: n2-standard-4", "machineType: 3", "must be of type string"),
        ("gcp", "boot: true", "boot: 3", "boot: must be of type boolean"),
        ("aws", "region: us-west-2", "region: ''", "provider.region: is empty"),
        ("local", "type: local", "type: [local]", "provider.type: must be text"),
        ("local", "rsync_exclude: [", "rsync_exclude: [1, ", "rsync_exclude[0]: must be text"),
        ("local", "~/marl_sched: .", "~/marl_sched: {}", "must be text"),
    ],
)  # fmt: skip
def test_a_misspelt_field_is_named(name: str, right: str, wrong: str, message: str) -> None:
    text, line = broken(name, right, wrong)
    assert line in matching(check(name, text), message)


@pytest.mark.parametrize(
    ("name", "right", "wrong", "message"),
    [
        ("rayjob", "entrypoint:", "entrypont:", "do you mean entrypoint?"),
        ("rayjob", "authOptions:", "authOption:", "do you mean authOptions?"),
        ("rayjob", "mode: token", "modes: token", "do you mean mode?"),
        ("rayjob", "replicas:", "replica:", "do you mean replicas?"),
        ("rayjob", "accessModes:", "accessMode:", "do you mean accessModes?"),
        ("rayjob", "policyTypes:", "policyType:", "do you mean policyTypes?"),
        ("raycluster", "redisAddress:", "redisAdress:", "do you mean redisAddress?"),
        ("raycluster", "maxReplicas:", "maxReplica:", "do you mean maxReplicas?"),
        ("raycluster", "containerPort", "containerport", "do you mean containerPort?"),
        ("raycluster", "idleTimeoutSeconds:", "idleTimeout:", "do you mean idleTimeoutSeconds?"),
        ("raycluster", "dashboard-host:", "dashboard-hots:", "do you mean dashboard-host?"),
        ("raycluster", "limits: {cpu", "limits: {cpus", "do you mean cpu?"),
        ("raycluster", "kind: Service", "knd: Service", "do you mean kind?"),
        ("raycluster", "apiVersion: ray.io/v1", "apiVersion: 3", "apiVersion: must be text"),
        ("raycluster", "image: marl", "image: #", "image: is empty"),
        ("raycluster", "rayVersion: 2.60.0", "rayVersion: 2.9.0", "works with 2.60.0"),
        ("rayjob", "env_vars:", "env_var:", "runtimeEnvYAML: env_var: unknown field"),
        ("rayjob", "name: marl-sched-train", "name:", "metadata.name: is"),
    ],
)
def test_a_misspelt_field_of_kubernetes_is_named(
    name: str, right: str, wrong: str, message: str, crd_dir: Path
) -> None:
    if right == "containerPort":
        text, line = broken(name, "{name: redis, containerPort", "{name: redis, containerport")
    else:
        text, line = broken(name, right, wrong)
    assert matching(check(name, text, crd_dir), message) == [line]


@pytest.mark.parametrize(
    ("name", "right", "wrong", "message"),
    [
        ("local", "export RAY_AUTH_MODE=token ", "export ", "without RAY_AUTH_MODE=token"),
        ("aws", "export RAY_AUTH_MODE=token ", "export RAY_AUTH_MODE=disabled ", "without RAY"),
        ("aws", "--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0", "open to the network"),
        ("aws", "head_node_type: head", "head_node_type: heat", "head_node_type"),
        ("slurm", "RAY_AUTH_MODE=token ", "", "without RAY_AUTH_MODE=token"),
        ("slurm", "--dashboard-host=127.0.0.1", "--dashboard-host=::", "open to the network"),
        ("docker", "RAY_AUTH_MODE=token ", "", "an open Ray"),
        ("docker", "RAY_AUTH_MODE=token", "RAY_AUTH_MODE=token RAY_AUTH_TOKEN=1", "has the token"),
    ],
)
def test_what_is_open_or_inconsistent(name: str, right: str, wrong: str, message: str) -> None:
    text = render(name, Launch())
    assert right in text
    ((_, found),) = check(name, text.replace(right, wrong, 1))
    assert message in found


@pytest.mark.parametrize(
    ("name", "right", "wrong", "message"),
    [
        ("aws", "min_workers: 0", "min_workers: -1", "min_workers: -1 must be 0 or more"),
        ("aws", "CPU: 8", "CPU: -8", "is less than the minimum of 0"),
        ("aws", "VolumeSize: 100", "VolumeSize: -100", "VolumeSize: -100 must be 0 or more"),
        ("aws", "max_workers: 5", "max_workers: .nan", "max_workers: nan is not"),
        ("aws", "min_workers: 0\n    max_workers: 4", "min_workers: 5\n    max_workers: 4",
         "min_workers: 5 is more than max_workers, 4"),
        ("gcp", "cluster_name: marl-sched", "cluster_name: Marl_Sched", "(RFC 1035)"),
        ("local", "head_ip: 192.168.1.10", "head_ip: 192.168.1.999", "is no address"),
        ("local", "192.168.1.12]", "192.168.1.11]", "192.168.1.11 is there twice"),
        ("local", "--port=6379", "--port=70000", "ray start --port: 70000 is no value of it"),
        ("local", "--port=6379", "--prot=6379", "do you mean --port?"),
        ("slurm", "--nodes=2", "--nodes=4-2", "4 is more than 2"),
        ("slurm", "#SBATCH --exclusive", "#SBATCH --mem=8GiB", "8GiB is no size"),
    ],
)  # fmt: skip
def test_numbers_and_options_that_cannot_be(
    name: str, right: str, wrong: str, message: str
) -> None:
    text = render(name, Launch())
    assert right in text
    found = check(name, text.replace(right, wrong, 1))
    assert len(matching(found, message)) == len(found) == 1, found


def test_a_pod_without_the_token(crd_dir: Path) -> None:
    text, line = broken("raycluster", "mode: token", "mode: disabled")
    ((where, message),) = check("raycluster", text, crd_dir)
    assert where == line - 1 and "an open cluster" in message


@pytest.mark.parametrize("host", ["0.0.0.0", None])
def test_a_pod_with_an_open_dashboard(host: str | None, crd_dir: Path) -> None:
    text, line = broken("raycluster", "dashboard-host: 127.0.0.1", f"dashboard-host: {host}")
    if host is None:
        text = text.replace(f"dashboard-host: {host}", "block: 'true'")
    ((where, message),) = check("raycluster", text, crd_dir)
    assert "open to the network" in message
    # Without the key, the line of the mapping in which it is missing.
    assert where == (line if host else line - 2)


@pytest.mark.parametrize(
    ("name", "text", "line", "message"),
    [
        ("a.sbatch", "", 1, "is empty"),
        ("a.sbatch", "#!/bin/bash\n\0", 2, "is no text"),
        ("a.sbatch", "echo\n", 1, "#!/bin/bash: is missing"),
        ("a.sbatch", "#!/bin/bash\necho\n#SBATCH --nodes=2\n", 3, "Slurm passes over it"),
        ("Dockerfile", "# nothing\n", 1, "FROM: is missing"),
        ("Dockerfile", "RUN true\nFROM a\nENV RAY_AUTH_MODE=token\n", 1, "comes before FROM"),
        ("my.docker", "FROM a\nRUNN b \\\n  c\n", 2, "do you mean RUN?"),
        ("Dockerfile", "\\\n", 1, "FROM: is missing"),
        ("Dockerfile", "FROM a\n\\\n\\\nRUNN b\n", 2, "do you mean RUN?"),
        ("Dockerfile", "FROM a\nRUN <<EOF\nls\n EOF\n", 2, "<<EOF: no line EOF ends it"),
        ("Dockerfile", "FROM a\nRUN <<EOF\nls\nEOF\nRUNN b\n", 5, "do you mean RUN?"),
        ("Dockerfile", "FROM a\nRUN <<EOF\nexport RAY_AUTH_TOKEN=1\nEOF\n", 2, "has the token"),
        ("Dockerfile", "FROM a\nRUN cat <<<EOF\nls\n", 3, "ls: unknown instruction"),
        ("Dockerfile", "FROM a\nRUN echo 'a <<EOF b'\nls\n", 3, "ls: unknown instruction"),
        ("a.txt", "hello\n", 1, "nothing here checks such a file"),
        ("kustomization.yaml",
         "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresource: [a]\n",
         3, "do you mean resources?"),
        ("kustomization.yaml",
         "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\npatches:\n"
         "  - target: {knd: RayJob}\n    patch: |\n      a: [\n", 4, "do you mean kind?"),
    ],
)  # fmt: skip
def test_other_files_that_are_bad(name: str, text: str, line: int, message: str) -> None:
    found = validate(Path(name), text).problems
    assert any(p.line == line and message in p.message for p in found), found


@pytest.mark.parametrize(
    "lines",
    [
        "RUN <<EOF\npip install ray\n\n# no comment\nEOF",
        "RUN <<-'END' bash -e\n\tls\n\tEND",
        'RUN cat <<"A" > x && cat 3<<B \\\n  > y\none\nA\ntwo\nB\nUSER ray',
        "COPY --chmod=755 <<EOF /start.sh\n#!/bin/sh\nls \\\nEOF",
        "onbuild run <<EOF\nls\nEOF",
        "\\\nRUN ls\n\\\n",
        "RUN ls && \\\n\\\n  true",
    ],
)
def test_what_a_dockerfile_may_have(lines: str) -> None:
    text = f"FROM a\nENV RAY_AUTH_MODE=token\n{lines}\n"
    assert validate(Path("Dockerfile"), text).problems == []
    assert validate(Path("docker.file"), f"\\\n{text}").kinds == ["Dockerfile"]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: [1\nb: 2", 2, "not YAML"),
        ("", 1, "is empty"),
        ("- 1\n", 1, "is no mapping"),
        ("apiVersion: v1\nname: x\n", 1, "kind: is missing"),
        ("apiVersion: v1\nkind: Podd\n", 2, "not one of Kubernetes"),
        ("apiVersion: ray.io/v1\nkind: RayServe\n", 2, "only RayCluster and RayJob"),
        ("foo: 1\n", 1, "neither for Kubernetes"),
        ("cluster_name: a\nprovider: {type: local}\ncluster_name: b\n", 3, "is there twice"),
        ("env_vars: {}\nexclude: []\n", 2, "do you mean excludes?"),
        ("env_vars: {}\n1: []\n", 2, "1: unknown field"),
        ("env_vars: {}\nyes: []\n", 2, "True: unknown field"),
        ("env_vars: {}\n2020-01-01: []\n", 2, "2020-01-01: unknown field"),
        ("env_vars: {}\n1: []\n1: []\n", 3, "is there twice"),
        ("cluster_name: a\nprovider:\n  type: local\n  ~: 1\n", 4, "None: a name must be text"),
        ("cluster_name: a\navailable_node_types: {b: {resources: {\n1: 2}}}\n", 3, "must be text"),
        (f"{OVERLAY}1: a\n", 3, "1: unknown field"),
        (f"{OVERLAY}patches:\n  - path: a\n    2: b\n", 5, "patches[0].2: unknown field"),
        ("env_vars:\n  day: 2020-99-99\n", 2, "not YAML: '2020-99-99' is no timestamp"),
        ("env_vars:\n  2020-99-99: a\n", 2, "not YAML: '2020-99-99' is no timestamp"),
        ("env_vars:\n  a: !!bool maybe\n", 2, "not YAML: 'maybe' is no bool"),
        ("env_vars:\n  ? [a]\n  : b\n", 2, "not YAML: found unhashable key"),
        ("env_vars:\n  ? {a: b}\n  : c\n", 2, "not YAML: found unhashable key"),
        ("env_vars:\n  a: &a [*a]\n", 2, "not YAML: is nested too deeply, or in itself"),
        ("env_vars:\n  a: &a {b: *a}\n", 2, "not YAML: is nested too deeply, or in itself"),
        ("env_vars: " + 2000 * "[", 1, "not YAML: is nested too deeply"),
    ],
)
def test_what_is_no_launch_file(text: str, line: int, message: str) -> None:
    found = validate(Path("x.yaml"), text).problems
    assert any(p.line == line and message in p.message for p in found), found


def bomb(levels: int, width: int) -> str:
    """Lists of aliases to lists of aliases: `width ** levels` values in a few hundred bytes."""
    lines = ["env_vars:", f"  a0: &a0 [{', '.join(['x'] * width)}]"]
    for level in range(1, levels):
        aliases = ", ".join([f"*a{level - 1}"] * width)
        lines.append(f"  a{level}: &a{level} [{aliases}]")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (bomb(9, 9), "holds more than 20,000 values"),
        (bomb(60, 2), "holds more than 20,000 values"),
        (bomb(9, 9).replace("[", "{").replace("]", "}").replace("x", "x: y"), "not YAML"),
        ("env_vars: {a: &a {b: c}, d: &d {<<: [*a, *a]}, "
         + ", ".join(f"d{n}: &d{n} {{<<: [{', '.join(['*d' + str(n - 1 or '')] * 9)}]}}"
                     for n in range(1, 9)) + "}\n", "not YAML"),
        (f"env_vars:\n  a: &a |\n    {'x' * 300_000}\n  b: [{', '.join(['*a'] * 100)}]\n",
         "or 4,000,000 characters"),
        ("env_vars: " + 100_000 * "[", "is nested too deeply"),
        ("env_vars: " + 100_000 * "{", "is nested too deeply"),
        ("env_vars: " + 100_000 * "{a: ", "is nested too deeply"),
        ("env_vars:\n  " + 100_000 * "- ", "is nested too deeply"),
        ("env_vars:\n  " + 100_000 * "? ", "is nested too deeply"),
        ("env_vars: {a: 1" + 100_000 * ":01" + "}", "a number of 300,001 characters"),
        ("env_vars: {a: " + 5_000 * "9" + "}", "a number of 5,000 characters"),
        ("env_vars: {a: " + 300 * "9" + ".e+" + 300 * "9" + "}", "a number of 603 characters"),
        ("env_vars: {" + ", ".join(map(str, range(40_000))) + "}", "more than 20,000 values"),
        ("#" * 1_000_001, "has more than 1,000,000 characters"),
        (f"{OVERLAY}patches:\n" + "  - patch: &p 'a: ['\n" + "  - patch: *p\n" * 3_000, "patch:"),
    ],
)  # fmt: skip
def test_what_would_take_for_ever_is_refused(text: str, message: str) -> None:
    """Each of these took longer than anybody waits, or all memory, or is a hundred times smaller
    than one that would: the bound is on what is counted, so that no clock has to be looked at."""
    found = validate(Path("x.yaml"), text).problems
    assert any(message in problem.message for problem in found), found[:3]
    assert all(len(problem.message) <= 400 for problem in found)


def test_what_a_message_quotes_is_cut() -> None:
    for text in ("env_vars: {}\n? " + 50_000 * "a" + "\n: 1\n",
                 "apiVersion: v1\nkind: " + 50_000 * "a" + "\n",
                 "cluster_name: a\nprovider: {type: local, " + 900 * "a" + ": 1}\n"):  # fmt: skip
        found = validate(Path("x.yaml"), text).problems
        assert found and all(len(problem.message) <= 400 for problem in found)


def test_a_file_without_an_end_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    seen = call(capsys, "cluster", "validate", "/dev/zero")
    assert seen.code == 2 and seen.err == (
        "error: /dev/zero:1: has more than 1,000,000 characters\n"
    )


STEP = 'srun ray start --head --dashboard-host=127.0.0.1 --num-cpus="$SLURM_CPUS_PER_TASK"'


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        (f"#SBATCH --cpus-per-task=8\nexport RAY_AUTH_MODE=token\n{STEP}", 4),
        (f"#SBATCH -c 8\nexport RAY_AUTH_MODE=token\n{STEP}", 4),
        ("#SBATCH --cpus-per-task=8\nsrun --nodes=1 \\\n  python -m marl_sched train", 3),
        ("#SBATCH --cpus-per-task=8\necho a; srun -n 1 ~/.venv/bin/marl-sched train &\nwait", 3),
        ("#SBATCH --cpus-per-task=8\nsrun python -c 1", 3),
        # Not asked for, given, or of no matter.
        (f"#SBATCH --nodes=1\nexport RAY_AUTH_MODE=token\n{STEP}", None),
        ("#SBATCH -c8\nsrun -c 8 python a.py", None),
        ("#SBATCH -c8\nsrun -c8 python a.py", None),
        ("#SBATCH -c8\nsrun --cpus-per-task 8 python a.py", None),
        ('#SBATCH -c8\nsrun --cpus-per-task="$SLURM_CPUS_PER_TASK" \\\n  python a.py', None),
        ('#SBATCH -c8\nexport SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"\nsrun python a.py', None),
        ("#SBATCH -c8\nsrun hostname\npython a.py", None),
        ("#SBATCH -c8\n# srun python a.py\npython a.py", None),
    ],
)
def test_a_step_without_its_cpus(lines: str, line: int | None) -> None:
    """Since Slurm 22.05 `srun` does not take --cpus-per-task over from the job: one CPU a step."""
    found = validate(Path("a.sbatch"), f"#!/bin/bash\n{lines}\n").problems
    told = [problem.line for problem in found if "without --cpus-per-task" in problem.message]
    assert told == ([] if line is None else [line])


def test_the_program_ends_with_2_and_names_file_and_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    bad, good = tmp_path / "bad.yaml", tmp_path / "good.yaml"
    text, line = broken("local", "idle_timeout_minutes", "idle_timeout_minute")
    bad.write_text(text)
    good.write_text(render("local", Launch()))
    seen = call(capsys, "cluster", "validate", good, bad)
    assert seen.code == 2
    assert seen.err.startswith(f"error: {bad}:{line}: idle_timeout_minute: unknown field")
    assert seen.out == f"{good}: good (ray up)\n"
    assert call(capsys, "cluster", "validate", good).code == 0
    for path in (tmp_path / "none.yaml", tmp_path):
        seen = call(capsys, "cluster", "validate", path)
        assert seen.code == 2 and seen.err.count("\n") == 1 and seen.err.startswith("error: ")
    odd = tmp_path / "odd.yaml"
    odd.write_text("pip: [a]\nday: 2020-99-99\n")
    seen = call(capsys, "cluster", "validate", odd, good)
    assert seen.code == 2 and seen.out == f"{good}: good (ray up)\n"
    assert seen.err == f"error: {odd}:2: not YAML: '2020-99-99' is no timestamp\n"
    binary = tmp_path / "a.yaml"
    binary.write_bytes(bytes(range(256)))
    # A file that cannot be read does not keep the others from being checked.
    seen = call(capsys, "cluster", "validate", binary, good)
    assert seen.err == f"error: {binary}: is not text in UTF-8\n" and seen.out.endswith(
        "(ray up)\n"
    )


def test_the_program_writes_a_file_that_it_finds_good(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "my own.sbatch"
    words = ("slurm", "--nodes", 8, "--gpus-per-node", 8, "--out", out)
    seen = call(capsys, "cluster", "render", *words)
    assert seen.code == 0 and seen.out == ""
    written, note = seen.err.splitlines()
    assert written == f"wrote '{out}'; check it with: marl-sched cluster validate '{out}'"
    assert note.startswith("note: one run of PPO or DQN uses at most about 36 of these 118 runners")
    assert f"sbatch '{out}'" in out.read_text()
    assert call(capsys, "cluster", "validate", out).code == 0
    seen = call(capsys, "cluster", "render", "list")
    assert seen.code == 0 and len(seen.out.splitlines()) == len(TARGETS)
    for target in TARGETS.values():
        assert f"{target.path}  " in seen.out


def test_definitions_are_downloaded_once_and_verified(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = b"apiVersion: apiextensions.k8s.io/v1\n"
    pinned = ("ray.io_rayjobs.yaml", len(data), hashlib.sha256(data).hexdigest())
    asked: list[str] = []

    def fake(url: str, size: int, sha256: str) -> bytes:
        asked.append(url)
        assert (size, sha256) == pinned[1:]
        return data

    monkeypatch.setattr(pins, "CRDS", {"RayJob": pinned})
    monkeypatch.setattr(download, "download", fake)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    path = kubernetes.definition("RayJob", None)
    assert path.read_bytes() == data and tmp_path in path.parents
    assert kubernetes.definition("RayJob", None) == path
    assert asked == [
        "https://raw.githubusercontent.com/ray-project/kuberay/v1.7.0/"
        "ray-operator/config/crd/bases/ray.io_rayjobs.yaml"
    ]


def test_the_pinned_digests_are_those_of_the_shared_copies(crd_dir: Path) -> None:
    for name, size, sha256 in pins.CRDS.values():
        data = (crd_dir / name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (size, sha256)


@pytest.mark.parametrize("data", [b"a: [1\n", b"\xff\xfe", b"spec: {versions: [{name: v1}]}", b"1"])
def test_a_folder_with_something_else(data: bytes, tmp_path: Path) -> None:
    for name, *_ in pins.CRDS.values():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match="is no CustomResourceDefinition"):
        check("raycluster", render("raycluster", Launch()), tmp_path)


def test_a_folder_without_definitions(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no ray.io_rayjobs.yaml"):
        kubernetes.definition("RayJob", tmp_path)
