"""On which windows of jobs, and in how many draws, schedulers are judged.

What varies from one evaluation to the next is both the jobs and what a seed decides for them. A
window of the built-in workload has new jobs in each draw. A window of a trace has the same jobs in
all draws: a few windows of a short trace are few, however many draws are played.
"""

from __future__ import annotations

import numpy as np

from marl_sched.config import Config
from marl_sched.envs.episodes import Episode, episode_jobs, load_part
from marl_sched.evaluation.compare import job_overlap
from marl_sched.evaluation.statistics import LEAST_WINDOWS, Evidence


def with_draws(config: Config, part: str) -> Config:
    """The experiment with as many draws as make `evaluation.episodes` of windows without common
    jobs; as it is where it names a number of draws.

    The built-in workload has an episode in each draw. Of a trace of which a seed decides nothing,
    fewer episodes are left.
    """
    judged = config.evaluation
    if judged.draws is not None:
        return config
    own = load_part(config, part)
    jobs = min(judged.jobs_per_episode or episode_jobs(config, own), len(own))
    windows, draws, episodes = len(own) // jobs, judged.episodes, judged.episodes
    if config.workload.trace is not None:
        draws = max(1, episodes // windows)
        if draws > 1 and not _decides(config, part):
            draws = 1
        if draws == 1 and windows >= LEAST_WINDOWS:
            episodes = min(episodes, windows)
    update = {"draws": draws, "episodes": episodes, "jobs_per_episode": jobs}
    return config.model_copy(update={"evaluation": judged.model_copy(update=update)})


def _decides(config: Config, part: str) -> bool:
    """Whether another seed means anything else for the jobs of a trace."""
    sim = config.sim
    if config.workload.estimate_noise > 0 or sim.placement == "random":
        return True
    evaluation = config.evaluation.model_copy(update={"draws": 2})
    both = load_part(config.model_copy(update={"evaluation": evaluation}), part)
    if sim.node_mtbf_h or sim.job_mtbf_h or (both.failure_rate_per_h > 0).any():
        return True
    own, other = both.slice(0, len(both) // 2), both.slice(len(both) // 2, len(both))
    return bool((own.model != other.model).any() or (own.elastic != other.elastic).any())


def evidence_of(config: Config, part: str, episodes: list[Episode]) -> Evidence:
    """Which of `episodes`, of `part_episodes`, tell something new."""
    firsts = np.array([episode.first for episode in episodes])
    if config.workload.trace is not None:
        firsts = firsts % (len(load_part(config, part)) // (config.evaluation.draws or 1))
    starts, window = np.unique(firsts, return_inverse=True)
    jobs = episodes[0].end - episodes[0].first
    windows = [Episode(int(first), int(first) + jobs) for first in starts]
    return Evidence(window, job_overlap(windows))
