"""Validation of files for `ray up` and `ray job submit`, without a cloud."""

from __future__ import annotations

import copy
import ipaddress
import json
import pathlib
import re
from difflib import get_close_matches
from importlib.util import find_spec
from typing import Any

from marl_sched.clusters import shell
from marl_sched.clusters.located import (
    Document,
    Path,
    Problem,
    dotted,
    leaves,
    odd_names,
    schema_problems,
    shown,
    unknown,
)
from marl_sched.clusters.syntax import label_1035

PLACEHOLDERS = ("ami-EDIT-ME", "YOUR-PROJECT")
"""What `render` writes where nobody but the user knows better."""

NATIVE = ("CPU", "GPU", "TPU", "memory", "object_store_memory")
"""Resources that Ray itself knows; any other name is the user's own."""

CLOSED_PROVIDERS = ("aws", "gcp", "local")
"""Providers all of whose settings Ray's schema names, though it lets others pass."""

LIBRARIES = {"aws": "botocore", "gcp": "googleapiclient"}
"""Provider -> module that knows its machines; the extra `clusters` brings both."""


def cluster_problems(document: Document) -> list[Problem]:
    """What is wrong with a file for `ray up`: Ray's own schema and checks, the cloud's own
    description of a machine where its library is installed, and a Ray without authentication."""
    import jsonschema

    odd = list(odd_names(document.value, (), document))
    if odd:
        return odd
    found = schema_problems(
        jsonschema.Draft7Validator(_schema()).iter_errors(document.value), document
    )
    found += _provider(document) + _texts(document) + _resources(document)
    told = {problem.line for problem in found}
    found += [problem for problem in _numbers(document) if problem.line not in told]
    if found:
        return found
    return _by_ray(document) + _machines(document) + _commands(document)


def _texts(document: Document) -> list[Problem]:
    """Values that Ray's schema lets be anything, and uses as text."""
    value = document.value
    found = []
    mounts, provider = value.get("file_mounts"), value.get("provider")
    wanted: list[tuple[Path, Any]] = [
        (("file_mounts", name), path)
        for name, path in (mounts.items() if isinstance(mounts, dict) else ())
    ]
    lists: list[Path] = [("rsync_exclude",), ("rsync_filter",), ("cluster_synced_files",)]
    if isinstance(provider, dict) and provider.get("type") == "local":
        lists.append(("provider", "worker_ips"))
    for path in lists:
        items = provider.get(path[1]) if path[0] == "provider" else value.get(path[0])
        if isinstance(items, list):
            wanted += [((*path, n), item) for n, item in enumerate(items)]
        elif items is not None:
            found.append(Problem(document.line(path), f"{dotted(path)}: must be a list"))
    for path, item in wanted:
        if not isinstance(item, str):
            found.append(Problem(document.line(path), f"{dotted(path)}: must be text"))
    return found + [
        Problem(document.line(path), f"{dotted(path)}: is empty")
        for path, item in leaves(value, ())
        if item == "" or item is None
    ]


def _resources(document: Document) -> list[Problem]:
    """Resources of node types that are all but Ray's own: a misspelt CPU would be one that no
    task asks for."""
    types = document.value.get("available_node_types")
    found = []
    for name, node in types.items() if isinstance(types, dict) else ():
        resources = node.get("resources") if isinstance(node, dict) else None
        for key in resources if isinstance(resources, dict) else ():
            near = get_close_matches(str(key).lower(), [n.lower() for n in NATIVE], n=1, cutoff=0.7)
            if near and key not in NATIVE:
                path = ("available_node_types", name, "resources")
                found.append(unknown(path, key, NATIVE, document))
    return found


def _numbers(document: Document) -> list[Problem]:
    """Numbers below 0, of which no setting is one, and fewest that are more than most."""
    found = [
        Problem(document.line(path), f"{dotted(path)}: {shown(item)} must be 0 or more")
        for path, item in leaves(document.value, ())
        if isinstance(item, int | float) and not item >= 0
    ]
    types = document.value.get("available_node_types")
    for name, node in types.items() if isinstance(types, dict) else ():
        limits: list[Any] = [node.get(key) for key in ("min_workers", "max_workers")
                  if isinstance(node, dict)]  # fmt: skip
        if all(type(one) is int for one in limits) and limits != sorted(limits):
            path = ("available_node_types", name, "min_workers")
            message = f"{dotted(path)}: {limits[0]} is more than max_workers, {limits[1]}"
            found.append(Problem(document.line(path), message))
    return found + _machines_named(document)


