"""How fast a job runs: throughput, goodput, restart cost, the catalogue of measured models."""

from marl_sched.perf.catalogue import Catalogue
from marl_sched.perf.profiles import ProfileTable, build_profiles
from marl_sched.perf.throughput import Throughput, best_goodput

__all__ = ["Catalogue", "ProfileTable", "Throughput", "best_goodput", "build_profiles"]
