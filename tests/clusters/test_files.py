"""clusters/: what `render` writes, of one version, with the token on and dashboards closed."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from marl_sched import __version__
from marl_sched.clusters import pins
from marl_sched.clusters.targets import TARGETS, Launch, render
from marl_sched.clusters.validate import validate
from marl_sched.errors import UserError

ROOT = Path(__file__).parents[2]
LAUNCHED = [name for name in TARGETS if name != "docker"]


def committed(name: str) -> str:
    return (ROOT / TARGETS[name].path).read_text(encoding="utf-8")


def config(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(committed(name))
    return loaded


def cluster_of(name: str) -> dict[str, Any]:
    """The RayCluster's part of a KubeRay file."""
    (found,) = [d for d in yaml.safe_load_all(committed(name)) if d["kind"].startswith("Ray")]
    spec: dict[str, Any] = found["spec"]
    part: dict[str, Any] = spec["rayClusterSpec"] if found["kind"] == "RayJob" else spec
    return part


def groups(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def containers(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    return [c for group in groups(cluster) for c in group["template"]["spec"]["containers"]]


@pytest.fixture
def crd_dir(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.getfixturevalue("shared_data") / "kuberay"
    if not folder.is_dir():
        pytest.skip("KubeRay's definitions are not there: ../shared/data/kuberay")
    return folder


def definitions(name: str, request: pytest.FixtureRequest) -> Path | None:
    """KubeRay's, for the files that need them."""
    if "kuberay" not in TARGETS[name].path:
        return None
    folder: Path = request.getfixturevalue("crd_dir")
    return folder


@pytest.mark.parametrize("name", TARGETS)
def test_the_file_is_what_render_writes(name: str) -> None:
    assert committed(name) == render(name, Launch())


def test_no_other_file_lies_there() -> None:
    hand_written = {
        "runtime_env.yaml",
        "kueue/rayjob/kustomization.yaml",
        "kueue/raycluster/kustomization.yaml",
    }
    found = {str(p.relative_to(ROOT)) for p in (ROOT / "clusters").rglob("*") if p.is_file()}
    assert found == {t.path for t in TARGETS.values()} | {f"clusters/{n}" for n in hand_written}


@pytest.mark.parametrize("name", TARGETS)
def test_the_header_says_what_and_how(name: str) -> None:
    header = committed(name).removeprefix("#!/bin/bash\n").partition("\n\n")[0]
    assert all(line.startswith("#") for line in header.splitlines())
    for part in ("# Starts:", "# Costs:", "# Safety:", TARGETS[name].path):
        assert part in header


@pytest.mark.parametrize("name", TARGETS)
def test_the_launch_file_is_good(name: str, request: pytest.FixtureRequest) -> None:
    report = validate(ROOT / TARGETS[name].path, committed(name), definitions(name, request))
    assert report.problems == []
    # What only the user knows, each with its line.
    assert [note.partition("put your own in place of ")[2] for note in report.notes] == {
        "aws": ["ami-EDIT-ME"] * 3,
        "gcp": ["YOUR-PROJECT"],
    }.get(name, [])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("runtime_env.yaml", "runtime environment"),
        ("kueue/rayjob/kustomization.yaml", "Kustomization"),
        ("kueue/raycluster/kustomization.yaml", "Kustomization"),
    ],
)
def test_what_is_written_by_hand_is_good_too(name: str, kind: str) -> None:
    path = ROOT / "clusters" / name
    report = validate(path, path.read_text(encoding="utf-8"))
    assert (report.kinds, report.problems) == ([kind], [])


def test_one_version_everywhere() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    asked = re.search(r'"ray\[[\w,]+\]==(\d+\.\d+)\.\*"', pyproject)
    assert asked is not None and pins.RAY_VERSION.startswith(asked[1] + ".")
    assert 'version = { attr = "marl_sched.__version__" }' in pyproject
    assert pins.IMAGE == f"marl-sched:{__version__}-ray{pins.RAY_VERSION}"
    for name in ("rayjob", "raycluster"):
        cluster = cluster_of(name)
        assert cluster["rayVersion"] == pins.RAY_VERSION
        assert {c["image"] for c in containers(cluster)} == {pins.IMAGE}
    dockerfile = committed("docker")
    assert re.findall(r"^FROM (.*)$", dockerfile, re.M) == [pins.BASE_IMAGE]
    assert f"docker build -f clusters/Dockerfile -t {pins.IMAGE} ." in dockerfile
    assert f'"ray=={pins.RAY_VERSION}"' in dockerfile
    assert committed("raycluster").count(f"image: {pins.REDIS_IMAGE}\n") == 1
    for name in TARGETS:
        assert set(re.findall(r"\b2\.\d\d\.\d\b", committed(name))) <= {pins.RAY_VERSION}


@pytest.mark.parametrize("name", ["local", "aws", "gcp"])
def test_machines_get_the_token_and_no_open_dashboard(name: str) -> None:
    file = config(name)
    assert file["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    for part in ("head_start_ray_commands", "worker_start_ray_commands"):
        (start,) = [command for command in file[part] if "ray start" in command]
        # Outside of the command a variable would not reach the machine.
        assert "export RAY_AUTH_MODE=token" in start.partition("ray start")[0]
        assert ("--dashboard-host=127.0.0.1" in start) == part.startswith("head")
    assert "RAY_AUTH_TOKEN" not in committed(name)


@pytest.mark.parametrize("name", ["rayjob", "raycluster"])
def test_pods_get_the_token_from_the_operator(name: str) -> None:
    cluster = cluster_of(name)
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    for container in containers(cluster):
        for variable in container.get("env", []):
            assert variable["name"] not in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")


def test_dashboards_of_pods() -> None:
    """On loopback; a RayJob's is fenced in instead, as the operator reads it."""
    head = cluster_of("raycluster")["headGroupSpec"]
    assert head["rayStartParams"]["dashboard-host"] == "127.0.0.1"
    (policy,) = [d for d in yaml.safe_load_all(committed("rayjob")) if d["kind"] == "NetworkPolicy"]
    label = policy["spec"]["podSelector"]["matchLabels"]
    pods = groups(cluster_of("rayjob"))
    assert all(group["template"]["metadata"]["labels"] == label for group in pods)
    assert policy["spec"]["policyTypes"] == ["Ingress"]


def test_the_lasting_cluster_scales_and_survives() -> None:
    cluster = cluster_of("raycluster")
    assert cluster["enableInTreeAutoscaling"] and cluster["autoscalerOptions"]["version"] == "v2"
    password = cluster["gcsFaultToleranceOptions"]["redisPassword"]["valueFrom"]["secretKeyRef"]
    assert password["name"] == "marl-sched-redis"
    gpus = [c["resources"]["limits"].get("nvidia.com/gpu") for c in containers(cluster)]
    assert gpus == [None, None, "1"]


def command(name: str) -> list[str]:
    """Words of the training command in a file."""
    text = re.sub(r"^# *", "", committed(name), flags=re.M).replace("\\\n", " ")
    found = re.search(r"marl[-_]sched train (--address auto[^'#]*?--resume auto)", text)
    assert found is not None
    return shlex.split(found[1])


@pytest.mark.parametrize("name", LAUNCHED)
def test_the_training_command_is_ours(name: str) -> None:
    import typer

    from marl_sched.cli.app import app

    group: Any = typer.main.get_command(app)
    given = group.commands["train"].make_context("train", command(name)).params
    assert given["address"] == "auto" and given["resume"] == "auto"
    assert given["num_env_runners"] > 0


def test_the_machines_can_hold_what_trains() -> None:
    def runners(name: str) -> int:
        words = command(name)
        return int(words[words.index("--num-env-runners") + 1])

    for name in ("aws", "gcp"):
        types = config(name)["available_node_types"]
        sampler = types["sampler"]
        assert runners(name) <= sampler["max_workers"] * sampler["resources"]["CPU"]
        assert types["learner"]["resources"]["GPU"] == 1
        assert config(name)["max_workers"] == sampler["max_workers"] + 1
    for name in ("rayjob", "raycluster"):
        group = cluster_of(name)["workerGroupSpecs"][0]
        cpus = group["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"]
        assert runners(name) <= group["maxReplicas"] * int(cpus)


@pytest.mark.parametrize(("name", "kind"), [("rayjob", "RayJob"), ("raycluster", "RayCluster")])
def test_the_queue_is_an_overlay(name: str, kind: str, crd_dir: Path) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    overlay = ROOT / "clusters" / "kueue" / name
    done = subprocess.run(
        [kubectl, "kustomize", "--load-restrictor", "LoadRestrictionsNone", str(overlay)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert validate(Path("built.yaml"), done.stdout, crd_dir).problems == []
    queued = [
        document["kind"]
        for document in yaml.safe_load_all(done.stdout)
        if "kueue.x-k8s.io/queue-name" in document["metadata"].get("labels", {})
    ]
    assert queued == [kind]


@pytest.mark.parametrize("gpus", [0, 8])
@pytest.mark.parametrize("name", LAUNCHED)
def test_other_sizes_are_good_too(name: str, gpus: int, request: pytest.FixtureRequest) -> None:
    launch = launch_of(
        name, nodes=8, cpus_per_node=16, gpus_per_node=gpus, storage="s3://b/runs?scheme=http&a=b"
    )
    text = render(name, launch)
    found = validate(Path(TARGETS[name].path), text, definitions(name, request))
    assert found.problems == []
    assert ("--num-learners 8 --num-gpus-per-learner 1" in text) == (gpus == 8)
    # In quotes, as a shell would otherwise end the command at the &.
    job = "/slurm-$SLURM_JOB_ID" if name == "slurm" else ""
    assert f'--storage "s3://b/runs{job}?scheme=http&a=b"' in text


def test_a_step_of_slurm_has_the_cpus_of_its_task() -> None:
    (step,) = re.findall(r"^srun (.*?)\bray symmetric-run", committed("slurm"), re.M | re.S)
    assert '--cpus-per-task="$SLURM_CPUS_PER_TASK"' in step


def test_kernels_are_kept_in_no_place_that_all_may_write() -> None:
    """Compiled kernels are pickles: who writes them runs code as who reads them."""
    text = (ROOT / "clusters" / "runtime_env.yaml").read_text(encoding="utf-8")
    assert set(yaml.safe_load(text)["env_vars"]) == {"OMP_NUM_THREADS"}
    for name in TARGETS:
        assert "NUMBA_CACHE_DIR" not in committed(name) and "/tmp" not in committed(name)


def test_each_slurm_job_has_a_storage_of_its_own() -> None:
    for storage, written in (("/s/a/", "/s/a"), ("runs?a", "runs?a"), ("gs://b/c", "gs://b/c")):
        text = render("slurm", Launch(storage=storage))
        assert f'--storage "{written}/slurm-$SLURM_JOB_ID" ' in text
        assert '--out "runs/slurm-$SLURM_JOB_ID" --resume auto' in text


def launch_of(name: str, **options: Any) -> Launch:
    """Of the options those that the target takes."""
    return Launch(**{key: o for key, o in options.items() if key in TARGETS[name].defaults})


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_is_rendered_is_good(name: str, request: pytest.FixtureRequest) -> None:
    crd_dir = definitions(name, request)
    words = st.sampled_from(
        ["1", "1e3", "true", "null", "0x10", "on", "a", "a.b-c", "1.5", "12:30"]
    )
    storages = ["runs", "/shared/a~b", "s3://b/c?endpoint_override=h:1&scheme=http", "gs://b/c#d"]
    options = st.fixed_dictionaries(
        {},
        optional={
            "nodes": st.integers(1, 10_000),
            "cpus_per_node": st.sampled_from([4, 8, 16, 32]),
            "gpus_per_node": st.sampled_from([0, 1, 4, 8]),
            "minutes": st.floats(0.01, 525_600),
            "storage": st.sampled_from(storages),
            "image": st.sampled_from(["a", "1", "h:5000/a/b:c", f"a@sha256:{'0' * 64}", "null"]),
            "region": st.sampled_from(["us-east-2", "europe-west4"]),
            "project": st.sampled_from(["10", "example.com:p", "p-1"]),
            "ami": st.just("ami-0abc"),
            "hosts": st.lists(words.filter(lambda word: ":" not in word), min_size=1, unique=True),
            "ssh_user": st.sampled_from(["ubuntu", "no", "_a"]),
        },
    )

    @settings(max_examples=12, deadline=None, derandomize=True)
    @given(options, st.sampled_from([None, "a b.yaml", "it's.sbatch", "$HOME/x;y", "#"]))
    def check(given: dict[str, Any], path: str | None) -> None:
        given = {key: tuple(o) if key == "hosts" else o for key, o in given.items()}
        text = render(name, launch_of(name, **given), path)
        report = validate(Path(TARGETS[name].path), text, crd_dir)
        assert report.problems == [], text

    check()


@pytest.mark.parametrize(
    ("name", "launch", "message"),
    [
        ("moon", Launch(), "known: local, aws"),
        ("aws", Launch(gpus_per_node=3), "--gpu-machine"),
        ("gcp", Launch(cpus_per_node=5), "--machine"),
        ("slurm", Launch(nodes=0), "--nodes 0: must be 1 or more"),
        ("slurm", Launch(cpus_per_node=1), "must be 2 or more"),  # one of them is Ray's
        ("rayjob", Launch(gpus_per_node=-1), "must be 0 or more"),
        ("rayjob", Launch(nodes=10**12), "10,000 at most"),
        ("slurm", Launch(minutes=float("nan")), "--minutes nan: must be more than 0"),
        ("rayjob", Launch(minutes=float("inf")), "--minutes inf"),
        ("local", Launch(hosts=()), "--hosts"),
        ("local", Launch(hosts=("a", "")), "--hosts: ''"),
        ("local", Launch(hosts=("a", "a")), "each once"),
        ("local", Launch(nodes=3), "--nodes: local has no such option; it takes --minutes"),
        ("docker", Launch(region="us-west-2"), "it takes --image"),
        ("slurm", Launch(storage="a'; rm -rf x"), "--storage"),
        ("slurm", Launch(storage="s3://"), "--storage 's3://'"),
        # The file would carry the secret.
        ("slurm", Launch(storage="s3://KEY:SECRET@b/c"), "--storage 's3://***@b/c'"),
        ("slurm", Launch(storage="s3://KEY:SEC/RET@b/c"), "--storage 's3://***@b/c'"),
        ("rayjob", Launch(image="a: b"), "--image"),
        ("aws", Launch(ami="x"), "--ami"),
        ("aws", Launch(machine="c7i.48xlarge"), "say its size too, --cpus-per-node"),
        ("gcp", Launch(gpus_per_node=0, gpu_machine="a2-highgpu-1g"), "leave it out"),
    ],
)
def test_what_cannot_be_written(name: str, launch: Launch, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        render(name, launch)


@pytest.mark.parametrize(("gpus", "learners"), [(1, 1), (3, 1), (6, 2), (8, 8)])
def test_learners_take_equal_shares(gpus: int, learners: int) -> None:
    text = render("slurm", Launch(nodes=2, gpus_per_node=gpus))
    assert f"--num-learners {learners} " in text
    assert f"GPUs that learn: {learners} of {2 * gpus}" in text
    alone = render("slurm", Launch(nodes=1, gpus_per_node=gpus))
    assert ("GPUs that learn" in alone) == (gpus > learners)


@pytest.mark.parametrize("name", [name for name in LAUNCHED if name != "local"])
def test_more_runners_than_one_run_can_use_are_told(name: str) -> None:
    for gpus, usable in ((0, 15), (1, 36)):
        launch = launch_of(name, nodes=40, cpus_per_node=8, gpus_per_node=gpus)
        header = render(name, launch).partition("# Written:")[0]
        note = " ".join(header.partition("# Note:")[2].replace("#", " ").split())
        assert note.startswith(f"one run of PPO or DQN uses at most about {usable} of these ")
        assert note.endswith("see docs/scaling.md; run several seeds, or --algo es")
    assert "# Note:" not in committed(name)


def test_own_machines_are_edited_where_they_were_not_given() -> None:
    def edits(**options: Any) -> str:
        found = re.search(r"# Edit (.*) below;", render("local", Launch(**options)))
        assert found is not None
        return found[1]

    assert edits() == "head_ip, worker_ips and auth"
    assert edits(hosts=("a", "b")) == "auth"
    assert edits(ssh_user="bob") == "head_ip, worker_ips and auth's ssh_private_key"
    assert edits(hosts=("a", "b"), ssh_user="bob") == "auth's ssh_private_key"
