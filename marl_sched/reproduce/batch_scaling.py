"""How jobs change their batch size while they train, as the Shockwave artifact has it.

`accordion` (Agarwal et al., MLSys 2021) trains with the largest batch outside critical regimes,
`gns` (McCandlish et al., gradient noise scale, 2018) doubles the batch at given epochs. Regimes
and epochs are those measured by Zheng et al., Shockwave, NSDI 2023 (artifact).
"""

from __future__ import annotations

import math

SAMPLES = {
    "ResNet-18": 50_000,
    "ResNet-50": 100_000,
    "Transformer": 10_000,
    "LM": 59_675,
    "Recommendation": 117_907,
    "CycleGAN": 6_287,
    "A3C": 4,
}
"""Samples of an epoch."""

LARGEST = {"ResNet-18": 256, "ResNet-50": 128, "Transformer": 128, "LM": 80, "Recommendation": 8192}
SMALLEST = {"ResNet-18": 16, "ResNet-50": 16, "Transformer": 16, "LM": 5, "Recommendation": 512}
"""Batch sizes that a model may have."""

DOUBLES_AT: dict[tuple[str, int, int], tuple[int, ...]] = {
    ("ResNet-18", 16, 1): (31, 41, 51, 71),
    ("ResNet-18", 32, 1): (21, 31, 51),
    ("ResNet-18", 64, 1): (11, 31),
    ("ResNet-18", 128, 1): (11,),
    ("ResNet-18", 16, 2): (21, 31, 91, 111),
    ("ResNet-18", 32, 2): (11, 21, 41),
    ("ResNet-18", 64, 2): (21, 41),
    ("ResNet-18", 128, 2): (41,),
    ("ResNet-18", 16, 4): (11, 21, 81, 91),
    ("ResNet-18", 32, 4): (21, 31, 61),
    ("ResNet-18", 64, 4): (11, 61),
    ("ResNet-18", 128, 4): (11,),
    ("ResNet-50", 64, 1): (101,),
    ("ResNet-50", 32, 2): (101, 111),
    ("ResNet-50", 64, 2): (81,),
    ("ResNet-50", 32, 4): (131, 221),
    ("ResNet-50", 64, 4): (191,),
    ("LM", 5, 1): (31, 41, 61, 71),
    ("LM", 10, 1): (11, 21, 41),
    ("LM", 20, 1): (11, 41),
    ("LM", 40, 1): (11,),
    ("LM", 5, 2): (31, 51, 61, 71),
    ("LM", 10, 2): (11, 31, 41),
    ("LM", 20, 2): (31, 41),
    ("LM", 40, 2): (11,),
    ("LM", 5, 4): (11, 31, 71, 91),
    ("LM", 10, 4): (11, 31, 61),
    ("LM", 20, 4): (11, 61),
    ("LM", 40, 4): (61,),
    ("Recommendation", 512, 1): (21, 41, 71, 91),
    ("Recommendation", 1024, 1): (21, 51, 91),
    ("Recommendation", 2048, 1): (21, 41),
    ("Recommendation", 4096, 1): (41,),
}
"""(model, first batch size, GPUs) -> epochs from which `gns` doubles the batch once more."""

_FIRST_CRITICAL = {
    ("ResNet-18", 256): 20,
    ("Recommendation", 512): 30,
    ("Recommendation", 1024): 30,
}
_FIRST_CRITICAL[("Recommendation", 2048)] = 40


def steps_per_epoch(model: str, batch_size: int) -> int:
    return math.ceil(SAMPLES[model] / batch_size)


def gns_batch(model: str, first: int, num_gpus: int, epoch: int, num_epochs: int) -> int:
    """Batch size of an epoch under `gns`.

    Quirk of the artifact: after a second doubling the last epoch has the first batch size again.
    """
    doubles = DOUBLES_AT.get((model, first, num_gpus), ())
    if not doubles or num_epochs <= doubles[0]:
        return first
    times = sum(epoch >= at for at in doubles)
    if times >= 2 and epoch == num_epochs - 1:
        times = 0
    return min(first << times, LARGEST[model])


def is_critical(model: str, first: int, epoch: int) -> bool:
    """Whether `accordion` keeps to the first batch size in this epoch of a running job."""
    if model == "ResNet-50":
        return epoch % 30 < 10
    again = model == "ResNet-18" and (150 <= epoch < 160 or 250 <= epoch < 260)
    return epoch < _FIRST_CRITICAL.get((model, first), 10) or again


def planned_batches(model: str, first: int, num_gpus: int, mode: str, epochs: int) -> list[int]:
    """Batch size of each epoch as the artifact's profiles have it.

    They differ from what its running jobs do: `accordion` is held back for the first 30 % of a
    job, and has further critical epochs.
    """
    if mode == "gns":
        return [gns_batch(model, first, num_gpus, epoch, epochs) for epoch in range(epochs)]
    if mode == "static" or model not in LARGEST or model == "Transformer":
        return [first] * epochs
    batches = []
    for epoch in range(epochs):
        critical = is_critical(model, first, epoch) and not (model == "ResNet-50" and epoch >= 600)
        critical |= model == "Recommendation" and (60 <= epoch < 70 or 80 <= epoch < 90)
        held = critical or epoch <= epochs * 0.3
        batches.append(first if held else LARGEST[model])
    return batches
