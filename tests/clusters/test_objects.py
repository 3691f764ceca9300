"""`cluster validate` on Kubernetes objects: what the API server refuses, and no schema says."""

from __future__ import annotations

import copy
import string
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from marl_sched.clusters import syntax
from marl_sched.clusters.targets import TARGETS, Launch, render
from marl_sched.clusters.validate import validate
from tests.cli.program import call

CASES = Path(__file__).parents[3] / "shared" / "cases"
CONTAINER = "{name: c, image: a}"
LONG = "a" * 54


def found(text: str, crd_dir: Path | None = None) -> list[str]:
    return [one.message for one in validate(Path("x.yaml"), text, crd_dir).problems]


@pytest.fixture
def crd_dir(shared_data: Path) -> Path:
    folder = shared_data / "kuberay"
    if not folder.is_dir():
        pytest.skip("KubeRay's definitions are not there: ../shared/data/kuberay")
    return folder


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        # The NetworkPolicy's name and the RayJob's: capitals and '_' are in neither RFC.
        ("upper", {42: "metadata.name: 'Marl_Sched' must be small letters",
                   63: "metadata.name: 'Marl_Sched' must be small letters"}),
        ("reqgtlim", {116: "resources.requests.cpu: 8 is more than limits.cpu, 4"}),
        ("back", {73: "spec.backoffLimit: -1: must be 0 or more"}),
    ],
)  # fmt: skip
def test_the_files_that_were_called_good(
    name: str, lines: dict[int, str], crd_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = CASES / f"{name}.yaml"
    if not path.is_file():
        pytest.skip("the cases ../shared/cases are not there")
    seen = call(capsys, "cluster", "validate", "--crd-dir", crd_dir, path)
    assert seen.code == 2 and seen.out == ""
    errors = seen.err.splitlines()
    assert len(errors) == len(lines)
    for error, (line, message) in zip(errors, lines.items(), strict=True):
        assert error.startswith(f"error: {path}:{line}: ") and message in error


def pod(spec: str, metadata: str = "name: a") -> str:
    return f"apiVersion: v1\nkind: Pod\nmetadata: {{{metadata}}}\nspec: {{{spec}}}\n"


def of_container(fields: str, more: str = "") -> str:
    return pod(f"containers: [{{name: c, image: a, {fields}}}]{more}")


def other(kind: str, spec: str, name: str = "a", version: str = "v1") -> str:
    return f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # Names.
        (pod(f"containers: [{CONTAINER}]", "name: A"), "metadata.name: 'A' must be"),
        (pod(f"containers: [{CONTAINER}]", "name: a..b"), "metadata.name"),
        (pod(f"containers: [{CONTAINER}]", f"name: {'a' * 254}"), "254 characters, and 253"),
        (pod(f"containers: [{CONTAINER}]", "name: a, namespace: a.b"), "metadata.namespace"),
        (pod(f"containers: [{CONTAINER}]", "generateName: A-"), "metadata.generateName"),
        (other("Service", "ports: [{port: 1}]", "1a"), "(RFC 1035)"),
        (other("Service", "ports: [{port: 1}]", "a.b"), "(RFC 1035)"),
        ("apiVersion: v1\nkind: Namespace\nmetadata: {name: a.b}\n", "metadata.name"),
        (pod("containers: [{name: A, image: a}]"), "containers[0].name"),
        (pod(f"containers: [{CONTAINER}], serviceAccountName: a_b"), "serviceAccountName"),
        (pod(f"containers: [{CONTAINER}], hostname: a.b"), "spec.hostname"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {a b: c}\n", "data.a b"),
        # Labels, annotations and what selects by them.
        (pod(f"containers: [{CONTAINER}]", "name: a, labels: {-a: b}"), "labels.-a: the key"),
        (pod(f"containers: [{CONTAINER}]", "name: a, labels: {A.b/c/d: e}"), "the key"),
        (pod(f"containers: [{CONTAINER}]", "name: a, labels: {a: b c}"), "labels.a: 'b c'"),
        (pod(f"containers: [{CONTAINER}]", f"name: a, labels: {{a: {'b' * 64}}}"), "64 char"),
        (pod(f"containers: [{CONTAINER}]", "name: a, annotations: {a b: c}"), "annotations.a b"),
        (pod(f"containers: [{CONTAINER}], nodeSelector: {{a: -}}"), "nodeSelector.a"),
        (other("PersistentVolumeClaim", "accessModes: [ReadWriteOnce], resources: {requests: "
               "{storage: 1}}, selector: {matchExpressions: [{key: a, operator: In}]}"),
         "In needs values"),
        # Requests, limits, quantities.
        (of_container("resources: {requests: {memory: 2Gi}, limits: {memory: 1G}}"),
         "memory: 2Gi is more than limits.memory, 1G"),
        (of_container("resources: {requests: {cpu: 1}, limits: {cpu: 999m}}"), "more than limits"),
        (of_container("resources: {requests: {ephemeral-storage: 1Ki}, limits: "
                      "{ephemeral-storage: 1k}}"), "more than limits"),
        (of_container("resources: {requests: {a.b/c: 2}, limits: {a.b/c: 1}}"), "must be the same"),
        (of_container("resources: {requests: {a.b/c: 1}, limits: {a.b/c: 2}}"), "must be the same"),
        (of_container("resources: {requests: {hugepages-2Mi: 2Mi}}"), "must be the same"),
        (of_container("resources: {limits: {nvidia.com/gpu: '0.5'}}"), "must be a whole number"),
        (of_container("resources: {limits: {cpu: 2 cores}}"), "is no quantity"),
        (of_container("resources: {limits: {memory: 8GB}}"), "'8GB' is no quantity"),
        (of_container("resources: {limits: {cpu: -1}}"), "must not be negative"),
        (of_container("resources: {limits: {storage: 1}}"), "do you mean ephemeral-storage?"),
        (pod(f"containers: [{CONTAINER}], initContainers: [{{name: d, image: a, resources: "
             "{requests: {cpu: 2}, limits: {cpu: 1}}}]"), "initContainers[0].resources"),
        (other("PersistentVolumeClaim", "accessModes: [ReadWriteOnce], resources: {requests: "
               "{storage: 2Gi}, limits: {storage: 1Gi}}"), "is more than limits.storage"),
        # Numbers.
        (of_container("ports: [{containerPort: 0}]"), "containerPort: 0: must be 1 or more"),
        (of_container("ports: [{containerPort: 65536}]"), "65535 or less"),
        (of_container("livenessProbe: {exec: {command: [a]}, periodSeconds: -1}"), "periodSeconds"),
        (of_container("securityContext: {runAsUser: -1}"), "runAsUser"),
        (of_container("volumeMounts: [{name: v, mountPath: /a}]",
                      ", volumes: [{name: v, secret: {secretName: a, defaultMode: 777}}]"),
         "defaultMode"),
        (pod(f"containers: [{CONTAINER}], terminationGracePeriodSeconds: -1"), "GracePeriod"),
        (pod(f"containers: [{CONTAINER}], activeDeadlineSeconds: 0"), "must be 1 or more"),
        (other("Job", "backoffLimit: -1, template: {spec: {restartPolicy: Never, containers: "
               f"[{CONTAINER}]}}}}", version="batch/v1"), "spec.backoffLimit: -1"),
        (other("Job", "parallelism: 3000000000, template: {spec: {restartPolicy: Never, "
               f"containers: [{CONTAINER}]}}}}", version="batch/v1"), "2147483647 or less"),
        (other("Service", "ports: [{port: 70000}]"), "spec.ports[0].port"),
        (other("HorizontalPodAutoscaler", "minReplicas: 3, maxReplicas: 2, scaleTargetRef: "
               "{kind: a, name: b}", version="autoscaling/v2"), "3 is more than maxReplicas"),
        # Parts that do not fit together.
        (pod(f"containers: [{CONTAINER}, {CONTAINER}]"), "containers[1].name: 'c' is there twice"),
        (pod(f"containers: [{CONTAINER}], initContainers: [{CONTAINER}]"), "is there twice"),
        (pod("containers: []"), "containers: is empty"),
        (pod("containers: [{name: c}]"), "image: is missing"),
        (pod("containers: [{name: c, image: My/Image}]"), "image: 'My/Image' must be"),
        (of_container("volumeMounts: [{name: v, mountPath: /a}]"), "'v' is no volume of the pod"),
        (of_container("volumeMounts: [{name: v, mountPath: /a}, {name: v, mountPath: /a}]",
                      ", volumes: [{name: v, emptyDir: {}}]"), "mountPath: '/a' is there twice"),
        (pod(f"containers: [{CONTAINER}], volumes: [{{name: v, emptyDir: {{}}}}, {{name: v}}]"),
         "volumes[1].name: 'v' is there twice"),
        (pod(f"containers: [{CONTAINER}], volumes: [{{name: v, emptyDir: {{}}, "
             "secret: {secretName: a}}]"), "must have one source"),
        (of_container("ports: [{name: a, containerPort: 1}, {name: a, containerPort: 2}]"),
         "ports[1].name: 'a' is there twice"),
        (of_container("ports: [{name: abcdefghijklmnop, containerPort: 1}]"), "16 characters"),
        (of_container("env: [{name: A=B, value: c}]"), "env[0].name"),
        (of_container("env: [{name: A, value: b, valueFrom: {fieldRef: {fieldPath: c}}}]"),
         "only one may be there"),
        (other("Service", "ports: [{port: 1}, {port: 2}]"), "ports[0].name: is missing"),
        (other("Service", "ports: [{name: a, port: 1}, {name: b, port: 1}]"), "1 TCP is there"),
        (other("Service", "type: ClusterIPP, ports: [{port: 1}]"), "must be one of ClusterIP"),
        (other("Job", f"template: {{spec: {{containers: [{CONTAINER}]}}}}", version="batch/v1"),
         "Always: must be OnFailure or Never in a Job"),
        (other("Deployment", "selector: {matchLabels: {a: b}}, template: {metadata: {labels: "
               f"{{a: c}}}}, spec: {{containers: [{CONTAINER}]}}}}", version="apps/v1"),
         "selector.matchLabels.a: the template's labels do not have it"),
        (pod(f"containers: [{CONTAINER}], restartPolicy: Alway"), "must be one of Always"),
        (of_container("imagePullPolicy: always"), "must be one of Always"),
        (other("NetworkPolicy", "podSelector: {}, policyTypes: [ingress]",
               version="networking.k8s.io/v1"), "policyTypes[0]: 'ingress'"),
        (of_container("ports: [{containerPort: 1, hostPort: 8}, {containerPort: 2, hostPort: 8}]"),
         "ports[1].hostPort: 8 TCP is there twice"),
        (of_container("volumeMounts: [{name: v, mountPath: /a, subPath: ../b}]",
                      ", volumes: [{name: v}]"), "must stay below the volume"),
        (of_container("volumeMounts: [{name: v, mountPath: ''}]", ", volumes: [{name: v}]"),
         "mountPath: is empty"),
        (of_container("livenessProbe: {exec: {command: [a]}, successThreshold: 2}"), "must be 1"),
        (of_container("livenessProbe: {periodSeconds: 2}"), "must have one of exec"),
        (of_container("env: [{name: A, valueFrom: {secretKeyRef: {name: a, key: b c}}}]"), "key: "),
        (pod(f"containers: [{CONTAINER}], imagePullSecrets: [{{name: A}}]"), "[0].name: 'A'"),
        (pod(f"containers: [{CONTAINER}], tolerations: [{{key: a, operator: Exist}}]"), "operator"),
        (pod(f"containers: [{CONTAINER}], tolerations: [{{key: a, operator: Exists, value: b}}]"),
         "Exists takes no value"),
        (pod(f"containers: [{CONTAINER}], volumes: [{{name: v, emptyDir: {{sizeLimit: 5GB}}}}]"),
         "sizeLimit: '5GB' is no quantity"),
        (other("PersistentVolumeClaim", "accessModes: [ReadWriteOnce]"), "storage: is missing"),
        (other("PersistentVolumeClaim", "accessModes: [], resources: {requests: {storage: 0}}"),
         "must be above 0"),
        (other("PersistentVolume", "accessModes: [ReadWriteOnce], capacity: {storage: 1GB}, "
               "hostPath: {path: /a}"), "capacity.storage: '1GB'"),
        (other("ResourceQuota", "hard: {pods: -1}"), "hard.pods: -1 must not be negative"),
        (other("LimitRange", "limits: [{type: Container, max: {cpu: x}}]"), "max.cpu: 'x'"),
        ("apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata: {a: plain text}\n", "base64"),
        (other("CronJob", "schedule: '* * * *', jobTemplate: {spec: {template: {spec: "
               f"{{restartPolicy: Never, containers: [{CONTAINER}]}}}}}}}}", version="batch/v1"),
         "five fields"),
        (other("NetworkPolicy", "podSelector: {}, ingress: [{from: [{ipBlock: {cidr: "
               "10.0.0.0/33}}]}]", version="networking.k8s.io/v1"), "cidr"),
        ("apiVersion: v1\nkind: ../../x\nmetadata: {name: a}\n", "kind: '../../x' is none"),
        ("apiVersion: ../v1\nkind: Pod\nmetadata: {name: a}\n", "apiVersion: '../v1' is none"),
        (pod(f"containers: [{CONTAINER}]") + "---\n" + pod(f"containers: [{CONTAINER}]"),
         "Pod a is there already, at line 3"),
    ],
)  # fmt: skip
def test_what_the_api_server_would_refuse(text: str, message: str) -> None:
    messages = found(text)
    assert any(message in one for one in messages), messages


