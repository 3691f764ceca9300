"""What the catalogue is fitted from: each model, its tables, its batch sizes, its restart cost.

A page of data. `python -m marl_sched.perf.fitting.fit` turns it and the measurements into
`catalogue.yaml`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from marl_sched.perf.fitting.measurements import Samples, elasticflow, gavel, pollux, shockwave

SOURCES = {
    "pollux": {
        "study": "Qiao et al., Pollux, OSDI 2021",
        "data": "petuum/adaptdl @ c793c70, simulator/traces",
        "hardware": "AWS g4dn.12xlarge: nodes of 4 T4",
    },
    "elasticflow": {
        "study": "Gu et al., ElasticFlow, ASPLOS 2023",
        "data": "pkusys/ElasticFlow @ 04a0109, throughputs_A100",
        "hardware": "nodes of 8 A100",
    },
    "gavel": {
        "study": "Narayanan et al., Gavel, OSDI 2020",
        "data": "stanford-futuredata/gavel @ c4fa400, physical_cluster_throughputs.json",
        "hardware": "cloud nodes of K80 and P100; 'consolidated' taken as one node",
    },
    "shockwave": {
        "study": "Zheng et al., Shockwave, NSDI 2023",
        "data": "uw-mad-dash/shockwave @ 8a44f4a, tacc_throughputs.json",
        "hardware": "TACC Longhorn: nodes of 4 V100, taken as such",
    },
}

GPU_TYPES = ("K80", "P100", "V100", "T4", "A100")
"""Order of the catalogue's GPU types."""


@dataclass(frozen=True)
class Table:
    """Where one model was measured on one GPU type."""

    source: str
    read: Callable[[Path], Samples]


@dataclass(frozen=True)
class ChargedRestart:
    """A restart costs what a study charges for one, on any number of GPUs."""

    overhead_s: float
    source: str


@dataclass(frozen=True)
class MeasuredRestart:
    """A restart costs what was measured for a model of Muri's table, by number of GPUs."""

    model: str
    source: str


@dataclass(frozen=True)
class Recipe:
    """How one model of the catalogue comes about."""

    task: str
    primary_type: str
    """The GPU type that stands for `any`, and from which unmeasured types are derived."""
    tables: dict[str, Table]
    """By GPU type."""
    restart: ChargedRestart | MeasuredRestart
    pollux_application: str | None = None
    """Its validation runs give the batch range and the noise scale."""
    fixed_batch: int | None = None
    """Global batch where nobody measured a noise scale: the batch then never adapts."""


def _pollux(application: str) -> dict[str, Table]:
    return {"T4": Table("pollux", lambda data: pollux(data, application))}


def _elasticflow(table: str) -> dict[str, Table]:
    return {"A100": Table("elasticflow", lambda data: elasticflow(data, table))}


def _gavel(model: str) -> dict[str, Table]:
    return {
        "K80": Table("gavel", lambda data: gavel(data, model, "k80")),
        "P100": Table("gavel", lambda data: gavel(data, model, "p100")),
    }


def _shockwave(model: str) -> dict[str, Table]:
    return {"V100": Table("shockwave", lambda data: shockwave(data, model))}


_POLLUX_30 = ChargedRestart(30.0, "pollux: 30 s charged for every change of placement")
_GAVEL_20 = ChargedRestart(20.0, "gavel: 20 s charged for every start after a pause")
_MURI = "Zhao et al., Muri, SIGCOMM 2022: start overhead measured on 1 to 32 GPUs"

RECIPES: dict[str, Recipe] = {
    "resnet18": Recipe(
        "ResNet-18 on CIFAR-10",
        "T4",
        {**_pollux("cifar10"), **_gavel("ResNet-18"), **_shockwave("ResNet-18")},
        _POLLUX_30,
        pollux_application="cifar10",
    ),
    "ncf": Recipe(
        "neural collaborative filtering on MovieLens",
        "T4",
        _pollux("ncf"),
        _POLLUX_30,
        pollux_application="ncf",
    ),
    "lstm": Recipe(
        "LSTM language model on WikiText-2",
        "V100",
        {**_gavel("LM"), **_shockwave("LM")},
        _GAVEL_20,
        fixed_batch=320,
    ),
    "transformer": Recipe(
        "Transformer translation on Multi30k",
        "P100",
        _gavel("Transformer"),
        _GAVEL_20,
        fixed_batch=512,
    ),
    "deepspeech2": Recipe(
        "DeepSpeech2 speech recognition",
        "T4",
        {**_pollux("deepspeech2"), **_elasticflow("deepspeech2")},
        _POLLUX_30,
        pollux_application="deepspeech2",
    ),
    "bert": Recipe(
        "BERT fine-tuning on SQuAD",
        "T4",
        _pollux("bert"),
        _POLLUX_30,
        pollux_application="bert",
    ),
    "yolov3": Recipe(
        "YOLOv3 object detection on Pascal VOC",
        "T4",
        _pollux("yolov3"),
        _POLLUX_30,
        pollux_application="yolov3",
    ),
    "vgg16": Recipe(
        "VGG-16 on ImageNet",
        "A100",
        _elasticflow("vgg16"),
        MeasuredRestart("vgg16", _MURI),
        fixed_batch=256,
    ),
    "inception3": Recipe(
        "Inception-v3 on ImageNet",
        "A100",
        _elasticflow("inception3"),
        MeasuredRestart("vgg16", "not measured: taken from vgg16"),
        fixed_batch=128,
    ),
    "gpt2": Recipe(
        "GPT-2 language model",
        "A100",
        _elasticflow("gpt2"),
        MeasuredRestart("gpt2", _MURI),
        fixed_batch=256,
    ),
    "resnet50": Recipe(
        "ResNet-50 on ImageNet",
        "T4",
        {
            **_pollux("imagenet"),
            **_elasticflow("resnet50"),
            **_gavel("ResNet-50"),
            **_shockwave("ResNet-50"),
        },
        _POLLUX_30,
        pollux_application="imagenet",
    ),
}
"""Left out: ElasticFlow's ResNet-50 on CIFAR-10, which gains nothing from a second GPU, and
Gavel's CycleGAN, A3C and recommendation, which were measured on one GPU only. ElasticFlow's BERT is
not Pollux's: a sample costs 32 times less (a T4 and an A100 differ by 2 to 3 on the other models),
so it is not taken for BERT on A100. Nor is Shockwave's Transformer on V100 Gavel's: it is 2.7 times
slower than on Gavel's P100. Gavel's own V100 rows mix machines: on ResNet-18 two of them do 3 times
the work of one at the same batch per GPU."""
