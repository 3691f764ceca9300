"""Jobs: trace loaders, the synthetic generator, and what is assigned where a trace is silent."""

from marl_sched.workload.jobs import Workload
from marl_sched.workload.synthetic import generate
from marl_sched.workload.trace import load_workload, write_trace

__all__ = ["Workload", "generate", "load_workload", "write_trace"]