@pytest.mark.parametrize(
    "text",
    [
        pod(f"containers: [{CONTAINER}]", "name: a.b-1, labels: {a.b/C_d: '', x: A.b_c}"),
        pod(f"containers: [{CONTAINER}]", "generateName: a-, annotations: {A.b/c: 'x y {}'}"),
        of_container("resources: {requests: {cpu: 0.5, memory: 1e3}, limits: {cpu: 500m}}"),
        of_container("resources: {requests: {cpu: 1, a.b/c: 1}, limits: {cpu: '1.0', a.b/c: 1k}}")
        .replace("1k", "1"),
        of_container("resources: {limits: {a.b/c: 1, memory: 128Mi}}"),
        of_container("volumeMounts: [{name: v, mountPath: /a}, {name: v, mountPath: /b}]",
                     ", volumes: [{name: v}]"),
        of_container("ports: [{name: a, containerPort: 65535}], env: [{name: a.b, value: ''}]"),
        of_container("livenessProbe: {httpGet: {port: web, path: /}, initialDelaySeconds: 0}"),
        pod(f"containers: [{CONTAINER}], tolerations: [{{operator: Exists, tolerationSeconds: -1, "
            "effect: NoExecute}], priority: -5"),
        pod("containers: [{name: c, image: 'h:5000/a/b__c:V1@sha256:" + "0" * 64 + "'}]"),
        other("Service", "ports: [{name: a, port: 1}, {name: b, port: 1, protocol: UDP, "
              "targetPort: web}]"),
        other("Job", f"activeDeadlineSeconds: 0, template: {{spec: {{restartPolicy: Never, "
              f"containers: [{CONTAINER}]}}}}", version="batch/v1"),
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {replicas: '-1', a.b_C: x}\n",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata: {a: 'YQ=='}\n"
        "stringData: {b: not base64}\n",
        "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {name: a}\nhandler: b\n"
        "overhead: {podFixed: {cpu: 1m}}\n",
        other("CronJob", "schedule: '*/5 0-3 * JAN MON-FRI', jobTemplate: {spec: {template: {spec: "
              f"{{restartPolicy: Never, containers: [{CONTAINER}]}}}}}}}}", version="batch/v1"),
        other("StatefulSet", "serviceName: s, selector: {matchLabels: {a: b}}, template: "
              "{metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: a, volumeMounts: "
              "[{name: d, mountPath: /d}]}]}}, volumeClaimTemplates: [{metadata: {name: d}, spec: "
              "{accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}]",
              version="apps/v1"),
        "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: a}\nvalue: -10\n",
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: 'a:B'}\n",
    ],
)  # fmt: skip
def test_what_it_takes(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    ("name", "right", "wrong", "message"),
    [
        ("raycluster", "  name: marl-sched\nspec:\n  rayV", f"  name: {LONG}\nspec:\n  rayV",
         "has 54 characters, and 53"),
        ("rayjob", "  name: marl-sched-train\nspec:\n  entry",
         f"  name: {LONG[:48]}\nspec:\n  entry", "has 48 characters, and 47"),
        ("raycluster", "minReplicas: 0\n      maxReplicas: 4", "minReplicas: 5\n      "
         "maxReplicas: 4", "minReplicas: 5 is more than maxReplicas, 4"),
        ("rayjob", "replicas: 2\n", "replicas: 3\n", "replicas: 3 must be from 2 to 2"),
        ("raycluster", "groupName: learner", "groupName: samplers", "'samplers' is there twice"),
        ("raycluster", "groupName: learner", "groupName: Learner", "groupName: 'Learner' must be"),
        ("rayjob", "shutdownAfterJobFinishes: true", "shutdownAfterJobFinishes: false",
         "ttlSecondsAfterFinished: only with shutdownAfterJobFinishes"),
        ("rayjob", "activeDeadlineSeconds: 7200", "activeDeadlineSeconds: 0", "must be 1 or more"),
        ("rayjob", "submissionMode: K8sJobMode", "submissionMode: K8SJobMode", "must be one of"),
        ("rayjob", "name: runs, mountPath", "name: run, mountPath", "'run' is no volume"),
        ("raycluster", 'limits: {cpu: "4", memory: 16Gi, nvidia.com/gpu: "1"}',
         'limits: {cpu: "4", memory: 16Gi, nvidia.com/gpu: "2"}', "must be the same, not 2"),
        ("raycluster", "limits: {cpu: 500m, memory: 1Gi}\n  gcs", "limits: {cpu: 100m, memory: "
         "1Gi}\n  gcs", "autoscalerOptions.resources.requests.cpu: 500m is more than limits.cpu"),
        ("raycluster", 'num-cpus: "0"', 'num-cpus: "-1"', "'-1' is no value of `ray start --num"),
        ("raycluster", 'num-cpus: "0"', 'num-cpus: two', "'two' is no value of `ray start --num"),
        ("raycluster", "claimName: marl-sched-redis", "claimName: marl_sched", "claimName: 'marl_"),
    ],
)  # fmt: skip
def test_what_the_ray_operator_would_refuse(
    name: str, right: str, wrong: str, message: str, crd_dir: Path
) -> None:
    text = render(name, Launch())
    assert right in text
    messages = found(text.replace(right, wrong), crd_dir)
    assert any(message in one for one in messages), messages


