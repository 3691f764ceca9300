"""What is assigned to jobs of a trace that carries no models and no elasticity.

The rule, seeded; a job's draw depends on the seed and its position in order of arrival:

1. A job falls into a class by its GPU time (GPUs x run time), with the limits of Qiao et al.,
   Pollux, OSDI 2021: small to 1 GPU-hour, medium to 10, large to 100, extra large beyond.
2. Each class has weights over the models of the catalogue (`MODEL_WEIGHTS`): short jobs are
   mostly small models, as there.
3. Nobody asks for GPUs that bring nothing: models whose goodput on the request is not at least
   `MIN_GAIN` times that on the next smaller power of two are left out. Where a class has none
   left, all models that pass are drawn alike; where none passes at all, the model that gains
   most from the request is taken.
4. With probability `elastic_fraction` a job is elastic, from 1 GPU to `elastic_max_factor` times
   its request, at most the largest pool of one GPU type. One that asks for a share of a GPU is not.
"""

from __future__ import annotations

import numpy as np

from marl_sched.errors import UserError, quoted
from marl_sched.perf.catalogue import Catalogue
from marl_sched.types import Cluster
from marl_sched.workload.arrays import constant, is_constant
from marl_sched.workload.formats.raw import RawTrace
from marl_sched.workload.jobs import Workload

CLASS_LIMITS_GPU_S = (3600.0, 36_000.0, 360_000.0)
"""Upper limits of small, medium and large jobs."""

CLASSES = ("small", "medium", "large", "xlarge")

MODEL_WEIGHTS: dict[str, dict[str, float]] = {
    "small": {
        "resnet18": 0.30,
        "lstm": 0.20,
        "ncf": 0.15,
        "transformer": 0.15,
        "deepspeech2": 0.10,
        "bert": 0.10,
    },
    "medium": {
        "deepspeech2": 0.25,
        "bert": 0.25,
        "transformer": 0.15,
        "resnet18": 0.15,
        "lstm": 0.10,
        "yolov3": 0.10,
    },
    "large": {
        "yolov3": 0.25,
        "vgg16": 0.25,
        "inception3": 0.20,
        "bert": 0.10,
        "resnet50": 0.10,
        "gpt2": 0.10,
    },
    "xlarge": {"resnet50": 0.40, "gpt2": 0.25, "vgg16": 0.20, "inception3": 0.15},
}
"""By class of GPU time; chosen so that every class mixes well and badly scaling models."""

MIN_GAIN = 1.1
"""Smallest gain in goodput for which a doubling of GPUs is worth asking."""

_MODEL_STREAM, _ELASTIC_STREAM = 0x30D, 0xE1A


def assign(
    raw: RawTrace,
    cluster: Cluster,
    seed: int,
    elastic_fraction: float,
    elastic_max_factor: int,
    catalogue: Catalogue | None = None,
) -> Workload:
    """The workload of a trace that fits `cluster`; only what the trace leaves open is assigned.

    Raises:
        UserError: for a model that the catalogue lacks.
    """
    catalogue = catalogue or Catalogue.load()
    model = _stated_models(raw, catalogue)
    if (model < 0).any():
        model = np.where(model < 0, draw_models(raw, cluster, seed, catalogue), model)
    elastic = draw_elastic(raw, seed, elastic_fraction)
    pool = max(cluster.gpus_of_type(kind) for kind in cluster.gpu_types)
    most = np.maximum(np.minimum(elastic_max_factor * raw.num_gpus, pool), raw.num_gpus)
    low = lowest_gpus(raw, elastic)
    high = np.where(raw.max_gpus > 0, raw.max_gpus, most)
    tenant, tenants = codes(raw.tenant)
    return Workload(
        job_id=raw.job_id,
        arrival_s=raw.arrival_s,
        duration_s=raw.duration_s,
        num_gpus=raw.num_gpus,
        model=model,
        models=catalogue.models,
        elastic=elastic,
        min_gpus=low,
        max_gpus=np.where(elastic, high, raw.num_gpus),
        demand=raw.demand,
        priority=raw.priority,
        tenant=tenant,
        tenants=tenants,
        deadline_s=raw.deadline_s,
        gpu_type_mask=type_masks(raw, cluster),
        gpu_types=cluster.gpu_types,
        cancel_s=raw.cancel_s,
        parents=raw.parents,
        max_retries=raw.max_retries,
        failure_rate_per_h=raw.failure_rate_per_h,
        checkpoint_interval_s=raw.checkpoint_interval_s,
        loader_cpus_per_gpu=raw.loader_cpus_per_gpu,
        name=raw.name,
        skipped=dict(raw.skipped),
    )


def lowest_gpus(raw: RawTrace, elastic: np.ndarray) -> np.ndarray:
    """(J,) int64, the smallest size of each job, of which `elastic` (J,) bool may shrink."""
    return np.where(elastic, np.where(raw.min_gpus > 0, raw.min_gpus, 1), raw.num_gpus)


