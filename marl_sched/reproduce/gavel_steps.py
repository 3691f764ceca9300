"""Training steps of Gavel's jobs, round by round, as its simulator counts them.

A round gives a job int(rate x round) steps, or those it has left; steps that a restart costs are
cut off at its end; progress is rounded up to whole epochs when the batch size changes, which a
job asks for at the end of a round and gets at the end of the next one that it runs. Axes: J jobs
of the trace, T GPU types.
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from marl_sched.errors import UserError
from marl_sched.reproduce import batch_scaling as scaling
from marl_sched.workload.gavel import GavelTrace, Throughputs

OVERTIME = 1.5
"""How many times its planned run time a job may run in the published artifact."""
MAX_FAILURES = 5
"""A job that has so many rounds on end without a step is ended."""


def _kind(model: str, batch: int) -> str:
    return f"{model} (batch size {batch})" if batch else model


class Steps:
    """Progress of every job of a trace.

    Args:
        types: the cluster's GPU types, T.
        planned_s: (J,) float64, planned run time of each job, from a profile; None takes the
            time of the planned batch sizes on the first type.
        overtime: a job that has run this many times its planned run time is ended.

    Raises:
        UserError: for a job that the throughput table or the batch rules do not know.
    """

    def __init__(
        self,
        trace: GavelTrace,
        throughputs: Throughputs,
        types: tuple[str, ...],
        planned_s: np.ndarray | None = None,
        overtime: float = OVERTIME,
    ) -> None:
        count = len(trace)
        self.trace = trace
        self.tables = [throughputs[kind] for kind in types]
        self.total = trace.total_steps.copy()
        """(J,) int64, steps of the whole job at its present batch size."""
        self.done = np.zeros(count, dtype=np.int64)
        """(J,) int64, of them, those done."""
        self.batch = trace.batch_size.copy()
        self.rate = np.zeros((count, len(types)))
        """(J, T) float64, steps/s at the present batch size."""
        self.wants = [0] * count
        """New batch size to come with the next round's end, 0 none."""
        self.failures = np.zeros(count, dtype=np.int64)
        self.run_s = np.zeros(count)
        """(J,) float64, time run so far, restarts left out."""
        for j in range(count):
            self._check(j)
            for t, rate in enumerate(self._rates(j, int(self.batch[j])) or ()):
                self.rate[j, t] = rate
        plan = [self._planned_s(j) for j in range(count)] if planned_s is None else planned_s
        self.limit_s = np.array([int(int(seconds) * overtime) for seconds in plan], dtype=float)

    def _check(self, j: int) -> None:
        model, mode = self.trace.model[j], self.trace.mode[j]
        batch = int(self.batch[j])
        if mode != "static" and (model not in scaling.LARGEST or batch == 0):
            known = ", ".join(scaling.LARGEST)
            raise UserError(
                f"trace job {j}: no {mode} rule for {_kind(model, batch)!r}; known models, with "
                f"their batch size: {known}"
            )
        if self._rates(j, batch) is None:
            raise UserError(
                f"trace job {j}: the throughputs have no entry ({_kind(model, batch)!r}, "
                f"{self.trace.num_gpus[j]}) for every GPU type of the cluster"
            )

    def _rates(self, j: int, batch: int) -> list[float] | None:
        key = (self.trace.model[j], batch, int(self.trace.num_gpus[j]))
        if not all(key in table for table in self.tables):
            return None
        return [table[key] for table in self.tables]

    def _planned_s(self, j: int) -> float:
        """Planned run time: of each planned epoch samples / batch size steps on the first type."""
        model, first = self.trace.model[j], int(self.trace.batch_size[j])
        if model not in scaling.SAMPLES or first == 0:
            return float(self.total[j] / max(self.rate[j, 0], 1e-300))
        gpus, mode = int(self.trace.num_gpus[j]), self.trace.mode[j]
        epochs = math.ceil(int(self.total[j]) / scaling.steps_per_epoch(model, first))
        seconds = 0.0
        for batch, times in Counter(
            scaling.planned_batches(model, first, gpus, mode, epochs)
        ).items():
            rate = self.tables[0].get((model, batch, gpus))
            if rate is None:
                raise UserError(
                    f"trace job {j}: the throughputs have no entry ({_kind(model, batch)!r}, "
                    f"{gpus}), a batch size that {mode} comes to"
                )
            seconds += times * scaling.SAMPLES[model] / batch / max(rate, 1e-300)
        return seconds

    @property
    def left(self) -> np.ndarray:
        """(J,) int64, steps left at the present batch size; may be negative by rounding."""
        return self.total - self.done

    def planned_steps(self, job: np.ndarray, gpu_type: np.ndarray, round_s: float) -> np.ndarray:
        """(n,) int64, steps that jobs (n,) do in a whole round on types (n,)."""
        whole = (self.rate[job, gpu_type] * round_s).astype(np.int64)
        return np.minimum(whole, self.left[job])

    def end_round(self, j: int, steps: int, seconds: float) -> tuple[bool, bool]:
        """Book what job `j` did in a round.

        Args:
            steps: of its present batch size, restart left out.
            seconds: that it ran, restart left out.

        Returns:
            Whether it ends, and whether it counts as having run.
        """
        self.run_s[j] += seconds
        late = bool(self.run_s[j] > self.limit_s[j])
        gpus = int(self.trace.num_gpus[j])
        # An update a GPU, each with an equal part of the steps, the last one with the rest.
        least = steps // gpus if gpus > 1 else steps
        ran = not (seconds <= 0.0 and min(least, steps - least * (gpus - 1)) <= 0)
        if ran:
            self.failures[j] = 0
            self.done[j] += steps
            ends = bool(self.done[j] >= self.total[j]) or late
        else:
            self.failures[j] += 1
            ends = bool(self.failures[j] >= MAX_FAILURES)
        if self.wants[j]:
            self.rescale(j, self.wants[j])
            self.wants[j] = 0
        if not ends and self.trace.mode[j] != "static":
            self._adapt(j)
        return ends, ran

    def _adapt(self, j: int) -> None:
        """Ask for another batch size, if the job's mode says so at its present epoch."""
        model, batch = self.trace.model[j], int(self.batch[j])
        first, gpus = int(self.trace.batch_size[j]), int(self.trace.num_gpus[j])
        largest = scaling.LARGEST[model]
        epoch = math.ceil(int(self.done[j]) / scaling.steps_per_epoch(model, batch))
        if self.trace.mode[j] == "gns":
            horizon = max(760, epoch + 2)
            most = max(
                scaling.gns_batch(model, first, gpus, e, horizon) for e in (epoch, epoch + 1)
            )
            if most > batch and batch != largest:
                self.wants[j] = 2 * batch
        elif model != "Transformer":
            critical = scaling.is_critical(model, first, epoch)
            if batch == first and not critical and batch != largest:
                self.wants[j] = largest
            elif batch != first and critical and batch != scaling.SMALLEST[model]:
                self.wants[j] = first

    def rescale(self, j: int, new: int) -> bool:
        """Change the batch size, if job `j` may have the `new` one; whether it may.

        The number of epochs stays, progress is rounded up to whole epochs.
        """
        model, old = self.trace.model[j], int(self.batch[j])
        rates = self._rates(j, new)
        fixed = model != "Transformer" and self.trace.batch_size[j] == scaling.LARGEST[model]
        if fixed or rates is None:
            return False
        before, after = scaling.steps_per_epoch(model, old), scaling.steps_per_epoch(model, new)
        epochs = math.ceil(int(self.total[j]) / before)
        total = math.ceil(int(self.total[j]) * (1.0 / (new / old)))
        if math.ceil(total / after) != epochs:
            total = after * epochs
        self.total[j] = total
        self.done[j] = math.ceil(int(self.done[j]) / before) * after
        self.batch[j] = new
        self.rate[j] = rates
        return True