@given(st.text(string.printable, max_size=70))
def test_names_are_those_of_the_rfcs(text: str) -> None:
    """Against the rules in words: 1 to 63 letters, digits and '-', none of them at an end."""
    letters = set(string.ascii_lowercase + string.digits)
    good = 0 < len(text) <= 63 and set(text) <= letters | {"-"} and {text[0], text[-1]} <= letters
    assert (syntax.label(text) is None) == good
    assert (syntax.label_1035(text) is None) == (good and text[0] not in string.digits)
    parts = text.split(".")
    ends = all(part and {part[0], part[-1]} <= letters for part in parts)
    small = set(text) <= letters | {"-", "."}
    assert (syntax.subdomain(text) is None) == (small and ends)


@given(st.integers(-(10**6), 10**6), st.sampled_from(["", "m", "k", "Ki", "M", "Gi", "e3", "E-2"]))
def test_quantities_are_exact(number: int, suffix: str) -> None:
    factors: dict[str, Fraction | int]
    factors = {"": 1, "m": Fraction(1, 1000), "k": 1000, "Ki": 1024, "M": 10**6, "Gi": 2**30,
               "e3": 1000, "E-2": Fraction(1, 100)}  # fmt: skip
    assert syntax.quantity(f"{number}{suffix}") == number * factors[suffix]


@pytest.mark.parametrize("text", ["", "1 ", "1KB", "0x1", "1e", "--1", "1e999", "inf", None, True])
def test_what_is_no_quantity(text: Any) -> None:
    assert syntax.quantity(text) is None


def leaves(value: Any, path: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return [found for key, item in pairs for found in leaves(item, (*path, key))]
    return [path]


@pytest.mark.parametrize("name", ["rayjob", "raycluster"])
def test_any_value_may_stand_anywhere(name: str, crd_dir: Path) -> None:
    """Every leaf of a good file is replaced by odd values: a report each time, never an error."""
    documents = list(yaml.safe_load_all(render(name, Launch())))
    places = [path for number, one in enumerate(documents) for path in leaves(one, (number,))]
    for number, path in enumerate(places):
        odd = [None, [], {}, -1, 2**70, "A_b c", 0.5, True, [None], {"name": 3}][number % 10]
        changed = copy.deepcopy(documents[path[0]])
        inner: Any = changed
        for key in path[1:-1]:
            inner = inner[key]
        inner[path[-1]] = odd
        validate(Path(TARGETS[name].path), yaml.safe_dump(changed), crd_dir)