def codes(texts: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """(J,) int64 index of each text among the distinct ones, in order of their first use."""
    if is_constant(texts):
        return constant(0, len(texts)), (str(texts[0]),)
    cells = texts.tolist()
    distinct = tuple(dict.fromkeys(cells))
    place = {name: index for index, name in enumerate(distinct)}
    return np.array([place[name] for name in cells], dtype=np.int64), distinct


def type_masks(raw: RawTrace, cluster: Cluster) -> np.ndarray:
    """(J,) int64, bit t set where a job may run on `cluster.gpu_types[t]`; -1 all, 0 unknown type.

    Types are matched without regard to case.
    """
    place = {name.lower(): bit for bit, name in enumerate(cluster.gpu_types)}
    code, distinct = codes(raw.gpu_types)
    masks = []
    for cell in distinct:
        bits = [place.get(name.lower()) for name in cell.split()]
        known = sum({1 << bit for bit in bits if bit is not None})
        masks.append(-1 if not bits else 0 if None in bits else known)
    if len(masks) == 1:
        return constant(masks[0], len(raw))
    return np.array(masks, dtype=np.int64)[code]


def allowed_by_cluster(raw: RawTrace, cluster: Cluster) -> np.ndarray:
    """(J, T) bool, True where a job may run on the cluster's GPU type; none for an unknown one."""
    types = 1 << np.arange(len(cluster.gpu_types))
    return np.asarray((type_masks(raw, cluster)[:, None] & types) != 0)


def _stated_models(raw: RawTrace, catalogue: Catalogue) -> np.ndarray:
    """(J,) int64, index of the model that the trace names; -1 where it names none."""
    index = {name: i for i, name in enumerate(catalogue.models)}
    index[""] = -1
    code, distinct = codes(raw.model)
    bad = [name not in index for name in distinct]
    if any(bad):
        where = np.flatnonzero(np.array(bad)[code])
        i = int(where[np.argmin(raw.row[where])])
        raise UserError(
            f"trace {raw.where}: row {raw.row[i]}, column 'model': {quoted(raw.model[i])} is not "
            f"in the catalogue; known: {', '.join(catalogue.models)}; an empty cell draws one"
        )
    return np.array([index[name] for name in distinct], dtype=np.int64)[code]


def draw_elastic(raw: RawTrace, seed: int, fraction: float) -> np.ndarray:
    """(J,) bool. A stated range of sizes makes a job elastic unless the trace says otherwise."""
    drawn = _uniform(seed, _ELASTIC_STREAM, len(raw)) < fraction
    stated_range = (raw.min_gpus > 0) | (raw.max_gpus > 0)
    implied = ((raw.min_gpus > 0) & (raw.min_gpus < raw.num_gpus)) | (raw.max_gpus > raw.num_gpus)
    open_ = np.where(stated_range, implied, drawn)
    stated = np.where(raw.elastic < 0, open_, raw.elastic == 1)
    # One GPU is the least that a gang can have, and a share is less.
    return np.asarray(stated & (raw.demand[:, 0] >= 1))


def draw_models(raw: RawTrace, cluster: Cluster, seed: int, catalogue: Catalogue) -> np.ndarray:
    """(J,) int64, a model for every job by the rule above."""
    uniform = _uniform(seed, _MODEL_STREAM, len(raw))
    gpu_class = np.searchsorted(CLASS_LIMITS_GPU_S, raw.gpu_s, side="right")
    model = np.empty(len(raw), dtype=np.int64)
    for request in np.unique(raw.num_gpus).tolist():
        gain = request_gain(catalogue, cluster, request)
        for kind, name in enumerate(CLASSES):
            mine = (raw.num_gpus == request) & (gpu_class == kind)
            weight = _weights(catalogue.models, MODEL_WEIGHTS[name], gain)
            model[mine] = np.searchsorted(np.cumsum(weight)[:-1], uniform[mine], side="right")
    return model


def request_gain(catalogue: Catalogue, cluster: Cluster, request: int) -> np.ndarray:
    """(models,) goodput on `request` GPUs over that on the next smaller power of two.

    Packed on the cluster's first GPU type; +inf for one GPU.
    """
    if request == 1:
        return np.full(len(catalogue.models), np.inf)
    gpu_type = cluster.gpu_types[0]
    node_gpus = max(node.num_gpus for node in cluster.nodes if node.gpu_type == gpu_type)
    sizes = np.array([1 << ((request - 1).bit_length() - 1), request])
    nodes = -(-sizes // node_gpus)
    goodput = [catalogue.goodput(name, gpu_type, sizes, nodes) for name in catalogue.models]
    return np.array([mine[1] / mine[0] for mine in goodput])


def _weights(models: tuple[str, ...], wanted: dict[str, float], gain: np.ndarray) -> np.ndarray:
    """(models,) probabilities of one class at one request."""
    passes = gain >= MIN_GAIN
    weight = np.array([wanted.get(name, 0.0) for name in models]) * passes
    if weight.sum() == 0:
        weight = passes.astype(float)
    if weight.sum() == 0:
        weight = (gain == gain.max()).astype(float)
    return np.asarray(weight / weight.sum())


def _uniform(seed: int, stream: int, count: int) -> np.ndarray:
    """(count,) float64 in [0, 1); the i-th depends on seed and i alone."""
    return np.random.default_rng([seed, stream]).random(count)
