"""Settings of the networks."""

from __future__ import annotations

from marl_sched.config.section import Count, Section


class ModelConfig(Section):
    """The set-structured network."""

    job_hidden: Count = 32
    """Width of the shared per-job encoder."""
    context_hidden: Count = 64
    """Width of the pooled global context."""
    commit_bias: float = 0.0
    """PPO's initial log-odds of `commit` against all other legal actions together: at 0
    half of the first decisions explore, while the greedy policy takes the base schedule."""
    agent_hidden: Count = 64
    """Width of the learned agents' two layers."""
    honest_bias: float = 2.0
    """A learned agent's initial log-odds of asking for all that its job can use."""
