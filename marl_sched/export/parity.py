"""Whether an exported network does what its module does, on states of real play."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from marl_sched.config import Config, load_config
from marl_sched.envs.batched import BatchedSchedulingEnv
from marl_sched.envs.episodes import load_part
from marl_sched.errors import UserError
from marl_sched.evaluation.simulate import begin
from marl_sched.models.policy import LearnedPolicy
from marl_sched.schedulers import Scheduler
from marl_sched.schedulers.learned.scorer_inputs import (
    ScorerInputs,
    inputs_of,
    levels_by,
    scores_of,
)
from marl_sched.types import Cluster, ClusterView

CLUSTERS = (("4x4", 8), ("8x8", 32), ("32x8", 100))
"""Clusters that are played on, and job slots shown there."""

NETWORK_TOLERANCE = 1e-4
"""Of float32 sums in another order, relative to scores above 1."""

SCORER_TOLERANCE = 1e-5
"""Likewise; a network's output is about 1."""

LARGEST_SCORE = 1e4
"""Scores are percent of an episode, logits or logarithms, of hundreds at most. Beyond this a
tolerance that is relative says nothing any more: a whole unit is within it."""

_ENVS = 8
_SHAKES = 16


@dataclass(frozen=True)
class Parity:
    """What a comparison found."""

    observations: int
    max_abs_difference: float
    """Of scores that count: of legal actions, of levels that there are."""
    max_difference: float
    """The same, relative to the score where that is above 1."""
    equal_actions: float
    """Share of observations with the same greedy action, or the same levels for all jobs."""
    unexplained: int
    """Other actions although the module's own scores of both are further apart than the
    tolerance."""
    tolerance: float
    clusters: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """NaN does not pass."""
        return self.max_difference <= self.tolerance and self.unexplained == 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"{self.observations:,} observations on {', '.join(self.clusters)}: largest "
            f"absolute difference {self.max_abs_difference:.2g}, equal greedy actions "
            f"{100 * self.equal_actions:.2f} %"
        )


def _parts(count: int) -> list[int]:
    """`count` observations, as evenly as may be over `CLUSTERS`."""
    return [len(part) for part in np.array_split(np.arange(count), len(CLUSTERS))]


def _settings(base: dict[str, Any] | None, cluster: str, slots: int, seed: int) -> Config:
    """The game that a network was trained on, with the built-in workload on `cluster`.

    Edits and algorithms are both legal, so that no output goes without comparison.
    """
    return load_config(
        overrides=[
            "workload.trace=null", "workload.format=null", "workload.tenants=[]",
            "workload.synthetic.num_jobs=1000", "workload.load=1.1", f"cluster={cluster}",
            f"seed={seed}", f"env.job_slots={slots}", "env.agents=honest", "env.credit=shadow",
            "env.actions=full",
            "env.jobs_per_episode=200",
        ],
        defaults=base,
    )  # fmt: skip


def observations(policy: LearnedPolicy, count: int, seed: int) -> Iterator[dict[str, np.ndarray]]:
    """`count` observations, {name: (B, ..)} at a time, of play that is half greedy, half random."""
    rng = np.random.default_rng(seed)
    for (cluster, slots), wanted in zip(CLUSTERS, _parts(count), strict=True):
        game = _settings(policy.manifest.config, cluster, slots, int(rng.integers(2**31)))
        env = BatchedSchedulingEnv(game, _ENVS, game.seed)
        policy.check(env.observation_space, env.action_space)
        obs = env.reset()
        while wanted > 0:
            yield {name: values[:wanted] for name, values in obs.items()}
            wanted -= _ENVS
            random = np.array([rng.choice(np.flatnonzero(row)) for row in obs["mask"]])
            actions = np.where(rng.random(_ENVS) < 0.5, policy.act(obs), random)
            obs = env.step(actions)[0]