def _machines_named(document: Document) -> list[Problem]:
    """One's own machines: each once, and by an address that is one."""
    provider = document.value.get("provider")
    if not isinstance(provider, dict) or provider.get("type") != "local":
        return []
    workers = provider.get("worker_ips")
    named: list[tuple[Path, Any]] = [(("provider", "head_ip"), provider.get("head_ip"))]
    named += [(("provider", "worker_ips", n), one)
              for n, one in enumerate(workers if isinstance(workers, list) else ())]  # fmt: skip
    found, seen = [], set()
    for path, host in named:
        if not isinstance(host, str):
            continue
        if re.fullmatch(r"\d+(\.\d+){3}", host) and not _is_address(host):
            found.append(
                Problem(document.line(path), f"{dotted(path)}: {shown(host)} is no address")
            )
        if host in seen:
            message = f"{dotted(path)}: {shown(host)} is there twice"
            found.append(Problem(document.line(path), message))
        seen.add(host)
    return found


def _is_address(text: str) -> bool:
    try:
        return bool(ipaddress.ip_address(text))
    except ValueError:
        return False


def _schema() -> dict[str, Any]:
    import ray.autoscaler

    path = pathlib.Path(ray.autoscaler.__file__).parent / "ray-schema.json"
    schema: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return schema


def _provider(document: Document) -> list[Problem]:
    provider = document.value.get("provider")
    if not isinstance(provider, dict):
        return []  # the schema says so
    kind = provider.get("type")
    if not isinstance(kind, str) or not kind:
        return [Problem(document.line(("provider", "type")), "provider.type: must be text")]
    if kind not in CLOSED_PROVIDERS:
        return []
    known = _schema()["properties"]["provider"]["properties"]
    found = [
        unknown(("provider",), name, known, document) for name in provider if name not in known
    ]
    name = document.value.get("cluster_name")
    wrong = label_1035(name) if kind == "gcp" and isinstance(name, str) and name else None
    if wrong is not None:  # machines are named after it
        message = f"cluster_name: {shown(name)!r} {wrong}"
        found.append(Problem(document.line(("cluster_name",)), message))
    return found


def _by_ray(document: Document) -> list[Problem]:
    """What Ray itself finds: a head type that is not there, too few workers allowed, .."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    try:
        validate_config(prepare_config(copy.deepcopy(document.value)))
    except Exception as error:  # whatever it raises, `ray up` would end with it
        message = " ".join(str(error).split())[:200] or type(error).__name__
        near = next((name for name in document.value if f"`{name}`" in message), None)
        return [Problem(document.line(() if near is None else (near,)), f"Ray: {message}")]
    return []


def _machines(document: Document) -> list[Problem]:
    """Each node type's machine, by the description that the cloud's own library carries."""
    check = {"aws": _ec2, "gcp": _compute}.get(document.value["provider"]["type"])
    if check is None:
        return []
    found = []
    for name, node in (document.value.get("available_node_types") or {}).items():
        path = ("available_node_types", name, "node_config")
        found += check(node.get("node_config") or {}, path, document)
    return found


def unchecked(document: Document) -> list[str]:
    """What could not be checked for want of a library, and what the user has yet to fill in."""
    notes = [
        f"line {document.line(path)}: put your own in place of {item}"
        for path, item in leaves(document.value, ())
        if item in PLACEHOLDERS
    ]
    provider = document.value.get("provider")
    kind = provider.get("type") if isinstance(provider, dict) else None
    module = LIBRARIES.get(str(kind))
    if module is not None and find_spec(module) is None:
        notes.append("node_config not checked: pip install -e '.[clusters]'")
    return notes


def _ec2(config: dict[str, Any], path: tuple[str, ...], document: Document) -> list[Problem]:
    try:
        from botocore.session import Session
        from botocore.validate import ParamValidator
    except ImportError:
        return []
    shape = Session().get_service_model("ec2").operation_model("RunInstances").input_shape
    # Ray fills in the numbers itself.
    report = ParamValidator().validate({"MinCount": 1, "MaxCount": 1, **config}, shape)
    found = []
    for kind, name, details in report._errors:
        below = _parts(name)
        if kind == "unknown field":
            wrong = details["unknown_param"]
            found.append(unknown((*path, *below), wrong, details["valid_names"], document))
        else:
            line = document.line((*path, *below))
            found.append(Problem(line, f"{dotted((*path, *below))}: {kind}"))
    return found


def _parts(name: str) -> list[str | int]:
    """botocore's way to write a path, .A[0].B, as a path."""
    parts: list[str | int] = []
    for part in name.replace("[", ".[").split("."):
        if part.startswith("["):
            parts.append(int(part.strip("[]")))
        elif part:
            parts.append(part)
    return parts


