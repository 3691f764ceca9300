"""What the training scripts of the Shockwave artifact do with their batch size on real GPUs.

After every epoch that a script has trained without interruption it looks whether another batch
size is due; if so it asks the scheduler for it, writes a checkpoint and exits. Source: Zheng et
al., Shockwave, NSDI 2023, artifact, the folders accordion_workloads and gns_workloads.
"""

from __future__ import annotations

import math

import numpy as np

from marl_sched.reproduce import batch_scaling as scaling
from marl_sched.reproduce.gavel_steps import Steps


class Scripts:
    """The training scripts of all jobs of a trace, over `Steps`."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        self.epoch = np.zeros(len(steps.trace), dtype=np.int64)
        """(J,) int64, epochs in the checkpoint: those trained from end to end."""

    def next_steps(self, j: int) -> tuple[int, bool]:
        """Steps from now until job `j` exits by itself, and whether it is through then."""
        left = max(int(self.steps.total[j] - self.steps.done[j]), 0)
        if self.steps.trace.mode[j] == "static":
            return left, True
        per_epoch = self._per_epoch(j)
        for more in range(left // per_epoch):
            if self._wanted(j, int(self.epoch[j]) + more) and (more + 1) * per_epoch < left:
                return (more + 1) * per_epoch, False
        return left, True

    def end_lease(self, j: int, done: int, seconds: float) -> bool:
        """Book steps and seconds of a lease; whether the batch size has changed."""
        steps = self.steps
        steps.run_s[j] += seconds
        steps.done[j] += done
        if steps.trace.mode[j] == "static" or done <= 0:
            return False
        whole, rest = divmod(done, self._per_epoch(j))
        self.epoch[j] += whole
        wanted = self._wanted(j, int(self.epoch[j]) - 1) if whole and not rest else 0
        return wanted > 0 and steps.rescale(j, wanted)

    def _per_epoch(self, j: int) -> int:
        return scaling.steps_per_epoch(self.steps.trace.model[j], int(self.steps.batch[j]))

    def _wanted(self, j: int, epoch: int) -> int:
        """Batch size that a script asks for after an epoch, 0 none."""
        trace, batch = self.steps.trace, int(self.steps.batch[j])
        model, first = trace.model[j], int(trace.batch_size[j])
        if batch == scaling.LARGEST[model] and trace.mode[j] == "gns":
            return 0
        if trace.mode[j] == "gns":
            doubles = scaling.DOUBLES_AT.get((model, first, int(trace.num_gpus[j])), ())
            times = round(math.log2(batch / first))
            return 2 * batch if times < len(doubles) and epoch == doubles[times] - 1 else 0
        if model == "Transformer":
            return 0
        epochs = math.ceil(int(self.steps.total[j]) / self._per_epoch(j))
        held = scaling.is_critical(model, first, epoch) or epoch < round(0.3 * epochs)
        if not held and batch == first and batch != scaling.LARGEST[model]:
            return scaling.LARGEST[model]
        # The scripts of the other models never go back.
        back = held and batch != first and model.startswith("ResNet")
        return first if back and batch != scaling.SMALLEST[model] else 0