class _Tally:
    """Sums over observations."""

    def __init__(self, tolerance: float) -> None:
        self._tolerance = tolerance
        self._largest = self._relative = 0.0
        self._seen = self._equal = self._unexplained = 0

    def scores(self, theirs: np.ndarray, mine: np.ndarray) -> None:
        """Add scores that count; NaN stays.

        Raises:
            UserError: for a network whose own scores are beyond all measure.
        """
        most = float(np.max(np.abs(mine), initial=0.0))
        if most > LARGEST_SCORE:
            raise UserError(
                f"a score of this network is {most:.3g}, and one that learned well stays below "
                f"{LARGEST_SCORE:g}: its training has diverged or its file is damaged; train again"
            )
        found = np.abs(theirs - mine)
        self._largest = float(np.max(found, initial=self._largest))
        scaled = found / np.maximum(1.0, np.abs(mine))
        self._relative = float(np.max(scaled, initial=self._relative))

    def actions(self, equal: np.ndarray, explained: np.ndarray) -> None:
        """Add observations: whether the same was done, or it was a tie."""
        self._seen += equal.size
        self._equal += int(equal.sum())
        self._unexplained += int((~equal & ~explained).sum())

    def parity(self) -> Parity:
        return Parity(
            observations=self._seen,
            max_abs_difference=self._largest,
            max_difference=self._relative,
            equal_actions=self._equal / self._seen,
            unexplained=self._unexplained,
            tolerance=self._tolerance,
            clusters=tuple(cluster for cluster, _ in CLUSTERS),
        )


def network_parity(policy: LearnedPolicy, session: Any, count: int, seed: int) -> Parity:
    """The exported network of a PPO or DQN scheduler beside the compiled one."""
    tally = _Tally(NETWORK_TOLERANCE)
    for obs in observations(policy, count, seed):
        scores, action = session.run(["scores", "action"], obs)
        mine, own = policy.scores(obs), policy.act(obs)
        counts = obs["mask"] > 0
        tally.scores(scores[counts], mine[counts])
        rows = np.arange(len(own))
        gap = np.abs(mine[rows, own] - mine[rows, action])
        tally.actions(action == own, gap <= 2 * NETWORK_TOLERANCE)
    return tally.parity()


def views(rule: Scheduler, count: int, seed: int) -> Iterator[ClusterView]:
    """`count` states that a cluster comes to under `rule`."""
    rng = np.random.default_rng(seed)
    for (cluster, slots), wanted in zip(CLUSTERS, _parts(count), strict=True):
        while wanted > 0:
            game = _settings(None, cluster, slots, int(rng.integers(2**31)))
            simulation = begin(
                load_part(game, "train"), Cluster.parse(cluster), rule, game.sim, seed=game.seed
            )
            while wanted > 0 and simulation.advance():
                view = simulation.view()
                yield view
                wanted -= 1
                simulation.apply(rule.allocate(view))


def scorer_parity(rule: Scheduler, session: Any, count: int, seed: int) -> Parity:
    """The exported network of a scorer, within the rule, beside the compiled rule."""
    tally = _Tally(SCORER_TOLERANCE)
    for view in views(rule, count, seed):
        inputs = inputs_of(view, rule.param_array)
        table = corrected(inputs, session)
        mine = scores_of(view, rule.param_array)
        at = inputs.owner, inputs.step
        tally.scores(table[at], mine[at])
        equal = bool((levels_by(view, table) == levels_by(view, mine)).all())
        tally.actions(np.array([equal]), np.array([equal or is_close_call(view, mine)]))
    return tally.parity()


def is_close_call(view: ClusterView, scores: np.ndarray) -> bool:
    """Whether changes of scores (J, L) within the tolerance lead to other levels."""
    rng, levels = np.random.default_rng(0), levels_by(view, scores)
    for _ in range(_SHAKES):
        shaken = scores + rng.uniform(-SCORER_TOLERANCE, SCORER_TOLERANCE, scores.shape)
        if (levels_by(view, shaken) != levels).any():
            return True
    return False


def corrected(inputs: ScorerInputs, session: Any) -> np.ndarray:
    """(J, L) float64, the index's scores corrected by the exported network."""
    names = ("globals", "jobs", "levels", "owner")
    (residual,) = session.run(["residual"], {name: getattr(inputs, name) for name in names})
    table = inputs.table.copy()
    table[inputs.owner, inputs.step] += residual
    return table
