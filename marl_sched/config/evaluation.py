"""Settings of the comparison on held-out episodes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from marl_sched.config.section import Count, Section


class EvaluationConfig(Section):
    """Paired comparison on episodes that training never saw."""

    episodes: Count = 20
    """At most: windows of jobs times draws."""
    draws: Count | None = None
    """Times that all a seed decides is drawn: models, elasticity, errors of estimates, failures,
    and the jobs of the built-in workload. None: in `evaluate` as many as make `episodes` of windows
    that share no job (`evaluation.windows`), elsewhere one. 1: the seed's own alone."""
    jobs_per_episode: Count | None = None
    """None: as in training."""
    bound_episodes: Annotated[int, Field(ge=0)] = 4
    """Episodes, evenly spread, whose lower bound is computed (a second or two each); 0: none."""
    schedulers: tuple[str, ...] = (
        "fcfs",
        "fcfs_backfill",
        "srtf",
        "las",
        "equi",
        "elastic_index",
        "elastic_index:tuned",
        "elastic_index:trust=1",
    )
    """Classic schedulers shown beside a trained one."""