def _compute(config: dict[str, Any], path: tuple[str, ...], document: Document) -> list[Problem]:
    try:
        from googleapiclient.discovery_cache import get_static_doc
    except ImportError:
        return []
    text = get_static_doc("compute", "v1")
    if text is None:
        return []
    schemas = json.loads(text)["schemas"]
    return _by_discovery(config, schemas["Instance"], schemas, path, document)


_SCALARS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "integer": (int, str),
    "number": (int, float),
}
"""Type of Google's description -> what may stand there."""


def _is_odd(value: Any, wanted: tuple[type, ...]) -> bool:
    """True and False are whole numbers to Python."""
    return isinstance(value, bool) and bool not in wanted


def _by_discovery(
    value: Any, schema: dict[str, Any], schemas: dict[str, Any], path: Any, document: Document
) -> list[Problem]:
    """Fields that Google's description of an object does not have, or has as something else."""
    schema = schemas[schema["$ref"]] if "$ref" in schema else schema
    if schema.get("type") == "array":
        if not isinstance(value, list):
            return [Problem(document.line(path), f"{dotted(path)}: must be a list")]
        pairs = [(index, item, schema["items"]) for index, item in enumerate(value)]
    elif "properties" in schema:
        if not isinstance(value, dict):
            return [Problem(document.line(path), f"{dotted(path)}: must be a mapping")]
        known = schema["properties"]
        wrong = [name for name in value if name not in known]
        if wrong:
            return [unknown(path, name, known, document) for name in wrong]
        pairs = [(name, item, known[name]) for name, item in value.items()]
    else:
        # Numbers of 64 bits are text on the wire, and taken as either.
        kind = "integer" if "int" in schema.get("format", "") else schema.get("type", "")
        wanted = _SCALARS.get(kind)
        if wanted is None or (isinstance(value, wanted) and not _is_odd(value, wanted)):
            return []
        return [Problem(document.line(path), f"{dotted(path)}: must be of type {kind}")]
    found = []
    for name, item, below in pairs:
        found += _by_discovery(item, below, schemas, (*path, name), document)
    return found


def _commands(document: Document) -> list[Problem]:
    """Each `ray start`: with the token, and no dashboard for everybody."""
    found = []
    for part in ("head_start_ray_commands", "worker_start_ray_commands"):
        commands = document.value.get(part)
        if commands is None:
            found.append(
                Problem(1, f"{part}: is missing, and Ray's own asks for no token: an open cluster")
            )
        for index, command in enumerate(commands or []):
            for message in shell.open_starts(str(command)):
                found.append(Problem(document.line((part, index)), f"{part}[{index}]: {message}"))
    return found


def runtime_env_problems(document: Document) -> list[Problem]:
    """Fields that Ray's runtime environments do not have, or would not take."""
    from ray.runtime_env import RuntimeEnv

    known = set(RuntimeEnv.known_fields)
    wrong = [unknown((), name, known, document) for name in document.value if name not in known]
    if wrong:
        return wrong
    try:
        RuntimeEnv(**document.value)
    except (TypeError, ValueError) as error:
        return [Problem(1, f"Ray: {' '.join(str(error).split())[:200]}")]
    return []
