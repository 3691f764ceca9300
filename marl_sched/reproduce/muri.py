"""R1: the scheduling simulator of Muri's artifact, as rules of our own.

Zhao et al., "Multi-resource interleaving for deep learning training", SIGCOMM 2022. Its
simulator, as far as its numbers depend on it:

- A job takes `iterations` x `iteration_time` x 1.015 s alone.
- At every event each running job pauses for its measured start overhead, though its predicted
  end ignores that: `sim.overhead_each_epoch`.
- SRTF and SRSF empty the cluster at every event and place jobs in order, passing over those that
  find no room: `sim.repack`, with `sim.placement=first_fit`.
- Tiresias-L counts GPUs over the whole cluster and places nothing: one node with all GPUs.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from marl_sched.config import SimConfig
from marl_sched.errors import UserError
from marl_sched.evaluation.simulate import run as run_simulation
from marl_sched.perf.profiles import ProfileTable
from marl_sched.reproduce.muri_tiresias import QueuedTiresias
from marl_sched.schedulers import Scheduler, get_scheduler
from marl_sched.sim.simulation import Simulation
from marl_sched.sim.world import FIRST_SLOTS, build_world
from marl_sched.types import Cluster
from marl_sched.workload.formats import RawTrace, plain, sorted_trace
from marl_sched.workload.jobs import Workload
from marl_sched.workload.table import read_table

SCHEDULERS = ("srtf", "srsf", "tiresias_l")

ITERATION_FACTOR = 1.015
"""Factor on the recorded iteration times, in the artifact."""

DEFAULT_OVERHEAD_S = 10.0
"""Start overhead of a model that was not measured, in the artifact."""
